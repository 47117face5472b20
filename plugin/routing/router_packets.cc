// Router: the look-ups, once for each packet.

#include "router_state.h"

namespace ngmasque {

std::expected<SocketId, NotRouted> Router::FindFlow(OuterConnection connection, FlowId id) const {
  if (const auto *known = state_->Find(connection)) {
    if (const auto flow = known->flows.find(id); flow != known->flows.end()) {
      return flow->second.socket->id;
    }
  }
  return std::unexpected(NotRouted::kUnknownFlow);
}

//= draft-00, section 5
//# The proxy MUST only forward non-tunnelled packets from the client that are QUIC short header
//# packets (based on the Header Form bit) and have mapped Server Connection IDs.
std::expected<ToTarget, NotRouted> Router::FromClient(const FourTuple &tuple,
                                                      std::span<const std::uint8_t> packet) {
  const auto form = PeekHeaderForm(packet);
  if (!form) {
    return std::unexpected(NotRouted::kMalformed);
  }
  if (*form == HeaderForm::kLong) {
    return std::unexpected(NotRouted::kLongHeader);
  }

  const auto scope = state_->tuples.find(tuple);
  if (scope == state_->tuples.end()) {
    return std::unexpected(NotRouted::kUnknownTuple);
  }
  const auto *route = scope->second.ids.Find(packet.subspan(1), &state_->probes);
  if (!route) {
    return std::unexpected(NotRouted::kUnknownConnectionId);
  }
  auto *flow = route->flow;
  if (!flow) {
    return std::unexpected(NotRouted::kReserved);
  }
  flow->forwarding = true;
  return ToTarget{.connection = flow->connection->id, .flow = flow->id, .socket = flow->socket->id};
}

std::expected<ToClient, NotRouted> Router::FromTarget(SocketId id,
                                                      std::span<const std::uint8_t> packet) const {
  const auto found = state_->sockets.find(id);
  if (found == state_->sockets.end()) {
    return std::unexpected(NotRouted::kUnknownSocket);
  }
  const auto &socket = found->second;

  const State::Flow *flow = nullptr;
  auto way = Way::kTunnel;
  auto why = NotRouted::kUnknownConnectionId;
  const auto form = PeekHeaderForm(packet);
  if (form == HeaderForm::kShort) {
    if (const auto *route = socket.ids.Find(packet.subspan(1), &state_->probes)) {
      flow = route->flow;
      //= draft-00, section 4.4
      //# A proxy MUST NOT forward packets from the target to the client until after the client has
      //# sent at least one packet in forwarded mode.
      if (flow->forwarding && route->forwardable) {
        way = Way::kForward;
      }
    }
  } else if (const auto header = ParseLongHeader(packet)) {
    //= draft-00, section 5
    //# The proxy MUST use tunnelled mode (DATAGRAM frames) on the correct datagram flow for any
    //long # header packets.
    if (const auto *route = socket.ids.FindExact(header->dcid, &state_->probes)) {
      flow = route->flow;
    }
  } else {
    why = NotRouted::kMalformed;
  }

  if (!flow) {
    if (socket.shared) {
      return std::unexpected(why);
    }
    flow = *socket.flows.begin(); // The only one.
  }
  return ToClient{.connection = flow->connection->id,
                  .flow = flow->id,
                  .tuple = flow->connection->tuple->tuple,
                  .way = way};
}

} // namespace ngmasque
