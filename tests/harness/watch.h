// A process that runs tests, as the one sees it that watches it.
#pragma once

#include "channel.h"

#include <sys/types.h>
#include <unistd.h>

#include <functional>
#include <string>

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

/// The results and the stderr of one process.  What it writes to stderr is passed on at once.
class Watch {
public:
  /// Before fork().  False, and errno says why, when there are no descriptors left.
  [[nodiscard]] bool Open();
  /// In the watched process, after fork(): its stderr leads here; returns its end of the channel.
  /// It ends when the process `parent`, which is its parent, does.
  int Enter(pid_t parent);
  /// In the other one.
  void Stay();

  /// Waits at most `timeout` ms for something, hands on what came.  It reads no more than the
  /// buffers hold: a test that fails or prints for ever shall still meet its timeout.
  void Pump(int timeout, const std::function<void(Record &&)> &take);

  /// How a process ended that was not to end, with what it wrote to stderr, without the begin of
  /// that if it was long.
  [[nodiscard]] std::string Ending(int status) const;
  [[nodiscard]] std::string WithOutput(std::string message) const;
  void ForgetOutput() { text_.clear(), left_out_ = 0; }

private:
  void PumpErr();

  Fd channel_, err_, its_channel_, its_err_;
  std::string text_;
  std::size_t left_out_ = 0;
};

} // namespace harness
