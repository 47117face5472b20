// How large the packets of an outer connection are, at either end of it, and what fits into them.
//
// Tunnelled packets of 1200 bytes, the least that QUIC needs, fit only into larger ones.  So both
// ends begin with kOuterUdpPayload, Initials included: a handshake that completes has shown that the
// path takes them.  If it does not complete, the client begins again with kMinUdpPayload, and the
// proxy does as it sees the client do; both probe for more, and what fits no datagram until then, or
// at all, goes on the stream (IsForStream).
#pragma once

#include <cstddef>
#include <cstdint>

struct ngtcp2_conn;
struct ngtcp2_settings;

namespace ngmasque {

/// UDP payload in bytes that every path of QUIC takes: RFC 9000, section 14.
inline constexpr std::size_t kMinUdpPayload = 1200;

/// UDP payload of outer packets in bytes: it takes an inner packet of 1280 bytes, on a path of 1500
/// or just 1400 bytes.
inline constexpr std::size_t kOuterUdpPayload = 1350;

/// The largest DATAGRAM frame that is taken, in bytes: of any size, as RFC 9221, section 3, recommends.
inline constexpr std::uint64_t kMaxDatagramFrame = 65535;

/// Packets have `max` bytes of UDP payload from the start, kMinUdpPayload or more.
void FixPacketSize(ngtcp2_settings &settings, std::size_t max);

/// Packets begin with kMinUdpPayload, and the path is probed for up to `max`, unless the settings
/// say otherwise already.
void ProbePacketSize(ngtcp2_settings &settings, std::size_t max);

/// Whether packets of `size` bytes are not worth padding to the `max` that there may be, as they carry
/// three quarters of it or more.
[[nodiscard]] constexpr bool IsNearlyFull(std::size_t size, std::size_t max) {
  return size >= max - max / 4;
}

/// The longest payload of a DATAGRAM frame in bytes that fits a packet on the path now; 0 before the
/// peer's transport parameters are there, and if it takes none.
[[nodiscard]] std::size_t MaxDatagram(const ngtcp2_conn *conn);

} // namespace ngmasque
