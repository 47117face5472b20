#include "watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <format>

namespace harness {

bool Watch::Open() {
  std::array<int, 2> channel, err;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel.data()) != 0) {
    return false;
  }
  channel_.reset(channel[0]);
  its_channel_.reset(channel[1]);
  if (pipe2(err.data(), O_CLOEXEC) != 0) {
    return false;
  }
  err_.reset(err[0]);
  its_err_.reset(err[1]);
  fcntl(err[0], F_SETFL, O_NONBLOCK);
  return true;
}

int Watch::Enter(pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) {
    _exit(1);
  }
  dup2(its_err_.get(), STDERR_FILENO);
  its_err_.reset();
  channel_.reset();
  err_.reset();
  return its_channel_.get();
}

void Watch::Stay() {
  its_channel_.reset();
  its_err_.reset();
}

void Watch::Pump(int timeout, const std::function<void(Record &&)> &take) {
  std::array<pollfd, 2> fds{{{channel_.get(), POLLIN, 0}, {err_.get(), POLLIN, 0}}};
  // The process closes its end of the channel a moment before it can be waited for.
  poll(fds.data(), fds.size(), channel_.get() >= 0 ? timeout : std::min(timeout, 1));
  for (int i = 0; i < 1000 && channel_.get() >= 0; ++i) {
    bool again = false;
    if (auto record = Receive(channel_.get(), again)) {
      take(std::move(*record));
    } else if (again) {
      break;
    } else {
      channel_.reset();
    }
  }
  PumpErr();
}

void Watch::PumpErr() {
  std::array<char, 65536> buffer;
  ssize_t size;
  do {
    size = err_.get() >= 0 ? read(err_.get(), buffer.data(), buffer.size()) : 0;
  } while (size < 0 && errno == EINTR);
  if (size == 0 || (size < 0 && errno != EAGAIN)) {
    err_.reset();
  }
  if (size <= 0) {
    return;
  }
  std::string_view rest{buffer.data(), static_cast<std::size_t>(size)};
  text_ += rest;
  if (text_.size() > buffer.size()) {
    left_out_ += text_.size() - buffer.size();
    text_.erase(0, text_.size() - buffer.size());
  }
  while (!rest.empty()) {
    const auto written = write(STDERR_FILENO, rest.data(), rest.size());
    if (written < 0 && errno != EINTR) {
      break;
    }
    rest.remove_prefix(written < 0 ? 0 : static_cast<std::size_t>(written));
  }
}

std::string Watch::Ending(int status) const {
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    const char *const name = sigabbrev_np(signal);
    return WithOutput(std::format("the test was killed by signal {} (SIG{}: {})", signal,
                                  name != nullptr ? name : "?", strsignal(signal)));
  }
  return WithOutput(std::format(
    "the test ended its process, with exit status {}, instead of returning", WEXITSTATUS(status)));
}

std::string Watch::WithOutput(std::string message) const {
  if (!text_.empty()) {
    message += "\nIts stderr:\n";
    message += left_out_ != 0 ? std::format("[... {} bytes left out ...]\n", left_out_) : "";
    message += text_;
  }
  return message;
}

} // namespace harness
