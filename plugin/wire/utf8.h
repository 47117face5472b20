// UTF-8: RFC 3629.
#pragma once

#include <string_view>

namespace ngmasque {

/// True when `text` is UTF-8 without overlong forms, surrogates, and values above U+10FFFF.
[[nodiscard]] bool IsUtf8(std::string_view text);

} // namespace ngmasque
