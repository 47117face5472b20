// Values of options as people write them.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

#include <ngmasque/routing/types.h>

namespace ngmasque::programs {

/// What is wrong with a value, after "must be": `a number of 1 or more`.
using Wrong = std::string;

/// A number, maybe with K, M or G: times 2^10, 2^20, 2^30.
[[nodiscard]] std::expected<std::uint64_t, Wrong> ParseSize(std::string_view text);

/// A number of seconds, or one with h, m, s, ms, us or ns.
[[nodiscard]] std::expected<std::chrono::nanoseconds, Wrong> ParseDuration(std::string_view text);

/// `127.0.0.1:443` or `[::1]:443`; port 0 is one that the system chooses.
[[nodiscard]] std::expected<Endpoint, Wrong> ParseEndpoint(std::string_view text);

/// Whether only this machine gets there.
[[nodiscard]] bool IsLoopback(const Endpoint &endpoint);
/// Whether it is all addresses of a family, which is none that a client can be sent to.
[[nodiscard]] bool IsWildcard(const Endpoint &endpoint);

/// `on` or `off`, as well as `true` or `false`.
[[nodiscard]] std::expected<bool, Wrong> ParseSwitch(std::string_view text);

// The same the other way, in the shortest form that is exact.
[[nodiscard]] std::string SizeText(std::uint64_t size);
[[nodiscard]] std::string DurationText(std::chrono::nanoseconds duration);
[[nodiscard]] std::string EndpointText(const Endpoint &endpoint);

} // namespace ngmasque::programs
