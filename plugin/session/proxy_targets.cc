// Proxy: from the authority of a flow to its server-facing socket.

#include "proxy_state.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

namespace ngmasque {

namespace {
Verdict ToVerdict(LookupError error) {
  switch (error) {
  case LookupError::kFailed: return WithError(502, "dns_error");
  case LookupError::kTimeout: return WithError(504, "dns_timeout");
  }
  std::unreachable();
}

Verdict ToVerdict(SocketError error) {
  switch (error) {
  case SocketError::kUnroutable: return WithError(502, "destination_ip_unroutable");
  case SocketError::kExhausted: return Exhausted();
  }
  std::unreachable();
}
} // namespace

//= draft-00, section 5
//# The proxy then determines the server-facing socket to associate with the client's datagram flow.
//# This will generally involve performing a DNS lookup for the hostname in the request authority,
//# or finding an existing server-facing socket to the authority.
void Proxy::State::FindTarget(Connection &connection, Flow &flow, ProxyActions &actions) {
  if (Shares(flow)) {
    if (const auto named = by_authority.find(AuthorityText(flow.authority));
        named != by_authority.end()) {
      Join(connection, flow, named->second.socket, actions);
      return;
    }
  }
  if (const auto address = ParseAddress(flow.authority.host)) {
    const std::array literal{Endpoint{.address = *address}};
    UseAddresses(connection, flow, literal, actions);
    return;
  }
  if (connection.lookups >= options.max_lookups_per_connection) {
    RefuseAll(connection, flow, TooMany("too many look-ups on the connection"), actions);
    return;
  }
  if (lookups.size() >= options.max_lookups) {
    RefuseAll(connection, flow, Exhausted(), actions);
    return;
  }
  flow.stage = Stage::kLookup;
  flow.lookup = LookupId(next_lookup++);
  lookups.emplace(flow.lookup, Asked{.by = {.connection = connection.id, .flow = flow.id}});
  ++connection.lookups;
  ++counters.lookups;
  actions.emplace_back(proxy_action::Lookup{.lookup = flow.lookup, .host = flow.authority.host});
}

ProxyActions Proxy::OnLookup(LookupId lookup,
                             const std::expected<std::vector<Endpoint>, LookupError> &found) {
  ProxyActions actions;
  const auto asked = state_->lookups.find(lookup);
  if (asked == state_->lookups.end()) {
    return actions;
  }
  const auto [by, wanted] = asked->second;
  state_->lookups.erase(asked);
  auto *known = state_->Find(by.connection);
  if (known) {
    --known->lookups;
  }
  if (!wanted) {
    return actions;
  }
  auto &connection = *known;
  auto &flow = connection.flows.at(by.flow);
  flow.stage = State::Stage::kNone;
  if (!found || found->empty()) {
    const auto error = found ? LookupError::kFailed : found.error();
    state_->RefuseAll(connection, flow, ToVerdict(error), actions);
  } else {
    state_->UseAddresses(connection, flow, *found, actions);
  }
  return actions;
}

void Proxy::State::UseAddresses(Connection &connection, Flow &flow,
                                std::span<const Endpoint> addresses, ProxyActions &actions) {
  bool prohibited = false;
  for (auto target : addresses) {
    target.port = flow.authority.port;
    if (!policy.Check(target)) {
      prohibited = true;
    } else if (flow.targets.size() < std::max<std::size_t>(options.max_addresses, 1)) {
      flow.targets.push_back(target);
    }
  }
  if (flow.targets.empty() || (prohibited && !options.mixed_addresses)) {
    RefuseAll(connection, flow, WithError(403, "destination_ip_prohibited"), actions);
    return;
  }
  TryNext(connection, flow, actions);
}

void Proxy::State::TryNext(Connection &connection, Flow &flow, ProxyActions &actions) {
  if (flow.targets.empty()) {
    RefuseAll(connection, flow, ToVerdict(flow.error), actions);
    return;
  }
  const auto target = flow.targets.front();
  flow.targets.erase(flow.targets.begin());
  if (Shares(flow)) {
    if (const auto socket = by_endpoint.find(target); socket != by_endpoint.end()) {
      Join(connection, flow, socket->second, actions);
      return;
    }
  }
  if (sockets.size() >= options.routing.max_sockets) {
    RefuseAll(connection, flow, Exhausted(), actions);
    return;
  }
  const auto id = SocketId(next_socket++);
  sockets.try_emplace(id, Socket{.target = target, .shared = Shares(flow), .users = {}});
  ++counters.sockets;
  if (Shares(flow)) {
    by_endpoint.emplace(target, id);
  }
  actions.emplace_back(proxy_action::OpenSocket{.socket = id, .target = target});
  Join(connection, flow, id, actions);
}

void Proxy::State::Join(Connection &connection, Flow &flow, SocketId id, ProxyActions &actions) {
  auto &socket = sockets.at(id);
  flow.stage = Stage::kOpening;
  flow.socket = id;
  flow.ticket = next_ticket++;
  socket.users.emplace(flow.ticket, FlowKey{.connection = connection.id, .flow = flow.id});
  if (socket.open) {
    Register(connection, flow, actions);
  }
}

ProxyActions Proxy::OnSocket(SocketId id, const std::expected<void, SocketError> &opened) {
  ProxyActions actions;
  const auto socket = state_->sockets.find(id);
  if (socket == state_->sockets.end() || socket->second.open) {
    return actions;
  }
  // The flows that wait for it, in the order in which they came.  A copy, as some may leave it.
  const auto users = socket->second.users;
  if (opened) {
    socket->second.open = true;
  } else {
    state_->Forget(id);
  }
  for (const auto &[ticket, user] : users) {
    auto &connection = state_->connections.at(user.connection);
    auto &flow = connection.flows.at(user.flow);
    if (opened) {
      state_->Register(connection, flow, actions);
    } else {
      flow.stage = State::Stage::kNone;
      flow.error = opened.error();
      state_->TryNext(connection, flow, actions);
    }
  }
  return actions;
}

ProxyActions Proxy::OnSocketFailed(SocketId id) {
  const auto socket = state_->sockets.find(id);
  if (socket != state_->sockets.end() && !socket->second.open) {
    return OnSocket(id, std::unexpected(SocketError::kUnroutable));
  }
  ProxyActions actions;
  if (socket == state_->sockets.end()) {
    return actions;
  }
  std::vector<StreamKey> streams;
  for (const auto &[ticket, user] : socket->second.users) {
    const auto &flow = state_->connections.at(user.connection).flows.at(user.flow);
    if (!flow.answered) {
      std::ranges::transform(flow.accepted, std::back_inserter(streams), [&](StreamId stream) {
        return StreamKey{.connection = user.connection, .stream = stream};
      });
    }
  }
  for (const auto &stream : streams) {
    std::ignore = state_->router.RemoveStream(stream);
  }
  // The last one closes the socket.
  state_->Reset(streams, actions);
  return actions;
}

void Proxy::State::Leave(Flow &flow, ProxyActions &actions) {
  switch (std::exchange(flow.stage, Stage::kNone)) {
  case Stage::kNone: return;
  case Stage::kLookup:
    // It is still under way, and counts until OnLookup: otherwise a client could have any number of
    // names looked up at a time.
    lookups.at(flow.lookup).wanted = false;
    actions.emplace_back(proxy_action::CancelLookup{.lookup = flow.lookup});
    return;
  case Stage::kOpening:
  case Stage::kOpen: break;
  }
  if (std::exchange(flow.named, false)) {
    const auto named = by_authority.find(AuthorityText(flow.authority));
    if (--named->second.flows == 0) {
      by_authority.erase(named);
    }
  }
  auto &users = sockets.at(flow.socket).users;
  users.erase(flow.ticket);
  //= draft-00, section 5.1
  //# A proxy can close its server-facing socket once all datagram flows mapped to that socket have
  //# been removed.
  if (users.empty()) {
    actions.emplace_back(proxy_action::CloseSocket{.socket = flow.socket});
    Forget(flow.socket);
  }
}

void Proxy::State::Name(Flow &flow) {
  if (flow.named || !Shares(flow)) {
    return;
  }
  // Another flow may have got another answer to a look-up at the same time: then it is the name's.
  auto &named =
    by_authority.try_emplace(AuthorityText(flow.authority), Named{.socket = flow.socket})
      .first->second;
  if (named.socket == flow.socket) {
    flow.named = true;
    ++named.flows;
  }
}

void Proxy::State::Forget(SocketId id) {
  const auto socket = sockets.find(id);
  if (socket->second.shared) {
    by_endpoint.erase(socket->second.target);
  }
  sockets.erase(socket);
  --counters.sockets;
}

} // namespace ngmasque
