// The keyed hash of the routing tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ngmasque {

/// The secret of a keyed hash: 128 bits from the system's random source, drawn
/// by the caller once per process.  It must never be sent to a peer.
struct HashKey {
  std::uint64_t k0{};
  std::uint64_t k1{};
};

/// SipHash (Aumasson and Bernstein, 2012) with `compression` rounds for each
/// block of 8 bytes and `finalization` rounds at the end; as an integer, the
/// specification's 8 bytes of output are its little-endian form.
///
/// Connection IDs and addresses are a peer's choice.  With a hash that it can
/// compute it would choose many that meet in one slot, and each look-up would
/// walk along all of them.
///
/// Cost: size / 8 + 1 blocks; no allocation.
template <int compression, int finalization>
std::uint64_t SipHash(const HashKey &key, std::span<const std::uint8_t> bytes) noexcept;

// Only these two exist.  1-3 is what hash tables use (it is enough where the
// hash itself is never seen by anybody); 2-4 is there for its published test
// vectors, which prove the rounds that both have in common.
extern template std::uint64_t SipHash<1, 3>(const HashKey &key,
                                            std::span<const std::uint8_t> bytes) noexcept;
extern template std::uint64_t SipHash<2, 4>(const HashKey &key,
                                            std::span<const std::uint8_t> bytes) noexcept;

} // namespace ngmasque
