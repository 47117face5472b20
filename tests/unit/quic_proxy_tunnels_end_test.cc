// Several tunnels of one ProxyClient, on the loopback interface: how they end, each by itself or all
// with their connection.

#include "quic_proxy_tunnels_support.h"

#include <chrono>

namespace quic_test {
namespace {

using ngmasque::DropReason;
using ngmasque::IoError;
using ngmasque::SendStatus;
using ngmasque::TunnelEnd;

TEST_F(ProxyTunnelsTest, RefusalOfOneLeavesTheOthers) {
  Begin();
  ASSERT_TRUE(RunUntil([this] { return proxy->server != nullptr; }));
  proxy->status_of[Host(1) + ":443"] = "403";
  Add(3);
  ASSERT_TRUE(RunUntil([this] {
    return flows[0].recorder.opened == 1 && flows[2].recorder.opened == 1 &&
           !flows[1].recorder.ended.empty();
  }));
  const auto &end = flows[1].recorder.ended.front();
  EXPECT_EQ(end.kind, TunnelEnd::Kind::kRefused);
  EXPECT_EQ(end.status, 403u);
  EXPECT_FALSE(end.retry);
  EXPECT_EQ(end.text, "the proxy has answered 403: its policy does not allow this target, or this client");
  EXPECT_TRUE(flows[1].tunnel->over());
  EXPECT_EQ(client->tunnels(), 2u);
  EXPECT_EQ(flows[1].tunnel->Send(Long(), 0), SendStatus::kDropped);
  EXPECT_EQ(flows[1].tunnel->statistics().of(DropReason::kNoTunnel), 1u);
  for (const auto index : {0, 2}) {
    EXPECT_EQ(flows[index].tunnel->Send(Long(), 0), SendStatus::kSent);
    proxy->server->SendDatagram({static_cast<std::uint8_t>(2 * index), 0x40, 1});
    ASSERT_TRUE(RunUntil([&] { return !flows[index].recorder.packets.empty(); }));
    EXPECT_TRUE(flows[index].recorder.ended.empty());
  }
}

TEST_F(ProxyTunnelsTest, ResetOfOneLeavesTheOthers) {
  BeginWithTunnels(2);
  proxy->server->Reset(0, ngmasque::kH3ConnectError);
  ASSERT_TRUE(RunUntil([this] { return !flows[0].recorder.ended.empty(); }));
  EXPECT_EQ(flows[0].recorder.ended.front().kind, TunnelEnd::Kind::kEnded);
  proxy->server->SendDatagram({2, 0x40, 1});
  ASSERT_TRUE(RunUntil([this] { return !flows[1].recorder.packets.empty(); }));
}

TEST_F(ProxyTunnelsTest, OpensAndClosesInCallbacks) {
  Begin();
  ASSERT_TRUE(RunUntil([this] { return ready; }));
  proxy->status_of[Host(1) + ":443"] = "403";
  auto &first = Add();
  // Another one when it is opened; when that is refused, its handle goes and the next one comes.
  first.recorder.on_opened = [this] {
    Add().recorder.on_ended = [this] {
      flows[1].tunnel.reset();
      Add();
    };
  };
  ASSERT_TRUE(RunUntil([this] { return flows.size() == 3 && flows[2].recorder.opened == 1; }));
  EXPECT_EQ(flows[1].recorder.ended.size(), 1u);

  // A packet closes its own tunnel and the other one, and opens a third.
  first.recorder.on_packet = [this] {
    flows[0].tunnel.reset();
    flows[2].tunnel.reset();
    Add();
  };
  for (int i = 0; i < 3; ++i) {
    proxy->server->SendDatagram({0, 0x40, 1});
    proxy->server->SendDatagram({4, 0x40, 1});
  }
  ASSERT_TRUE(RunUntil([this] { return flows.size() == 4 && flows[3].recorder.opened == 1; }));
  RunUntilQuiet();
  EXPECT_EQ(flows[0].recorder.packets.size(), 1u);
  EXPECT_EQ(flows[0].recorder.packets_done, 0);
  EXPECT_TRUE(flows[2].recorder.packets.empty());
  EXPECT_TRUE(flows[0].recorder.ended.empty() && flows[2].recorder.ended.empty());
  EXPECT_EQ(client->tunnels(), 1u);
  EXPECT_TRUE(closed.empty());
}

TEST_F(ProxyTunnelsTest, ForwardedPacketClosesItsOwn) {
  BeginForwarding();
  on_packet = [this] { tunnel.reset(); };
  for (int i = 0; i < 3; ++i) {
    proxy->SendRaw(proxy->server->path.remote, Short(0x11));
  }
  ASSERT_TRUE(RunUntil([this] { return !tunnel; }));
  RunUntilQuiet();
  EXPECT_EQ(packets.size(), 1u);
  EXPECT_TRUE(closed.empty());
}

TEST_F(ProxyTunnelsTest, EndOfTheConnectionEndsAllOnce) {
  BeginWithTunnels(3);
  flows[1].tunnel->Close();
  bool before_closed = false;
  flows[0].recorder.on_ended = [&] {
    before_closed = closed.empty();
    EXPECT_EQ(Try(Id(0x33), flows[0].recorder).error(), IoError::kClosed);
    EXPECT_TRUE(flows[2].tunnel->over());
    flows[0].tunnel.reset();
  };
  proxy->server->Close(0x107, "too much");
  ASSERT_TRUE(RunUntil([this] { return !closed.empty(); }));
  RunFor(std::chrono::milliseconds(50));
  EXPECT_TRUE(before_closed);
  EXPECT_EQ(closed_count, 1);
  for (const auto index : {0, 2}) {
    const auto &ended = flows[index].recorder.ended;
    ASSERT_EQ(ended.size(), 1u);
    EXPECT_EQ(ended.front().kind, TunnelEnd::Kind::kConnection);
    EXPECT_EQ(ended.front().text, "closed by the peer with HTTP/3 error 0x107: too much");
    EXPECT_EQ(ended.front().status, 0u);
  }
  EXPECT_TRUE(flows[1].recorder.ended.empty()) << "it was closed before";
  EXPECT_EQ(client->tunnels(), 0u);
}

TEST_F(ProxyTunnelsTest, ConnectionThatDoesNotComeAboutEndsThem) {
  {
    const Proxy gone(loop, {}); // Its port is free again.
    Make(gone.port());
  }
  Add(2);
  ASSERT_TRUE(client->Start());
  ASSERT_TRUE(RunUntil([this] { return !closed.empty(); }));
  for (const auto &flow : flows) {
    ASSERT_EQ(flow.recorder.ended.size(), 1u);
    EXPECT_EQ(flow.recorder.ended.front().kind, TunnelEnd::Kind::kConnection);
    EXPECT_EQ(flow.recorder.ended.front().text, closed);
  }
}

TEST_F(ProxyTunnelsTest, OutlivesItsClient) {
  BeginWithTunnels(2);
  EXPECT_EQ(flows[0].tunnel->Send(Long(), 0), SendStatus::kSent);
  client.reset();
  for (const auto &flow : flows) {
    EXPECT_TRUE(flow.tunnel->over());
    EXPECT_EQ(flow.tunnel->Send(Long(), 0), SendStatus::kDropped);
    flow.tunnel->AddClientId(Id(0x22));
    flow.tunnel->Close();
    EXPECT_TRUE(flow.recorder.ended.empty());
  }
  EXPECT_EQ(flows[0].tunnel->statistics().tunnelled_tx.packets, 1u);
}

} // namespace
} // namespace quic_test
