// Proxy: one call for each packet.

#include "forwarded_packet.h"
#include "proxy_model.h"

namespace ngmasque {

namespace {

// What the client gets instead of the packet, where that is another one.  Nothing if it cannot be
// made, or has no way yet: then it is tunnelled.
//
//= draft-ietf-masque-quic-proxy, section 6.5
//# Each of the acknowledging capsules will contain new virtual connection IDs to prevent packets with
//# the same connection ID bytes being used over multiple network paths.
//
// The client may have acknowledged them before its new path is validated.
std::optional<MutablePacket> ToForwarded(const Mapping &mapping, const MutablePacket &packet) {
  if (!mapping.virtual_id.empty() && mapping.tunnel->connection->moving) {
    return std::nullopt;
  }
  return mapping.virtual_id.empty()
           ? packet
           //= draft-ietf-masque-quic-proxy, section 5.3
           //# The proxy-chosen connection ID that the proxy MUST use when sending in forwarded
           //# mode.
           : ToClientLink(packet, mapping.id.size(), mapping.virtual_id,
                          mapping.tunnel->scramble.get());
}

bool IsInLoop(Mapping &mapping, const MutablePacket &packet) {
  return mapping.virtual_id.empty() && mapping.loop_watch.Drops(packet.bytes);
}

} // namespace

std::unexpected<DropReason> Proxy::State::Count(DropReason reason) {
  ++counters.dropped[static_cast<std::size_t>(reason)];
  return std::unexpected(reason);
}

std::unexpected<DropReason> Proxy::State::Count(Tunnel &tunnel, Way way, DropReason reason) {
  ++tunnel.statistics.Dropped(way, reason);
  return std::unexpected(reason);
}

std::expected<PayloadToTarget, DropReason> Proxy::State::Pass(ClientConnection &connection,
                                                              Tunnel *tunnel,
                                                              const TunnelledPayload &tunnelled,
                                                              Timestamp now) {
  const auto payload = tunnelled.payload;
  if (!connection.client->bucket.Take(payload.size(), now)) {
    return tunnel ? Count(*tunnel, Way::kTunnelledToTarget, DropReason::kRateLimited)
                  : Count(DropReason::kRateLimited);
  }
  if (tunnel && tunnel->stage == Stage::kOpen && !tunnel->silent) {
    tunnel->statistics[Way::kTunnelledToTarget].passed.Add(payload.size(), IsLong(payload));
    return PayloadToTarget{.tunnel = tunnel, .payload = payload};
  }
  //= draft-ietf-masque-quic-proxy, section 5
  //# If the proxy rejects the client CID, the proxy MUST drop all packets until it has sent an
  //# ACK_CLIENT_CID capsule
  if (tunnel && tunnel->rejected) {
    return Count(*tunnel, Way::kTunnelledToTarget, DropReason::kUnknownConnectionId);
  }
  //= draft-00, section 4.1
  //# Any DATAGRAM frames that are sent in a separate QUIC packet from the STREAM frame that
  //# contains the CONNECT-UDP request might also be dropped in the case that the packet arrives at
  //# the proxy before the packet containing the STREAM frame.
  //
  // So the first ones are not.
  //
  //= RFC 9297, section 2.1
  //# If an HTTP/3 Datagram is received and its Quarter Stream ID field maps to a stream that has
  //# not yet been created, the receiver SHALL either drop that datagram silently or buffer it
  //# temporarily (on the order of a round trip) while awaiting the creation of the corresponding
  //# stream.
  //
  //= RFC 9298, section 5
  //# If a UDP proxy receives an HTTP Datagram before it has received the corresponding request, it
  //# SHALL either drop that HTTP Datagram silently or buffer it temporarily (on the order of a
  //# round trip) while awaiting the corresponding request.
  if (!StateOf(connection).early.Keep(tunnelled.key, tunnel != nullptr, payload)) {
    return Count(DropReason::kUnknownFlow);
  }
  return {};
}

std::expected<PayloadToTarget, DropReason>
Proxy::OnDatagram(OuterConnection id, std::span<const std::uint8_t> data, Timestamp now,
                  ProxyActions &actions) {
  auto *connection = state_->tunnels.Find(id);
  if (!connection) {
    return state_->Count(DropReason::kUnknownFlow);
  }
  const auto &state = StateOf(*connection);
  const auto tunnelled = state.dialect->OnDatagram(data);
  if (!tunnelled) {
    if (tunnelled.error() == DropReason::kBadDatagram) {
      state_->now = now;
      State::Model model(*state_, *connection, actions);
      state.dialect->OnBadDatagram(data, model);
    }
    return state_->Count(tunnelled.error());
  }
  const auto known = state.by_key.find(tunnelled->key);
  auto *tunnel = known == state.by_key.end() ? nullptr : known->second;
  if (tunnel) {
    tunnel->carrier = Carrier::kDatagrams;
  }
  return state_->Pass(*connection, tunnel, *tunnelled, now);
}

std::uint64_t Proxy::DatagramError(OuterConnection id) const {
  const auto *connection = state_->tunnels.Find(id);
  return connection ? StateOf(*connection).dialect->datagram_error() : kH3GeneralProtocolError;
}

std::expected<PayloadToTarget, DropReason> Proxy::OnStreamData(const StreamKey &stream,
                                                               std::span<const std::uint8_t> &input,
                                                               Timestamp now,
                                                               ProxyActions &actions) {
  state_->now = now;
  auto *connection = state_->tunnels.Find(stream.connection);
  if (!connection) {
    input = {};
    return state_->Count(DropReason::kUnknownFlow);
  }
  State::Model model(*state_, *connection, actions);
  const auto next = StateOf(*connection).dialect->OnStreamData(stream.stream, input, model);
  if (!next.payload) {
    return next.tunnel ? state_->Count(*next.tunnel, Way::kTunnelledToTarget, next.payload.error())
                       : state_->Count(next.payload.error());
  }
  if (!*next.payload) {
    return {};
  }
  return state_->Pass(*connection, next.tunnel,
                      {.key = next.tunnel->key, .payload = **next.payload}, now);
}

bool Proxy::IsOver(std::span<const std::uint8_t> bytes) const {
  return state_->source.WorkerOf(bytes) == state_->options.worker &&
         !state_->tunnels.HasVirtual(bytes);
}

const ClientPath *Proxy::FindPath(const FourTuple &tuple) const {
  return state_->tunnels.FindPath(tuple);
}

std::expected<PacketToTarget, DropReason>
Proxy::FromClient(const ClientPath *path, const MutablePacket &packet, Timestamp now) {
  const auto mapping = state_->tunnels.FromClient(path, packet.bytes);
  if (!mapping) {
    return state_->Count(mapping.error());
  }
  if (!*mapping) {
    return {};
  }
  auto &tunnel = *(*mapping)->tunnel;
  if (IsInLoop(**mapping, packet)) {
    return state_->Count(tunnel, Way::kForwardedToTarget, DropReason::kLoop);
  }
  if (!tunnel.connection->client->bucket.Take(packet.bytes.size(), now)) {
    return state_->Count(tunnel, Way::kForwardedToTarget, DropReason::kRateLimited);
  }
  auto out = packet;
  if (const auto &virtual_id = (*mapping)->virtual_id; !virtual_id.empty()) {
    const auto rewritten =
      FromClientLink(packet, virtual_id.size(), (*mapping)->id, tunnel.scramble.get());
    if (!rewritten) {
      return state_->Count(tunnel, Way::kForwardedToTarget, DropReason::kMalformed);
    }
    out = *rewritten;
  }
  tunnel.statistics[Way::kForwardedToTarget].passed.Add(out.bytes.size(), false);
  return PacketToTarget{.mapping = *mapping, .packet = out};
}

std::expected<PacketToClient, DropReason>
Proxy::FromTarget(const ServerSocket *socket, const MutablePacket &packet, Timestamp now) {
  if (!socket) {
    return state_->Count(DropReason::kUnknownSocket);
  }
  const auto to = state_->tunnels.FromTarget(*socket, packet.bytes);
  if (!to) {
    return state_->Count(to.error());
  }
  auto &tunnel = *to->tunnel;
  auto &connection = *tunnel.connection;
  const auto size = packet.bytes.size();
  if (to->forward && IsInLoop(*to->mapping, packet)) {
    return state_->Count(tunnel, Way::kForwardedToClient, DropReason::kLoop);
  }
  if (!connection.client->bucket.Take(size, now)) {
    return state_->Count(tunnel, to->forward ? Way::kForwardedToClient : Way::kTunnelledToClient,
                         DropReason::kRateLimited);
  }
  tunnel.answered = true;
  if (to->mapping) {
    tunnel.usual.Add(size);
  }
  PacketToClient result{.tunnel = &tunnel, .mapping = to->mapping, .packet = packet};
  const auto forwarded = to->forward ? ToForwarded(*to->mapping, packet) : std::nullopt;
  if (forwarded) {
    tunnel.statistics[Way::kForwardedToClient].passed.Add(size, false);
    tunnel.interrupted = false;
    result.packet = *forwarded;
    result.form = ClientForm::kForward;
    return result;
  }
  // The client may go on with datagrams, which its target must not find to take more than they do.
  if (tunnel.carrier == Carrier::kLargeOnStream && !IsForStream(packet.bytes)) {
    return state_->Count(tunnel, Way::kTunnelledToClient, DropReason::kTooLarge);
  }
  tunnel.statistics[Way::kTunnelledToClient].passed.Add(size, IsLong(packet.bytes));
  result.stream = tunnel.stream;
  result.prefix = tunnel.datagram_prefix.view();
  const auto carrier = tunnel.carrier;
  const auto in_datagram = connection.datagrams && !result.prefix.empty() &&
                           carrier != Carrier::kStream && carrier != Carrier::kLargeOnStream;
  result.form = in_datagram ? ClientForm::kDatagram : ClientForm::kStream;
  return result;
}

std::expected<PacketToClient, DropReason> Proxy::FromTarget(const ServerSocket *socket,
                                                            const Endpoint &source,
                                                            const MutablePacket &packet,
                                                            Timestamp now) {
  //= RFC 9298, section 3.1
  //# If the UDP proxy uses a non-connected socket, it MUST validate the IP source address and UDP
  //# source port on received packets to ensure they match the client's request.
  //
  //= RFC 9298, section 3.1
  //# Packets that do not match MUST be discarded by the UDP proxy.
  if (socket && socket->target != source) {
    return state_->Count(DropReason::kWrongSource);
  }
  return FromTarget(socket, packet, now);
}

std::expected<Prefix, DropReason> Proxy::StreamPrefix(const PacketToClient &packet) const {
  const std::span<const std::uint8_t> bytes = packet.packet.bytes;
  if (packet.form == ClientForm::kDatagram && !IsForStream(bytes)) {
    return std::unexpected(DropReason::kTooLarge);
  }
  const auto &tunnel = *packet.tunnel;
  return StateOf(*tunnel.connection).dialect->StreamPrefix(tunnel, bytes.size());
}

bool Proxy::MayWait(const PacketToClient &packet) const {
  const auto &tunnel = *packet.tunnel;
  return packet.mapping && tunnel.interrupted &&
         packet.packet.bytes.size() <= tunnel.usual.get();
}

void Proxy::Waits(const PacketToClient &packet) {
  Traffic traffic;
  traffic.Add(packet.packet.bytes.size(), IsLong(packet.packet.bytes));
  packet.tunnel->statistics[Way::kTunnelledToClient].passed -= traffic;
}

void Proxy::NotSent(Tunnel &tunnel, Way way, DropReason reason, const Traffic &traffic) {
  tunnel.statistics[way].passed -= traffic;
  tunnel.statistics.Dropped(way, reason) += traffic.packets;
}

void Proxy::DatagramNotSent(OuterConnection connection, std::uint64_t number,
                            std::span<const std::uint8_t> datagram, DropReason reason) {
  auto *const known = state_->tunnels.Find(connection);
  if (!known) {
    return;
  }
  if (const auto found = known->tunnels.find(number); found != known->tunnels.end()) {
    auto &tunnel = found->second;
    const auto payload = datagram.subspan(tunnel.datagram_prefix.size);
    Traffic traffic;
    traffic.Add(payload.size(), IsLong(payload));
    NotSent(tunnel, Way::kTunnelledToClient, reason, traffic);
  }
}

void Proxy::SentOnStream(Tunnel &tunnel) { ++tunnel.statistics.on_stream; }

} // namespace ngmasque
