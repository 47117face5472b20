// URI templates: a template and a target -> a path, and back.

#include "ngmasque/wire/uri_template.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsAlphanumeric(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// RFC 3986, section 2.3: what means the same with and without percent-encoding.
bool IsUnreserved(char c) {
  return IsAlphanumeric(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

// -1 if it is none.
int HexDigit(char c) {
  if (IsDigit(c)) {
    return c - '0';
  }
  const auto lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// A character as it is compared: RFC 3986, section 6.2.2.
struct Unit {
  char byte = 0;
  bool encoded = false; // And not one that means the same if it is not.
  [[nodiscard]] bool operator==(const Unit &) const = default;

  /// Whether an expansion has it in a value.
  bool is_value() const { return encoded || IsUnreserved(byte); }
};

// Takes one off the front.  Nothing at the end, and if what is there is no percent-encoding.
std::optional<Unit> TakeUnit(std::string_view &text) {
  if (text.empty()) {
    return std::nullopt;
  }
  if (text[0] != '%') {
    const Unit unit{.byte = text[0], .encoded = false};
    text.remove_prefix(1);
    return unit;
  }
  const auto high = text.size() >= 3 ? HexDigit(text[1]) : -1;
  const auto low = text.size() >= 3 ? HexDigit(text[2]) : -1;
  if (high < 0 || low < 0) {
    return std::nullopt;
  }
  text.remove_prefix(3);
  const auto byte = static_cast<char>(high * 16 + low);
  return Unit{.byte = byte, .encoded = !IsUnreserved(byte)};
}

//= RFC 9298, section 2
//# The URI Template MUST NOT contain any non-ASCII Unicode characters
//# and MUST only contain ASCII characters in the range 0x21-0x7E
//# inclusive (note that percent-encoding is allowed; see Section 2.1 of
//# [URI]).
//
// Of these, the ones of RFC 6570, section 2.1, but for percent-encoding.
bool IsLiteral(char c) {
  constexpr std::string_view others = "\"'%<>\\^`{|}";
  return c > 0x20 && c < 0x7f && others.find(c) == std::string_view::npos;
}

bool IsLiteralText(std::string_view text) {
  while (!text.empty()) {
    const auto plain = text[0] != '%';
    const auto unit = TakeUnit(text);
    if (!unit || (plain && !IsLiteral(unit->byte))) {
      return false;
    }
  }
  return true;
}

// RFC 6570, section 2.3: letters, digits, '_' and percent-encoding, with single dots between them.
// So it has no modifiers, which are level 4.
//
//= RFC 9298, section 2
//# The URI Template MUST be a level 3 template or lower.
bool IsVariableName(std::string_view name) {
  bool after_dot = true;
  while (!name.empty()) {
    const auto plain = name[0] != '%';
    const bool is_dot = name[0] == '.';
    const auto unit = TakeUnit(name);
    if (!unit || (is_dot && after_dot) ||
        (plain && !is_dot && !IsAlphanumeric(unit->byte) && unit->byte != '_')) {
      return false;
    }
    after_dot = is_dot;
  }
  return !after_dot;
}

// As in `:authority` (RFC 9114, section 4.3.1): a host that is not empty, maybe a port, and no
// userinfo.
bool IsAuthority(std::string_view text) {
  // Behind a bracket that is not there: 0.
  const auto host_end =
    text.starts_with('[') ? text.find(']') + 1 : std::min(text.find(':'), text.size());
  auto host = text.substr(0, host_end);
  const auto port = text.substr(host_end);
  if (host.starts_with('[')) {
    host = host.substr(1, host.size() - 2);
    const auto in_address = [](char c) { return HexDigit(c) >= 0 || c == ':' || c == '.'; };
    if (!std::ranges::all_of(host, in_address)) {
      return false;
    }
  } else if (!IsLiteralText(host) || host.find_first_of("@[]") != std::string_view::npos) {
    return false;
  }
  if (!port.empty() && (port[0] != ':' || port.size() < 2 || port.size() > 6 ||
                        !std::ranges::all_of(port.substr(1), IsDigit))) {
    return false;
  }
  return !host.empty();
}

void AppendEncoded(std::string &out, std::string_view value) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  for (const auto c : value) {
    if (IsUnreserved(c)) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += digits[byte >> 4];
      out += digits[byte & 0xf];
    }
  }
}

// Takes `literal` off the front of `path`, if that is there in whatever encoding.
bool TakeLiteral(std::string_view &path, std::string_view literal) {
  while (!literal.empty()) {
    const auto wanted = TakeUnit(literal);
    if (!wanted || TakeUnit(path) != wanted) {
      return false;
    }
  }
  return true;
}

// Takes a value off the front of `path`, as far as it goes.
std::string TakeValue(std::string_view &path) {
  std::string value;
  auto rest = path;
  for (auto unit = TakeUnit(rest); unit && unit->is_value(); unit = TakeUnit(rest)) {
    value += unit->byte;
    path = rest;
  }
  return value;
}

} // namespace

//= RFC 9298, section 2
//# The URI Template MUST be in absolute form and MUST include non-empty
//# scheme, authority, and path components.
//
// Takes scheme and authority off the front.
bool UriTemplate::ReadAuthority(std::string_view &text) {
  constexpr std::string_view scheme = "https://";
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; };
  if (!std::ranges::equal(text.substr(0, scheme.size()), scheme, {}, lower)) {
    return false;
  }
  text.remove_prefix(scheme.size());
  //= RFC 9298, section 2
  //# All template variables MUST be within the path or query components of the URI.
  const auto authority = text.substr(0, text.find_first_of("/?#{"));
  text.remove_prefix(authority.size());
  authority_ = authority;
  return IsAuthority(authority);
}

// What is in braces.  `literal` is what stands before it, and afterwards what stands behind its
// last variable.
bool UriTemplate::ReadExpression(std::string_view expression, std::string &literal) {
  //= RFC 9298, section 2
  //# The URI Template MUST NOT use Reserved Expansion ("+" operator),
  //# Fragment Expansion ("#" operator), Label Expansion with Dot-Prefix,
  //# Path Segment Expansion with Slash-Prefix, nor Path-Style Parameter
  //# Expansion with Semicolon-Prefix.
  //
  // They, and operators that have no meaning yet, cannot begin a variable's name.
  const bool named = expression.starts_with('?') || expression.starts_with('&');
  char separator = '\0';
  if (named) {
    separator = expression[0];
    expression.remove_prefix(1);
  }
  while (true) {
    const auto name = expression.substr(0, expression.find(','));
    if (!IsVariableName(name)) {
      return false;
    }
    if (name == "target_host" || name == "target_port") {
      literal += separator != '\0' ? std::string(1, separator) : std::string();
      literal += named ? std::string(name) + "=" : std::string();
      separator = named ? '&' : ',';
      parts_.push_back({.before = std::exchange(literal, {}),
                        .variable = name == "target_host" ? Variable::kHost : Variable::kPort});
    }
    if (name.size() == expression.size()) {
      return true;
    }
    expression.remove_prefix(name.size() + 1);
  }
}

bool UriTemplate::ReadParts(std::string_view text) {
  std::string literal;
  while (!text.empty()) {
    if (!text.starts_with('{')) {
      const auto plain = text.substr(0, text.find('{'));
      // A fragment is no part of an absolute URI, and would have to be left out of a request.
      if (!IsLiteralText(plain) || plain.find('#') != std::string_view::npos) {
        return false;
      }
      literal += plain;
      text.remove_prefix(plain.size());
      continue;
    }
    const auto close = text.find('}');
    if (close == std::string_view::npos || !ReadExpression(text.substr(1, close - 1), literal)) {
      return false;
    }
    text.remove_prefix(close + 1);
  }
  end_ = std::move(literal);
  return true;
}

bool UriTemplate::HasBoth() const {
  return std::ranges::find(parts_, Variable::kHost, &Part::variable) != parts_.end() &&
         std::ranges::find(parts_, Variable::kPort, &Part::variable) != parts_.end();
}

// Whether each value ends where something comes that is none of it.
bool UriTemplate::IsReadable() const {
  const auto ends_value = [](std::string_view literal) {
    const auto unit = TakeUnit(literal);
    return unit && !unit->is_value();
  };
  return (end_.empty() || ends_value(end_)) &&
         std::all_of(parts_.begin() + 1, parts_.end(),
                     [&](const Part &part) { return ends_value(part.before); });
}

std::expected<UriTemplate, WireError> UriTemplate::Parse(std::string_view text) {
  if (text.size() > kMaxTemplateLength) {
    return std::unexpected(WireError::kTooLong);
  }
  UriTemplate result;
  const bool is_path = text.starts_with('/');
  if (!is_path && !result.ReadAuthority(text)) {
    return std::unexpected(WireError::kTemplate);
  }
  //= RFC 9298, section 2
  //# The path component of the URI Template MUST start with a slash ("/").
  //= RFC 9298, section 2
  //# The URI Template MUST contain the two variables "target_host" and
  //# "target_port" and MAY contain other variables.
  if (!text.starts_with('/') || !result.ReadParts(text) || !result.HasBoth()) {
    return std::unexpected(WireError::kTemplate);
  }
  //= RFC 9298, section 2
  //# If a client detects that any of the requirements above are not met by a URI Template, the
  //# client MUST reject its configuration and abort the request without sending it to the UDP
  //# proxy.
  result.readable_ = result.IsReadable();
  if (is_path && !result.readable_) {
    return std::unexpected(WireError::kTemplate);
  }
  return result;
}

std::string UriTemplate::Expand(std::string_view host, std::string_view port) const {
  std::string path;
  for (const auto &[before, variable] : parts_) {
    path += before;
    //= RFC 9298, section 3
    //# if "target_host" contains an IPv6 literal, the colons (":") MUST be percent-encoded.
    AppendEncoded(path, variable == Variable::kHost ? host : port);
  }
  return path += end_;
}

std::optional<UdpTarget> UriTemplate::Match(std::string_view path) const {
  if (!readable_ || path.size() > kMaxTemplateLength) {
    return std::nullopt;
  }
  std::optional<std::string> host, port;
  for (const auto &[before, variable] : parts_) {
    if (!TakeLiteral(path, before)) {
      return std::nullopt;
    }
    auto value = TakeValue(path);
    auto &place = variable == Variable::kHost ? host : port;
    if (place && *place != value) {
      return std::nullopt;
    }
    place = std::move(value);
  }
  if (!TakeLiteral(path, end_) || !path.empty() || !host || !port) {
    return std::nullopt;
  }
  return UdpTarget{.host = *std::move(host), .port = *std::move(port)};
}

} // namespace ngmasque
