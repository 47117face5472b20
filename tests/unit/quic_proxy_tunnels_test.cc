// Several tunnels of one ProxyClient, on the loopback interface: how they begin, and what they carry.

#include "quic_proxy_tunnels_support.h"

#include <algorithm>

namespace quic_test {
namespace {

using ngmasque::DropReason;
using ngmasque::Fallback;
using ngmasque::IoError;
using ngmasque::SendStatus;

// Traffic of all kinds both ways, of each tunnel another amount.
class ProxyTunnelsTrafficTest : public ProxyTunnelsTest {
protected:
  void ExactTraffic(std::size_t count);
};

void ProxyTunnelsTrafficTest::ExactTraffic(std::size_t count) {
  Begin();
  Add(count / 2); // Before the outer connection is there,
  ASSERT_TRUE(RunUntil([this] { return ready; }));
  Add(count - count / 2); // and after that.
  ASSERT_TRUE(RunUntilAllOpened());
  EXPECT_EQ(client->tunnels(), count);
  const auto byte = [](std::size_t first, std::size_t index) {
    return static_cast<std::uint8_t>(first + index);
  };
  for (std::size_t i = 0; i < count; ++i) {
    proxy->forwards.insert(byte(0x50, i));
    flows[i].tunnel->AddServerId(Id(byte(0x50, i)));
  }
  ASSERT_TRUE(RunUntil([&] { return proxy->server->requests.size() == 2 * count; }));
  RunUntilQuiet(); // All of them have been answered.

  std::size_t tunnelled = 0, forwarded = 0;
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t n = 0; n <= i; ++n) {
      EXPECT_EQ(flows[i].tunnel->Send(Long(1000 + i), 0), SendStatus::kSent);
      ++tunnelled;
    }
    for (std::size_t n = 0; n <= 2 * i; ++n) {
      EXPECT_EQ(flows[i].tunnel->Send(Short(byte(0x50, i), 100 + i), 0), SendStatus::kSent);
      ++forwarded;
    }
  }
  ASSERT_TRUE(RunUntil([&] {
    return proxy->server->datagrams.size() == tunnelled && proxy->forwarded.size() == forwarded;
  }));
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t n = 0; n < 3 + i; ++n) {
      proxy->server->SendDatagram({byte(0, 2 * i), 0x40, byte(0, i)});
    }
    for (std::size_t n = 0; n < 5 + i; ++n) {
      proxy->SendRaw(proxy->server->path.remote, Short(byte(0x11, i), 50));
    }
  }
  ASSERT_TRUE(RunUntil([&] {
    for (std::size_t i = 0; i < count; ++i) {
      if (flows[i].recorder.packets.size() < 8 + 2 * i) {
        return false;
      }
    }
    return true;
  }));

  for (std::size_t i = 0; i < count; ++i) {
    SCOPED_TRACE(i);
    const auto &statistics = flows[i].tunnel->statistics();
    EXPECT_EQ(statistics.tunnelled_tx,
              (ngmasque::Traffic{
                .packets = i + 1, .bytes = (i + 1) * (1000 + i), .long_headers = i + 1}));
    EXPECT_EQ(statistics.forwarded_tx,
              (ngmasque::Traffic{.packets = 2 * i + 1, .bytes = (2 * i + 1) * (100 + i)}));
    EXPECT_EQ(statistics.tunnelled_rx,
              (ngmasque::Traffic{.packets = 3 + i, .bytes = (3 + i) * 2}));
    EXPECT_EQ(statistics.forwarded_rx,
              (ngmasque::Traffic{.packets = 5 + i, .bytes = (5 + i) * 50}));
    EXPECT_EQ(statistics.dropped, ngmasque::Drops{});
    EXPECT_EQ(flows[i].tunnel->target().host, Host(i));
    EXPECT_EQ(std::ranges::count(flows[i].recorder.packets, Bytes{0x40, byte(0, i)}),
              static_cast<std::ptrdiff_t>(3 + i));
    // Of its own flow, for its own target.
    Bytes datagram = Long(1000 + i);
    datagram.insert(datagram.begin(), byte(0, 2 * i));
    EXPECT_EQ(std::ranges::count(proxy->server->datagrams, datagram),
              static_cast<std::ptrdiff_t>(i + 1));
    for (const auto &[stream, fields] : proxy->server->requests) {
      EXPECT_EQ(Field(fields, "datagram-flow-id") == std::to_string(2 * i),
                Field(fields, ":authority") == Host(i) + ":443");
    }
  }
  EXPECT_EQ(client->statistics().dropped, ngmasque::Drops{});
}

TEST_F(ProxyTunnelsTrafficTest, Two) { ExactTraffic(2); }

TEST_F(ProxyTunnelsTrafficTest, Ten) { ExactTraffic(10); }

TEST_F(ProxyTunnelsTest, OpensBeforeStart) {
  Prepare();
  auto &[recorder, tunnel] = Add();
  EXPECT_EQ(tunnel->Send(Long(), 0), SendStatus::kBlocked);
  EXPECT_EQ(tunnel->max_payload(), 0u);
  tunnel->AddClientId(Id(0x22));
  tunnel->AddClientId(Id(0x23));
  tunnel->RemoveClientId(Id(0x23));
  ASSERT_TRUE(client->Start());
  ASSERT_TRUE(RunUntil([&] { return recorder.writable == 1; }));
  EXPECT_EQ(tunnel->Send(Long(), 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil([&] { return recorder.released.size() == 1; }));
  EXPECT_EQ(recorder.released.front(), Id(0x22));
  EXPECT_EQ(recorder.opened, 1);
  EXPECT_EQ(proxy->server->requests.size(), 2u);
}

TEST_F(ProxyTunnelsTest, ClosedBeforeTheConnectionIsThere) {
  Begin();
  Add(2);
  flows[0].tunnel->Close();
  EXPECT_TRUE(flows[0].tunnel->over());
  EXPECT_EQ(client->tunnels(), 1u);
  ASSERT_TRUE(RunUntil([this] { return flows[1].recorder.opened == 1; }));
  EXPECT_EQ(FlowIds(), std::vector<std::string>{"0"}) << "no request for the other one";
  // Its connection ID is free.
  EXPECT_TRUE(Try(Id(0x11), flows[0].recorder));
}

TEST_F(ProxyTunnelsTest, NoFlowIdTwice) {
  BeginWithTunnels(2);
  flows[0].tunnel.reset();
  ASSERT_TRUE(RunUntil([this] { return proxy->server->stopped.contains(0); })) << "C15";
  Add();
  ASSERT_TRUE(RunUntil([this] { return flows[2].recorder.opened == 1; }));
  EXPECT_EQ(FlowIds(), (std::vector<std::string>{"0", "2", "4"}));
  proxy->server->SendDatagram({0, 0x40, 1});
  proxy->server->SendDatagram({2, 0x40, 2});
  ASSERT_TRUE(RunUntil([this] { return !flows[1].recorder.packets.empty(); }));
  EXPECT_EQ(client->statistics().of(DropReason::kUnknownFlow), 1u);
  EXPECT_FALSE(proxy->server->stopped.contains(4)) << "the other one goes on";
  EXPECT_TRUE(flows[0].recorder.ended.empty()) << "told of its own Close";
}

TEST_F(ProxyTunnelsTest, Bound) {
  max_tunnels = 2;
  BeginWithTunnels(2);
  TunnelRecorder recorder;
  EXPECT_EQ(Try(Id(0x22), recorder).error(), IoError::kTooManyTunnels);
  flows[0].tunnel->Close();
  EXPECT_TRUE(Try(Id(0x22), recorder));
  EXPECT_EQ(client->tunnels(), 1u) << "a handle that is dropped is a tunnel that is closed";
}

TEST_F(ProxyTunnelsTest, ConnectionIdsInConflict) {
  const auto prefix = *ngmasque::ConnectionId::From(Bytes(4, 0x11));
  TunnelRecorder recorder;
  Begin();
  Add(2);
  EXPECT_EQ(Try(Id(0x11), recorder).error(), IoError::kIdConflict) << "before it starts";
  ASSERT_TRUE(RunUntilAllOpened());
  EXPECT_EQ(Try(Id(0x11), recorder).error(), IoError::kIdConflict);
  EXPECT_EQ(Try(prefix, recorder).error(), IoError::kIdConflict);
  flows[1].tunnel->AddClientId(prefix);
  ASSERT_TRUE(RunUntil([this] { return !flows[1].recorder.discarded.empty(); }));
  EXPECT_EQ(flows[1].tunnel->statistics().of(Fallback::kClientIdRefused), 1u);
  EXPECT_EQ(proxy->server->requests.size(), 2u) << "the proxy was asked";
  EXPECT_TRUE(flows[1].recorder.ended.empty());
  flows[0].tunnel->Close();
  EXPECT_TRUE(Try(prefix, recorder));
}

// What the proxy allows no stream for waits, and goes in the order in which it was asked for.
TEST_F(ProxyTunnelsTest, RequestsWaitForStreams) {
  BeginWithTunnels(2, {.max_streams = 2});
  Add(3);
  flows[3].tunnel->Close(); // It never had one.
  RunUntilQuiet();
  EXPECT_EQ(proxy->server->requests.size(), 2u);
  EXPECT_EQ(flows[2].recorder.opened + flows[4].recorder.opened, 0);
  flows[0].tunnel->Close();
  ASSERT_TRUE(RunUntil([this] { return flows[2].recorder.opened == 1; }));
  RunUntilQuiet();
  EXPECT_EQ(flows[4].recorder.opened, 0);
  flows[1].tunnel->Close();
  ASSERT_TRUE(RunUntil([this] { return flows[4].recorder.opened == 1; }));
  EXPECT_EQ(FlowIds(), (std::vector<std::string>{"0", "2", "4", "8"}));
}

// A bulk transfer of one delays a packet of another by a turn.
TEST_F(ProxyTunnelsTest, DatagramsTakeTurns) {
  BeginWithTunnels(2);
  while (flows[0].tunnel->Send(Long(), 0) == SendStatus::kSent) {}
  EXPECT_EQ(flows[1].tunnel->Send(Short(0x66, 50), 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil([this] {
    return std::ranges::any_of(proxy->server->datagrams,
                               [](const Bytes &datagram) { return datagram.front() == 2; });
  }));
  EXPECT_EQ(flows[1].recorder.writable, 0);
  ASSERT_TRUE(RunUntil([this] { return flows[0].recorder.writable == 1; }));
  const auto other =
    std::ranges::find(proxy->server->datagrams, 2, [](const Bytes &datagram) {
      return datagram.front();
    });
  EXPECT_LT(other - proxy->server->datagrams.begin(), 4);
  EXPECT_EQ(flows[1].tunnel->statistics().tunnelled_tx.packets, 1u);
}

// What is dropped for others is a drop of the tunnel that it was of, and was not sent.
TEST_F(ProxyTunnelsTest, QueuesDropsAreTheirTunnels) {
  constexpr auto full = quic_test::kBounds.bytes / quic_test::kBounds.bytes_per_tunnel;
  max_tunnels = full + 2;
  BeginWithTunnels(full + 2);
  std::uint64_t taken = 0;
  for (auto &flow : flows) {
    while (flow.tunnel->Send(Long(), 0) == SendStatus::kSent) {
      ++taken;
    }
  }
  std::uint64_t sent = 0, dropped = 0;
  for (const auto &flow : flows) {
    const auto &statistics = flow.tunnel->statistics();
    sent += statistics.tunnelled_tx.packets;
    dropped += statistics.of(DropReason::kQueueFull);
    EXPECT_EQ(statistics.tunnelled_tx.bytes, statistics.tunnelled_tx.packets * Long().size());
  }
  EXPECT_GT(dropped, 0u);
  EXPECT_EQ(sent + dropped, taken);
  EXPECT_EQ(flows.back().tunnel->statistics().of(DropReason::kQueueFull), 0u);
}

// The proxy reads nothing more of one tunnel's stream; there are no datagrams.
TEST_F(ProxyTunnelsTest, StalledStreamHoldsNobodyElseBack) {
  constexpr std::size_t window = 1 << 16;
  BeginWithTunnels(2, {.max_datagram_frame = 0, .settings = kNoDatagrams, .stream_window = window});
  proxy->server->stalled.insert(0);
  for (auto &flow : flows) {
    while (flow.tunnel->Send(Long(), 0) == SendStatus::kSent) {}
  }
  for (int round = 0; round < 5; ++round) {
    const auto before = flows[1].recorder.writable;
    ASSERT_TRUE(RunUntil([&] { return flows[1].recorder.writable > before; }));
    while (flows[1].tunnel->Send(Long(), 0) == SendStatus::kSent) {}
  }
  EXPECT_LE(proxy->server->bodies[0].size(), window);
  EXPECT_GT(proxy->server->bodies[4].size(), 2 * window);
}

} // namespace
} // namespace quic_test
