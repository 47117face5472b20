// ProxyClient: an outer connection that goes through a tunnel of another ProxyClient, the one
// before this one.

#include "proxy_client_impl.h"

#include <algorithm>
#include <charconv>
#include <format>
#include <ranges>

namespace ngmasque {

namespace {

// The connection has one path, and these are its names, which say nothing of where it leads: IPv4,
// so that ngtcp2 takes them for addresses.
constexpr Endpoint Name(std::uint16_t port) {
  return {.address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}, .port = port};
}
constexpr FourTuple kPath{.local = Name(1), .remote = Name(2)};

// What datagrams with the payload may have to spare less than http3_->max_datagram() says: their
// prefix, and in the other direction our connection ID for what may be an empty one.
constexpr std::size_t kReserve = kLocalIdLength + 9;

// The tunnel is opened again so often when the first connection ID of a connection conflicts with
// another client's.
constexpr int kMaxRetries = 3;

// So many connection IDs are replaced when the proxy before this one has refused them.  After that
// they are kept, and not used: one that has reached a bound would refuse them all.
constexpr int kMaxDiscards = 4;

} // namespace

std::expected<void, IoError> ProxyClient::Impl::StartBehind() {
  std::uint16_t port = 0;
  const auto *const end = options_.port.data() + options_.port.size();
  if (const auto read = std::from_chars(options_.port.data(), end, port);
      read.ec != std::errc() || read.ptr != end || port == 0) {
    Log(LogLevel::kError, std::format("proxy {}: no port: {}", options_.host, options_.port));
    return std::unexpected(IoError::kResolve);
  }
  behind_.proxy = {.host = options_.host, .port = port};
  auto &via = *options_.via->impl_;
  if (via.over_ || via.closed_) {
    return std::unexpected(IoError::kClosed);
  }
  via.followers_.insert(this);
  return via.dialect_ ? Connect(kPath.remote, false) : std::expected<void, IoError>();
}

void ProxyClient::Impl::OnViaReady() {
  if (closed_ || http3_ || !failure_.empty()) {
    return;
  }
  if (const auto made = Connect(kPath.remote, false); !made) {
    failure_ = ErrorText(made.error());
    final_ = true;
    Wake();
  }
}

void ProxyClient::Impl::OnViaOver(std::string_view text) {
  options_.via = nullptr;
  behind_.again = false;
  final_ = true;
  if (failure_.empty()) {
    failure_ = std::format("by way of a proxy to which there is no connection any more: {}", text);
  }
  if (!closed_) {
    Wake();
  }
}

void ProxyClient::Impl::LeaveVia() {
  if (options_.via) {
    std::exchange(options_.via, nullptr)->impl_->followers_.erase(this);
  }
}

// Once its stream is reset, a tunnel takes nothing any more.
void ProxyClient::Impl::WriteLastWords() {
  if (!closed_ && !in_http3_) {
    WriteOuter();
  }
}

void ProxyClient::Impl::DismissFollowers(std::string_view text) {
  for (auto *const follower : std::exchange(followers_, {})) {
    follower->OnViaOver(text);
  }
}

std::size_t ProxyClient::Impl::LinkPayload() const {
  if (!dialect_->datagrams()) {
    return kMaxUdpPayload;
  }
  const auto max = http3_->max_datagram();
  return max > kReserve ? max - kReserve : 0;
}

FourTuple ProxyClient::Impl::ViaPath() { return kPath; }

std::expected<void, IoError> ProxyClient::Impl::OpenTunnelLink() {
  auto opened = TunnelLink::Open(*options_.via, behind_.proxy, *local_ids_.begin(),
                                 options_.via_tunnel, kPath, read_buffer_, *this);
  if (!opened) {
    Log(LogLevel::kError, std::format("tunnel to the proxy: {}", ErrorText(opened.error())));
    return std::unexpected(std::move(opened.error()));
  }
  behind_.link = opened->get();
  current_ = &sockets_.emplace_back(std::move(*opened));
  return {};
}

void ProxyClient::Impl::ForgetTunnelLink() {
  if (behind_.link) {
    behind_.earlier += behind_.link->statistics();
    behind_.link = nullptr;
  }
  behind_.remote_id.reset();
}

std::optional<ProxyTunnelStatistics> ProxyClient::Impl::via_statistics() const {
  if (!chained_) {
    return std::nullopt;
  }
  auto sum = behind_.earlier;
  if (behind_.link) {
    sum += behind_.link->statistics();
  }
  return sum;
}

// Of those of the proxy, the one in use.
void ProxyClient::Impl::TellRemoteId() {
  if (!behind_.link || !http3_) {
    return;
  }
  const auto remote = http3_->remote_id();
  if (!remote || remote->id == behind_.remote_id) {
    return;
  }
  behind_.link->AddServerId(remote->id, remote->token);
  if (behind_.remote_id) {
    behind_.link->RemoveServerId(*behind_.remote_id);
  }
  behind_.remote_id = remote->id;
}

bool ProxyClient::Impl::HasLinkId(const LinkId &one) const {
  return std::ranges::any_of(std::views::values(behind_.ids),
                             [&one](const auto &ids) { return ids.contains(one); });
}

void ProxyClient::Impl::TellLinkIds(ProxyTunnel::Impl &tunnel) {
  if (!behind_.link) {
    return;
  }
  std::set<LinkId> now;
  if (tunnel.session) {
    now = std::ranges::to<std::set>(tunnel.session->LinkIds());
  }
  std::set<LinkId> before;
  if (const auto known = behind_.ids.find(tunnel.number); known != behind_.ids.end()) {
    before = std::move(known->second);
    behind_.ids.erase(known);
  }
  std::vector<ConnectionId> usable;
  for (const auto &one : now) {
    const bool to_client = one.direction == Direction::kToClient;
    if (before.contains(one)) {
      continue;
    }
    if (HasLinkId(one)) { // Of a sibling.
      if (to_client && behind_.usable.contains(one.id)) {
        usable.push_back(one.id);
      }
    } else if (to_client) {
      behind_.link->AddClientId(one.id);
    } else {
      behind_.link->AddServerId(one.id);
    }
  }
  for (const auto &one : before) {
    if (now.contains(one) || HasLinkId(one)) {
      continue;
    }
    if (one.direction == Direction::kToClient) {
      behind_.usable.erase(one.id);
      behind_.link->RemoveClientId(one.id);
    } else {
      behind_.link->RemoveServerId(one.id);
    }
  }
  if (!now.empty()) {
    behind_.ids.emplace(tunnel.number, std::move(now));
  }
  for (const auto &id : usable) {
    if (tunnel.session) {
      tunnel.Run(tunnel.session->OnLinkId(id, true));
    }
  }
}

void ProxyClient::Impl::OnClientId(const ConnectionId &id, bool usable) {
  if (local_ids_.contains(id)) {
    if (usable) {
      http3_->ReleaseLocalId(id);
    } else if (behind_.discards++ < kMaxDiscards) {
      http3_->DiscardLocalId(id);
    }
    Wake();
    return;
  }
  const LinkId one{.direction = Direction::kToClient, .id = id};
  if (usable && HasLinkId(one)) {
    behind_.usable.insert(id);
  }
  for (const auto &tunnel : Tunnels()) { // Siblings have the same.
    const auto ids = behind_.ids.find(tunnel->number);
    if (ids == behind_.ids.end() || !ids->second.contains(one) || !tunnel->session) {
      continue;
    }
    tunnel->Run(tunnel->session->OnLinkId(id, usable));
    // Those that follow would end like this one.
    behind_.full = behind_.full || !tunnel->session;
  }
}

void ProxyClient::Impl::OnLinkEnded(const TunnelEnd &end) {
  if (end.kind == TunnelEnd::Kind::kConnection || !failure_.empty()) {
    return; // OnViaOver has said it.
  }
  failure_ = std::format("by way of another proxy: {}", end.text);
  behind_.again = end.retry && !ready_ && behind_.retries++ < kMaxRetries;
  final_ = !behind_.again;
  Wake();
}

} // namespace ngmasque
