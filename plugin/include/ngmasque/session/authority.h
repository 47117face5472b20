// What requests of all dialects have: header fields, and a target.
#pragma once

#include "ngmasque/session/error.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

namespace ngmasque {

/// A header field; pseudo-header fields begin with ':'.  Names are lower-case, as in HTTP/3.
struct HeaderField {
  std::string name;
  std::string value;
  [[nodiscard]] bool operator==(const HeaderField &) const = default;
};

/// The longest host of an authority, in bytes: that of a domain name (RFC 1035, section 2.3.4).
inline constexpr std::size_t kMaxHostLength = 255;

/// The target of a request: `:authority`.
struct Authority {
  std::string host;       ///< A name or an address, IPv6 without brackets and without zone.
  std::uint16_t port = 0; ///< 1 to 65535.
  [[nodiscard]] bool operator==(const Authority &) const = default;
};

/// Reads `host:port`.  The port cannot be left out, as no scheme gives a default; it has 1 to 5
/// decimal digits.  The host is a registered name of letters, digits, '-', '_' and '.' without
/// empty labels, an IPv4 address, or an IPv6 address in brackets; no userinfo, no percent-encoding,
/// no zone, no control or non-ASCII characters.  Names are made lower-case and lose one final dot,
/// IPv6 addresses get the form of RFC 5952, so that equal targets compare equal.  What only looks
/// like an IPv4 address (`127.1`, `0x7f000001`) is a name: where it leads to is seen after its
/// look-up.  Errors: kAuthority for anything else.
[[nodiscard]] std::expected<Authority, SessionError> ParseAuthority(std::string_view text);

/// The authority as in `:authority`.
[[nodiscard]] std::string AuthorityText(const Authority &authority);

} // namespace ngmasque
