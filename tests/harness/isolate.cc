// The runner's half of forked test bodies: start, wait, judge, report.

#include "child.h"
#include "harness.h"
#include "sanitizer.h"
#include "utf8.h"
#include "watch.h"

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest-spi.h>

#include <algorithm>
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
    if (!watch_.Open()) {
      Add(std::format("the test could not be run: {}", std::strerror(errno)));
      return std::move(outcome_);
    }
    // Or the child would print it a second time.
    Flush();
    const pid_t runner = getpid();
    pid_ = fork();
    if (pid_ < 0) {
      Add(std::format("the test could not be run: fork: {}", std::strerror(errno)));
    } else if (pid_ == 0) {
      BeChild(watch_.Enter(runner), body);
    } else {
      watch_.Stay();
      Wait();
    }
    return std::move(outcome_);
  }

private:
  /// Until the child is gone.  A descriptor at its end is no sign of that, nor is one still open a
  /// sign of the contrary: the test may have closed it or left a process behind that has it.
  void Wait() {
    const auto take = [this](Record &&record) { Take(std::move(record)); };
    const auto deadline = Clock::now() + options().timeout;
    bool timed_out = false;
    while (!Gone()) {
      if (options().timeout.count() != 0 && Clock::now() >= deadline) {
        timed_out = true;
        kill(pid_, SIGKILL);
        while (waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
        }
        break;
      }
      watch_.Pump(20, take);
    }
    watch_.Pump(0, take);
    if (timed_out) {
      Add(watch_.WithOutput(
        std::format("the test was killed after {} s", options().timeout.count())));
    } else if (WIFSIGNALED(status_) || !done_) {
      Add(watch_.Ending(status_));
    } else if (leak_) {
      Add(watch_.WithOutput("the test leaked memory"));
    }
  }

  bool Gone() {
    const pid_t pid = waitpid(pid_, &status_, WNOHANG);
    // An error other than EINTR: the test program ignores SIGCHLD or waits for all its children.
    return pid == pid_ || (pid < 0 && errno != EINTR);
  }

  void Take(Record &&record) {
    if (record.kind == Record::Kind::leak) {
      leak_ = true;
    } else if (record.kind == Record::Kind::done) {
      done_ = true;
    } else if (outcome_.parts.size() < kMaxParts) {
      outcome_.parts.push_back(std::move(record.part));
    } else {
      ++outcome_.left_out;
    }
  }

  void Add(std::string message) {
    outcome_.parts.push_back({.type = TestPartResult::kFatalFailure,
                              .file = {},
                              .line = -1,
                              .message = std::move(message)});
  }

  Watch watch_;
  pid_t pid_ = -1;
  int status_ = 0;
  bool done_ = false, leak_ = false;
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
