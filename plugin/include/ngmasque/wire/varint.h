// Variable-length integers of QUIC: RFC 9000, section 16.
#pragma once

#include "ngmasque/wire/error.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

namespace ngmasque {

/// The largest value: 2^62 - 1.
inline constexpr std::uint64_t kVarintMax = (std::uint64_t{1} << 62) - 1;

/// The longest encoding, in bytes.
inline constexpr std::size_t kVarintMaxLength = 8;

/// An integer that was read.
struct Varint {
  std::uint64_t value = 0; ///< 0 to kVarintMax.
  std::size_t length = 0;  ///< How many bytes it took: 1, 2, 4 or 8.
  [[nodiscard]] bool operator==(const Varint &) const = default;
};

/// The length of the shortest encoding of `value` in bytes: 1, 2, 4 or 8; 0 for a value above
/// kVarintMax, which has none.
[[nodiscard]] constexpr std::size_t VarintLength(std::uint64_t value) {
  return value < 1u << 6       ? 1
         : value < 1u << 14    ? 2
         : value < 1u << 30    ? 4
         : value <= kVarintMax ? 8
                               : 0;
}

/// Reads the integer at the front of `data`; bytes after it are not looked at.  Longer encodings
/// than needed are accepted.
/// Errors: kTruncated.
[[nodiscard]] std::expected<Varint, WireError> DecodeVarint(std::span<const std::uint8_t> data);

/// Writes the shortest encoding of `value` to the front of `out` and returns its length in bytes.
/// On an error `out` is unchanged.
/// Errors: kTooLarge, kNoSpace.
[[nodiscard]] std::expected<std::size_t, WireError> EncodeVarint(std::uint64_t value,
                                                                 std::span<std::uint8_t> out);

} // namespace ngmasque
