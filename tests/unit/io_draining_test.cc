// ConnectUdpProxy that ends in order, and its clients.

#include "io_running_proxy.h"

namespace ngmasque {
namespace {

using quic_test::Id;

class DrainingProxyTest : public RunningProxyTest {
protected:
  void SetUp() override { Begin(Options()); }
  void Drain() {
    proxy->Drain([this] { ++drained; });
  }

  int drained = 0;
};

TEST_F(DrainingProxyTest, TunnelsGoOnAndTheLastOneIsTold) {
  auto &one = Connect(), &two = Connect();
  auto &idle = Add();
  ASSERT_TRUE(RunUntil([&] { return proxy->server_statistics().handshakes == 3; }));
  EXPECT_EQ(proxy->tunnels(), 2u);
  Drain();
  EXPECT_EQ(drained, 0) << "told from within";
  // The connection without a tunnel is over, the others are told that there are no more.
  ASSERT_TRUE(RunUntil([&] { return idle.closed && one.draining == 1 && two.draining == 1; }));
  EXPECT_EQ(idle.closed, "closed by the peer with HTTP/3 error 0x100");
  quic_test::TunnelRecorder late;
  EXPECT_EQ(one.proxy.Open({.host = "127.0.0.1", .port = 443}, Id(0x20), late).error(),
            IoError::kGoingAway);
  EXPECT_TRUE(Echoes(one));
  one.tunnel->Close();
  ASSERT_TRUE(RunUntil([&] { return proxy->tunnels() == 1 && one.closed; }));
  EXPECT_TRUE(Echoes(two));
  EXPECT_EQ(drained, 0);
  EXPECT_TRUE(two.recorder.ended.empty());
  two.tunnel->Close();
  EXPECT_TRUE(RunUntil([&] { return drained == 1 && two.closed; }));
  EXPECT_EQ(proxy->connections(), 0u);
  EXPECT_TRUE(Logged("no more tunnels are opened, 2 go on"));
}

TEST_F(DrainingProxyTest, NobodyIsTakenAnyMore) {
  auto &before = Connect();
  Drain();
  auto &late = Add();
  ASSERT_TRUE(RunUntil([&] { return late.closed.has_value(); }));
  EXPECT_TRUE(late.closed->contains("QUIC error 0x2")) << *late.closed;
  EXPECT_TRUE(Logged("refused: no more connections are taken"));
  EXPECT_TRUE(Echoes(before));
}

TEST_F(DrainingProxyTest, WithoutTunnelsItIsDrained) {
  Drain();
  EXPECT_TRUE(RunUntil([&] { return drained == 1; }));
  Drain();
  auto &late = Add();
  EXPECT_TRUE(RunUntil([&] { return late.closed.has_value(); }));
  EXPECT_EQ(drained, 1);
}

// A tunnel counts, and not its connection: the client has gone without a word.
TEST_F(DrainingProxyTest, ATimeLimitIsTheProgramsAndThenItCloses) {
  auto &client = Connect();
  Drain();
  ASSERT_TRUE(RunUntil([&] { return client.draining == 1; }));
  EXPECT_EQ(drained, 0);
  proxy->Close();
  EXPECT_TRUE(RunUntil([&] { return drained == 1 && client.closed; }));
  ASSERT_EQ(client.recorder.ended.size(), 1u);
  EXPECT_EQ(client.recorder.ended.front().kind, TunnelEnd::Kind::kConnection);
}

TEST_F(DrainingProxyTest, ItMayBeClosedFromWithin) {
  auto &client = Connect();
  proxy->Drain([this] {
    ++drained;
    proxy->Close();
  });
  client.tunnel->Close();
  EXPECT_TRUE(RunUntil([&] { return drained == 1 && client.closed; }));
  EXPECT_EQ(proxy->connections(), 0u);
}

// One that is asked for in the last moment is opened, and one that is too late is rejected; none is lost.
TEST_F(DrainingProxyTest, EachTunnelIsOpenedOrRejected) {
  for (int i = 0; i < 10; ++i) {
    Add();
  }
  ASSERT_TRUE(RunUntil([&] { return proxy->server_statistics().handshakes == 10; }));
  for (auto &client : clients) {
    Open(*client);
    if (client == clients[5]) {
      Drain();
    }
  }
  ASSERT_TRUE(RunUntil([&] {
    return std::ranges::all_of(clients, [](const auto &client) {
      return client->recorder.opened + static_cast<int>(client->recorder.ended.size()) != 0;
    });
  }));
  for (auto &client : clients) {
    if (client->recorder.opened == 1) {
      EXPECT_TRUE(Echoes(*client));
    } else {
      EXPECT_EQ(client->recorder.ended.front().kind, TunnelEnd::Kind::kRejected);
    }
    client->tunnel->Close();
  }
  EXPECT_TRUE(RunUntil([&] { return drained == 1 && proxy->connections() == 0; }));
}

} // namespace
} // namespace ngmasque
