// The runner's half of forked test bodies: start, wait, judge, report.

#include "channel.h"
#include "child.h"
#include "harness.h"
#include "sanitizer.h"
#include "stream.h"
#include "utf8.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest-spi.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <format>

namespace harness {

namespace {

using testing::TestPartResult;
using Clock = std::chrono::steady_clock;

/// The runner's view of one child.
class Runner {
public:
  Outcome Run(const std::function<void()> &body) {
    if (Start(body)) {
      Wait();
      Judge();
    }
    return std::move(outcome_);
  }

private:
  bool Start(const std::function<void()> &body) {
    std::array<int, 2> channel, out, err;
    // All six are closed if one of the steps fails: the process is in no state to run tests then.
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel.data()) != 0) {
      return Fail("socketpair");
    }
    channel_.reset(channel[0]);
    Fd child_channel, child_out, child_err;
    child_channel.reset(channel[1]);
    if (pipe2(out.data(), O_CLOEXEC) != 0) {
      return Fail("pipe");
    }
    out_fd_.reset(out[0]);
    child_out.reset(out[1]);
    if (pipe2(err.data(), O_CLOEXEC) != 0) {
      return Fail("pipe");
    }
    err_fd_.reset(err[0]);
    child_err.reset(err[1]);
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);

    // Or the child would print it a second time.
    Flush();
    const pid_t runner = getpid();
    pid_ = fork();
    if (pid_ < 0) {
      return Fail("fork");
    }
    if (pid_ == 0) {
      // Also when the runner is killed, nothing is left behind.
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != runner) {
        _exit(1);
      }
      dup2(out[1], STDOUT_FILENO);
      dup2(err[1], STDERR_FILENO);
      child_out.reset();
      child_err.reset();
      channel_.reset();
      out_fd_.reset();
      err_fd_.reset();
      BeChild(channel[1], body);
    }
    return true;
  }

  bool Fail(const char *what) {
    Add(std::format("the test could not be run: {}: {}", what, std::strerror(errno)));
    return false;
  }

  /// Until the child is gone.  A descriptor at its end is no sign of that, nor is one still open a
  /// sign of the contrary: the test may have closed it or left a process behind that has it.
  void Wait() {
    const auto deadline = Clock::now() + options().timeout;
    while (!Gone()) {
      if (options().timeout.count() != 0 && Clock::now() >= deadline) {
        timed_out_ = true;
        kill(pid_, SIGKILL);
        while (waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
        }
        break;
      }
      std::array<pollfd, 3> fds{
        {{channel_.get(), POLLIN, 0}, {out_fd_.get(), POLLIN, 0}, {err_fd_.get(), POLLIN, 0}}};
      // The child's end of the channel closes a moment before it can be waited for.
      poll(fds.data(), fds.size(), channel_.get() >= 0 ? 20 : 1);
      Pump();
    }
    Pump();
  }

  bool Gone() {
    const pid_t pid = waitpid(pid_, &status_, WNOHANG);
    // An error other than EINTR: the test program ignores SIGCHLD or waits for all its children.
    return pid == pid_ || (pid < 0 && errno != EINTR);
  }

  void Pump() {
    if (channel_.get() >= 0) {
      // As for Output::Pump(): bounded, and more than the socket's buffer holds.
      bool open = true;
      for (int i = 0; i < 1000 && open; ++i) {
        bool again = false;
        const auto record = Receive(channel_.get(), again);
        if (record) {
          Take(*record);
        } else if (again) {
          break;
        } else {
          open = false;
        }
      }
      if (!open) {
        channel_.reset();
      }
    }
    if (out_fd_.get() >= 0 && !out_.Pump(out_fd_.get())) {
      out_fd_.reset();
    }
    if (err_fd_.get() >= 0 && !err_.Pump(err_fd_.get())) {
      err_fd_.reset();
    }
  }

  void Take(const Record &record) {
    switch (record.kind) {
    case Record::Kind::part:
      if (outcome_.parts.size() < kMaxParts) {
        outcome_.parts.push_back(record.part);
      } else {
        ++outcome_.left_out;
      }
      break;
    case Record::Kind::leak:
      leak_ = true;
      break;
    case Record::Kind::done:
      done_ = true;
      break;
    }
  }

  /// How did it end?
  void Judge() {
    if (timed_out_) {
      AddWithOutput(std::format("the test was killed after {} s", options().timeout.count()));
    } else if (WIFSIGNALED(status_)) {
      const int signal = WTERMSIG(status_);
      const char *const name = sigabbrev_np(signal);
      AddWithOutput(std::format("the test was killed by signal {} (SIG{}: {})", signal,
                                name != nullptr ? name : "?", strsignal(signal)));
    } else if (!done_) {
      AddWithOutput(
        std::format("the test ended its process, with exit status {}, instead of returning",
                    WEXITSTATUS(status_)));
    } else if (leak_) {
      AddWithOutput("the test leaked memory");
    }
  }

  void AddWithOutput(std::string message) {
    if (const auto text = err_.text(); !text.empty()) {
      message += "\nIts stderr:\n" + text;
    }
    Add(std::move(message));
  }

  void Add(std::string message) {
    outcome_.parts.push_back({.type = TestPartResult::kFatalFailure,
                              .file = {},
                              .line = -1,
                              .message = std::move(message)});
  }

  Fd channel_, out_fd_, err_fd_;
  Output out_{STDOUT_FILENO}, err_{STDERR_FILENO};
  pid_t pid_ = -1;
  int status_ = 0;
  bool done_ = false, leak_ = false, timed_out_ = false;
  Outcome outcome_;
};

bool ForkWanted() {
  // GoogleTest starts a "threadsafe" death test's program anew, and the death has to be in it.
  return options().fork && !testing::internal::InDeathTestChild();
}

} // namespace

bool Outcome::failed() const {
  return std::ranges::any_of(parts, [](const Part &part) {
    return part.type == TestPartResult::kNonFatalFailure ||
           part.type == TestPartResult::kFatalFailure;
  });
}

Outcome Capture(const std::function<void()> &body) {
  if (ForkWanted()) {
    PrepareLeakCheck();
    return Runner{}.Run(body);
  }
  testing::TestPartResultArray results;
  {
    testing::ScopedFakeTestPartResultReporter reporter{
      testing::ScopedFakeTestPartResultReporter::INTERCEPT_ALL_THREADS, &results};
    RunCatching(body);
  }
  Outcome outcome;
  for (int i = 0; i < results.size(); ++i) {
    const auto &result = results.GetTestPartResult(i);
    outcome.parts.push_back({.type = result.type(),
                             .file = result.file_name() != nullptr ? result.file_name() : "",
                             .line = result.line_number(),
                             .message = result.message()});
  }
  return outcome;
}

void Report(const Outcome &outcome) {
  for (const auto &part : outcome.parts) {
    AddPart(part.type, part.file.c_str(), part.line, part.message);
  }
  if (outcome.left_out != 0) {
    AddPart(TestPartResult::kNonFatalFailure, nullptr, -1,
            std::format("{} further results are left out here", outcome.left_out));
  }
}

void RunInChild(const std::function<void()> &body) {
  if (ForkWanted()) {
    Report(Capture(body));
  } else {
    body();
  }
}

void AddPart(TestPartResult::Type type, const char *file, int line, const std::string &message) {
  if (file != nullptr && *file == '\0') {
    file = nullptr;
  }
  testing::internal::AssertHelper(type, file, line, "") = testing::Message() << ValidUtf8(message);
}

} // namespace harness
