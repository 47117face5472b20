// Which of the paths that a client's packets come from are validated.
#pragma once

#include "ngmasque/routing/types.h"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace ngmasque {

/// A server's connection sends to a new address of its client before that is validated, and goes
/// back to one that it knows without validating it again.  Who forwards packets alongside may follow
/// it to validated ones only.
class ValidatedPaths {
public:
  /// ngtcp2 remembers four paths besides the one in use.
  static constexpr std::size_t kMax = 5;

  /// `path` has been validated and is in use.
  void Add(const FourTuple &path) {
    std::erase(paths_, path);
    if (paths_.size() == kMax) {
      paths_.erase(paths_.begin());
    }
    paths_.push_back(path);
  }

  /// `path` is in use: whether it is validated.
  [[nodiscard]] bool Use(const FourTuple &path) {
    if (!std::ranges::contains(paths_, path)) {
      return false;
    }
    if (path != paths_.back()) {
      Add(path);
    }
    return true;
  }

private:
  std::vector<FourTuple> paths_; // At most kMax, the oldest first.
};

} // namespace ngmasque
