// Base 64: RFC 4648, section 4.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque {

/// With padding.
[[nodiscard]] std::string EncodeBase64(std::span<const std::uint8_t> bytes);

/// Padding has to be complete or absent; pad bits may be anything.  Characters outside the alphabet
/// are errors, also line ends and spaces.  (nettle, which GnuTLS brings, skips these and refuses
/// pad bits: to correct it takes as much code.)
[[nodiscard]] std::optional<std::vector<std::uint8_t>> DecodeBase64(std::string_view text);

} // namespace ngmasque
