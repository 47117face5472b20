// Proxy: one call for each packet.

#include "proxy_state.h"

#include "ngmasque/wire/datagram.h"

namespace ngmasque {

std::unexpected<NotPassed> Proxy::State::Count(NotPassed reason) {
  ++counters.not_passed[static_cast<std::size_t>(reason)];
  return std::unexpected(reason);
}

std::unexpected<NotPassed> Proxy::State::Count(Tunnel &tunnel, Way way, NotPassed reason) {
  ++tunnel.statistics.Dropped(way, reason);
  return std::unexpected(reason);
}

std::expected<PayloadToTarget, NotPassed> Proxy::State::Pass(ClientConnection &connection,
                                                             FlowId flow,
                                                             std::span<const std::uint8_t> payload,
                                                             Timestamp now) {
  auto &dialect = DialectOf(connection);
  const auto known = dialect.flows.find(flow);
  if (!connection.bucket.Take(payload.size(), now)) {
    return known == dialect.flows.end()
             ? Count(NotPassed::kRateLimited)
             : Count(*known->second, Way::kTunnelledToTarget, NotPassed::kRateLimited);
  }
  if (known != dialect.flows.end() && known->second->stage == Stage::kOpen) {
    known->second->statistics[Way::kTunnelledToTarget].passed.Add(payload.size(), IsLong(payload));
    return PayloadToTarget{.tunnel = known->second, .payload = payload};
  }
  //= draft-00, section 4.1
  //# Any DATAGRAM frames that are sent in a separate QUIC packet from the STREAM frame that
  //# contains the CONNECT-UDP request might also be dropped in the case that the packet arrives at
  //# the proxy before the packet containing the STREAM frame.
  //
  // So the first ones are not.
  const auto awaited = known != dialect.flows.end();
  return Count(dialect.early.Keep(flow, awaited, payload) ? NotPassed::kKept
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
  auto *connection = state_->tunnels.Find(id);
  if (!connection) {
    return state_->Count(NotPassed::kUnknownFlow);
  }
  return state_->Pass(*connection, datagram->flow_id, datagram->payload, now);
}

std::expected<PayloadToTarget, NotPassed>
Proxy::OnStreamData(const StreamKey &stream, std::span<const std::uint8_t> &input, Timestamp now) {
  auto *connection = state_->tunnels.Find(stream.connection);
  auto *request = connection ? DialectOf(*connection).Find(stream.stream) : nullptr;
  if (!request) {
    input = {};
    return state_->Count(NotPassed::kUnknownFlow);
  }
  auto &payloads = request->payloads;
  if (!payloads) {
    payloads = std::make_unique<StreamLengthParser>();
  }
  const auto payload = payloads->Next(input);
  if (payload) {
    return state_->Pass(*connection, request->tunnel->flow, *payload, now);
  }
  if (payload.error() == StreamLengthError::kIncomplete) {
    return std::unexpected(NotPassed::kIncomplete);
  }
  return state_->Count(*request->tunnel, Way::kTunnelledToTarget, NotPassed::kTooLong);
}

const ClientPath *Proxy::FindPath(const FourTuple &tuple) const {
  return state_->tunnels.FindPath(tuple);
}

std::expected<PacketToTarget, NotPassed>
Proxy::FromClient(const ClientPath *path, const MutablePacket &packet, Timestamp now) {
  const auto mapping = state_->tunnels.FromClient(path, packet.bytes);
  if (!mapping) {
    return IsForQuic(mapping.error()) ? std::unexpected(mapping.error())
                                      : state_->Count(mapping.error());
  }
  auto &tunnel = *(*mapping)->tunnel;
  const auto size = packet.bytes.size();
  if (!tunnel.connection->bucket.Take(size, now)) {
    return state_->Count(tunnel, Way::kForwardedToTarget, NotPassed::kRateLimited);
  }
  tunnel.statistics[Way::kForwardedToTarget].passed.Add(size, false);
  return PacketToTarget{.mapping = *mapping, .packet = packet};
}

std::expected<PacketToClient, NotPassed>
Proxy::FromTarget(const ServerSocket *socket, const MutablePacket &packet, Timestamp now) {
  if (!socket) {
    return state_->Count(NotPassed::kUnknownSocket);
  }
  const auto to = state_->tunnels.FromTarget(*socket, packet.bytes);
  if (!to) {
    return state_->Count(to.error());
  }
  auto &tunnel = *to->tunnel;
  auto &connection = *tunnel.connection;
  const auto size = packet.bytes.size();
  const auto way = to->forward ? Way::kForwardedToClient : Way::kTunnelledToClient;
  if (!connection.bucket.Take(size, now)) {
    return state_->Count(tunnel, way, NotPassed::kRateLimited);
  }
  tunnel.statistics[way].passed.Add(size, IsLong(packet.bytes));

  PacketToClient result{.tunnel = &tunnel, .mapping = to->mapping, .packet = packet};
  if (to->forward) {
    result.form = ClientForm::kForward;
    return result;
  }
  // The first packet of a target is tunnelled: none is forwarded before the client has forwarded one.
  tunnel.answered = true;
  result.stream = *tunnel.accepted.begin();
  const auto has_flow = (tunnel.flow & kStreamFlow) == 0;
  result.form = connection.datagrams && has_flow ? ClientForm::kDatagram : ClientForm::kStream;
  return result;
}

std::expected<PacketToClient, NotPassed> Proxy::FromTarget(const ServerSocket *socket,
                                                           const Endpoint &source,
                                                           const MutablePacket &packet,
                                                           Timestamp now) {
  if (socket && socket->target != source) {
    return state_->Count(NotPassed::kWrongSource);
  }
  return FromTarget(socket, packet, now);
}

void Proxy::NotSent(Tunnel &tunnel, Way way, NotPassed reason, const Traffic &traffic) {
  tunnel.statistics[way].passed -= traffic;
  tunnel.statistics.Dropped(way, reason) += traffic.packets;
}

void Proxy::SentOnStream(Tunnel &tunnel) { ++tunnel.statistics.on_stream; }

} // namespace ngmasque
