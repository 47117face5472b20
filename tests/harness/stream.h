// What a forked test body prints.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace harness {

/// Closes a descriptor.
class Fd {
public:
  Fd() = default;
  Fd(const Fd &) = delete;
  Fd &operator=(const Fd &) = delete;
  ~Fd() { reset(); }
  void reset(int fd = -1) {
    if (fd_ >= 0) {
      close(fd_);
    }
    fd_ = fd;
  }
  [[nodiscard]] int get() const { return fd_; }

private:
  int fd_ = -1;
};

/// A stream that the child writes to: passed on at once, and its begin and end kept.
class Output {
public:
  explicit Output(int to) : to_{to} {}

  /// Reads what is there, but no more than a pipe holds: a test that prints for ever shall still
  /// meet its timeout.  Returns false when no one can write any more.
  bool Pump(int from);

  /// What came, without its middle if it was long.
  [[nodiscard]] std::string text() const;

private:
  /// Each; what a test prints between its first and its last bytes is not repeated in a failure.
  static constexpr std::size_t kMaxKept = 32768;

  void Keep(std::string_view bytes);

  int to_;
  std::string head_, tail_;
  std::size_t skipped_ = 0;
};

} // namespace harness
