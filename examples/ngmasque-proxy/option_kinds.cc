#include "option_kinds.h"

#include <algorithm>
#include <format>
#include <ranges>
#include <utility>

namespace ngmasque::programs {

using Result = std::expected<void, Wrong>;

Option MinConnectionId(Option row, std::size_t &member) {
  row = Number(std::move(row), member, 0);
  row.set = [set = row.set, &member](std::string_view text) -> Result {
    if (!set(text) || member > kMaxConnectionIdLength) {
      return std::unexpected(std::format("a number of 0 to {}", kMaxConnectionIdLength));
    }
    return {};
  };
  return row;
}

Option Blocks(Option row, std::vector<AddressBlock> &member) {
  row.repeatable = row.grouped = true;
  row.set = [&member](std::string_view text) -> Result {
    const auto block = ParseAddressBlock(text);
    if (!block) {
      return std::unexpected(
        "an address or <ADDRESS>/<LENGTH> without further bits, such as 192.0.2.0/24");
    }
    member.push_back(*block);
    return {};
  };
  return row;
}

Option Names(Option row, std::vector<std::string> &member) {
  row.repeatable = row.grouped = true;
  row.set = [&member](std::string_view text) -> Result {
    auto name = ParseNameSuffix(text);
    if (!name) {
      return std::unexpected("a name or the end of one, such as example.com");
    }
    member.push_back(*std::move(name));
    return {};
  };
  return row;
}

Option Grouped(Option row) {
  row.grouped = true;
  return row;
}

Option Ports(Option row, std::optional<std::vector<PortRange>> &member) {
  row.grouped = true;
  row.set = [&member](std::string_view text) -> Result {
    auto ports = ParsePorts(text);
    if (!ports) {
      return std::unexpected("ports of 1 to 65535 and ranges of them, separated by commas");
    }
    member = *std::move(ports);
    return {};
  };
  return row;
}

Option Template(Option row, UriTemplate &member) {
  row.initial = kDefaultUdpPath;
  row.set = [&member](std::string_view text) -> Result {
    auto path = UriTemplate::Parse(text);
    if (!text.starts_with('/') || !path) {
      return std::unexpected("a path, and maybe a query, with {target_host} and {target_port}");
    }
    member = *std::move(path);
    return {};
  };
  return row;
}

Option Transforms(Option row, std::vector<Transform> &member) {
  row.initial = "scramble-dt,identity";
  row.set = [&member](std::string_view text) -> Result {
    std::vector<Transform> transforms;
    for (const auto name : text | std::views::split(',')) {
      const auto transform = FindTransform(std::string_view(name));
      if (!transform || std::ranges::contains(transforms, *transform)) {
        return std::unexpected("scramble-dt, identity, or both with a comma");
      }
      transforms.push_back(*transform);
    }
    member = std::move(transforms);
    return {};
  };
  return row;
}

Option Metrics(Option row, std::vector<Endpoint> &member) {
  row.set = [&member](std::string_view text) -> Result {
    const auto endpoint = ParseEndpoint(text);
    if (!endpoint || !IsLoopback(*endpoint)) {
      return std::unexpected("a port of a loopback address, such as 127.0.0.1:9100: everybody who "
                             "gets there can read it");
    }
    member = {*endpoint};
    return {};
  };
  return row;
}

} // namespace ngmasque::programs
