// ProxyClient: an outer connection that goes through a tunnel of another ProxyClient, the one
// before this one.

#include "proxy_client_impl.h"

#include "ngmasque/quic/socket_address.h"

#include <algorithm>
#include <charconv>
#include <format>
#include <ranges>

#include <arpa/inet.h>

namespace ngmasque {

namespace {

// An address of no host, to ngtcp2 one like others: for our end of a path, where only the port differs,
// and for a proxy that has a name, which only the one before it looks up.
constexpr Endpoint Nowhere(bool ipv6, std::uint16_t port) {
  Endpoint endpoint{.address = {}, .port = port};
  endpoint.address[10] = endpoint.address[11] = ipv6 ? 0 : 0xff;
  return endpoint;
}

Endpoint AddressOf(const Authority &proxy) {
  auto endpoint = Nowhere(false, proxy.port);
  if (inet_pton(AF_INET, proxy.host.c_str(), endpoint.address.data() + 12) != 1) {
    in6_addr address{};
    if (inet_pton(AF_INET6, proxy.host.c_str(), &address) == 1) {
      std::ranges::copy(address.s6_addr, endpoint.address.begin());
    }
  }
  return endpoint;
}

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
  behind_.remote = AddressOf(behind_.proxy);
  auto &via = *options_.via->impl_;
  if (via.over_ || via.closed_) {
    return std::unexpected(IoError::kClosed);
  }
  via.followers_.insert(this);
  return via.dialect_ ? Connect(behind_.remote, false) : std::expected<void, IoError>();
}

void ProxyClient::Impl::OnViaReady() {
  if (closed_ || http3_ || !failure_.empty()) {
    return;
  }
  if (const auto made = Connect(behind_.remote, false); !made) {
    failure_ = ErrorText(made.error());
    final_ = true;
    Wake();
  }
}

void ProxyClient::Impl::OnViaOver(std::string_view text) {
  options_.via = nullptr;
  if (links_) {
    links_->Close(); // Which would open others.
  }
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

FourTuple ProxyClient::Impl::ViaPath(const Endpoint &remote) {
  Endpoint local;
  do {
    behind_.names = behind_.names == UINT16_MAX ? 1 : static_cast<std::uint16_t>(behind_.names + 1);
    local = Nowhere(!IsIpv4(remote), behind_.names);
  } while (FindSocket(local));
  return {.local = local, .remote = remote};
}

std::expected<void, IoError> ProxyClient::Impl::OpenTunnelLinks(const FourTuple &path) {
  auto opened = TunnelLinks::Open(loop_, *options_.via, behind_.proxy, path.remote,
                                  *local_ids_.begin(), options_.via_tunnel, read_buffer_, *this);
  if (!opened) {
    Log(LogLevel::kError, std::format("tunnel to the proxy: {}", ErrorText(opened.error())));
    return std::unexpected(std::move(opened.error()));
  }
  links_ = std::move(*opened);
  current_ = &sockets_.emplace_back(links_->Add(path));
  return {};
}

void ProxyClient::Impl::ForgetTunnelLinks() {
  if (links_) {
    behind_.earlier += links_->statistics();
    links_.reset();
  }
  behind_.remote_ids.clear();
}

std::optional<ProxyTunnelStatistics> ProxyClient::Impl::via_statistics() const {
  if (!chained_) {
    return std::nullopt;
  }
  auto sum = behind_.earlier;
  if (links_) {
    sum += links_->statistics();
  }
  return sum;
}

void ProxyClient::Impl::TellRemoteIds() {
  if (!links_ || !http3_) {
    return;
  }
  auto now = http3_->remote_ids();
  if (now == behind_.remote_ids) {
    return;
  }
  const auto before = std::exchange(behind_.remote_ids, std::move(now));
  for (const auto &one : behind_.remote_ids) {
    if (!std::ranges::contains(before, one)) {
      links_->AddServerId(one.remote, one.id, one.token);
    }
  }
  for (const auto &one : before) {
    if (!std::ranges::contains(behind_.remote_ids, one.id, &Http3Client::RemoteId::id)) {
      links_->RemoveServerId(one.id);
    }
  }
}

bool ProxyClient::Impl::HasLinkId(const LinkId &one) const {
  return std::ranges::any_of(std::views::values(behind_.ids),
                             [&one](const auto &ids) { return ids.contains(one); });
}

void ProxyClient::Impl::TellLinkIds(ProxyTunnel::Impl &tunnel) {
  if (!links_) {
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
      links_->AddClientId(one.id);
    } else {
      links_->AddServerId(current_->link->remote(), one.id, one.token);
    }
  }
  for (const auto &one : before) {
    if (now.contains(one) || HasLinkId(one)) {
      continue;
    }
    if (one.direction == Direction::kToClient) {
      behind_.usable.erase(one.id);
      links_->RemoveClientId(one.id);
    } else {
      links_->RemoveServerId(one.id);
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

// Virtual ones are others then, and there are none before the proxy has answered.
void ProxyClient::Impl::MoveLinkIds(const ProxyTunnel::Impl &tunnel) {
  const auto ids = behind_.ids.find(tunnel.number);
  if (ids == behind_.ids.end() || !tunnel.session || tunnel.session->dialect().virtual_ids()) {
    return;
  }
  for (const auto &one : ids->second) {
    if (one.direction == Direction::kToTarget) {
      links_->AddServerId(current_->link->remote(), one.id, one.token);
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

void ProxyClient::Impl::OnLinksEnded(const TunnelEnd &end) {
  if (end.kind == TunnelEnd::Kind::kConnection || !failure_.empty()) {
    return; // OnViaOver has said it.
  }
  failure_ = std::format("by way of another proxy: {}", end.text);
  behind_.again = end.retry && !ready_ && behind_.retries++ < kMaxRetries;
  final_ = !behind_.again;
  Wake();
}

} // namespace ngmasque
