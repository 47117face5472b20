// ConnectUdpProxy that moves, and tunnels that go on.

#include "io_running_proxy.h"

namespace ngmasque {
namespace {

using quic_test::Local;

class MovingProxyTest : public RunningProxyTest {
protected:
  void Begin(std::size_t addresses = 3) {
    auto options = Options();
    options.listener.addresses.assign(addresses, Local(0));
    RunningProxyTest::Begin(std::move(options));
  }

  Client &Forwarding(ClientDialectChoice dialects) {
    auto &client = Connect({.dialects = std::move(dialects)});
    BeginForwarding(client);
    return client;
  }

  void MovesAndForwards(ProxyDialect dialect) {
    Begin();
    auto &client = Forwarding({.dialect = dialect});
    std::uint64_t moves = 0;
    for (const auto &index : {1, 2, 0, 1}) {
      ASSERT_TRUE(proxy->Move(proxy->addresses()[static_cast<std::size_t>(index)]));
      ++moves;
      ASSERT_TRUE(RunUntil([&] { // With packets on their way.
        std::ignore = SendShort(client);
        return client.proxy.statistics().server_migrations == moves &&
               proxy->server_statistics().moves == moves;
      })) << index;
      ASSERT_TRUE(Forwards(client)) << index;
    }
    EXPECT_TRUE(client.recorder.ended.empty());
  }
};

TEST_F(MovingProxyTest, TunnelledOnesGoOn) {
  Begin();
  auto &client = Connect();
  ASSERT_TRUE(proxy->Move(proxy->addresses()[1]));
  ASSERT_TRUE(RunUntil([&] { return client.proxy.statistics().server_migrations == 1; }));
  EXPECT_TRUE(Echoes(client));
  EXPECT_EQ(proxy->server_statistics().announced, 1u);
}

TEST_F(MovingProxyTest, ForwardedOnesGoOnInDraft00) { MovesAndForwards(ProxyDialect::kDraft00); }

TEST_F(MovingProxyTest, ForwardedOnesGoOnInRfc9298) { MovesAndForwards(ProxyDialect::kRfc9298); }

TEST_F(MovingProxyTest, EachNewClientIsSentAway) {
  Begin(2);
  ASSERT_TRUE(proxy->MoveOnHandshake(proxy->addresses()[1]));
  for (int i = 0; i < 5; ++i) {
    Connect();
  }
  auto &stays = Connect({.server_migration = false});
  EXPECT_TRUE(RunUntil([&] { return proxy->server_statistics().moves == 5; }));
  for (auto &client : clients) {
    EXPECT_TRUE(Echoes(*client));
    EXPECT_EQ(client->proxy.statistics().server_migrations, client.get() == &stays ? 0u : 1u);
  }
  ASSERT_TRUE(proxy->MoveOnHandshake({}));
  EXPECT_TRUE(Echoes(Connect()));
  EXPECT_EQ(proxy->server_statistics().announced, 5u);
}

TEST_F(MovingProxyTest, OnlyToWhereItListens) {
  Begin(1);
  auto elsewhere = proxy->addresses().front();
  ++elsewhere.address.back();
  EXPECT_EQ(proxy->Move(elsewhere).error(), IoError::kArgument);
  EXPECT_EQ(proxy->MoveOnHandshake(elsewhere).error(), IoError::kArgument);
  EXPECT_TRUE(proxy->Move(proxy->addresses().front()));

  auto options = Options();
  auto &any = options.listener.addresses.front();
  std::ranges::fill(std::span(any.address).last(4), 0);
  proxy = *ConnectUdpProxy::Create(loop, options);
  elsewhere.port = proxy->addresses().front().port;
  EXPECT_EQ(proxy->Move(proxy->addresses().front()).error(), IoError::kArgument) << "it is no place";
  auto &client = Connect();
  ASSERT_TRUE(proxy->Move(elsewhere));
  EXPECT_TRUE(RunUntil([&] { return client.proxy.statistics().server_migrations == 1; }));
  EXPECT_TRUE(Echoes(client));
}

} // namespace
} // namespace ngmasque
