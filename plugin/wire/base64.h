// Base 64: RFC 4648, section 4.
#pragma once

#include "ngmasque/wire/error.h"

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque {

/// With padding.
[[nodiscard]] std::string EncodeBase64(std::span<const std::uint8_t> bytes);

/// Padding has to be complete or absent; pad bits may be anything.  Characters outside the alphabet
/// are errors, also line ends and spaces.  (nettle, which GnuTLS brings, skips these and refuses
/// pad bits: to correct it takes as much code.)  Errors: kByteSequence.
[[nodiscard]] std::expected<std::vector<std::uint8_t>, WireError>
DecodeBase64(std::string_view text);

} // namespace ngmasque
