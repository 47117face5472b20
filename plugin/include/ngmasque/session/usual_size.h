// Which sizes of packets of an inner connection are no probes of its path.
#pragma once

#include <cstddef>

namespace ngmasque {

/// The largest size of packets that are no probes of a path, which come one by one.
class UsualSize {
public:
  void Add(std::size_t size) {
    run_ = size == last_ ? run_ + 1 : 1;
    last_ = size;
    if (run_ >= kRun && size > usual_) {
      usual_ = size;
    }
  }
  [[nodiscard]] std::size_t get() const { return usual_; }

private:
  static constexpr std::size_t kRun = 3;
  std::size_t last_ = 0, run_ = 0, usual_ = 0;
};

} // namespace ngmasque
