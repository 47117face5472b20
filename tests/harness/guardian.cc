#include "guardian.h"

#include "harness.h"
#include "sanitizer.h"
#include "watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <format>
#include <new>
#include <utility>

namespace harness::guardian {

namespace {

using Clock = std::chrono::steady_clock;

/// In memory that the guardian, the program and its copies share.
struct Shared {
  std::atomic<pid_t> program, copy;
  std::atomic<unsigned int> passed; ///< Assertions of the step that is going on.
  std::atomic<int> timeout;         ///< In seconds, for a step; 0 is none.
};
Shared fallback;
Shared *shared = &fallback;
/// The program's way to the guardian, and the guardian's way to a copy: here the copy's end.
int channel = -1, from_guardian = -1;
bool each_test = false;
/// A process of its own has this test.
bool apart = false;

/// What the guardian takes from the program, and a copy from the guardian, which adds at most two.
void Apply(std::deque<Step> &steps, Record &&record, std::size_t max = kMaxParts) {
  if (record.kind == Record::Kind::begin) {
    steps.emplace_back();
  } else if (record.kind == Record::Kind::end && !steps.empty()) {
    steps.back().result = record.part.line;
    steps.back().text = std::move(record.part.message);
    steps.back().passed = record.count;
  } else if (record.kind == Record::Kind::part && !steps.empty()) {
    if (steps.back().parts.size() < max) {
      steps.back().parts.push_back(std::move(record.part));
    } else {
      ++steps.back().left_out;
    }
  }
}

void SendEnd(int fd, const Step &step) {
  Send(fd, {.kind = Record::Kind::end,
            .part = {.type = {}, .file = {}, .line = step.result, .message = step.text},
            .count = step.passed});
}

/// The guardian's end, as that of the program.
[[noreturn]] void Leave(int status) {
  if (WIFSIGNALED(status)) {
    const rlimit no_core{};
    setrlimit(RLIMIT_CORE, &no_core);
    std::signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
  }
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

class Guardian {
public:
  explicit Guardian(Watch &watch, int to_copy) : watch_{watch}, to_copy_{to_copy} {}

  [[noreturn]] void Run() {
    const auto take = [this](Record &&record) { Take(std::move(record)); };
    for (;;) {
      watch_.Pump(20, take);
      if (in_step_ && !timed_out_ && shared->timeout != 0 && Clock::now() >= deadline_) {
        timed_out_ = true;
        kill(shared->program, SIGKILL);
      }
      // Copies that are not needed any more end here, too, and what tests left behind.
      int status = 0;
      for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid == shared->program) {
          watch_.Pump(0, take);
          if (!in_suite_ || shared->copy == 0) {
            Leave(status);
          }
          HandOver(status);
        }
      }
    }
  }

private:
  void Take(Record &&record) {
    switch (record.kind) {
    case Record::Kind::suite:
    case Record::Kind::done:
      in_suite_ = record.kind == Record::Kind::suite;
      in_step_ = false;
      steps_.clear();
      break;
    case Record::Kind::begin:
      watch_.ForgetOutput();
      deadline_ = Clock::now() + std::chrono::seconds{shared->timeout};
      in_step_ = true;
      break;
    case Record::Kind::end:
      in_step_ = false;
      break;
    case Record::Kind::leak:
      leak_ = true;
      break;
    case Record::Kind::over:
      over_ = true;
      break;
    case Record::Kind::part:
      break;
    }
    Apply(steps_, std::move(record));
  }

  void HandOver(int status) {
    if (!in_step_ && !over_) {
      // It ended in a handler of the program's; the next step gets it.
      steps_.emplace_back();
    }
    if (over_) {
      AddLast(steps_.back().left_out, leak_ ? watch_.WithOutput("the test leaked memory") : "");
    } else {
      steps_.back().passed = shared->passed;
      steps_.back().result = -1;
      AddLast(steps_.back().left_out,
              timed_out_ ? watch_.WithOutput(
                             std::format("the test was killed after {} s", shared->timeout.load()))
                         : watch_.Ending(status));
    }
    shared->program = shared->copy.exchange(0);
    for (const auto &step : steps_) {
      Send(to_copy_, {.kind = Record::Kind::begin, .part = {}});
      for (const auto &part : step.parts) {
        Send(to_copy_, {.kind = Record::Kind::part, .part = part});
      }
      SendEnd(to_copy_, step);
    }
    Send(to_copy_, {.kind = Record::Kind::done, .part = {}});
    steps_.clear();
    in_suite_ = in_step_ = timed_out_ = leak_ = over_ = false;
  }

  void AddLast(std::size_t left_out, std::string message) {
    auto &parts = steps_.back().parts;
    if (left_out != 0) {
      parts.push_back({.type = testing::TestPartResult::kNonFatalFailure,
                       .file = {},
                       .line = -1,
                       .message = std::format("{} further results are left out here", left_out)});
    }
    if (!message.empty()) {
      parts.push_back({.type = testing::TestPartResult::kFatalFailure,
                       .file = {},
                       .line = -1,
                       .message = std::move(message)});
    }
  }

  Watch &watch_;
  int to_copy_;
  std::deque<Step> steps_;
  Clock::time_point deadline_;
  bool in_suite_ = false, in_step_ = false, timed_out_ = false, leak_ = false, over_ = false;
};

/// What the environment and the command line say; run.cc reads them again, and rejects bad ones.
bool Wanted(int argc, char **argv) {
  const char *const variable = std::getenv("NGM_HARNESS_FORK");
  std::string_view how = variable != nullptr ? variable : "1";
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    constexpr std::string_view option = "--harness_fork=";
    if (arg == "--harness_no_fork") {
      how = "0";
    } else if (arg.starts_with(option)) {
      how = arg.substr(option.size());
    }
  }
  each_test = how == "test" || (how == "1" && each_test_forked);
  return how != "0";
}

/// A copy of the descriptor where the program's own, which count from 3, do not show that it is
/// there.
int High(int fd) {
  const int high = fcntl(fd, F_DUPFD_CLOEXEC, 100);
  return high >= 0 ? high : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

[[gnu::constructor]] void Start(int argc, char **argv, char **) {
  void *const memory =
    mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return;
  }
  shared = new (memory) Shared{};
  Watch watch;
  std::array<int, 2> copies;
  if (!Wanted(argc, argv) || !watch.Open() ||
      socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, copies.data()) != 0) {
    return;
  }
  const pid_t self = getpid();
  prctl(PR_SET_CHILD_SUBREAPER, 1); // Before there is anyone who may leave a copy behind.
  const pid_t pid = fork();
  if (pid < 0) {
    return;
  }
  if (pid == 0) {
    close(copies[0]);
    from_guardian = High(copies[1]);
    close(copies[1]);
    shared->program = getpid();
    channel = High(watch.Enter(self));
    return;
  }
  close(copies[1]);
  watch.Stay();
  shared->program = pid;
  std::signal(SIGCHLD, [](int) {}); // It ends a poll().
  Guardian{watch, copies[0]}.Run();
}

/// Sends what GoogleTest records.
class Sender : public testing::EmptyTestEventListener {
public:
  bool clean = true; ///< No failure and no skip so far.

private:
  void OnTestPartResult(const testing::TestPartResult &result) override {
    // A process that a test has forked sends only if the test is apart: the other's are lost, as
    // they are without a harness.
    if (!result.passed() && (apart || Active())) {
      clean = false;
      Send(channel, {.kind = Record::Kind::part,
                     .part = {.type = result.type(),
                              .file = result.file_name() != nullptr ? result.file_name() : "",
                              .line = result.line_number(),
                              .message = result.message()}});
    }
  }
};
Sender *sender = nullptr;

/// The life of a copy, until it is needed.
void Sleep(std::deque<Step> &steps) {
  for (;;) {
    pollfd fd{.fd = from_guardian, .events = POLLIN, .revents = 0};
    poll(&fd, 1, -1);
    bool again = false;
    auto record = Receive(from_guardian, again);
    if (record && record->kind == Record::Kind::done) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      return;
    }
    if (record) {
      Apply(steps, std::move(*record), kMaxParts + 2);
    } else if (!again) {
      _exit(1); // There is no guardian any more.
    }
  }
}

} // namespace

bool Active() { return shared->program == getpid(); }

bool EachTest() { return each_test && Active(); }

std::atomic<unsigned int> &Passed() { return shared->passed; }

bool BeginSuite(std::deque<Step> &steps) {
  if (!Active()) {
    return false;
  }
  Flush();
  // The copy is the guardian's child, not this process's: a test may wait for all children it has.
  const pid_t pid = fork();
  if (pid == 0) {
    const pid_t copy = fork();
    if (copy != 0) {
      shared->copy = copy > 0 ? copy : 0;
      _exit(0);
    }
    Sleep(steps);
    MoveProcess();
    return true;
  }
  while (pid > 0 && waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  shared->timeout = static_cast<int>(options().timeout.count());
  Send(channel, {.kind = Record::Kind::suite, .part = {}});
  return false;
}

void EndSuite() {
  if (Active()) {
    Flush();
    Send(channel, {.kind = Record::Kind::done, .part = {}});
    if (const pid_t copy = shared->copy.exchange(0); copy != 0) {
      kill(copy, SIGKILL);
    }
  }
}

void Begin() {
  if (!Active()) {
    return;
  }
  if (sender == nullptr) {
    sender = new Sender;
    testing::UnitTest::GetInstance()->listeners().Append(sender);
  }
  // What is on its way to the guardian belongs to the step before.
  int unread = 0;
  for (int i = 0; i < 1000 && ioctl(STDERR_FILENO, FIONREAD, &unread) == 0 && unread > 0; ++i) {
    usleep(50);
  }
  shared->passed = 0;
  Send(channel, {.kind = Record::Kind::begin, .part = {}});
}

void End(int result, const std::string &text) {
  if (Active()) {
    SendEnd(channel, {.parts = {}, .result = result, .passed = shared->passed, .text = text});
  }
}

bool RunApart(const std::function<void()> &body, Step &step) {
  // GoogleTest starts a "threadsafe" death test's program anew, and the death has to be in it.
  if (!Active() || apart || testing::internal::InDeathTestChild()) {
    return false;
  }
  PrepareLeakCheck();
  std::deque<Step> steps;
  if (BeginSuite(steps)) {
    step = std::move(steps.back());
    return true;
  }
  apart = true;
  auto &listeners = testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer()); // The copy prints.
  Begin();
  sender->clean = true;
  RunCatching(body);
  Flush();
  if (Active()) {
    End(0, {});
    // A failed test's fatal assertion skipped its clean-up.
    if (sender->clean && LeakFound()) {
      Send(channel, {.kind = Record::Kind::leak, .part = {}});
    }
    Send(channel, {.kind = Record::Kind::over, .part = {}});
  }
  // Not exit(): what main() registered there is the copy's.
  _exit(0);
}

} // namespace harness::guardian

void harness::RunInChild(const std::function<void()> &body) {
  guardian::Step step;
  if (!guardian::RunApart(body, step)) {
    body();
  }
  for (const auto &part : step.parts) {
    AddPart(part.type, part.file.c_str(), part.line, part.message);
  }
}
