// When to try again.
#pragma once

#include <algorithm>
#include <chrono>

namespace ngmasque::programs {

/// The pause doubles from `first` up to `most`, and each is shorter by a random part of up to a
/// half, so that clients that have lost the same proxy do not come back together.
class Backoff {
public:
  using Pause = std::chrono::nanoseconds;

  Backoff(Pause first, Pause most) : first_(std::min(first, most)), most_(most) {}

  /// The pause before the next attempt.  `random`: 0 to 1.
  [[nodiscard]] Pause Next(double random) {
    const auto pause = next_;
    next_ = pause > most_ / 2 ? most_ : pause * 2;
    return pause - std::chrono::duration_cast<Pause>(pause * (std::clamp(random, 0., 1.) / 2));
  }

  /// It has worked.
  void Reset() { next_ = first_; }

private:
  Pause first_;
  Pause most_;
  Pause next_ = first_;
};

} // namespace ngmasque::programs
