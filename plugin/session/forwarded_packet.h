// What becomes of a forwarded packet on its way between the two connection IDs that it can have.
#pragma once

#include "ngmasque/session/tunnel.h"

#include <cstddef>
#include <optional>

namespace ngmasque {

/// Writes a packet with a short header anew where it lies, with `id` instead of its connection ID of
/// `length` bytes.  Nothing, and nothing is changed, if it is too short for that, or grows by more
/// than MutablePacket::before.
[[nodiscard]] std::optional<MutablePacket>
ReplaceId(const MutablePacket &packet, std::size_t length, const ConnectionId &id);

/// What goes to the link between client and proxy: with the virtual connection ID `to` instead of the
/// `length` bytes, and transformed.  Nothing, and nothing is changed, if that cannot be done.
[[nodiscard]] std::optional<MutablePacket> ToClientLink(const MutablePacket &packet,
                                                        std::size_t length, const ConnectionId &to,
                                                        const Scramble *scramble);

/// The inverse of that, for what comes from there.  When it returns nothing the packet is lost.
[[nodiscard]] std::optional<MutablePacket> FromClientLink(const MutablePacket &packet,
                                                          std::size_t length,
                                                          const ConnectionId &to,
                                                          const Scramble *scramble);

} // namespace ngmasque
