#pragma once

#include <string>
#include <string_view>

namespace harness {

/// `text` with a '?' for each byte that is not part of well-formed UTF-8 (RFC 3629).
[[nodiscard]] std::string ValidUtf8(std::string_view text);

} // namespace harness
