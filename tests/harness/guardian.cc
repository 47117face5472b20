#include "guardian.h"

#include "child.h"
#include "harness.h"
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

void Apply(std::deque<Step> &steps, Record &&record) {
  if (record.kind == Record::Kind::begin) {
    steps.emplace_back();
  } else if (record.kind == Record::Kind::end && !steps.empty()) {
    steps.back().result = record.part.line;
    steps.back().text = std::move(record.part.message);
    steps.back().passed = record.count;
  } else if (record.kind == Record::Kind::part && !steps.empty() &&
             steps.back().parts.size() < kMaxParts) {
    steps.back().parts.push_back(std::move(record.part));
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
    if (record.kind == Record::Kind::suite || record.kind == Record::Kind::done) {
      in_suite_ = record.kind == Record::Kind::suite;
      steps_.clear();
    } else if (record.kind == Record::Kind::begin) {
      watch_.ForgetOutput();
      deadline_ = Clock::now() + std::chrono::seconds{shared->timeout};
    }
    if (record.kind != Record::Kind::part) {
      in_step_ = record.kind == Record::Kind::begin;
    }
    Apply(steps_, std::move(record));
  }

  void HandOver(int status) {
    if (!in_step_) {
      // It ended in a handler of the program's; the next step gets it.
      steps_.emplace_back();
    }
    auto &last = steps_.back();
    last.passed = shared->passed;
    last.result = -1;
    last.parts.push_back(
      {.type = testing::TestPartResult::kFatalFailure,
       .file = {},
       .line = -1,
       .message = timed_out_ ? watch_.WithOutput(std::format("the test was killed after {} s",
                                                             shared->timeout.load()))
                             : watch_.Ending(status)});
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
    in_suite_ = in_step_ = timed_out_ = false;
  }

  Watch &watch_;
  int to_copy_;
  std::deque<Step> steps_;
  Clock::time_point deadline_;
  bool in_suite_ = false, in_step_ = false, timed_out_ = false;
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
  return how == "suite" || (how == "1" && !each_test_forked);
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
  const pid_t pid = fork();
  if (pid < 0) {
    return;
  }
  if (pid == 0) {
    close(copies[0]);
    from_guardian = fcntl(copies[1], F_DUPFD_CLOEXEC, 100);
    close(copies[1]);
    shared->program = getpid();
    channel = fcntl(watch.Enter(self), F_DUPFD_CLOEXEC, 100);
    return;
  }
  close(copies[1]);
  watch.Stay();
  shared->program = pid;
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  std::signal(SIGCHLD, [](int) {}); // It ends a poll().
  Guardian{watch, copies[0]}.Run();
}

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
      Apply(steps, std::move(*record));
    } else if (!again) {
      _exit(1); // There is no guardian any more.
    }
  }
}

} // namespace

bool Active() { return shared->program == getpid(); }

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
  // What is on its way to the guardian belongs to the step before.
  int unread = 0;
  for (int i = 0; i < 1000 && ioctl(STDERR_FILENO, FIONREAD, &unread) == 0 && unread > 0; ++i) {
    usleep(50);
  }
  shared->passed = 0;
  Send(channel, {.kind = Record::Kind::begin, .part = {}});
}

void SendPart(const Part &part) {
  if (Active()) {
    Send(channel, {.kind = Record::Kind::part, .part = part});
  }
}

void End(int result, const std::string &text) {
  if (Active()) {
    SendEnd(channel, {.parts = {}, .result = result, .passed = shared->passed, .text = text});
  }
}

} // namespace harness::guardian
