#include "guard.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>

namespace harness {

namespace {

thread_local std::jmp_buf *target = nullptr;

} // namespace

bool Guarded(const std::function<void()> &body) {
  // Restores on every way out; a body in C++ may also throw.
  const struct Restore {
    std::jmp_buf *outer = target;
    ~Restore() { target = outer; }
  } restore;

  std::jmp_buf here;
  if (setjmp(here) != 0) {
    return false;
  }
  target = &here;
  body();
  return true;
}

void Jump() {
  if (target == nullptr) {
    std::fputs("harness: a fatal assertion failed outside of the test's own thread\n", stderr);
    std::abort();
  }
  std::longjmp(*target, 1);
}

} // namespace harness
