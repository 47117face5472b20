// How many bytes a client may have passed on per second.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace ngmasque {

/// A token bucket that is full at first.  Of it is kept only when it will be full again: what is
/// taken moves that time, and it may not be further away than an empty bucket takes.
class TokenBucket {
public:
  /// `rate`: bytes per second, 0 for no bound.  `burst`: bytes; more can never be taken at once.
  TokenBucket(std::uint64_t rate, std::uint64_t burst)
    : rate_(rate), depth_(rate == 0 ? 0 : Duration(burst)) {}

  [[nodiscard]] std::uint64_t rate() const noexcept { return rate_; }

  /// Takes `bytes`, up to 2^16, or nothing if there are not as many.  `now` is in nanoseconds; one
  /// that has gone back counts as the latest.  Cost: O(1).
  [[nodiscard]] bool Take(std::uint64_t bytes, std::uint64_t now) noexcept {
    if (rate_ == 0) {
      return true;
    }
    now_ = std::max(now_, now);
    const auto used = full_ > now_ ? full_ - now_ : 0;
    const auto cost = Duration(bytes);
    if (cost > depth_ || used > depth_ - cost) {
      return false;
    }
    full_ = now_ + used + cost;
    return true;
  }

private:
  // How long `bytes` take to come, rounded up; a third of what a clock can show at most.
  [[nodiscard]] std::uint64_t Duration(std::uint64_t bytes) const noexcept {
    constexpr std::uint64_t second = 1'000'000'000;
    constexpr auto longest = std::numeric_limits<std::uint64_t>::max() / 3;
    const auto whole = bytes / rate_;
    if (whole >= longest / second) {
      return longest;
    }
    // The rest is less than rate_.  A fast rate loses some of its last digits, not the product.
    const auto scale = std::max<std::uint64_t>(1, rate_ / second);
    const auto rest = bytes % rate_ / scale;
    const auto rate = rate_ / scale;
    return whole * second + (rest * second + rate - 1) / rate;
  }

  std::uint64_t rate_;
  std::uint64_t depth_; // Of the bucket, in nanoseconds that it takes to fill.
  std::uint64_t full_ = 0;
  std::uint64_t now_ = 0;
};

} // namespace ngmasque
