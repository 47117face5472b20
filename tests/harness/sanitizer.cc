#include "sanitizer.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <print>

extern "C" {

// Null unless LeakSanitizer is linked.
[[gnu::weak]] int __lsan_do_recoverable_leak_check();

// By default UBSan prints its finding and goes on, and the test would pass.
[[gnu::used, gnu::visibility("default")]] const char *__ubsan_default_options() {
  return "halt_on_error=1:print_stacktrace=1";
}

} // extern "C"

namespace harness {

namespace {

enum class LeakCheck { untried, works, broken } leak_check = LeakCheck::untried;

constexpr int kFound = 10, kNotFound = 11;

/// More than one block, for the last one's address may stay in a register and keep it "reachable".
[[gnu::noinline]] void LeaveLeaks() {
  for (int i = 0; i < 16; ++i) {
    [[maybe_unused]] void *volatile block = std::malloc(24);
    block = nullptr;
  }
}

/// A child that leaks on purpose; returns its exit status, or -1.
int TryLeakCheck() {
  const pid_t pid = fork();
  if (pid == 0) {
    // Its report is no news to anyone.
    if (const int null = open("/dev/null", O_WRONLY); null >= 0) {
      dup2(null, STDERR_FILENO);
    }
    LeaveLeaks();
    _exit(__lsan_do_recoverable_leak_check() != 0 ? kFound : kNotFound);
  }
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
    return -1;
  }
  return WEXITSTATUS(status);
}

} // namespace

void PrepareLeakCheck() {
  if (__lsan_do_recoverable_leak_check == nullptr || leak_check != LeakCheck::untried) {
    return;
  }
  std::fflush(nullptr);
  const int result = TryLeakCheck();
  leak_check = result == kFound ? LeakCheck::works : LeakCheck::broken;
  if (leak_check == LeakCheck::broken) {
    std::println("{}{}", kNoLeakCheck,
                 result == kNotFound
                   ? "ASAN_OPTIONS says detect_leaks=0"
                   : "LeakSanitizer does not work here (debugger, strace, no right to use ptrace)");
  }
}

bool LeakFound() {
  return leak_check == LeakCheck::works && __lsan_do_recoverable_leak_check() != 0;
}

} // namespace harness
