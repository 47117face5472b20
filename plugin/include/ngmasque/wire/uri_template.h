// The URI template of a UDP proxy, with the variables target_host and target_port: RFC 9298,
// section 2, and of RFC 6570 what that allows: {x}, {x,y}, {?x,y} and {&x,y}.
#pragma once

#include "ngmasque/wire/error.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque {

/// The path of the default template: RFC 9298, section 2.
inline constexpr std::string_view kDefaultUdpPath =
  "/.well-known/masque/udp/{target_host}/{target_port}/";

/// Longer templates, and longer paths of requests, are refused before they are read, in bytes.
inline constexpr std::size_t kMaxTemplateLength = 2048;

/// What a path says of its target: percent-decoded once, otherwise as it came.  It may be empty,
/// and have any bytes: whether it is a host and a port is for the caller to see.
struct UdpTarget {
  std::string host;
  std::string port;
  [[nodiscard]] bool operator==(const UdpTarget &) const = default;
};

/// A template, for a client to make paths of and for a proxy to read them.  A value.
///
/// Variables other than the two are undefined and so expand to nothing.  A template in which they
/// come several times has the same value in all places.
class UriTemplate {
public:
  /// Reads a template: an absolute https URI for a client, or what of it begins with the path for a
  /// proxy.  A proxy's one has to have after each of the two variables a character that is none of
  /// its value, or nothing: otherwise no path would say where the value ends.
  /// Errors: kTooLong, kTemplate.
  [[nodiscard]] static std::expected<UriTemplate, WireError> Parse(std::string_view text);

  /// Host and port of the template, as in `:authority`; empty if it begins with the path.
  [[nodiscard]] const std::string &authority() const { return authority_; }

  /// The value of `:path` for a target.  The host is a name or an address, IPv6 without brackets
  /// and without zone.  All but letters, digits, '-', '.', '_' and '~' is percent-encoded, once.
  [[nodiscard]] std::string Expand(std::string_view host, std::string_view port) const;

  /// Reads the value of `:path`; nothing if it is not one that Expand could have made, whichever of
  /// its characters are percent-encoded that need not be, or if it is longer than
  /// kMaxTemplateLength.  Always nothing for a client's template that would not do for a proxy.
  /// Cost: linear in the path.
  [[nodiscard]] std::optional<UdpTarget> Match(std::string_view path) const;

private:
  enum class Variable : std::uint8_t { kHost, kPort };

  /// A variable, and what stands between it and the one before it.
  struct Part {
    std::string before;
    Variable variable{};
  };

  UriTemplate() = default;
  bool ReadAuthority(std::string_view &text);
  bool ReadParts(std::string_view text);
  bool ReadExpression(std::string_view expression, std::string &literal);
  bool HasBoth() const;
  bool IsReadable() const;

  std::string authority_;
  std::vector<Part> parts_;
  std::string end_; ///< What stands behind the last variable.
  bool readable_ = false;
};

} // namespace ngmasque
