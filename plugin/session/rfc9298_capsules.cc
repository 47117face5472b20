// Dialect rfc9298, the proxy's side: what comes on streams, and which capsules may come when.

#include "rfc9298_proxy.h"

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

namespace ngmasque {

namespace {

using Kind = CidCapsuleKind;

// In bytes: payloads that fit the datagrams of any path.  A client that has one in a capsule does not
// use datagrams.
constexpr std::size_t kFitsDatagram = 1100;

} // namespace

StreamInput Rfc9298::OnStreamData(StreamId stream, std::span<const std::uint8_t> &input,
                                  TunnelModel &model) {
  const auto known = tunnels_.find(stream);
  if (known == tunnels_.end()) {
    input = {};
    return {.payload = std::unexpected(DropReason::kUnknownFlow)};
  }
  auto &tunnel = *known->second;
  auto &request = RequestOf(tunnel);
  const auto end = [&](std::uint64_t code) {
    End(tunnel, code, model);
    input = {};
    return StreamInput{.payload = std::nullopt};
  };
  StreamInput next{.tunnel = &tunnel, .payload = std::nullopt};
  const auto capsule = request.parser.Next(input);
  // Payloads may be lost, capsules for connection IDs may not: of these, a request keeps less than
  // kMaxCidCapsule bytes.
  const bool payload_kept = request.parser.type() == kDatagramCapsule;
  if (!request.kept.Resize(payload_kept ? request.parser.buffered() : 0)) {
    request.parser.Skip();
    std::ignore = request.kept.Resize(0);
    next.payload = std::unexpected(DropReason::kQueueFull);
    return next;
  }
  if (!capsule) {
    //= RFC 9297, section 3.3
    //# When a receiver encounters an error processing the Capsule Protocol, the receiver MUST treat
    //# it as if it had received a malformed or incomplete HTTP message.
    return capsule.error() == WireError::kIncomplete ? next : end(kH3MessageError);
  }
  if (capsule->type != kDatagramCapsule) {
    const auto code = OnCapsule(tunnel, *capsule, model);
    return code == 0 ? next : end(code);
  }
  const auto payload = rfc9298::ReadPayload(capsule->value);
  if (payload) {
    if (tunnel.carrier != Carrier::kDatagrams && payload->size() <= kFitsDatagram) {
      tunnel.carrier = Carrier::kStream;
    } else if (tunnel.carrier == Carrier::kUnknown) {
      tunnel.carrier = Carrier::kLargeOnStream;
    }
    next.payload = *payload;
  } else if (payload.error() == DropReason::kBadDatagram) {
    return end(kH3DatagramError);
  } else {
    next.payload = std::unexpected(payload.error());
  }
  return next;
}

//= RFC 9297, section 3.2
//# Endpoints that receive a Capsule with an unknown Capsule Type MUST silently drop that Capsule and
//# skip over it to parse the next Capsule.
//
// Those for connection IDs are known from the negotiation on.
std::uint64_t Rfc9298::OnCapsule(Tunnel &tunnel, const Capsule &capsule, TunnelModel &model) {
  auto &request = RequestOf(tunnel);
  const auto type = FindCidCapsule(capsule.type);
  if (!type || (!request.forwarding && !request.port_sharing) ||
      type->revision != request.revision.value_or(type->revision)) {
    return 0;
  }
  const auto read = ParseCidCapsule(*type, capsule.value);
  if (!read) {
    return kH3MessageError;
  }
  if (!request.revision) {
    request.revision = type->revision;
    const auto &rules = RulesOf(type->revision);
    request.allowed = rules.initial_maximum + rules.allowed_by_zero;
  }
  if (tunnel.stage == Tunnel::Stage::kOpen) {
    return Act(tunnel, *read, model);
  }
  if (request.held.size() >= rfc9298::kMaxHeld || !MayHold(request, *read)) {
    return kH3DatagramError;
  }
  request.held.push_back(*read);
  return 0;
}

// More registrations than a client may send unasked, before the answer: those that Count would not
// take, had it seen them yet.
bool Rfc9298::MayHold(const Request &request, const CidCapsule &capsule) {
  const auto registers = [](const CidCapsule &held) {
    return held.kind == Kind::kRegisterClientCid || held.kind == Kind::kRegisterTargetCid;
  };
  const bool repeats_are_free = RulesOf(*request.revision).repeats_are_free;
  std::vector<std::pair<Kind, ConnectionId>> counted; // At most kMaxHeld.
  for (const auto &held : request.held) {
    if (std::pair key{held.kind, held.id};
        registers(held) && !(repeats_are_free && std::ranges::contains(counted, key))) {
      counted.push_back(std::move(key));
    }
  }
  const bool repeated = std::ranges::contains(counted, std::pair{capsule.kind, capsule.id});
  return !registers(capsule) || (repeated && repeats_are_free) ||
         counted.size() < request.allowed;
}

std::uint64_t Rfc9298::Act(Tunnel &tunnel, const CidCapsule &capsule, TunnelModel &model) {
  auto &request = RequestOf(tunnel);
  std::uint64_t code = 0;
  switch (capsule.kind) {
  case Kind::kRegisterClientCid: code = RegisterClient(tunnel, capsule, model); break;
  case Kind::kRegisterTargetCid: code = RegisterTarget(tunnel, capsule, model); break;
  case Kind::kAckClientVcid: code = AckVirtual(tunnel, capsule, model); break;
  case Kind::kCloseClientCid:
  case Kind::kCloseTargetCid: Close(request, capsule, model); break;
  //= draft-ietf-masque-quic-proxy, section 5
  //# These capsule types MUST only be sent by a proxy.
  //
  //= draft-ietf-masque-quic-proxy, section 5
  //# The MAX_CONNECTION_IDS capsule type MUST only be sent by the proxy.
  default: code = kH3DatagramError;
  }
  if (code == 0) {
    Allow(request, model);
  }
  return code;
}

} // namespace ngmasque
