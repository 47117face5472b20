// What the tests of io/ have in common: sockets of the system, without the library's.
#pragma once

#include "ngmasque/quic/socket_address.h"
#include "ngmasque/routing/types.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

namespace ngmasque {

inline Endpoint At(std::string_view address) {
  Endpoint endpoint;
  if (inet_pton(AF_INET6, address.data(), endpoint.address.data()) != 1) {
    ADD_FAILURE() << address;
  }
  return endpoint;
}

// Bound to an address and a port that the system chooses.
class Bound {
public:
  explicit Bound(const Endpoint &at) {
    SocketAddress address(at);
    fd = ::socket(address.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = address.size();
    if (::bind(fd, address.get(), size) == 0 && ::getsockname(fd, address.get(), &size) == 0) {
      endpoint = ToEndpoint(address.get());
    }
  }
  ~Bound() { ::close(fd); }
  Bound(const Bound &) = delete;
  Bound &operator=(const Bound &) = delete;

  // The size of the next packet, and where it has come from.
  std::pair<ssize_t, Endpoint> Receive() const {
    SocketAddress from(*endpoint);
    socklen_t size = from.size();
    std::vector<std::uint8_t> packet(65536);
    const auto got = ::recvfrom(fd, packet.data(), packet.size(), 0, from.get(), &size);
    return {got, ToEndpoint(from.get()).value_or(Endpoint{})};
  }

  int fd = -1;
  std::optional<Endpoint> endpoint; // Nothing if the machine has no such address.
};

// What ::sendmsg and ::sendmmsg return in this program before they do anything: for each call an
// error, or 0.  It is empty again when the calls have been made.
std::vector<int> &SendErrors();

// How often they were called.
int &SendCalls();

} // namespace ngmasque
