// What any QUIC packet shows of itself, in whatever version: RFC 8999.
//
// Nothing else is looked at.  The second bit of the first byte is not, which version 1 sets and RFC
// 9287 allows to be greased; nor is a length of connection IDs other than 0 to 255 bytes assumed.
// All functions take one UDP payload; views that they return are into it.
#pragma once

#include "ngmasque/wire/error.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

namespace ngmasque {

/// The longest connection ID in bytes: its length is one byte (RFC 8999, section 5.3).
inline constexpr std::size_t kMaxConnectionIdLength = 255;

/// The longest payload of a UDP packet in bytes, of IPv4 and IPv6 alike: RFC 9298, section 5.
inline constexpr std::size_t kMaxUdpPayload = 65527;

/// Header Form, the most significant bit of the first byte.
enum class HeaderForm {
  kShort, ///< 0
  kLong,  ///< 1
};

/// The version of version negotiation packets: RFC 8999, section 6.
inline constexpr std::uint32_t kVersionNegotiation = 0;

/// The long header: RFC 8999, section 5.1.
struct LongHeader {
  std::uint32_t version = 0;
  std::span<const std::uint8_t> dcid; ///< Destination Connection ID, 0 to 255 bytes.
  std::span<const std::uint8_t> scid; ///< Source Connection ID, 0 to 255 bytes.
  std::span<const std::uint8_t> rest; ///< Version-specific; in version negotiation the versions.
};

/// Errors: kEmpty.
[[nodiscard]] std::expected<HeaderForm, WireError>
PeekHeaderForm(std::span<const std::uint8_t> packet);

/// Whether a payload that fits no QUIC datagram on the path is sent on the stream instead: what every
/// path of QUIC has to take (RFC 9000, section 14: 1200 bytes), and long headers, as handshakes begin
/// with packets that may be larger.  All others are dropped, as on a path that does not take them:
/// otherwise a connection that probes its path would find a size that goes on the stream for ever.
[[nodiscard]] bool IsForStream(std::span<const std::uint8_t> payload);

/// Errors: kEmpty, kWrongForm, kTruncated.
[[nodiscard]] std::expected<LongHeader, WireError>
ParseLongHeader(std::span<const std::uint8_t> packet);

/// The Destination Connection ID of a packet with a short header (RFC 8999, section 5.2), which
/// does not say how long it is: `length` has to be known, 0 to 255 bytes.
/// Errors: kEmpty, kWrongForm, kTruncated.
[[nodiscard]] std::expected<std::span<const std::uint8_t>, WireError>
ShortHeaderDcid(std::span<const std::uint8_t> packet, std::size_t length);

/// That of any packet.  Errors: those of both.
[[nodiscard]] std::expected<std::span<const std::uint8_t>, WireError>
PacketDcid(std::span<const std::uint8_t> packet, std::size_t length);

} // namespace ngmasque
