#include "values.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <format>
#include <limits>
#include <optional>
#include <ranges>
#include <span>

#include <arpa/inet.h>
#include <ngmasque/session/target_policy.h>

namespace ngmasque::programs {

namespace {

constexpr auto kMostNanoseconds = std::uint64_t{std::numeric_limits<std::int64_t>::max()};

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

// The largest first: texts are made of the first that fits.
constexpr Unit kSizes[] = {{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"", 1}};
constexpr Unit kDurations[] = {
  {"h", 3'600'000'000'000}, {"m", 60'000'000'000}, {"s", 1'000'000'000},
  {"ms", 1'000'000},        {"us", 1'000},         {"ns", 1}};

bool SameLetters(std::string_view a, std::string_view b) {
  return std::ranges::equal(
    a, b, {}, [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; },
    [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
}

// Nothing if it is no number with a unit, or is above `most`.
std::optional<std::uint64_t> Parse(std::string_view text, std::span<const Unit> units,
                                   std::uint64_t most) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), number);
  if (error != std::errc()) {
    return std::nullopt;
  }
  const std::string_view rest(end, text.end());
  const auto *unit =
    std::ranges::find_if(units, [&](const Unit &u) { return SameLetters(u.name, rest); }).base();
  if (unit == units.data() + units.size() || number > most / unit->factor) {
    return std::nullopt;
  }
  return number * unit->factor;
}

std::string Text(std::uint64_t number, std::span<const Unit> units) {
  if (number == 0) {
    return "0";
  }
  const auto unit =
    std::ranges::find_if(units, [&](const Unit &u) { return number % u.factor == 0; });
  return std::format("{}{}", number / unit->factor, unit->name);
}

constexpr std::array<std::uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool IsIpv4(const Endpoint &endpoint) {
  return std::ranges::equal(std::span(endpoint.address).first(12), kMapped);
}

} // namespace

std::expected<std::uint64_t, Wrong> ParseSize(std::string_view text) {
  if (const auto size = Parse(text, kSizes, std::numeric_limits<std::uint64_t>::max())) {
    return *size;
  }
  return std::unexpected("a number, maybe with K, M or G, such as 16M");
}

std::expected<std::chrono::nanoseconds, Wrong> ParseDuration(std::string_view text) {
  auto duration = Parse(text, kDurations, kMostNanoseconds);
  if (!duration) {
    static constexpr Unit kSeconds[] = {{"", 1'000'000'000}};
    duration = Parse(text, kSeconds, kMostNanoseconds);
  }
  if (!duration) {
    return std::unexpected("a number of seconds, or one with h, m, s, ms, us or ns, such as 10ms");
  }
  return std::chrono::nanoseconds(*duration);
}

std::expected<Endpoint, Wrong> ParseEndpoint(std::string_view text) {
  const auto wrong = std::unexpected("<ADDRESS>:<PORT>, such as 127.0.0.1:443 or [::]:443");
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return wrong;
  }
  auto host = text.substr(0, colon);
  const auto port_text = text.substr(colon + 1);
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) {
    host = host.substr(1, host.size() - 2);
  }
  // An IPv6 address without brackets could be read in two ways.
  if (bracketed != host.contains(':')) {
    return wrong;
  }
  const auto address = ParseAddress(host);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(port_text.begin(), port_text.end(), port);
  if (!address || error != std::errc() || end != port_text.end()) {
    return wrong;
  }
  return Endpoint{.address = *address, .port = port};
}

bool IsLoopback(const Endpoint &endpoint) {
  static constexpr std::array<std::uint8_t, 16> kIpv6{0, 0, 0, 0, 0, 0, 0, 0,
                                                      0, 0, 0, 0, 0, 0, 0, 1};
  return IsIpv4(endpoint) ? endpoint.address[12] == 127 : endpoint.address == kIpv6;
}

bool IsWildcard(const Endpoint &endpoint) {
  const auto bytes = std::span(endpoint.address).subspan(IsIpv4(endpoint) ? 12 : 0);
  return std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; });
}

std::expected<bool, Wrong> ParseSwitch(std::string_view text) {
  if (text == "on" || text == "true") {
    return true;
  }
  if (text == "off" || text == "false") {
    return false;
  }
  return std::unexpected("on or off");
}

std::string SizeText(std::uint64_t size) { return Text(size, kSizes); }

std::string DurationText(std::chrono::nanoseconds duration) {
  return Text(std::uint64_t(duration.count()), kDurations);
}

std::string EndpointText(const Endpoint &endpoint) {
  const auto &bytes = endpoint.address;
  if (IsIpv4(endpoint)) {
    return std::format("{}.{}.{}.{}:{}", bytes[12], bytes[13], bytes[14], bytes[15], endpoint.port);
  }
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(AF_INET6, bytes.data(), text.data(), text.size());
  return std::format("[{}]:{}", text.data(), endpoint.port);
}

} // namespace ngmasque::programs
