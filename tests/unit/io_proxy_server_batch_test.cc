// ProxyServer: what comes from tunnels in a batch leaves together.

#include "ngmasque/io/proxy_server.h"

#include "io_support.h"
#include "session_toy_dialect.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <format>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <ev.h>

namespace ngmasque {
namespace {

constexpr auto kConnection = OuterConnection{1};
constexpr StreamId kA = 4, kB = 8;

class Client final : public ProxyServer::Client {
public:
  std::expected<void, DropReason> SendDatagram(std::uint64_t, std::span<const std::uint8_t>,
                                              std::span<const std::uint8_t> payload) override {
    datagrams.emplace_back(payload.begin(), payload.end());
    return {};
  }
  std::expected<void, DropReason> SendOnStream(StreamId, std::span<const std::uint8_t>,
                                              std::span<const std::uint8_t>) override {
    return {};
  }
  std::expected<void, DropReason> SendMessage(StreamId, std::span<const std::uint8_t>) override {
    return {};
  }
  SendOutcome Forward(const FourTuple &, const Burst &) override { return {}; }
  void OnActivity() override {}
  void Respond(StreamId, unsigned code, std::span<const HeaderField>) override {
    EXPECT_EQ(code, 200u);
  }
  void ResetStream(StreamId stream, std::uint64_t) override { reset.insert(stream); }

  std::vector<Bytes> datagrams;
  std::set<StreamId> reset;
};

class ProxyServerBatchTest : public testing::Test {
protected:
  ProxyServerBatchTest() {
    ProxyServer::Options options;
    options.proxy.dialect = &ToyDialect::Make;
    options.policy.allow.push_back(*ParseAddressBlock("127.0.0.0/8"));
    server = ProxyServer::Create(loop, std::move(options));
    EXPECT_TRUE(server->AddConnection(kConnection, Tuple(1), client));
  }
  ~ProxyServerBatchTest() override {
    SendErrors().clear();
    server.reset();
    ev_loop_destroy(loop);
  }

  void Open(StreamId stream, const Endpoint &target) {
    const HeaderField field{.name = ":authority",
                            .value = std::format("127.0.0.1:{}", target.port)};
    server->OnRequest({.connection = kConnection, .stream = stream}, {&field, 1});
  }
  // A packet of the outer connection begins or goes on with a batch.
  void OuterPacket() {
    auto packet = Short("outer");
    EXPECT_FALSE(server->OnClientPacket(Tuple(1), packet, 0));
  }
  // The payload is gone when it returns.
  void Tunnelled(StreamId stream, std::size_t size, std::uint8_t mark = 0) {
    Bytes datagram(size + 2, mark);
    datagram[0] = static_cast<std::uint8_t>(stream / 4);
    datagram[1] = 0;
    EXPECT_EQ(server->OnDatagram(kConnection, datagram), 0u);
    std::ranges::fill(datagram, std::uint8_t{0xee});
  }
  // What has arrived.
  static std::vector<Bytes> All(const Bound &target) {
    std::vector<Bytes> all;
    Bytes packet(65'536);
    for (;;) {
      const auto size = ::recv(target.fd, packet.data(), packet.size(), MSG_DONTWAIT);
      if (size < 0) {
        return all;
      }
      all.emplace_back(packet.begin(), packet.begin() + size);
    }
  }
  TunnelStatistics::OneWay Statistics() const {
    return server->counters().tunnels.ways[std::to_underlying(Way::kTunnelledToTarget)];
  }

  struct ev_loop *loop = ev_loop_new(0);
  std::unique_ptr<ProxyServer> server;
  Client client;
  std::optional<Bound> a{At("::ffff:127.0.0.1")}, b{At("::ffff:127.0.0.1")};
};

TEST_F(ProxyServerBatchTest, LeavesTogetherAtTheEnd) {
  Open(kA, *a->endpoint);
  Open(kB, *b->endpoint);
  OuterPacket();
  SendCalls() = 0;
  // In turns, as a client with two tunnels sends.
  std::vector<Bytes> to_a, to_b;
  std::uint8_t mark = 0;
  for (const std::size_t size : {100, 100, 50, 0, 120, 120, 30, 30, 40}) {
    OuterPacket();
    to_a.emplace_back(size, ++mark);
    Tunnelled(kA, size, mark);
    to_b.emplace_back(70, ++mark);
    Tunnelled(kB, 70, mark);
  }
  EXPECT_EQ(SendCalls(), 0);
  server->OnClientPacketsDone();
  EXPECT_EQ(SendCalls(), 2) << "one for each target";
  EXPECT_EQ(All(*a), to_a);
  EXPECT_EQ(All(*b), to_b);
  server->OnClientPacketsDone();
  EXPECT_TRUE(All(*a).empty());
  EXPECT_EQ(Statistics().passed.packets, 18u);
}

TEST_F(ProxyServerBatchTest, WithoutABatchItLeavesAtOnce) {
  Open(kA, *a->endpoint);
  Tunnelled(kA, 10, 1);
  EXPECT_EQ(All(*a), std::vector<Bytes>{Bytes(10, 1)});
  OuterPacket();
  Tunnelled(kA, 10, 2);
  server->OnClientPacketsDone();
  Tunnelled(kA, 10, 3);
  EXPECT_EQ(All(*a), (std::vector<Bytes>{Bytes(10, 2), Bytes(10, 3)}));
}

TEST_F(ProxyServerBatchTest, WhatIsTooMuchLeavesEarlier) {
  Open(kA, *a->endpoint);
  OuterPacket();
  SendCalls() = 0;
  std::vector<Bytes> sent;
  for (const std::size_t size : {30'000, 30'000, 30'000, 65'000, 10}) {
    sent.emplace_back(size, static_cast<std::uint8_t>(size));
    Tunnelled(kA, size, sent.back().front());
  }
  EXPECT_GT(SendCalls(), 0);
  server->OnClientPacketsDone();
  EXPECT_EQ(All(*a), sent);
  // As many as there are of no bytes.
  SendCalls() = 0;
  OuterPacket();
  for (int i = 0; i < 1'100; ++i) {
    Tunnelled(kA, 0);
  }
  EXPECT_GT(SendCalls(), 0);
  server->OnClientPacketsDone();
  EXPECT_EQ(Statistics().passed.packets, 1'105u);
}

TEST_F(ProxyServerBatchTest, TunnelThatEndsInTheMiddle) {
  Open(kA, *a->endpoint);
  Open(kB, *b->endpoint);
  OuterPacket();
  Tunnelled(kA, 10, 1);
  Tunnelled(kB, 10, 2);
  server->OnStreamClosed({.connection = kConnection, .stream = kA}, false);
  EXPECT_EQ(All(*a), std::vector<Bytes>{Bytes(10, 1)});
  Tunnelled(kB, 10, 3);
  OuterPacket();
  Tunnelled(kB, 10, 4);
  server->RemoveConnection(kConnection);
  EXPECT_EQ(All(*b), (std::vector<Bytes>{Bytes(10, 2), Bytes(10, 3), Bytes(10, 4)}));
  server->OnClientPacketsDone();
  EXPECT_EQ(server->counters().flows.now, 0u);
}

TEST_F(ProxyServerBatchTest, UnreachableTargetInTheMiddle) {
  Open(kA, *a->endpoint);
  Open(kB, *b->endpoint);
  a.reset(); // Nobody listens there any more.
  OuterPacket();
  std::vector<Bytes> to_b;
  for (const std::size_t size : {10, 20, 30, 30, 7}) {
    Tunnelled(kA, size);
    to_b.emplace_back(size, static_cast<std::uint8_t>(size));
    Tunnelled(kB, size, to_b.back().front());
    OuterPacket();
  }
  server->OnClientPacketsDone();
  EXPECT_EQ(All(*b), to_b);
  // At the latest the reader hears of it.
  while (client.reset.empty()) {
    ev_run(loop, EVRUN_ONCE);
  }
  EXPECT_EQ(client.reset, std::set<StreamId>{kA});
  OuterPacket();
  Tunnelled(kB, 5, 5);
  server->OnClientPacketsDone();
  EXPECT_EQ(All(*b), std::vector<Bytes>{Bytes(5, 5)});
}

TEST_F(ProxyServerBatchTest, CountsWhatHasNotLeft) {
  Open(kA, *a->endpoint);
  const auto dropped = [&](DropReason reason) {
    return Statistics().dropped[std::to_underlying(reason)];
  };
  // The first two are too large, and the third is not.
  OuterPacket();
  for (const std::size_t size : {100, 100, 50}) {
    Tunnelled(kA, size);
  }
  SendErrors().assign(4, EMSGSIZE);
  server->OnClientPacketsDone();
  EXPECT_EQ(All(*a), std::vector<Bytes>{Bytes(50)});
  EXPECT_EQ(dropped(DropReason::kTooLarge), 2u);
  EXPECT_EQ(Statistics().passed.packets, 1u);
  EXPECT_EQ(Statistics().passed.bytes, 50u);
  // Several bursts: one fails, those after it do not.
  OuterPacket();
  for (const std::size_t size : {10, 20, 30}) {
    Tunnelled(kA, size);
  }
  SendErrors() = {ENOBUFS, ENOBUFS};
  server->OnClientPacketsDone();
  EXPECT_EQ(All(*a), (std::vector<Bytes>{Bytes(20), Bytes(30)}));
  EXPECT_EQ(dropped(DropReason::kBlocked), 1u);
  // The socket is full: none of the others is tried.
  OuterPacket();
  for (const std::size_t size : {10, 20, 30}) {
    Tunnelled(kA, size);
  }
  SendErrors() = {EAGAIN, EAGAIN};
  server->OnClientPacketsDone();
  EXPECT_TRUE(All(*a).empty());
  EXPECT_EQ(dropped(DropReason::kBlocked), 4u);
  EXPECT_EQ(Statistics().passed.packets, 3u);
}

// Forwarded and tunnelled ones of a tunnel do not overtake each other.
TEST_F(ProxyServerBatchTest, KeepsTheOrder) {
  Open(kA, *a->endpoint);
  server->OnStreamData({.connection = kConnection, .stream = kA},
                       Bytes{'O', 6, 1, 't', 't', 'o', '-', 'a'});
  // Neighbours in memory, which could leave together.
  const auto forwarded = Short("to-a!");
  Bytes memory;
  for (int i = 0; i < 3; ++i) {
    memory.insert(memory.end(), forwarded.begin(), forwarded.end());
  }
  const auto forward = [&](std::size_t i) {
    EXPECT_TRUE(server->OnClientPacket(
      Tuple(1), std::span(memory).subspan(i * forwarded.size(), forwarded.size()), 0));
  };
  OuterPacket();
  Tunnelled(kA, 10, 1);
  forward(0);
  Tunnelled(kA, 10, 2);
  forward(1);
  forward(2);
  Tunnelled(kA, 10, 3);
  server->OnClientPacketsDone();
  EXPECT_EQ(All(*a), (std::vector<Bytes>{Bytes(10, 1), forwarded, Bytes(10, 2), forwarded,
                                         forwarded, Bytes(10, 3)}));
}

TEST_F(ProxyServerBatchTest, ReadsWhatIsThereFromATarget) {
  Open(kA, *a->endpoint);
  // As long as the client does not say that it knows of the mapping, its packets are tunnelled.
  server->OnStreamData({.connection = kConnection, .stream = kA},
                       Bytes{'O', 10, 1, 'c', 'c', 'l', 'i', 'e', 'n', 't', '-', '1'});
  Tunnelled(kA, 1);
  const auto [size, proxy] = a->Receive();
  EXPECT_EQ(size, 1);
  std::vector<Bytes> sent;
  SendExtras extras;
  // More than one read brings, and some that lie together.
  for (std::uint8_t i = 0; i < 40; ++i) {
    auto two = Short("client-1, long");
    two.push_back(i);
    sent.push_back(two);
    const auto shorter = Short("client-1");
    sent.push_back(shorter);
    two.insert(two.end(), shorter.begin(), shorter.end());
    EXPECT_TRUE(SendOn(a->fd, {.local = {}, .remote = proxy}, {.data = two, .segment = 16}, extras)
                  .sent);
  }
  while (client.datagrams.size() < sent.size()) {
    const auto before = client.datagrams.size();
    ev_run(loop, EVRUN_NOWAIT);
    ASSERT_GT(client.datagrams.size(), before);
  }
  EXPECT_EQ(client.datagrams, sent);
}

} // namespace
} // namespace ngmasque
