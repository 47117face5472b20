// The target of a request: host and port as text.

#include "ngmasque/session/authority.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

// inet_pton and inet_ntop, which only turn text into bytes and back.
#include <arpa/inet.h>

namespace ngmasque {

namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsNameCharacter(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || c == '-' || c == '_' || c == '.';
}

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// 1 to 65535, or nothing.
std::optional<std::uint16_t> ReadPort(std::string_view text) {
  if (text.empty() || text.size() > 5 || !std::ranges::all_of(text, IsDigit)) {
    return std::nullopt;
  }
  unsigned port = 0;
  std::from_chars(text.data(), text.data() + text.size(), port);
  return port >= 1 && port <= 65535 ? std::optional(static_cast<std::uint16_t>(port))
                                    : std::nullopt;
}

// Written anew, as RFC 5952 says: one address can be written in many ways.
std::optional<std::string> ReadIpv6(std::string_view text) {
  const std::string host(text);
  char canonical[INET6_ADDRSTRLEN];
  in6_addr address;
  // A zero byte would end the text too early.
  if (host.contains('\0') || inet_pton(AF_INET6, host.c_str(), &address) != 1 ||
      !inet_ntop(AF_INET6, &address, canonical, sizeof canonical)) {
    return std::nullopt;
  }
  return canonical;
}

// A registered name or an IPv4 address.
std::optional<std::string> ReadName(std::string_view text) {
  if (text.ends_with('.')) {
    text.remove_suffix(1);
  }
  if (text.empty() || text.size() > kMaxHostLength) {
    return std::nullopt;
  }
  std::string host(text);
  std::ranges::transform(host, host.begin(), Lower);
  const auto empty_label = host.starts_with('.') || host.ends_with('.') || host.contains("..");
  if (empty_label || !std::ranges::all_of(host, IsNameCharacter)) {
    return std::nullopt;
  }
  return host;
}

} // namespace

std::expected<Authority, SessionError> ParseAuthority(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return std::unexpected(SessionError::kAuthority);
  }
  const auto host = text.substr(0, colon);
  const auto port = ReadPort(text.substr(colon + 1));
  std::optional<std::string> read;
  if (host.size() >= 2 && host.starts_with('[') && host.ends_with(']')) {
    read = ReadIpv6(host.substr(1, host.size() - 2));
  } else {
    read = ReadName(host);
  }
  if (!read || !port) {
    return std::unexpected(SessionError::kAuthority);
  }
  return Authority{.host = *std::move(read), .port = *port};
}

std::string AuthorityText(const Authority &authority) {
  const auto port = std::to_string(authority.port);
  return authority.host.contains(':') ? "[" + authority.host + "]:" + port
                                      : authority.host + ":" + port;
}

} // namespace ngmasque
