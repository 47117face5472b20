#include "forwarded_packet.h"

#include <algorithm>
#include <cstdint>
#include <span>

namespace ngmasque {

//= draft-ietf-masque-quic-proxy, section 6.1
//# If the Virtual Connection ID is larger than the Connection ID, the sender MUST extend the length
//# of the packet by the difference between the two lengths, to include the entire Virtual Connection
//# ID.
//
// What follows the connection ID stays where it is.
//
//= draft-ietf-masque-quic-proxy, section 6.1
//# If the Virtual Connection ID is smaller than the Connection ID, the sender MUST shrink the
//# length of the packet by the difference between the two lengths.
//
//= draft-ietf-masque-quic-proxy, section 6.1
//# Clients and proxies supporting forwarded mode MUST be able to handle Virtual Connection IDs of
//# different lengths than the corresponding Connection IDs.
std::optional<MutablePacket> ReplaceId(const MutablePacket &packet, std::size_t length,
                                       const ConnectionId &id) {
  const auto bytes = packet.bytes;
  if (bytes.size() < 1 + length || id.size() > packet.before + length) {
    return std::nullopt;
  }
  const auto first = bytes[0];
  const auto before = packet.before + length - id.size();
  auto *const begin = bytes.data() + length - id.size();
  begin[0] = first;
  std::ranges::copy(id.bytes(), begin + 1);
  return MutablePacket{.bytes = std::span(begin, bytes.size() - length + id.size()),
                       .before = before,
                       .behind = packet.behind};
}

std::optional<MutablePacket> ToClientLink(const MutablePacket &packet, std::size_t length,
                                          const ConnectionId &to, const Scramble *scramble) {
  if (scramble && packet.bytes.size() < 1 + length + Scramble::kMinBehindId) {
    return std::nullopt;
  }
  const auto replaced = ReplaceId(packet, length, to);
  if (replaced && scramble && !scramble->Encode(replaced->bytes, to.size())) {
    return std::nullopt;
  }
  return replaced;
}

std::optional<MutablePacket> FromClientLink(const MutablePacket &packet, std::size_t length,
                                            const ConnectionId &to, const Scramble *scramble) {
  if (scramble && !scramble->Decode(packet.bytes, length)) {
    return std::nullopt;
  }
  return ReplaceId(packet, length, to);
}

} // namespace ngmasque
