// SendOn: packets on a socket that is not connected, as the sample server's are.

#include "ngmasque/io/udp_socket.h"
#include "ngmasque/quic/socket_address.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <unistd.h>

namespace ngmasque {
namespace {

Endpoint At(std::string_view address) {
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

TEST(UdpSocket, SendsFromTheAddressOfThePath) {
  struct Case {
    std::string_view any, from, to;
  };
  for (const auto &[any, from, to] :
       {Case{"::ffff:0.0.0.0", "::ffff:127.0.0.3", "::ffff:127.0.0.1"}, Case{"::", "::1", "::1"}}) {
    const Bound receiver(At(to)), sender(At(any));
    if (!receiver.endpoint || !sender.endpoint) {
      continue; // Without IPv6.
    }
    FourTuple path{.local = At(from), .remote = *receiver.endpoint};
    path.local.port = sender.endpoint->port;
    const std::vector<std::uint8_t> bytes(250);
    SendExtras extras;
    EXPECT_TRUE(SendOn(sender.fd, path, {.data = bytes, .segment = 100, .ecn = 2}, extras).sent);
    for (const ssize_t size : {100, 100, 50}) {
      EXPECT_EQ(receiver.Receive(), std::pair(size, path.local)) << from;
    }
    // Or from where the system likes.
    const auto own = Endpoint{.address = At(to).address, .port = sender.endpoint->port};
    path.local = {};
    EXPECT_TRUE(SendOn(sender.fd, path, {.data = bytes, .segment = 250}, extras).sent);
    EXPECT_EQ(receiver.Receive(), std::pair(ssize_t{250}, own)) << from;
  }
}

TEST(UdpSocket, SaysWhatWasNotSent) {
  const Bound receiver(At("::ffff:127.0.0.1")), sender(At("::ffff:0.0.0.0"));
  const std::vector<std::uint8_t> bytes(65'527);
  SendExtras extras;
  const auto outcome = SendOn(sender.fd, {.local = {}, .remote = *receiver.endpoint},
                              {.data = bytes, .segment = bytes.size()}, extras);
  EXPECT_FALSE(outcome.sent);
  EXPECT_EQ(outcome.error, EMSGSIZE);
  EXPECT_EQ(outcome.rest.size(), bytes.size());
  EXPECT_TRUE(outcome.gave_up.empty());
  EXPECT_TRUE(extras.gso && extras.ecn);
}

} // namespace
} // namespace ngmasque
