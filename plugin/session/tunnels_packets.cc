// Tunnels: the look-ups, once for each packet.

#include "ngmasque/session/tunnels.h"

#include <algorithm>
#include <cstring>

namespace ngmasque {

const ClientPath *Tunnels::FindPath(const FourTuple &tuple) const {
  const auto found = paths_.find(tuple);
  return found == paths_.end() ? nullptr : &found->second;
}

std::size_t Tunnels::VirtualKeyHash::operator()(const VirtualKey &key) const noexcept {
  std::size_t hash = 0;
  std::memcpy(&hash, key.data(), sizeof hash);
  return hash;
}

std::optional<Tunnels::VirtualKey> Tunnels::VirtualKeyOf(std::span<const std::uint8_t> bytes) {
  VirtualKey key;
  if (bytes.size() < key.size()) {
    return std::nullopt;
  }
  std::ranges::copy(bytes.first(key.size()), key.begin());
  return key;
}

bool Tunnels::HasVirtual(std::span<const std::uint8_t> bytes) const {
  const auto key = VirtualKeyOf(bytes);
  return key && virtual_ids_.contains(*key);
}

//= draft-00, section 5
//# The proxy MUST only forward non-tunnelled packets from the client that are QUIC short header
//# packets (based on the Header Form bit) and have mapped Server Connection IDs.
std::expected<Mapping *, DropReason> Tunnels::FromClient(const ClientPath *path,
                                                         std::span<const std::uint8_t> packet) {
  const auto form = PeekHeaderForm(packet);
  if (!form) {
    return std::unexpected(DropReason::kMalformed);
  }
  //= draft-ietf-masque-quic-proxy, section 5.10
  //# The proxy MUST only forward non-tunnelled packets from the client that are QUIC short header
  //# packets (based on the Header Form bit) and have mapped target VCIDs.
  //
  //= draft-ietf-masque-quic-proxy, section 9
  //# Accordingly proxies with forwarding mode enabled MUST NOT rely on this bit for protocol
  //# identification
  if (*form == HeaderForm::kLong || !path) {
    return nullptr;
  }
  auto *const *found = path->ids.Find(packet.subspan(1), &probes_);
  if (!found && path->others != 0) {
    found = path->late.Find(packet.subspan(1), &probes_);
  }
  // The proxy's own ones have no mapping; of others the client may not have been told yet.
  auto *mapping = found ? *found : nullptr;
  if (!mapping || !mapping->acknowledged) {
    return nullptr;
  }
  // If it can do so still.
  mapping->tunnel->forwarding = mapping->tunnel->to_target != 0;
  return mapping;
}

std::expected<Destination, DropReason> Tunnels::FromTarget(const ServerSocket &socket,
                                                           std::span<const std::uint8_t> packet) {
  Mapping *const *found = nullptr;
  auto why = DropReason::kUnknownConnectionId;
  const auto form = PeekHeaderForm(packet);
  if (form == HeaderForm::kShort) {
    found = socket.ids.Find(packet.subspan(1), &probes_);
  } else if (const auto header = ParseLongHeader(packet)) {
    found = socket.ids.FindExact(header->dcid, &probes_);
  } else {
    why = DropReason::kMalformed;
  }

  if (found) {
    auto &mapping = **found;
    const auto &tunnel = *mapping.tunnel;
    //= draft-00, section 4.4
    //# A proxy MUST NOT forward packets from the target to the client until after the client has
    //# sent at least one packet in forwarded mode.
    //
    // In other dialects it is the client's acknowledgement that counts.  Nor with zero length: the
    // client tells forwarded packets from those of the outer connection by connection ID.
    //
    //= draft-00, section 5
    //# The proxy MUST use tunnelled mode (DATAGRAM frames) on the correct datagram flow for any
    //# long header packets.
    //
    //= draft-ietf-masque-quic-proxy, section 5.10
    //# The proxy MUST use tunnelled mode (HTTP Datagram frames) for any long header packets.
    return Destination{.tunnel = mapping.tunnel,
                       .mapping = &mapping,
                       .forward = form == HeaderForm::kShort &&
                                  (tunnel.forwarding || !tunnel.client_first) &&
                                  mapping.acknowledged && !mapping.id.empty()};
  }
  if (socket.shared) {
    // It is a datagram of its own, and ends with what only the target and the client know: RFC 9000,
    // section 10.3.
    if (form == HeaderForm::kShort && packet.size() >= kMinStatelessReset) {
      ResetToken token;
      std::ranges::copy(packet.last(token.size()), token.begin());
      if (const auto known = socket.tokens.find(token); known != socket.tokens.end()) {
        return Destination{.tunnel = known->second->tunnel};
      }
    }
    //= draft-ietf-masque-quic-proxy, section 5
    //# Packets with unknown connection IDs received by the proxy on a target-facing sockets that
    //# support port sharing MUST be dropped.
    //
    //= draft-ietf-masque-quic-proxy, section 5.10
    //# Any packets received on a proxy-to-target 4-tuple used for proxying QUIC that does not
    //# correspond to a known CID MUST be dropped.
    return std::unexpected(why);
  }
  return Destination{.tunnel = socket.users.begin()->second}; // The only one.
}

} // namespace ngmasque
