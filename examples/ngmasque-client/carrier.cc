#include "carrier.h"

#include "carrier_link.h"
#include "exit.h"
#include "peer_tunnel.h"

#include "ngmasque/exit_code.h"
#include "ngmasque/values.h"

#include <ngmasque/session/rfc9298.h>

#include <algorithm>
#include <charconv>
#include <format>
#include <utility>

namespace ngmasque::programs {

namespace {

constexpr double kTickSeconds = 1;
// What a datagram has around a packet in the largest UDP payload, at most, in bytes.
constexpr std::size_t kMaxOverhead = 64;

// RFC 9001, section 4.8: 0x100 and the alert.
bool IsCertificateAlert(std::uint64_t code) {
  constexpr std::uint64_t kAlerts[]{42, 43, 44, 45, 46, 48, 49, 116}; // RFC 8446, section 6
  return code >= 0x100 && std::ranges::contains(kAlerts, code - 0x100);
}

// The option table lets through nothing else.
std::uint16_t PortOf(const ProxyClient::Options &options) {
  std::uint16_t port = 0;
  std::from_chars(options.port.data(), options.port.data() + options.port.size(), port);
  return port;
}

} // namespace

Carrier::Carrier(struct ev_loop *loop, Options options, const Log &log, Fatal fatal)
  : loop_(loop),
    options_(std::move(options)),
    log_(log),
    fatal_(std::move(fatal)),
    name_(loop, options_.proxy.host, PortOf(options_.proxy)),
    pauses_(options_.first_pause, options_.longest_pause) {
  // What it means for the program is said here, and so its own words matter less.
  options_.proxy.log = [this](LogLevel level, std::string_view line) {
    log_.Write(level == LogLevel::kWarning ? LogLevel::kInfo : LogLevel::kDebug, line);
  };
  ev_timer_init(
    &retry_,
    [](struct ev_loop *, ev_timer *timer, int) {
      static_cast<Carrier *>(timer->data)->LookUp();
    },
    0., 0.);
  ev_timer_init(
    &tick_,
    [](struct ev_loop *, ev_timer *timer, int) { static_cast<Carrier *>(timer->data)->Tick(); },
    kTickSeconds, kTickSeconds);
  ev_init(&sweep_, [](struct ev_loop *, ev_prepare *sweep, int) {
    static_cast<Carrier *>(sweep->data)->Sweep();
  });
  retry_.data = tick_.data = sweep_.data = this;
}

Carrier::~Carrier() {
  ev_timer_stop(loop_, &retry_);
  ev_timer_stop(loop_, &tick_);
  ev_clear_pending(loop_, &sweep_);
}

void Carrier::Start() {
  ev_timer_start(loop_, &tick_);
  LookUp();
}

void Carrier::LookUp() {
  name_.LookUp([this](const ProxyName::Result &found) { OnLookedUp(found); });
}

void Carrier::OnLookedUp(const ProxyName::Result &found) {
  if (!found) {
    const auto text = std::format("proxy {}: {}", name_.host(), ErrorName(found.error()));
    if (found.error() == SessionError::kNoName && !name_.known()) {
      Give(kNoProxy,
           std::format("{}; is --proxy right, and the name server one that knows it?", text));
    } else {
      ConnectLater(text);
    }
    return;
  }
  options_.proxy.addresses = *found;
  const auto connected = Connect();
  if (connected) {
    begun_ = true;
  } else if (begun_ || connected.error() == IoError::kSocket) {
    ConnectLater(ErrorText(connected.error()));
  } else {
    Give(kFailed, std::format("{}; see --proxy-cacert, --proxy-cert, --qlog-dir and --key-log",
                              ErrorText(connected.error())));
  }
}

void Carrier::Close() {
  name_.Cancel();
  ev_timer_stop(loop_, &retry_);
  ev_timer_stop(loop_, &tick_);
  for (const auto &link : links_) {
    link->client.Close();
  }
}

std::uint64_t Carrier::Now() const {
  return static_cast<std::uint64_t>(
    std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

double Carrier::Random() { return std::uniform_real_distribution<>(0, 1)(random_); }

std::expected<void, IoError> Carrier::Connect() {
  auto link = std::make_unique<Link>(*this);
  if (auto started = link->client.Start(); !started) {
    return started;
  }
  draining_ = false;
  links_.push_back(std::move(link));
  if (links_.size() > kMaxLinks) {
    links_.front()->client.Close();
    links_.front()->over = true;
    ev_feed_event(loop_, &sweep_, EV_CUSTOM);
  }
  return {};
}

void Carrier::ConnectLater(std::string_view why) {
  const auto pause = pauses_.Next(Random());
  log_.Warning(
    std::format("{}; next attempt in {:.1f} s", why, std::chrono::duration<double>(pause).count()));
  last_failure_ = why;
  ev_now_update(loop_);
  ev_timer_stop(loop_, &retry_);
  ev_timer_set(&retry_, std::chrono::duration<double>(pause).count(), 0.);
  ev_timer_start(loop_, &retry_);
}

ProxyClient *Carrier::client() {
  if (links_.empty() || !links_.back()->ready || links_.back()->over ||
      links_.back()->client.draining()) {
    return nullptr;
  }
  return &links_.back()->client;
}

bool Carrier::MayShowIds() const {
  const auto &dialects = options_.proxy.dialects;
  return options_.forward && dialects.dialect == ProxyDialect::kRfc9298 && !dialects.port_sharing;
}

void Carrier::Remove(PeerTunnel &tunnel) {
  tunnels_.erase(&tunnel);
  const auto name = AuthorityText(tunnel.target());
  const bool known = earlier_.contains(name) || earlier_.size() < kMaxTargets;
  earlier_[known ? name : std::string(kOthers)] += tunnel.statistics();
}

void Carrier::OnReady() {
  ++connections_;
  pauses_.Reset();
  last_failure_.clear();
  takes_empty_ids_ = true;
  log_.Info(state());
  for (auto *const tunnel : std::set(tunnels_)) {
    tunnel->OnCarrierReady();
  }
}

// Tunnels that are there go on; others need a connection to whatever takes its place.
void Carrier::OnDraining() {
  if (!std::exchange(draining_, true)) {
    ConnectLater("the proxy is about to stop, and takes no more tunnels on this connection");
  }
}

void Carrier::OnClosed(Link &link, std::string_view text) {
  const bool latest = link.ready ? &link == links_.back().get() && !draining_ : true;
  ev_feed_event(loop_, &sweep_, EV_CUSTOM);
  const auto &reason = link.client.close_reason();
  if (!worked_ && reason && reason->kind == CloseKind::kCertificate) {
    Give(kProxyNotTrusted,
         std::format("{}: the connection was not made; is it the right proxy? See --proxy-cacert, "
                     "--proxy-sni and --proxy-insecure",
                     text));
    return;
  }
  if (!worked_ && reason && reason->kind == CloseKind::kPeer && !reason->application &&
      IsCertificateAlert(reason->code)) {
    Give(kCredentialsRefused,
         std::format("{}: the proxy wants a certificate, or another one; see --proxy-cert", text));
    return;
  }
  if (!worked_ && text.starts_with("the proxy speaks neither")) {
    Give(kNoProxy, std::format("{}; see --proxy and --proxy-dialect", text));
    return;
  }
  if (latest && !ev_is_active(&retry_) && !name_.pending()) {
    ConnectLater(std::format("connection to the proxy: {}", text));
  }
}

void Carrier::OnNotOpened(const PeerTunnel &tunnel, const IoError &error) {
  if (const auto end = full_lines_.Take(Now())) {
    log_.Warning(
      std::format("{}: no tunnel: {}{}", AuthorityText(tunnel.target()), ErrorText(error), *end));
  }
}

void Carrier::OnTooLong(const PeerTunnel &tunnel, std::size_t size, std::size_t fits, bool probe) {
  const auto more = (probe ? probe_lines_ : long_lines_).Take(Now());
  if (!more) {
    return;
  }
  const auto ours = options_.proxy.max_udp_payload;
  const auto wanted = ours + size - std::min(size, fits);
  const auto advice =
    fits + kMaxOverhead >= ours && wanted <= kMaxUdpPayload
      ? std::format("--max-udp-payload-size={} here, and as much at the proxy, makes room for it "
                    "where the path takes that",
                    wanted)
      : std::string("the path to the proxy, or the proxy, takes no more: the program that sends it "
                    "needs a smaller MTU");
  log_.Write(probe ? LogLevel::kDebug : LogLevel::kWarning,
             std::format("{}: a packet of {} bytes is dropped: up to {} fit in the tunnel; {}{}",
                         AuthorityText(tunnel.target()), size, fits, advice, *more));
}

void Carrier::OnTunnelEnded(const PeerTunnel &tunnel, const TunnelEnd &end) {
  const auto target = AuthorityText(tunnel.target());
  if (!worked_ && (end.status == 407 || end.status == 401)) {
    Give(kCredentialsRefused,
         std::format("{}; see --proxy-user, --proxy-bearer and --proxy-cert", end.text));
    return;
  }
  if (!worked_ && options_.single_target && end.status == 403) {
    Give(kTargetDenied,
         std::format("{}: {}; ask who runs the proxy, or for another target", target, end.text));
    return;
  }
  if (!worked_ && (end.status == 404 || end.status == 405 || end.status == 501)) {
    Give(kNoProxy, std::format("{}; see --proxy, --proxy-template and --proxy-dialect", end.text));
    return;
  }
  if (const auto more = refused_lines_.Take(Now())) {
    log_.Warning(std::format("{}: {}{}", target, end.text, *more));
  }
}

void Carrier::Give(int code, std::string text) { fatal_(code, std::move(text)); }

void Carrier::Sweep() {
  for (const auto &link : links_) {
    if (link->over) {
      earlier_migrations_ += link->client.statistics().server_migrations;
    }
  }
  std::erase_if(links_, [](const std::unique_ptr<Link> &link) { return link->over; });
}

std::map<std::string, TargetStatistics> Carrier::targets() const {
  auto all = earlier_;
  for (const auto *const tunnel : tunnels_) {
    const auto name = AuthorityText(tunnel->target());
    const bool known = all.contains(name) || all.size() < kMaxTargets;
    all[known ? name : std::string(kOthers)] += tunnel->statistics();
  }
  return all;
}

std::string Carrier::state() {
  if (const auto *const connected = client()) {
    const auto path = connected->path();
    return std::format("connected to {}, dialect {}",
                       path ? EndpointText(path->remote) : "the proxy", connected->dialect());
  }
  return last_failure_.empty() ? "connecting" : std::format("not connected: {}", last_failure_);
}

std::uint64_t Carrier::server_migrations() const {
  auto sum = earlier_migrations_;
  for (const auto &link : links_) {
    sum += link->client.statistics().server_migrations;
  }
  return sum;
}

} // namespace ngmasque::programs
