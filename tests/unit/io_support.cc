#include "io_support.h"

#include <cerrno>

#include <sys/syscall.h>

namespace ngmasque {

std::vector<int> &SendErrors() {
  static std::vector<int> errors;
  return errors;
}

} // namespace ngmasque

// Instead of the C library's, because the loopback device never is full.
extern "C" ssize_t sendmsg(int fd, const msghdr *message, int flags) {
  if (auto &errors = ngmasque::SendErrors(); !errors.empty()) {
    const int error = errors.front();
    errors.erase(errors.begin());
    if (error != 0) {
      errno = error;
      return -1;
    }
  }
  return ::syscall(SYS_sendmsg, fd, message, flags);
}
