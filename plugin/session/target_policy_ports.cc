// TargetPolicy: ports.

#include "ngmasque/session/target_policy.h"

#include <algorithm>
#include <charconv>

namespace ngmasque {

namespace {

// Services above port 1023 that answer anybody's short packet with much more.  From CISA's alert
// TA14-017A, the scans of the Shadowserver Foundation and the advisories of NETSCOUT.  Those that
// amplify little and that people want to get to stay allowed, such as STUN, SIP and OpenVPN.
constexpr auto kAmplifiers = std::to_array<std::uint16_t>({
  1434,  // Microsoft SQL Server Browser
  1604,  // Citrix ICA Browser
  1900,  // SSDP
  3283,  // Apple Remote Management Service
  3389,  // Remote Desktop Protocol
  3702,  // WS-Discovery
  4672,  // Kad
  5093,  // Sentinel RMS License Manager
  5351,  // NAT-PMP
  5353,  // Multicast DNS
  5683,  // CoAP
  6881,  // BitTorrent
  10001, // Ubiquiti Discovery
  10074, // Mitel TP-240
  11211, // memcached
  17185, // VxWorks WDB
  20800, // Call of Duty
  27015, // Steam
  27960, // Quake III
  30718, // Lantronix Discovery
  32410, // Plex Media Server
  32414, // the same
  33848, // Jenkins Discovery
  37020, // Hikvision SADP
  37810, // DHCPDiscover of video recorders
  47808, // BACnet
});

std::optional<std::uint16_t> ReadPort(std::string_view text) {
  std::uint16_t port = 0;
  const auto *end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, port);
  return error == std::errc{} && stop == end && port != 0 ? std::optional(port) : std::nullopt;
}

} // namespace

std::expected<std::vector<PortRange>, SessionError> ParsePorts(std::string_view text) {
  std::vector<PortRange> ranges;
  while (true) {
    const auto comma = text.find(',');
    const auto range = text.substr(0, comma);
    const auto dash = range.find('-');
    const auto first = ReadPort(range.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : ReadPort(range.substr(dash + 1));
    if (!first || !last || *first > *last || ranges.size() == kMaxPortRanges) {
      return std::unexpected(SessionError::kPorts);
    }
    ranges.push_back({.first = *first, .last = *last});
    if (comma == std::string_view::npos) {
      return ranges;
    }
    text.remove_prefix(comma + 1);
  }
}

bool TargetPolicy::AllowsPort(std::uint16_t port) const {
  if (options_.ports) {
    return std::ranges::any_of(*options_.ports, [&](const PortRange &range) {
      return range.first <= port && port <= range.last;
    });
  }
  return port == 443 || port == 80 || (port >= 1024 && !std::ranges::contains(kAmplifiers, port));
}

} // namespace ngmasque
