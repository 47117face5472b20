// Dialect rfc9298, the client's side: capsules.

#include "rfc9298_client.h"

#include <utility>

namespace ngmasque {

using Kind = CidCapsuleKind;

StreamPayload Rfc9298Client::UdpTunnel::OnStreamData(RequestId,
                                                     std::span<const std::uint8_t> &input,
                                                     ClientTunnelModel &model) {
  if (!open_) {
    input = {};
    return std::unexpected(DropReason::kUnknownFlow);
  }
  const auto parser = parser_;
  const auto capsule = parser->Next(input);
  std::uint64_t code = 0;
  if (!capsule) {
    code = capsule.error() == WireError::kIncomplete ? 0 : kH3MessageError;
  } else if (capsule->type != kDatagramCapsule) {
    code = OnCapsule(*capsule, model);
  } else if (const auto payload = rfc9298::ReadPayload(capsule->value)) {
    return *payload;
  } else if (payload.error() == DropReason::kBadDatagram) {
    code = kH3DatagramError;
  } else {
    return std::unexpected(payload.error());
  }
  if (code != 0) {
    input = {};
    Fail(code, model);
  }
  return std::nullopt;
}

std::uint64_t Rfc9298Client::UdpTunnel::OnCapsule(const Capsule &capsule,
                                                  ClientTunnelModel &model) {
  const auto type = FindCidCapsule(capsule.type);
  if (!type || !ids_ || type->revision != connection_.options_.revision) {
    return 0;
  }
  const auto read = ParseCidCapsule(*type, capsule.value);
  if (!read) {
    return kH3MessageError;
  }
  switch (read->kind) {
  case Kind::kAckClientCid: return OnAck(Direction::kToClient, *read, model);
  case Kind::kAckTargetCid: return OnAck(Direction::kToTarget, *read, model);
  case Kind::kRejectClientCid:
  case Kind::kCloseClientCid: return OnRefusal(Direction::kToClient, *read, model);
  case Kind::kRejectTargetCid:
  case Kind::kCloseTargetCid: return OnRefusal(Direction::kToTarget, *read, model);
  case Kind::kMaxConnectionIds: return OnMaximum(read->maximum, model);
  //= draft-ietf-masque-quic-proxy, section 5
  //# These capsule types MUST only be sent by a client.
  default: return kH3DatagramError;
  }
}

std::uint64_t Rfc9298Client::UdpTunnel::OnAck(Direction direction, const CidCapsule &capsule,
                                              ClientTunnelModel &model) {
  auto &ids = IdsOf(direction);
  const auto known = ids.find(capsule.id);
  if (known == ids.end() || known->second.unanswered == 0) {
    return kH3DatagramError;
  }
  auto &registered = known->second;
  --registered.unanswered;
  if (registered.closed != 0) {
    --registered.closed;
    if (registered.unanswered == 0) {
      ids.erase(known);
    }
    return 0;
  }
  if (!std::exchange(registered.acknowledged, true) &&
      RulesOf(connection_.options_.revision).repeats_are_free) {
    // Those that follow are repeats, after all.
    registered_ -= registered.unanswered;
  }
  const auto mapping = *registered.mapping;
  //= draft-ietf-masque-quic-proxy, section 5.3
  //# When forwarded mode is not negotiated, the length MUST be zero.
  //
  //= draft-ietf-masque-quic-proxy, section 5.9.1
  //# If forwarded mode is not supported, an ACK_CLIENT_VCID capsule MUST NOT be sent.
  //
  //= draft-ietf-masque-quic-proxy, section 5
  //# The ACK_CLIENT_VCID capsule type MUST only be sent by the client and only when forwarded mode
  //# is enabled.
  if (!capsule.virtual_id.empty() && !forwarding_) {
    return kH3DatagramError;
  }
  //= draft-ietf-masque-quic-proxy, section 5.3
  //# The client VCID Length MUST be at least as large as the Connection ID to reduce the likelihood
  //# of connection ID conflicts.
  if (!capsule.virtual_id.empty() && direction == Direction::kToClient &&
      capsule.virtual_id.size() < capsule.id.size()) {
    return kH3DatagramError;
  }
  const bool is_void = registered.moved != 0;
  registered.moved -= is_void;
  if (!capsule.virtual_id.empty() && !is_void &&
      !TakeVirtual(direction, mapping, capsule, model)) {
    if (open_) {
      RegisterWaiting(model);
    }
    return 0;
  }
  if (direction == Direction::kToTarget && capsule.virtual_id.empty()) {
    // It is registered, and of no use.
    SendClose(direction, capsule.id, CidReason::kDefault, model);
    Unregister(ids, known);
    model.Refuse(mapping, {});
    return 0;
  }
  model.Acknowledge(mapping);
  if (registered.moved == 0 && std::exchange(registered.again, false)) {
    Register(mapping, model);
  }
  RegisterWaiting(model);
  return 0;
}

//= draft-ietf-masque-quic-proxy, section 5.9.2
//# If forwarded mode is enabled, the client MUST reply to the ACK_CLIENT_CID with an ACK_CLIENT_VCID
//# capsule with the real and virtual connection IDs along with an optional Stateless Reset Token.
//
// Without one: whom we do not know any more, the proxy's connection to us is gone, too.
//
//= draft-ietf-masque-quic-proxy, section 5.9.1
//# If forwarded mode is supported, the client MUST respond with an ACK_CLIENT_VCID to signal to the
//# proxy that it may start sending forwarded mode packets.
//
//= draft-ietf-masque-quic-proxy, section 5.9
//# The client MUST acknowledge the new client VCID with an ACK_CLIENT_VCID capsule or close the
//# registration.
bool Rfc9298Client::UdpTunnel::TakeVirtual(Direction direction, MappingId mapping,
                                           const CidCapsule &capsule, ClientTunnelModel &model) {
  //= draft-ietf-masque-quic-proxy, section 5.4
  //# Clients receiving a zero-length stateless reset token MUST ignore it.
  if (!model.SetVirtual(mapping, capsule.virtual_id, capsule.token)) {
    GiveUp(mapping, capsule.id, model);
    return false;
  }
  if (direction == Direction::kToTarget) {
    return true;
  }
  if (model.chained()) {
    return false;
  }
  Send({.kind = Kind::kAckClientVcid, .id = capsule.id, .virtual_id = capsule.virtual_id}, model);
  return true;
}

// Of the first one of a tunnel Refuse ends the tunnel.
void Rfc9298Client::UdpTunnel::GiveUp(MappingId mapping, const ConnectionId &id,
                                      ClientTunnelModel &model) {
  SendClose(Direction::kToClient, id, CidReason::kConflict, model);
  Unregister(clients_, clients_.find(id));
  model.Refuse(mapping, {.conflict = true});
}

//= draft-ietf-masque-quic-proxy, section 6.2
//# Once a client has sent an ACK_CLIENT_VCID capsule to the proxy, it MUST be prepared to receive
//# forwarded short header packets on the 4-tuple between itself and the proxy for the specified
//# client VCID.
void Rfc9298Client::UdpTunnel::OnLinkId(MappingId number, const ConnectionId &virtual_id,
                                        bool usable, ClientTunnelModel &model) {
  const auto *const mapping = model.Find(number);
  const auto known = mapping ? clients_.find(mapping->id) : clients_.end();
  if (!open_ || known == clients_.end() || known->second.mapping != number) {
    return;
  }
  const auto id = known->first;
  if (usable && !mapping->virtual_id.empty() && mapping->virtual_id != virtual_id) {
    // One of before a move.  The one that has taken its place may have been acknowledged already, which
    // answers for it, too: to the proxy it would be unknown.
    return;
  }
  if (usable) {
    Send({.kind = Kind::kAckClientVcid, .id = id, .virtual_id = virtual_id}, model);
    model.Acknowledge(number);
  } else if (mapping->virtual_id == virtual_id) {
    GiveUp(number, id, model);
  }
}

std::uint64_t Rfc9298Client::UdpTunnel::OnRefusal(Direction direction, const CidCapsule &capsule,
                                                  ClientTunnelModel &model) {
  auto &ids = IdsOf(direction);
  const auto known = ids.find(capsule.id);
  const bool is_close =
    capsule.kind == Kind::kCloseClientCid || capsule.kind == Kind::kCloseTargetCid;
  if (known == ids.end()) {
    // It has crossed ours, which needs no answer.
    return is_close ? 0 : kH3DatagramError;
  }
  auto &registered = known->second;
  const auto revision = connection_.options_.revision;
  //= draft-ietf-masque-quic-proxy, section 5
  //# If a proxy sends a CLOSE_CLIENT_CID without having sent an ACK_CLIENT_CID, or if a proxy sends a
  //# CLOSE_TARGET_CID without having sent an ACK_TARGET_CID, it is rejecting a Connection ID
  //# registration.
  const bool refuses =
    !is_close || (!RulesOf(revision).has_reject && (registered.closed != 0 || !registered.acknowledged));
  if (!refuses) {
    // What it has acknowledged it cannot take back in -08; and what we have closed meanwhile is
    // closed.
    if (revision == QuicProxyRevision::k08 ||
        (!registered.acknowledged && registered.closed == 0)) {
      return kH3DatagramError;
    }
    if (!registered.acknowledged) {
      return 0;
    }
  } else if (registered.acknowledged || registered.unanswered == 0) {
    return kH3DatagramError;
  } else {
    --registered.unanswered;
    if (registered.closed != 0) {
      --registered.closed;
      if (registered.unanswered == 0) {
        ids.erase(known);
      }
      return 0;
    }
  }
  const auto mapping = *registered.mapping;
  if (registered.unanswered != 0) {
    // What we have sent since is to it a registration like the first one.
    SendClose(direction, capsule.id, CidReason::kDefault, model);
  }
  Unregister(ids, known);
  //= draft-ietf-masque-quic-proxy, section 5
  //# the client MUST NOT send any packets until receiving an ACK_CLIENT_CID.
  //
  //= draft-ietf-masque-quic-proxy, section 5.9.1
  //# If the rejection indicated a conflict due to the client CID, the client MUST select a new
  //# Connection ID before sending a new request, and generate a new packet.
  model.Refuse(mapping, {.conflict = capsule.reason != CidReason::kDefault});
  return 0;
}

std::uint64_t Rfc9298Client::UdpTunnel::OnMaximum(std::uint64_t maximum, ClientTunnelModel &model) {
  const auto &rules = RulesOf(connection_.options_.revision);
  //= draft-ietf-masque-quic-proxy, section 5
  //# Clients receiving a MAX_CONNECTION_IDS capsule with a value less than 1 MUST reset the stream
  //# with H3_DATAGRAM_ERROR error code.
  if (maximum < rules.least_maximum || maximum < maximum_ ||
      (maximum == maximum_ && rules.allowed_by_zero == 0)) {
    return kH3DatagramError;
  }
  maximum_ = maximum;
  RegisterWaiting(model);
  return 0;
}

} // namespace ngmasque
