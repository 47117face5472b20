// What ProxyClient and ProxyServer have in common for the programs that use them.
#pragma once

#include <cstdint>
#include <format>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace ngmasque {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };

/// Takes one line, without a line feed.
using LogFunction = std::function<void(LogLevel, std::string_view)>;

/// Keeps what a peer can bring about as often as it likes from filling a log: one line a second,
/// and with it how many were left out.  There is one of these for each kind of line.
class LogLimit {
public:
  static constexpr std::uint64_t kInterval = 1'000'000'000;

  /// Whether a line may be written at `now`, in nanoseconds: then its end, which may be empty.
  [[nodiscard]] std::optional<std::string> Take(std::uint64_t now) {
    if (now < next_) {
      ++left_out_;
      return std::nullopt;
    }
    next_ = now + kInterval;
    const auto left_out = std::exchange(left_out_, 0);
    return left_out == 0 ? std::string() : std::format("; {} more since the last time", left_out);
  }

private:
  std::uint64_t next_ = 0;
  std::uint64_t left_out_ = 0;
};

} // namespace ngmasque
