#include "ngmasque/session/proxy_authorization.h"

#include "../wire/base64.h"

#include <algorithm>
#include <cstdint>
#include <span>

namespace ngmasque {

namespace {

bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

bool IsToken(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("-._~+/").contains(c);
}

std::optional<std::string> Checked(std::string value) {
  return IsAuthorization(value) ? std::optional(std::move(value)) : std::nullopt;
}

} // namespace

bool IsAuthorization(std::string_view value) {
  return value.size() <= kMaxAuthorization && !value.starts_with(' ') && !value.ends_with(' ') &&
         std::ranges::all_of(value, [](char c) { return c >= 0x20 && c < 0x7f; });
}

//= RFC 7617, section 2
//# Furthermore, a user-id containing a colon character is invalid, as the first colon in a user-pass
//# string separates user-id and password from one another; text after the first colon is part of the
//# password.
//
//= RFC 7617, section 2
//# The user-id and password MUST NOT contain any control characters (see "CTL" in Appendix B.1 of
//# [RFC5234]).
std::optional<std::string> BasicAuthorization(std::string_view name, std::string_view secret) {
  if (name.contains(':') || std::ranges::any_of(name, IsControl) ||
      std::ranges::any_of(secret, IsControl)) {
    return std::nullopt;
  }
  std::string pair(name);
  pair += ':';
  pair += secret;
  return Checked("Basic " +
                 EncodeBase64({reinterpret_cast<const std::uint8_t *>(pair.data()), pair.size()}));
}

//= RFC 6750, section 2.1
//# b64token    = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
std::optional<std::string> BearerAuthorization(std::string_view token) {
  const auto padding = std::min(token.find('='), token.size());
  if (padding == 0 || !std::ranges::all_of(token.substr(0, padding), IsToken) ||
      token.find_first_not_of('=', padding) != std::string_view::npos) {
    return std::nullopt;
  }
  return Checked("Bearer " + std::string(token));
}

} // namespace ngmasque
