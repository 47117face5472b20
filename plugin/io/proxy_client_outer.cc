// ProxyClient: the outer connection.

#include "proxy_client_impl.h"

#include "ngmasque/quic/socket_address.h"
#include "ngmasque/wire/quic_header.h"

#include <algorithm>
#include <cstring>
#include <format>

#include <netdb.h>

namespace ngmasque {

namespace {

// A name with more addresses is tried at the first of them.
constexpr std::size_t kMaxAddresses = 16;

} // namespace

std::expected<void, IoError> ProxyClient::Impl::Start() {
  if (!key_) {
    Log(LogLevel::kError, "no random numbers");
    return std::unexpected(IoError::kInternal);
  }
  if (!IsAuthorization(options_.authorization)) {
    Log(LogLevel::kError, "the credentials are no field value");
    return std::unexpected(IoError::kArgument);
  }
  make_dialect_ = options_.own_dialect;
  if (!make_dialect_) {
    auto made = MakeClientDialects(options_.dialects, options_.host, options_.port, *key_);
    if (!made) {
      Log(LogLevel::kError, "the URI template is none");
      return std::unexpected(std::move(made.error()));
    }
    make_dialect_ = *std::move(made);
  }
  heard_ = SteadyNow();
  if (chained_) {
    return StartBehind();
  }
  if (auto found = FindAddresses(); !found) {
    return found;
  }
  std::ranges::reverse(addresses_);
  return ConnectNext();
}

std::expected<void, IoError> ProxyClient::Impl::FindAddresses() {
  if (!options_.addresses.empty()) {
    addresses_ = options_.addresses;
    addresses_.resize(std::min(addresses_.size(), kMaxAddresses));
    return {};
  }
  const addrinfo hints{.ai_flags = AI_NUMERICSERV,
                       .ai_family = AF_UNSPEC,
                       .ai_socktype = SOCK_DGRAM,
                       .ai_protocol = IPPROTO_UDP,
                       .ai_addrlen = 0,
                       .ai_addr = nullptr,
                       .ai_canonname = nullptr,
                       .ai_next = nullptr};
  addrinfo *found = nullptr;
  const int rv = getaddrinfo(options_.host.c_str(), options_.port.c_str(), &hints, &found);
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  if (rv != 0) {
    Log(LogLevel::kError, std::format("proxy {}: {}", options_.host, gai_strerror(rv)));
    return std::unexpected(IoError::kResolve);
  }
  for (const auto *info = found; info && addresses_.size() < kMaxAddresses; info = info->ai_next) {
    if (const auto endpoint = ToEndpoint(info->ai_addr)) {
      addresses_.push_back(*endpoint);
    }
  }
  return {};
}

std::expected<void, IoError> ProxyClient::Impl::ConnectNext() {
  auto tried = std::expected<void, IoError>(std::unexpect, IoError::kSocket);
  while (!addresses_.empty() && !tried && tried.error() == IoError::kSocket) {
    const auto remote = addresses_.back();
    addresses_.pop_back();
    tried = Connect(remote, options_.max_udp_payload == kMinUdpPayload);
  }
  if (!tried) {
    StopWatchers();
  }
  return tried;
}

std::expected<void, IoError> ProxyClient::Impl::Connect(const Endpoint &remote, bool small) {
  for (auto &socket : sockets_) {
    StopSocket(socket);
  }
  http3_.reset();
  close_reason_.reset();
  sockets_.clear();
  ForgetTunnelLinks();
  for (const auto &id : std::exchange(local_ids_, {})) {
    ids_.Release(id);
  }
  blocked_.reset();
  FourTuple path;
  auto size = options_.max_udp_payload;
  if (chained_) {
    path = ViaPath(remote);
    size = std::max(kMinUdpPayload, std::min(size, options_.via->impl_->LinkPayload()));
    small = small || size == kMinUdpPayload;
  } else if (const auto socket = OpenSocket(remote)) {
    current_ = *socket;
    path = {.local = current_->link->local(), .remote = remote};
  } else {
    Log(LogLevel::kWarning, std::format("socket: {}", std::strerror(socket.error().system)));
    return std::unexpected(socket.error());
  }
  small_ = small;
  const auto first = options_.handshake_timeout / 3;
  auto made =
    Http3Client::Create({.server_name = options_.sni.empty() ? options_.host : options_.sni,
                         .ca_file = options_.ca_file,
                         .system_roots = options_.system_roots,
                         .certificate_file = options_.certificate_file,
                         .key_file = options_.key_file,
                         .qlog_dir = options_.qlog_dir,
                         .key_log_file = options_.key_log_file,
                         .idle_timeout = options_.idle_timeout,
                         .handshake_timeout = small ? options_.handshake_timeout - first : first,
                         .keep_alive = {},
                         .max_udp_payload = size,
                         .probe_path = small,
                         .server_migration = options_.server_migration,
                         .max_received_payload = chained_ ? size : 0,
                         .hold_local_ids = chained_},
                        path, *this, SteadyNow());
  if (made) {
    http3_ = std::move(*made);
    Wake();
    return chained_ ? OpenTunnelLinks(path) : std::expected<void, IoError>();
  }
  Log(LogLevel::kError, ErrorText(made.error()));
  return std::unexpected(made.error());
}

bool ProxyClient::Impl::OnPacket(OuterLink &link, std::span<std::uint8_t> packet, unsigned ecn) {
  reading_ = &link;
  if (const auto forwarded = ids_.FindForwarded(packet); forwarded.tunnel) {
    Hear();
    FindTunnel(forwarded.tunnel->number())->TakeForwarded(forwarded, packet, ecn);
    return !closed_;
  }
  if (const auto reset = ids_.FindReset(packet)) {
    const auto tunnel = FindTunnel(reset->tunnel->number());
    tunnel->Run(reset->tunnel->OnReset(reset->mapping));
    Ping(); // Whether the proxy knows the outer connection still.
    return !closed_;
  }
  const auto before = forwarding_ ? http3_->packets_received() : 0;
  const auto *const from = current_;
  WithHttp3([&](Http3Client &http3) {
    http3.Receive({.local = link.local(), .remote = link.remote()}, ecn, packet, SteadyNow());
  });
  if (current_ != from && !closed_) {
    // What is forwarded from the new address is the client's to the proxy when it has this.
    WriteOuter();
  }
  // A stateless reset, perhaps: the proxy does not know what has been forwarded, or from where.
  if (forwarding_ && !closed_ && PeekHeaderForm(packet) == HeaderForm::kShort &&
      http3_->packets_received() == before) {
    Ping();
  }
  return !closed_;
}

void ProxyClient::Impl::OnPacketsDone(OuterLink &, int error) {
  reading_ = nullptr;
  if (error != 0 && !ready_ && failure_.empty() && !closed_) {
    // Later on it may be a forged message, or the proxy restarting.
    failure_ = std::strerror(error);
  }
  // A proxy that has been restarted answers too, with packets that are nobody's.
  if (const auto received = http3_ ? http3_->packets_received() : received_;
      std::exchange(received_, received) != received) {
    Hear();
  }
  DeliverPacketsDone();
  if (!closed_) {
    Wake();
  }
}

void ProxyClient::Impl::WriteOuter() {
  if (!blocked_ && http3_) {
    WithHttp3([this](Http3Client &http3) {
      http3.WritePackets(SteadyNow(),
                         [this](const OutgoingBurst &burst) { return SendOuter(burst); });
    });
  }
}

void ProxyClient::Impl::TryNextOrClose(std::string text) {
  Log(LogLevel::kWarning, std::format("connection to the proxy: {}", text));
  if (std::exchange(behind_.again, false) && Connect(behind_.remote, small_)) {
    return;
  }
  const bool may_be_size = std::exchange(may_be_size_, false);
  if (may_be_size && !small_ && !final_) {
    Log(LogLevel::kInfo, "trying again with smaller packets");
    if (Connect(Endpoint(current_->link->remote()), true)) {
      return;
    }
  }
  if (!ready_ && !final_ && !addresses_.empty() && ConnectNext()) {
    return;
  }
  if (may_be_size) {
    text += std::format("; {} packets have come from the proxy, and QUIC needs a path for {} bytes "
                        "of UDP payload both ways",
                        received_, kMinUdpPayload);
  }
  TellEnd(std::move(text));
}

// What has been on its way to the program is of no use any more, but for how tunnels have ended.
void ProxyClient::Impl::TellEnd(std::string text) {
  over_ = true;
  std::erase_if(events_,
                [](const Event &event) { return !std::holds_alternative<TunnelEnd>(event.what); });
  for (const auto &tunnel : Tunnels()) {
    events_.push_back({.tunnel = tunnel,
                       .what = TunnelEnd{.kind = TunnelEnd::Kind::kConnection, .text = text}});
  }
  EndTunnels();
  DismissFollowers(text);
  events_.push_back({.tunnel = nullptr, .what = Closed{.text = std::move(text)}});
}

std::expected<void, IoError> ProxyClient::Impl::ChangeLocalAddress() {
  if (chained_) {
    return std::unexpected(IoError::kNotSupported);
  }
  if (!ready_ || closed_ || in_http3_) {
    return std::unexpected(IoError::kNotReady);
  }
  const auto socket = OpenSocket(current_->link->remote());
  if (!socket) {
    Log(LogLevel::kWarning, std::format("socket: {}", std::strerror(socket.error().system)));
    return std::unexpected(socket.error());
  }
  const auto started = http3_->Migrate((*socket)->link->local(), SteadyNow());
  if (!started) {
    StopSocket(**socket);
    sockets_.pop_back();
    Log(LogLevel::kWarning, std::format("new local address: {}", ErrorText(started.error())));
    return std::unexpected(started.error());
  }
  Wake();
  return {};
}

void ProxyClient::Impl::Close() { CloseWith(kH3NoError); }

void ProxyClient::Impl::CloseWith(std::uint64_t code) {
  if (closed_) {
    return;
  }
  if (in_http3_) {
    close_wanted_ = true;
    return;
  }
  closed_ = true;
  StopWatchers();
  EndTunnels();
  events_.clear();
  if (http3_) {
    http3_->Close(code, SteadyNow(),
                  [this](const OutgoingBurst &burst) { return SendOuter(burst); });
  }
  if (options_.via) {
    options_.via->impl_->WriteLastWords();
  }
  for (auto &socket : sockets_) {
    socket.link->End();
  }
  DismissFollowers("it was closed");
  LeaveVia();
}

} // namespace ngmasque
