// The character classes of structured fields.  Not <cctype>: its answers depend on the locale.
#pragma once

#include <string_view>

namespace ngmasque::sf {

constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }

constexpr bool IsLower(char c) { return c >= 'a' && c <= 'z'; }

constexpr bool IsAlpha(char c) { return IsLower(c) || (c >= 'A' && c <= 'Z'); }

/// VCHAR and SP.
constexpr bool IsPrintable(char c) { return c >= 0x20 && c <= 0x7e; }

/// RFC 8941, section 3.1.2: key = ( lcalpha / "*" ) *( lcalpha / DIGIT / "_" / "-" / "." / "*" )
constexpr bool IsKeyStart(char c) { return IsLower(c) || c == '*'; }

constexpr bool IsKeyChar(char c) {
  return IsKeyStart(c) || IsDigit(c) || c == '_' || c == '-' || c == '.';
}

/// RFC 8941, section 3.3.4: sf-token = ( ALPHA / "*" ) *( tchar / ":" / "/" )
constexpr bool IsTokenStart(char c) { return IsAlpha(c) || c == '*'; }

constexpr bool IsTokenChar(char c) {
  return IsAlpha(c) || IsDigit(c) || std::string_view{"!#$%&'*+-.^_`|~:/"}.contains(c);
}

} // namespace ngmasque::sf
