// SendOn: packets on a socket that is not connected, as the sample server's are.

#include "ngmasque/io/udp_socket.h"

#include "io_support.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace ngmasque {
namespace {

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

TEST(UdpSocket, SendsSeveralBursts) {
  const Bound receiver(At("::ffff:127.0.0.1"));
  auto socket = UdpSocket::Connect(*receiver.endpoint);
  ASSERT_TRUE(socket);
  const std::vector<std::uint8_t> bytes(65'527);
  const auto data = std::span(bytes);
  const std::vector<Burst> bursts{{.data = data.first(250), .segment = 100},
                                  {.data = {}, .segment = 1},
                                  {.data = data.first(30), .segment = 30, .ecn = 1},
                                  {.data = data, .segment = data.size()},
                                  {.data = data.first(20), .segment = 20}};
  const auto front = socket->SendFront(bursts);
  EXPECT_EQ(front.sent, 3u) << "the fourth is too large";
  EXPECT_EQ(front.calls, 1u);
  EXPECT_FALSE(front.refused);
  for (const ssize_t size : {100, 100, 50, 0, 30}) {
    EXPECT_EQ(receiver.Receive(), std::pair(size, socket->local()));
  }
  EXPECT_EQ(socket->Send(bursts[3]).error, EMSGSIZE);
  EXPECT_EQ(socket->SendFront(std::span(bursts).last(1)).sent, 1u);
  EXPECT_EQ(receiver.Receive().first, 20);
}

// Each payload is a message of its own, and they leave together all the same.
TEST(UdpSocket, SendsSeveralWithoutGso) {
  const Bound receiver(At("::ffff:127.0.0.1"));
  auto socket = UdpSocket::Connect(*receiver.endpoint);
  ASSERT_TRUE(socket);
  socket->use_gso(false);
  const std::vector<std::uint8_t> bytes(200);
  const auto data = std::span(bytes);
  const std::vector<Burst> bursts(40, {.data = data.first(100), .segment = 100});
  const auto front = socket->SendFront(bursts);
  EXPECT_EQ(front.sent, bursts.size());
  EXPECT_EQ(front.calls, 2u);
  const std::vector<Burst> long_one{{.data = data, .segment = 100}};
  EXPECT_EQ(socket->SendFront(long_one).sent, 0u) << "it takes two calls";
}

} // namespace
} // namespace ngmasque
