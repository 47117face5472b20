// The packet transform scramble-dt of draft-ietf-masque-quic-proxy, section 6.3.2: forwarded
// packets do not look the same on the two sides of a proxy.  The other one, identity, is to do
// nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace ngmasque {

/// What each side draws at random, and tells the other one.  It protects what it sends.
using ScrambleKey = std::array<std::uint8_t, 32>;

/// Keyed once for each tunnel.  Both functions write a packet anew where it lies: one with a short
/// header and a virtual connection ID of `id_length` bytes, which stay as they are, and so does the
/// length.  They return false, and change nothing, if fewer than kMinBehindId bytes follow the
/// connection ID.  Nothing is authenticated: whatever a peer sends decodes to something.
class Scramble {
public:
  /// Bytes that have to follow the connection ID.
  static constexpr std::size_t kMinBehindId = 16;

  Scramble(const ScrambleKey &own, const ScrambleKey &peer);
  ~Scramble();
  Scramble(const Scramble &) = delete;
  Scramble &operator=(const Scramble &) = delete;

  /// Before sending, with our own key.  What results has the Header Form bit 0.
  [[nodiscard]] bool Encode(std::span<std::uint8_t> packet, std::size_t id_length) const;

  /// After receiving, with the peer's key.  What results has the Header Form bit 0, and the
  /// connection ID that came.
  [[nodiscard]] bool Decode(std::span<std::uint8_t> packet, std::size_t id_length) const;

private:
  struct Keys;
  std::unique_ptr<const Keys> keys_;
};

} // namespace ngmasque
