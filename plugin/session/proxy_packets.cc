// Proxy: one call for each packet.

#include "proxy_state.h"

#include "ngmasque/wire/datagram.h"

#include <utility>

namespace ngmasque {

namespace {
NotPassed ToNotPassed(NotRouted reason) {
  switch (reason) {
  case NotRouted::kLongHeader: return NotPassed::kLongHeader;
  case NotRouted::kReserved: return NotPassed::kReserved;
  case NotRouted::kUnknownTuple: return NotPassed::kUnknownTuple;
  case NotRouted::kUnknownConnectionId: return NotPassed::kUnknownConnectionId;
  case NotRouted::kUnknownFlow: return NotPassed::kUnknownFlow;
  case NotRouted::kUnknownSocket: return NotPassed::kUnknownSocket;
  case NotRouted::kMalformed: return NotPassed::kMalformed;
  }
  std::unreachable();
}
} // namespace

std::unexpected<NotPassed> Proxy::State::Count(NotPassed reason) {
  ++counters.not_passed[static_cast<std::size_t>(reason)];
  return std::unexpected(reason);
}

std::expected<PayloadToTarget, NotPassed> Proxy::State::Pass(Connection &connection, FlowId flow,
                                                             std::span<const std::uint8_t> payload,
                                                             Timestamp now) {
  if (!connection.bucket.Take(payload.size(), now)) {
    return Count(NotPassed::kRateLimited);
  }
  if (const auto socket = router.FindFlow(connection.id, flow)) {
    counters.tunnelled_to_target.Add(payload.size());
    return PayloadToTarget{.socket = *socket, .payload = payload};
  }
  //= draft-00, section 4.1
  //# Any DATAGRAM frames that are sent in a separate QUIC packet from the STREAM frame that
  //# contains the CONNECT-UDP request might also be dropped in the case that the packet arrives at
  //# the proxy before the packet containing the STREAM frame.
  //
  // So the first ones are not.
  const auto awaited = connection.flows.contains(flow);
  return Count(connection.early.Keep(flow, awaited, payload) ? NotPassed::kKept
                                                             : NotPassed::kUnknownFlow);
}

std::expected<PayloadToTarget, NotPassed>
Proxy::OnDatagram(OuterConnection id, std::span<const std::uint8_t> data, Timestamp now) {
  const auto datagram = ParseFlowDatagram(data);
  if (!datagram) {
    return state_->Count(datagram.error() == DatagramError::kPayloadTooLong
                           ? NotPassed::kTooLong
                           : NotPassed::kMalformed);
  }
  auto *connection = state_->Find(id);
  if (!connection) {
    return state_->Count(NotPassed::kUnknownFlow);
  }
  return state_->Pass(*connection, datagram->flow_id, datagram->payload, now);
}

std::expected<PayloadToTarget, NotPassed>
Proxy::OnStreamData(const StreamKey &stream, std::span<const std::uint8_t> &input, Timestamp now) {
  auto *connection = state_->Find(stream.connection);
  auto *request = connection ? connection->Find(stream.stream) : nullptr;
  if (!request) {
    input = {};
    return state_->Count(NotPassed::kUnknownFlow);
  }
  auto &payloads = request->payloads;
  if (!payloads) {
    payloads = std::make_unique<StreamLengthParser>(state_->options.max_stream_payload);
  }
  const auto payload = payloads->Next(input);
  if (payload) {
    return state_->Pass(*connection, request->flow, *payload, now);
  }
  if (payload.error() == StreamLengthError::kIncomplete) {
    return std::unexpected(NotPassed::kIncomplete);
  }
  return state_->Count(NotPassed::kTooLong);
}

std::expected<ToTarget, NotPassed>
Proxy::FromClient(const FourTuple &tuple, std::span<const std::uint8_t> packet, Timestamp now) {
  const auto to = state_->router.FromClient(tuple, packet);
  if (!to) {
    const auto reason = ToNotPassed(to.error());
    return IsForQuic(reason) ? std::unexpected(reason) : state_->Count(reason);
  }
  if (!state_->Find(to->connection)->bucket.Take(packet.size(), now)) {
    return state_->Count(NotPassed::kRateLimited);
  }
  state_->counters.forwarded_to_target.Add(packet.size());
  return *to;
}

std::expected<PacketToClient, NotPassed>
Proxy::FromTarget(SocketId socket, std::span<const std::uint8_t> packet, Timestamp now) {
  const auto to = state_->router.FromTarget(socket, packet);
  if (!to) {
    return state_->Count(ToNotPassed(to.error()));
  }
  auto &connection = *state_->Find(to->connection);
  if (!connection.bucket.Take(packet.size(), now)) {
    return state_->Count(NotPassed::kRateLimited);
  }

  PacketToClient result{.connection = to->connection};
  if (to->way == Way::kForward) {
    result.form = ClientForm::kForward;
    result.tuple = to->tuple;
    state_->counters.forwarded_to_client.Add(packet.size());
    return result;
  }
  // The first packet of a target is tunnelled: none is forwarded before the client has forwarded one.
  auto &flow = connection.flows.find(to->flow)->second;
  flow.answered = true;
  result.stream = *flow.accepted.begin();
  if (connection.datagrams && (to->flow & kStreamFlow) == 0) {
    result.form = ClientForm::kDatagram;
    result.flow = to->flow;
  } else {
    result.form = ClientForm::kStream;
  }
  state_->counters.tunnelled_to_client.Add(packet.size());
  return result;
}

std::expected<PacketToClient, NotPassed> Proxy::FromTarget(SocketId socket, const Endpoint &source,
                                                           std::span<const std::uint8_t> packet,
                                                           Timestamp now) {
  const auto known = state_->sockets.find(socket);
  if (known != state_->sockets.end() && known->second.target != source) {
    return state_->Count(NotPassed::kWrongSource);
  }
  return FromTarget(socket, packet, now);
}

} // namespace ngmasque
