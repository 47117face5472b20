#include "ngmasque/wire/varint.h"

namespace ngmasque {

std::expected<Varint, WireError> DecodeVarint(std::span<const std::uint8_t> data) {
  if (data.empty()) {
    return std::unexpected(WireError::kTruncated);
  }
  // The two most significant bits are the base-2 logarithm of the length.
  const auto length = std::size_t{1} << (data[0] >> 6);
  if (data.size() < length) {
    return std::unexpected(WireError::kTruncated);
  }
  //= RFC 9000, section 16
  //# Values do not need to be encoded on the minimum number of bytes
  //# necessary, with the sole exception of the Frame Type field
  std::uint64_t value = data[0] & 0x3f;
  for (const auto byte : data.subspan(1, length - 1)) {
    value = value << 8 | byte;
  }
  return Varint{.value = value, .length = length};
}

std::expected<std::size_t, WireError> EncodeVarint(std::uint64_t value,
                                                   std::span<std::uint8_t> out) {
  const auto length = VarintLength(value);
  if (length == 0) {
    return std::unexpected(WireError::kTooLarge);
  }
  if (out.size() < length) {
    return std::unexpected(WireError::kNoSpace);
  }
  auto rest = value;
  for (auto i = length; i-- > 0; rest >>= 8) {
    out[i] = static_cast<std::uint8_t>(rest);
  }
  const auto logarithm = length == 1 ? 0 : length == 2 ? 1 : length == 4 ? 2 : 3;
  out[0] = static_cast<std::uint8_t>(out[0] | logarithm << 6);
  return length;
}

} // namespace ngmasque
