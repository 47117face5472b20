// What the programs of this folder share: UDP sockets of IPv4 addresses in the form 127.0.0.1:4433.
#pragma once

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace relays {

template <typename Number> std::optional<Number> ParseNumber(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(number)
                                                                  : std::nullopt;
}

inline std::optional<sockaddr_in> ParseAddress(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return std::nullopt;
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  const auto port = ParseNumber<std::uint16_t>(text.substr(colon + 1));
  if (!port || inet_pton(AF_INET, std::string(text.substr(0, colon)).c_str(),
                         &address.sin_addr) != 1) {
    return std::nullopt;
  }
  address.sin_port = htons(*port);
  return address;
}

// Prints what errno says, for a caller that gives up.
inline bool Complain(const char *what) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
  return false;
}

// A UDP socket to the end of its life.  What fails is printed, and the answer is false.
class Socket {
public:
  Socket() : fd_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {}
  ~Socket() { close(fd_); }
  Socket(const Socket &) = delete;
  Socket &operator=(const Socket &) = delete;

  int fd() const { return fd_; }

  bool Bind(const sockaddr_in &address) {
    return bind(fd_, reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0 ||
           Complain("bind");
  }
  bool Connect(const sockaddr_in &address) {
    return connect(fd_, reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0 ||
           Complain("connect");
  }
  bool Set(int level, int option, int value) {
    return setsockopt(fd_, level, option, &value, sizeof value) == 0 || Complain("setsockopt");
  }

private:
  int fd_;
};

// Whether a call on a UDP socket failed for now, or because nobody was there to receive, which is a
// loss to UDP.
inline bool Passing(int error) {
  return error == EAGAIN || error == EINTR || error == ECONNREFUSED || error == ENOBUFS;
}

} // namespace relays
