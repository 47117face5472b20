// Dialect rfc9298, the proxy's side: connection IDs are registered, acknowledged and closed.

#include "rfc9298_proxy.h"

#include "ngmasque/session/proxy.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

namespace {

using Kind = CidCapsuleKind;

CidReason ToReason(SessionError error) {
  if (error == SessionError::kTooShort) {
    return CidReason::kTooShort;
  }
  return HttpStatus(error) == 409 ? CidReason::kConflict : CidReason::kDefault;
}

// With how many draws of 16 bytes one is in conflict, that is never.
constexpr int kMaxDraws = 4;

} // namespace

//= draft-ietf-masque-quic-proxy, section 5.9
//# The client MUST NOT send a registration capsule with a sequence number greater than what the proxy
//# advertises via the MAX_CONNECTION_IDS capsule.
bool Rfc9298::Count(Request &request, bool repeated) {
  if (repeated && RulesOf(*request.revision).repeats_are_free) {
    return true;
  }
  return ++request.registered <= request.allowed;
}

void Rfc9298::Send(const Request &request, const CidCapsule &capsule, TunnelModel &model) {
  model.Send(request.stream, WriteCidCapsule(*request.revision, capsule));
}

//= draft-ietf-masque-quic-proxy, section 5.10
//# In order to permit the client to change client-to-target connection IDs, the proxy SHOULD send
//# MAX_CONNECTION_IDS capsules allowing the client additional connection ID registrations.
void Rfc9298::Allow(Request &request, TunnelModel &model) {
  // One may have been mapped in OnOpen, and not be registered yet.
  const auto clients = static_cast<std::size_t>(std::ranges::count_if(
    request.clients, [](const auto &client) { return client.second.registered; }));
  const auto active = clients + request.targets.size();
  const auto room = rfc9298::kMaxActiveIds - std::min(rfc9298::kMaxActiveIds, active);
  const auto left = request.allowed - request.registered;
  // Not with each of them, but before it can have none.
  if (room <= left || (left != 0 && room - left < rfc9298::kMaxActiveIds / 4)) {
    return;
  }
  //= draft-ietf-masque-quic-proxy, section 5
  //# A proxy MUST NOT send a MAX_CONNECTION_IDS capsule with a value less than 1.
  //
  //= draft-ietf-masque-quic-proxy, section 5.7
  //# This MUST NOT be less than 1.
  request.allowed = request.registered + room;
  Send(request,
       {.kind = Kind::kMaxConnectionIds,
        .maximum = request.allowed - RulesOf(*request.revision).allowed_by_zero},
       model);
}

//= draft-ietf-masque-quic-proxy, section 5.10
//# The proxy MUST reply to each REGISTER_CLIENT_CID capsule with either an ACK_CLIENT_CID or
//# CLOSE_CLIENT_CID capsule containing the Connection ID that was in the registration capsule.
std::uint64_t Rfc9298::RegisterClient(Tunnel &tunnel, const CidCapsule &capsule,
                                      TunnelModel &model) {
  auto &request = RequestOf(tunnel);
  // One may have been mapped in OnOpen, before it was counted.
  auto known = request.clients.find(capsule.id);
  const bool repeated = known != request.clients.end() && known->second.registered;
  if (!Count(request, repeated)) {
    return kH3DatagramError;
  }
  if (known == request.clients.end()) {
    const auto mapped = model.Map(tunnel, Direction::kToClient, capsule.id,
                                  {.stream = request.stream, .acknowledged = false});
    if (!mapped) {
      model.Reject(tunnel);
      Send(request,
           {.kind = Kind::kRejectClientCid, .reason = ToReason(mapped.error()), .id = capsule.id},
           model);
      return 0;
    }
    known = request.clients.emplace(capsule.id, ClientId{.mapping = *mapped, .offered = {}}).first;
  }
  known->second.registered = true;
  //= draft-ietf-masque-quic-proxy, section 5.3
  //# When forwarded mode is not negotiated, the length MUST be zero.
  //
  //= draft-ietf-masque-quic-proxy, section 2.2
  //# To reduce the likelihood of connection ID conflicts, the proxy MUST choose a client VCID that is at
  //# least as long as the original client CID.
  //
  //= draft-ietf-masque-quic-proxy, section 5.3
  //# This MUST be a valid connection ID length for the QUIC version used in the client-to-proxy QUIC
  //# connection.
  //
  // So there is none for a longer one; nor for one of zero length, as no packet has room for what
  // would make it longer: it is tunnelled.
  ConnectionId virtual_id;
  //= draft-ietf-masque-quic-proxy, section 5.10
  //# If forwarded mode is not supported, the proxy MUST NOT send a client VCID by setting the
  //# length to zero.
  if (request.forwarding && !capsule.id.empty() &&
      capsule.id.size() <= rfc9298::kMaxVirtualLength) {
    auto &offered = known->second.offered;
    if (offered.size() >= rfc9298::kMaxOffered) {
      if (!offered.front().second) {
        return kH3DatagramError;
      }
      // The client has moved as often, and probably has no answer for it.
      offered.pop_front();
      known->second.forgotten = true;
    }
    //= draft-ietf-masque-quic-proxy, section 2.2
    //# For such proxies, a non-empty client VCID MUST NOT be equal to the original client CID.
    do {
      virtual_id = model.source().DrawId(capsule.id.size());
    } while (virtual_id == capsule.id);
    offered.emplace_back(virtual_id, false);
  }
  Send(request, {.kind = Kind::kAckClientCid, .id = capsule.id, .virtual_id = virtual_id}, model);
  return 0;
}

//= draft-ietf-masque-quic-proxy, section 5.10
//# Similarly, the proxy MUST reply to each REGISTER_TARGET_CID capsule with either an ACK_TARGET_CID
//# or CLOSE_TARGET_CID capsule containing the Connection ID that was in the registration capsule.
std::uint64_t Rfc9298::RegisterTarget(Tunnel &tunnel, const CidCapsule &capsule,
                                      TunnelModel &model) {
  auto &request = RequestOf(tunnel);
  const auto known = request.targets.find(capsule.id);
  const bool repeated = known != request.targets.end();
  if (!Count(request, repeated)) {
    return kH3DatagramError;
  }
  CidCapsule answer{.kind = Kind::kAckTargetCid, .id = capsule.id};
  //= draft-ietf-masque-quic-proxy, section 5.10
  //# If forwarded mode is not supported, the proxy MUST NOT send a target VCID by setting the
  //# length to zero.
  if (!request.forwarding) {
    request.targets[capsule.id];
    Send(request, answer, model);
    return 0;
  }
  if (capsule.id.size() > rfc9298::kMaxVirtualLength) {
    Send(request, {.kind = Kind::kRejectTargetCid, .id = capsule.id}, model);
    return 0;
  }
  // The oldest one goes first: the new one may need its place, and the token.
  if (repeated && known->second.size() >= rfc9298::kMaxVirtual) {
    model.Unmap(*known->second.front());
    known->second.pop_front();
  }
  //= draft-ietf-masque-quic-proxy, section 5.10
  //# If forwarded mode is supported, the proxy MUST use a target VCID that does not introduce a conflict
  //# with any other Connection ID on the client-to-proxy 4-tuple.
  auto mapped = std::expected<Mapping *, SessionError>(std::unexpect, SessionError::kEqual);
  for (int draw = 0; draw < kMaxDraws && !mapped && HttpStatus(mapped.error()) == 409; ++draw) {
    answer.virtual_id =
      model.source().DrawId(std::max(capsule.id.size(), KeyedSource::kRoutedLength));
    mapped = model.Map(tunnel, Direction::kToTarget, capsule.id,
                       {.stream = request.stream,
                        .virtual_id = answer.virtual_id,
                        .token = capsule.token});
  }
  if (!mapped && repeated) {
    // It was acknowledged, and so is not rejected any more; without a virtual one it is tunnelled.
    answer.virtual_id = {};
    Send(request, answer, model);
    return 0;
  }
  if (!mapped) {
    Send(request,
         {.kind = Kind::kRejectTargetCid, .reason = ToReason(mapped.error()), .id = capsule.id},
         model);
    return 0;
  }
  request.targets[capsule.id].push_back(*mapped);
  //= draft-ietf-masque-quic-proxy, section 6.8
  //# To allow the client or proxy to reset the client-to-target connection in the absence of the
  //# mappings above, a stateless reset token corresponding to the Virtual Connection ID can be
  //# provided.
  if (options_.reset_token) {
    answer.token = options_.reset_token(answer.virtual_id.bytes());
  }
  Send(request, answer, model);
  return 0;
}

//= draft-ietf-masque-quic-proxy, section 5
//# The proxy MUST NOT send forwarded mode packets to the client prior to receiving this
//# acknowledgement.
std::uint64_t Rfc9298::AckVirtual(Tunnel &tunnel, const CidCapsule &capsule, TunnelModel &model) {
  auto &request = RequestOf(tunnel);
  const auto known = request.clients.find(capsule.id);
  if (known == request.clients.end()) {
    return kH3DatagramError;
  }
  auto &offered = known->second.offered;
  const auto found = std::ranges::find(offered, capsule.virtual_id,
                                       &std::pair<ConnectionId, bool>::first);
  if (found == offered.end()) {
    return known->second.forgotten ? 0 : kH3DatagramError;
  }
  // One that its move has made void has crossed that.
  if (!found->second) {
    //= draft-ietf-masque-quic-proxy, section 5.9
    //# The proxy MUST NOT send in forwarded mode until ACK_CLIENT_VCID has been received.
    auto &mapping = *known->second.mapping;
    mapping.virtual_id = found->first;
    model.Acknowledge(mapping);
  }
  offered.erase(offered.begin(), found + 1);
  return 0;
}

// Unknown ones may have crossed our refusal.
void Rfc9298::Close(Request &request, const CidCapsule &capsule, TunnelModel &model) {
  if (capsule.kind == Kind::kCloseClientCid) {
    if (const auto known = request.clients.find(capsule.id); known != request.clients.end()) {
      model.Unmap(*known->second.mapping);
      request.clients.erase(known);
    }
  } else if (const auto known = request.targets.find(capsule.id); known != request.targets.end()) {
    for (auto *mapping : known->second) {
      model.Unmap(*mapping);
    }
    request.targets.erase(known);
  }
}

} // namespace ngmasque
