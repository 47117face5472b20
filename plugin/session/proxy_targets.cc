// Proxy: from the authority of a tunnel to its server-facing socket.

#include "proxy_state.h"

#include <algorithm>
#include <array>
#include <bit>
#include <tuple>
#include <utility>

namespace ngmasque {

//= draft-00, section 5
//# The proxy then determines the server-facing socket to associate with the client's datagram flow.
//# This will generally involve performing a DNS lookup for the hostname in the request authority,
//# or finding an existing server-facing socket to the authority.
void Proxy::State::FindTarget(Tunnel &tunnel, ProxyActions &actions) {
  const auto &allowed = PolicyOf(tunnel);
  if (!allowed.AllowsPort(tunnel.authority.port)) {
    RefuseAll(tunnel, SessionError::kTargetPort, actions);
    return;
  }
  if (const auto named = allowed.CheckHost(tunnel.authority.host); !named) {
    RefuseAll(tunnel, named.error(), actions);
    return;
  }
  if (Shares(tunnel)) {
    if (const auto named = by_authority.find(AuthorityText(tunnel.authority));
        // Where it has led another user, this one may not be allowed, or nobody any more.
        named != by_authority.end() && Check(tunnel, named->second.socket->target)) {
      Join(tunnel, *named->second.socket, actions);
      return;
    }
  }
  if (const auto address = ParseAddress(tunnel.authority.host)) {
    const std::array literal{Endpoint{.address = *address}};
    UseAddresses(tunnel, literal, actions);
    return;
  }
  auto &client = *tunnel.connection->client;
  if (client.lookups >= options.max_lookups_per_client) {
    RefuseAll(tunnel, SessionError::kTooManyClientLookups, actions);
    return;
  }
  if (lookups.size() >= options.max_lookups) {
    RefuseAll(tunnel, SessionError::kTooManyLookups, actions);
    return;
  }
  //= RFC 9298, section 3.1
  //# if the "target_host" is a DNS name, the UDP proxy MUST perform DNS resolution before replying
  //# to the HTTP request.
  tunnel.stage = Stage::kLookup;
  tunnel.lookup = LookupId(next_lookup++);
  lookups.emplace(tunnel.lookup, Asked{.by = &client, .tunnel = &tunnel});
  ++client.lookups;
  ++counters.lookups;
  actions.emplace_back(
    proxy_action::Lookup{.lookup = tunnel.lookup, .host = tunnel.authority.host});
}

ProxyActions Proxy::OnLookup(LookupId lookup,
                             const std::expected<std::vector<Endpoint>, SessionError> &found,
                             Timestamp now) {
  ProxyActions actions;
  state_->now = now;
  const auto asked = state_->lookups.find(lookup);
  if (asked == state_->lookups.end()) {
    return actions;
  }
  const auto [by, tunnel] = asked->second;
  state_->lookups.erase(asked);
  state_->tunnels.EndLookup(*by);
  if (!tunnel) {
    return actions;
  }
  tunnel->stage = State::Stage::kNone;
  if (!found || found->empty()) {
    //= RFC 9298, section 3.1
    //# If errors occur during this process, the UDP proxy MUST reject the request and SHOULD send
    //# details using an appropriate Proxy-Status header field
    state_->RefuseAll(*tunnel, found ? SessionError::kNoAddress : found.error(), actions);
  } else {
    state_->UseAddresses(*tunnel, *found, actions);
  }
  return actions;
}

void Proxy::State::UseAddresses(Tunnel &tunnel, std::span<const Endpoint> addresses,
                                ProxyActions &actions) {
  std::optional<SessionError> prohibited;
  for (auto target : addresses) {
    target.port = tunnel.authority.port;
    if (const auto allowed = Check(tunnel, target); !allowed) {
      prohibited = allowed.error();
    } else if (tunnel.targets.size() < std::max<std::size_t>(options.max_addresses, 1)) {
      tunnel.targets.push_back(target);
    }
  }
  if (prohibited && (tunnel.targets.empty() || !options.mixed_addresses)) {
    RefuseAll(tunnel, *prohibited, actions);
    return;
  }
  TryNext(tunnel, actions);
}

std::expected<void, SessionError> Proxy::State::Check(const Tunnel &tunnel,
                                                      const Endpoint &target) const {
  if (policy.IsOwn(target)) {
    return std::unexpected(SessionError::kOwnAddress);
  }
  return PolicyOf(tunnel).Check(target);
}

void Proxy::State::TryNext(Tunnel &tunnel, ProxyActions &actions) {
  if (tunnel.targets.empty()) {
    RefuseAll(tunnel, tunnel.error, actions);
    return;
  }
  const auto target = tunnel.targets.front();
  tunnel.targets.erase(tunnel.targets.begin());
  if (Shares(tunnel)) {
    if (const auto socket = by_endpoint.find(target); socket != by_endpoint.end()) {
      Join(tunnel, *socket->second, actions);
      return;
    }
  }
  const auto socket = tunnels.AddSocket(target, Shares(tunnel));
  if (!socket) {
    RefuseAll(tunnel, socket.error(), actions);
    return;
  }
  ++counters.sockets;
  if (Shares(tunnel)) {
    by_endpoint.emplace(target, *socket);
  }
  actions.emplace_back(proxy_action::OpenSocket{.socket = (*socket)->id, .target = target});
  Join(tunnel, **socket, actions);
}

void Proxy::State::Join(Tunnel &tunnel, ServerSocket &socket, ProxyActions &actions) {
  if (!tunnels.Join(tunnel, socket)) {
    UseAnother(tunnel, socket.target, actions);
    return;
  }
  tunnel.stage = Stage::kOpening;
  if (const auto flows = socket.users.size(); flows > 1 && std::has_single_bit(flows)) {
    actions.emplace_back(proxy_action::GrowSocket{.socket = socket.id, .flows = flows});
  }
  if (socket.open) {
    Register(tunnel, actions);
  }
}

void Proxy::State::UseAnother(Tunnel &tunnel, const Endpoint &target, ProxyActions &actions) {
  tunnel.alone = true;
  tunnel.targets.insert(tunnel.targets.begin(), target);
  TryNext(tunnel, actions);
}

ProxyActions Proxy::OnSocket(SocketId id, const std::expected<void *, SessionError> &opened,
                             Timestamp now) {
  ProxyActions actions;
  state_->now = now;
  auto *socket = state_->tunnels.Find(id);
  if (!socket || socket->open) {
    return actions;
  }
  // The tunnels that wait for it, in the order in which they came.  A copy, as some may leave it.
  const auto users = socket->users;
  if (opened) {
    socket->open = true;
    socket->user_data = *opened;
    for (const auto &[ticket, tunnel] : users) {
      state_->Register(*tunnel, actions);
    }
    return actions;
  }
  for (const auto &[ticket, tunnel] : users) {
    tunnel->stage = State::Stage::kNone;
    tunnel->error = opened.error();
    std::ignore = state_->tunnels.Leave(*tunnel);
  }
  state_->Forget(*socket);
  for (const auto &[ticket, tunnel] : users) {
    state_->TryNext(*tunnel, actions);
  }
  return actions;
}

const ServerSocket *Proxy::Find(SocketId socket) const { return state_->tunnels.Find(socket); }

ProxyActions Proxy::OnSocketFailed(SocketId id, Timestamp now) {
  const auto *socket = state_->tunnels.Find(id);
  if (socket && !socket->open) {
    return OnSocket(id, std::unexpected(SessionError::kUnroutable), now);
  }
  ProxyActions actions;
  state_->now = now;
  if (!socket) {
    return actions;
  }
  // A copy, as they leave it.  The last one closes the socket.
  const auto users = socket->users;
  for (const auto &[ticket, tunnel] : users) {
    //= RFC 9298, section 3.1
    //# If a UDP proxy is notified by its operating system that its socket is no longer usable, it
    //# MUST close the request stream.
    if (!tunnel->answered) {
      state_->Remove(*tunnel, EndReason::kUnreachable, actions);
    }
  }
  return actions;
}

void Proxy::State::Leave(Tunnel &tunnel, ProxyActions &actions) {
  switch (std::exchange(tunnel.stage, Stage::kNone)) {
  case Stage::kNone: return;
  case Stage::kLookup:
    // It is still under way, and counts until OnLookup: otherwise a client could have any number of
    // names looked up at a time.
    lookups.at(tunnel.lookup).tunnel = nullptr;
    actions.emplace_back(proxy_action::CancelLookup{.lookup = tunnel.lookup});
    return;
  case Stage::kOpening:
  case Stage::kOpen: break;
  }
  if (std::exchange(tunnel.named, false)) {
    const auto named = by_authority.find(AuthorityText(tunnel.authority));
    if (--named->second.tunnels == 0) {
      by_authority.erase(named);
    }
  }
  auto &socket = *tunnel.socket;
  if (tunnels.Leave(tunnel)) {
    actions.emplace_back(proxy_action::CloseSocket{.socket = socket.id});
    Forget(socket);
  }
}

void Proxy::State::Name(Tunnel &tunnel) {
  if (tunnel.named || !Shares(tunnel)) {
    return;
  }
  // Another tunnel may have got another answer to a look-up at the same time: then it is the
  // name's.
  auto &named =
    by_authority.try_emplace(AuthorityText(tunnel.authority), Named{.socket = tunnel.socket})
      .first->second;
  if (named.socket == tunnel.socket) {
    tunnel.named = true;
    ++named.tunnels;
  }
}

void Proxy::State::Forget(ServerSocket &socket) {
  if (socket.shared) {
    by_endpoint.erase(socket.target);
  }
  tunnels.Remove(socket);
  --counters.sockets;
}

} // namespace ngmasque
