// What the sample client and the sample server need for their proxy options and statistics.
#pragma once

#include "ngmasque/io/common.h"
#include "ngmasque/routing/connection_id.h"
#include "ngmasque/session/authority.h"
#include "ngmasque/session/forwarding_fields.h"
#include "ngmasque/session/traffic.h"

#include <algorithm>
#include <cstdint>
#include <expected>
#include <format>
#include <optional>
#include <ranges>
#include <string>
#include <string_view>
#include <vector>

#include <ngtcp2/ngtcp2.h>

namespace ngmasque::examples {

/// Reads `https://HOST:PORT`, with or without a final slash; the port is 443 if it is left out.
inline std::expected<Authority, SessionError> ParseProxyUri(std::string_view uri) {
  constexpr std::string_view scheme = "https://";
  if (!uri.starts_with(scheme)) {
    return std::unexpected(SessionError::kAuthority);
  }
  uri.remove_prefix(scheme.size());
  if (uri.ends_with('/')) {
    uri.remove_suffix(1);
  }
  if (auto authority = ParseAuthority(uri)) {
    return authority;
  }
  return ParseAuthority(std::format("{}:443", uri));
}

/// Reads names of packet transforms, separated by commas.  Nothing if one is unknown, or comes twice.
[[nodiscard]] inline std::optional<std::vector<Transform>> ReadTransforms(std::string_view text) {
  std::vector<Transform> transforms;
  for (const auto name : text | std::views::split(',')) {
    const auto transform = FindTransform(std::string_view(name));
    if (!transform || std::ranges::contains(transforms, *transform)) {
      return std::nullopt;
    }
    transforms.push_back(*transform);
  }
  return transforms;
}

/// ngtcp2 has no connection ID that is too long.
[[nodiscard]] inline ConnectionId ToConnectionId(const ngtcp2_cid &cid) {
  return *ConnectionId::From({cid.data, cid.datalen});
}

/// A JSON object on one line.  Names and strings are ours: nothing in them needs escaping.
class JsonObject {
public:
  void Add(std::string_view name, std::uint64_t value) { AddText(name, std::format("{}", value)); }
  void Add(std::string_view name, std::string_view value) {
    AddText(name, std::format("\"{}\"", value));
  }
  void Add(std::string_view name, const JsonObject &value) { AddText(name, value.text()); }
  void AddIfNot0(std::string_view name, std::uint64_t value) {
    if (value) {
      Add(name, value);
    }
  }
  [[nodiscard]] std::string text() const { return std::format("{{{}}}", members_); }

private:
  void AddText(std::string_view name, std::string_view value) {
    members_ += std::format("{}\"{}\": {}", members_.empty() ? "" : ", ", name, value);
  }

  std::string members_;
};

[[nodiscard]] inline JsonObject ToJson(const Traffic &count) {
  JsonObject object;
  object.Add("packets", count.packets);
  object.Add("bytes", count.bytes);
  object.Add("long_headers", count.long_headers);
  return object;
}

} // namespace ngmasque::examples
