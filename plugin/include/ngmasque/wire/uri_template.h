// The URI template of a UDP proxy, with the variables target_host and target_port: RFC 9298, section
// 2, and of RFC 6570 what that allows.
#pragma once

#include "ngmasque/wire/error.h"

#include <cstddef>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque {

/// The path and query of the default template: RFC 9298, section 2.
inline constexpr std::string_view kDefaultUdpPath =
  "/.well-known/masque/udp/{target_host}/{target_port}/";

/// Longer templates, and longer paths of requests, are refused before they are read, in bytes.
inline constexpr std::size_t kMaxTemplateLength = 2048;

/// What a path says of its target: percent-decoded once, otherwise as it came.  Whether it is a host
/// and a port is for the caller to see.
struct UdpTarget {
  std::string host;
  std::string port;
  [[nodiscard]] bool operator==(const UdpTarget &) const = default;
};

/// A template, for a client to make paths of and for a proxy to read them.
class UriTemplate {
public:
  /// Reads a template: an absolute https URI for a client, or what of it begins with the path for a
  /// proxy.
  /// Errors: kTooLong, kTemplate.
  [[nodiscard]] static std::expected<UriTemplate, WireError> Parse(std::string_view text);

  /// Host and port of the template, as in `:authority`; empty if it begins with the path.
  [[nodiscard]] const std::string &authority() const { return authority_; }

  /// The value of `:path` for a target.  The host is a name or an address, IPv6 without brackets and
  /// without zone.
  [[nodiscard]] std::string Expand(std::string_view host, std::string_view port) const;

  /// Reads the value of `:path`; nothing if it is not one that Expand could have made, whichever way
  /// it is percent-encoded.  Cost: linear in the path.
  [[nodiscard]] std::optional<UdpTarget> Match(std::string_view path) const;

private:
  std::string authority_;
  // To be designed with the implementation.
};

} // namespace ngmasque
