// UdpListener on loopback.

#include "ngmasque/io/udp_listener.h"
#include "ngmasque/io/udp_socket.h"

#include "io_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ev.h>
#include <netinet/in.h>

namespace ngmasque {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes Numbers(std::size_t size, std::uint8_t first = 1) {
  Bytes bytes(size);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

struct Packet {
  FourTuple path;
  unsigned ecn;
  Bytes bytes;
};

class UdpListenerTest : public testing::Test, public UdpListener::Handler {
protected:
  ~UdpListenerTest() override {
    SendErrors().clear();
    listener.reset();
    ev_loop_destroy(loop);
  }

  // False if the machine has no such address.
  bool Listen(std::vector<Endpoint> addresses) {
    auto made = UdpListener::Create(loop, {.addresses = std::move(addresses), .log = Log()}, *this);
    if (made) {
      listener = std::move(*made);
    }
    return made.has_value();
  }
  LogFunction Log() {
    return [this](LogLevel, std::string_view line) { lines.emplace_back(line); };
  }

  void OnPacket(const FourTuple &path, unsigned ecn, std::span<std::uint8_t> packet,
                Nanoseconds now) override {
    EXPECT_TRUE(views.empty() || now == batch_time) << "one time for a batch";
    batch_time = now;
    views.push_back(packet);
    packets.push_back({path, ecn, Bytes(packet.begin(), packet.end())});
  }
  void OnBatchEnd(Nanoseconds now) override {
    EXPECT_EQ(now, batch_time);
    // All of the batch is there still.
    for (std::size_t i = 0; i < views.size(); ++i) {
      EXPECT_TRUE(std::ranges::equal(views[i], packets[packets.size() - views.size() + i].bytes));
    }
    batches.push_back(std::exchange(views, {}).size());
  }
  void OnWritable() override { ++writable; }

  // The packet has arrived when the sending call returns, as it is loopback.
  void Once() { ev_run(loop, EVRUN_NOWAIT); }

  struct ev_loop *loop = ev_loop_new(0);
  std::unique_ptr<UdpListener> listener;
  std::vector<Packet> packets;
  std::vector<std::span<std::uint8_t>> views;
  std::vector<std::size_t> batches;
  std::vector<std::string> lines;
  Nanoseconds batch_time = 0;
  int writable = 0;
};

Endpoint WithPort(std::string_view address, std::uint16_t port) {
  auto endpoint = At(address);
  endpoint.port = port;
  return endpoint;
}

// A burst from somewhere else to the listener.
void Send(const Bound &from, const Endpoint &to, const Burst &burst) {
  SendExtras extras;
  EXPECT_TRUE(SendOn(from.fd, {.local = {}, .remote = to}, burst, extras).sent);
}

TEST_F(UdpListenerTest, AnswersFromTheAddressThatWasAsked) {
  struct Case {
    std::string_view bound, asked, peer;
  };
  for (const auto &[bound, asked, peer] :
       {Case{"::ffff:127.0.0.1", "::ffff:127.0.0.1", "::ffff:127.0.0.1"},
        Case{"::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:127.0.0.3"},
        Case{"::ffff:0.0.0.0", "::ffff:127.0.0.2", "::ffff:127.0.0.3"}, Case{"::1", "::1", "::1"},
        Case{"::", "::1", "::1"}}) {
    SCOPED_TRACE(std::string(bound) + " " + std::string(asked));
    const Bound sender(At(peer));
    packets.clear();
    if (!sender.endpoint || !Listen({At(bound)})) {
      continue; // Without IPv6.
    }
    const auto to = WithPort(asked, listener->addresses()[0].port);
    EXPECT_NE(to.port, 0);
    const auto bytes = Numbers(30);
    Send(sender, to, {.data = bytes, .segment = 30, .ecn = 2});
    Once();
    ASSERT_EQ(packets.size(), 1u);
    EXPECT_EQ(packets[0].path, (FourTuple{.local = to, .remote = *sender.endpoint}));
    EXPECT_EQ(packets[0].ecn, 2u);
    EXPECT_EQ(packets[0].bytes, bytes);
    EXPECT_TRUE(
      listener->Send({.path = packets[0].path, .ecn = 1, .data = bytes, .segment = bytes.size()}));
    EXPECT_EQ(sender.Receive(), std::pair(ssize_t{30}, to));
  }
}

TEST_F(UdpListenerTest, SendsOnTheSocketOfThePath) {
  const Bound receiver(At("::ffff:127.0.0.3"));
  ASSERT_TRUE(Listen({At("::ffff:0.0.0.0"), At("::ffff:127.0.0.2")}));
  const auto bytes = Numbers(10);
  for (const auto &local : {WithPort("::ffff:127.0.0.1", listener->addresses()[0].port),
                            listener->addresses()[1]}) {
    EXPECT_TRUE(listener->Send({.path = {.local = local, .remote = *receiver.endpoint},
                                .data = bytes, .segment = bytes.size()}));
    EXPECT_EQ(receiver.Receive(), std::pair(ssize_t{10}, local));
  }
  // Nobody is there.
  const auto elsewhere = WithPort("::ffff:127.0.0.9", listener->addresses()[1].port);
  EXPECT_TRUE(listener->Send({.path = {.local = elsewhere, .remote = *receiver.endpoint},
                              .data = bytes, .segment = 4}));
  EXPECT_EQ(listener->statistics().dropped[std::to_underlying(DropReason::kUnknownSocket)], 3u);
  EXPECT_EQ(lines.size(), 1u);
}

TEST_F(UdpListenerTest, SplitsWhatCameTogether) {
  const Bound sender(At("::ffff:127.0.0.1"));
  ASSERT_TRUE(Listen({At("::ffff:127.0.0.1")}));
  const auto to = listener->addresses()[0];
  const auto bytes = Numbers(250);
  Send(sender, to, {.data = bytes, .segment = 100, .ecn = 1});
  Send(sender, to, {.data = std::span(bytes).first(60), .segment = 20});
  Send(sender, to, {.data = {}, .segment = 1});
  Send(sender, to, {.data = std::span(bytes).first(7), .segment = 7, .ecn = 3});
  Once();
  std::vector<std::pair<std::size_t, unsigned>> got;
  for (const auto &packet : packets) {
    got.emplace_back(packet.bytes.size(), packet.ecn);
  }
  EXPECT_EQ(got, (std::vector<std::pair<std::size_t, unsigned>>{
                   {100, 1}, {100, 1}, {50, 1}, {20, 0}, {20, 0}, {20, 0}, {0, 0}, {7, 3}}));
  EXPECT_EQ(packets[1].bytes, Numbers(100, 101));
  EXPECT_EQ(batches, std::vector<std::size_t>{8});
  const auto &received = listener->statistics().received;
  EXPECT_EQ(received.packets, 8u);
  EXPECT_EQ(received.bytes, 317u);
  EXPECT_EQ(received.calls, 1u);
}

TEST_F(UdpListenerTest, SendsWhatGoesTogether) {
  const Bound receiver(At("::ffff:127.0.0.1"));
  ASSERT_TRUE(Listen({At("::ffff:127.0.0.1")}));
  const FourTuple path{.local = listener->addresses()[0], .remote = *receiver.endpoint};
  const auto bytes = Numbers(250);
  EXPECT_TRUE(listener->Send({.path = path, .data = bytes, .segment = 100}));
  for (const ssize_t size : {100, 100, 50}) {
    EXPECT_EQ(receiver.Receive().first, size);
  }
  EXPECT_TRUE(listener->Send({.path = path, .data = {}, .segment = 1}));
  EXPECT_EQ(receiver.Receive().first, 0);
  const auto &sent = listener->statistics().sent;
  EXPECT_EQ(sent.packets, 4u);
  EXPECT_EQ(sent.bytes, 250u);
  EXPECT_EQ(sent.calls, 2u);
}

TEST_F(UdpListenerTest, FullSocketKeepsOneBurst) {
  const Bound receiver(At("::ffff:127.0.0.1"));
  ASSERT_TRUE(Listen({At("::ffff:127.0.0.1"), At("::ffff:127.0.0.2")}));
  const FourTuple path{.local = listener->addresses()[0], .remote = *receiver.endpoint};
  FourTuple other = path;
  other.local = listener->addresses()[1];
  auto bytes = Numbers(250);
  // It is full in the middle: after the most that one call takes.
  Bytes many(65 * 100);
  SendErrors() = {0, EAGAIN};
  EXPECT_FALSE(listener->Send({.path = path, .data = many, .segment = 100}));
  EXPECT_TRUE(listener->waiting());
  EXPECT_EQ(listener->statistics().sent.packets, 64u);
  // What waits is a copy, and there is room for one burst.
  std::ranges::fill(many, std::uint8_t{9});
  EXPECT_FALSE(listener->Send({.path = path, .data = bytes, .segment = 100}));
  EXPECT_EQ(listener->statistics().dropped[std::to_underlying(DropReason::kBlocked)], 3u);
  // Others are not.
  EXPECT_TRUE(listener->Send({.path = other, .data = bytes, .segment = bytes.size()}));

  SendErrors() = {EAGAIN};
  Once();
  EXPECT_EQ(writable, 0) << "full still";
  Once();
  EXPECT_EQ(writable, 1);
  EXPECT_FALSE(listener->waiting());
  Once();
  EXPECT_EQ(writable, 1);
  EXPECT_EQ(listener->statistics().sent.packets, 66u);
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(receiver.Receive(), std::pair(ssize_t{100}, path.local));
  }
  EXPECT_EQ(receiver.Receive(), std::pair(ssize_t{250}, other.local));
  Bytes last(200);
  EXPECT_EQ(::recv(receiver.fd, last.data(), last.size(), 0), 100);
  EXPECT_EQ(last[0], 0);
}

TEST_F(UdpListenerTest, ErrorsDropOnlyWhatTheyAreAbout) {
  const Bound receiver(At("::ffff:127.0.0.1"));
  ASSERT_TRUE(Listen({At("::ffff:127.0.0.1")}));
  const FourTuple path{.local = listener->addresses()[0], .remote = *receiver.endpoint};
  const Bytes large(65'527);
  const auto dropped = [&](DropReason reason) {
    return listener->statistics().dropped[std::to_underlying(reason)];
  };
  EXPECT_TRUE(listener->Send({.path = path, .data = large, .segment = large.size()}));
  EXPECT_EQ(dropped(DropReason::kTooLarge), 1u);
  // The two that are too large are dropped, and the short one is sent.
  const auto bytes = Numbers(250);
  SendErrors().assign(4, EMSGSIZE);
  EXPECT_TRUE(listener->Send({.path = path, .data = bytes, .segment = 100}));
  EXPECT_EQ(receiver.Receive().first, 50);
  EXPECT_EQ(dropped(DropReason::kTooLarge), 3u);
  // No room in the system is not a full socket: nothing would tell that it has some again.
  SendErrors() = {ENOBUFS, ENOBUFS};
  EXPECT_TRUE(listener->Send({.path = path, .data = bytes, .segment = 250}));
  EXPECT_EQ(dropped(DropReason::kBlocked), 1u);
  SendErrors() = {ENETUNREACH};
  EXPECT_TRUE(listener->Send({.path = path, .data = bytes, .segment = 100}));
  EXPECT_EQ(dropped(DropReason::kUnreachable), 3u);
  EXPECT_FALSE(listener->waiting());
  EXPECT_EQ(listener->statistics().sent.packets, 1u);
  EXPECT_EQ(lines.size(), 3u) << "one for each kind";
}

TEST_F(UdpListenerTest, GoesOnWithoutWhatIsRefused) {
  const Bound receiver(At("::ffff:127.0.0.1"));
  ASSERT_TRUE(Listen({At("::ffff:127.0.0.1")}));
  const FourTuple path{.local = listener->addresses()[0], .remote = *receiver.endpoint};
  const auto bytes = Numbers(250);
  SendErrors() = {EINVAL, EINVAL}; // With both, and without ECN.
  EXPECT_TRUE(listener->Send({.path = path, .data = bytes, .segment = 100}));
  for (const ssize_t size : {100, 100, 50}) {
    EXPECT_EQ(receiver.Receive().first, size);
  }
  EXPECT_EQ(lines.size(), 1u);
  EXPECT_EQ(listener->statistics().dropped, Drops{});
}

TEST_F(UdpListenerTest, FloodStarvesNobody) {
  const Bound flood(At("::ffff:127.0.0.1")), quiet(At("::ffff:127.0.0.1"));
  ASSERT_TRUE(Listen({At("::ffff:127.0.0.1"), At("::ffff:127.0.0.2")}));
  // Empty ones are as much work as others.
  constexpr std::size_t kFlood = 200;
  for (std::size_t i = 0; i < kFlood; ++i) {
    Send(flood, listener->addresses()[0], {.data = {}, .segment = 1});
  }
  const auto bytes = Numbers(5);
  Send(quiet, listener->addresses()[1], {.data = bytes, .segment = 5});
  Once();
  EXPECT_LT(packets.size(), kFlood);
  EXPECT_EQ(std::ranges::count(packets, bytes, &Packet::bytes), 1);
  while (packets.size() < kFlood + 1) {
    const auto before = packets.size();
    Once();
    ASSERT_GT(packets.size(), before);
  }
  for (const auto batch : batches) {
    EXPECT_LT(batch, kFlood / 2);
  }
}

TEST_F(UdpListenerTest, SaysWhatCannotBeBound) {
  ASSERT_TRUE(Listen({At("::ffff:127.0.0.1")}));
  const auto taken = listener->addresses()[0];
  const auto again =
    UdpListener::Create(loop, {.addresses = {At("::ffff:127.0.0.2"), taken}}, *this);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error(), IoError::kSocket);
  EXPECT_EQ(again.error().system, EADDRINUSE);
  EXPECT_EQ(again.error().text, "127.0.0.1:" + std::to_string(taken.port));
  const auto foreign = UdpListener::Create(loop, {.addresses = {At("::ffff:192.0.2.1")}}, *this);
  ASSERT_FALSE(foreign);
  EXPECT_EQ(foreign.error().system, EADDRNOTAVAIL);
  const auto none = UdpListener::Create(loop, {}, *this);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error(), IoError::kArgument);
}

TEST_F(UdpListenerTest, SharesPorts) {
  const auto first = UdpListener::Create(
    loop, {.addresses = {At("::ffff:127.0.0.1")}, .reuse_port = true}, *this);
  ASSERT_TRUE(first);
  const auto address = (*first)->addresses()[0];
  EXPECT_TRUE(UdpListener::Create(loop, {.addresses = {address}, .reuse_port = true}, *this));
  EXPECT_FALSE(UdpListener::Create(loop, {.addresses = {address}}, *this));
}

// Or it would take the port of both.
TEST_F(UdpListenerTest, Ipv6TakesNoIpv4) {
  const Bound ipv4(At("::ffff:127.0.0.1")), ipv6(At("::1"));
  if (!ipv6.endpoint) {
    return;
  }
  ASSERT_TRUE(Listen({At("::")}));
  const auto port = listener->addresses()[0].port;
  const auto bytes = Numbers(5);
  Send(ipv4, WithPort("::ffff:127.0.0.1", port), {.data = bytes, .segment = 5});
  Send(ipv6, WithPort("::1", port), {.data = bytes, .segment = 5});
  Once();
  ASSERT_EQ(packets.size(), 1u);
  EXPECT_EQ(packets[0].path.remote, *ipv6.endpoint);
}

} // namespace
} // namespace ngmasque
