// How much memory may be taken by what waits.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

namespace ngmasque {

/// Bytes out of a bound, and perhaps out of a larger one as well that others share: what waits for
/// one client, out of what waits for all.
///
/// Owned by all who take of it, so that nobody has to be told when one of them goes.
class ByteBudget {
public:
  /// Takes of `whole`, if it is not null, too.
  explicit ByteBudget(std::size_t max_bytes, std::shared_ptr<ByteBudget> whole = nullptr)
    : max_bytes_(max_bytes), whole_(std::move(whole)) {}
  ByteBudget(const ByteBudget &) = delete;
  ByteBudget &operator=(const ByteBudget &) = delete;

  /// How many bytes can be taken.
  [[nodiscard]] std::size_t room() const {
    const auto mine = max_bytes_ - bytes_;
    return whole_ ? std::min(mine, whole_->room()) : mine;
  }

  /// `bytes`: at most room().
  void Take(std::size_t bytes) {
    bytes_ += bytes;
    if (whole_) {
      whole_->Take(bytes);
    }
  }

  /// `bytes`: of those that were taken.
  void Give(std::size_t bytes) {
    bytes_ -= bytes;
    if (whole_) {
      whole_->Give(bytes);
    }
  }

  /// What is taken.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

private:
  std::size_t max_bytes_;
  std::size_t bytes_ = 0; // At most max_bytes_.
  std::shared_ptr<ByteBudget> whole_;
};

/// What somebody has taken of a budget, who gives it back when they go.
class BudgetShare {
public:
  explicit BudgetShare(std::shared_ptr<ByteBudget> budget) : budget_(std::move(budget)) {}
  ~BudgetShare() { budget_->Give(bytes_); }
  BudgetShare(const BudgetShare &) = delete;
  BudgetShare &operator=(const BudgetShare &) = delete;

  /// Has `bytes` from now on; false, and nothing changes, if there is no room for so many.
  [[nodiscard]] bool Resize(std::size_t bytes) {
    if (bytes > bytes_ && bytes - bytes_ > budget_->room()) {
      return false;
    }
    budget_->Give(bytes_);
    budget_->Take(bytes);
    bytes_ = bytes;
    return true;
  }

  [[nodiscard]] std::size_t bytes() const { return bytes_; }

private:
  std::shared_ptr<ByteBudget> budget_;
  std::size_t bytes_ = 0;
};

} // namespace ngmasque
