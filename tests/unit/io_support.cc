#include "io_support.h"

#include <cerrno>

#include <sys/syscall.h>

namespace ngmasque {

std::vector<int> &SendErrors() {
  static std::vector<int> errors;
  return errors;
}

int &SendCalls() {
  static int calls = 0;
  return calls;
}

namespace {
// Whether the call fails.
bool Refuse() {
  ++SendCalls();
  auto &errors = SendErrors();
  if (errors.empty()) {
    return false;
  }
  const int error = errors.front();
  errors.erase(errors.begin());
  errno = error;
  return error != 0;
}
} // namespace

} // namespace ngmasque

// Instead of the C library's, because the loopback device never is full.
extern "C" ssize_t sendmsg(int fd, const msghdr *message, int flags) {
  return ngmasque::Refuse() ? -1 : ::syscall(SYS_sendmsg, fd, message, flags);
}

extern "C" int sendmmsg(int fd, mmsghdr *messages, unsigned count, int flags) {
  return ngmasque::Refuse()
           ? -1
           : static_cast<int>(::syscall(SYS_sendmmsg, fd, messages, count, flags));
}
