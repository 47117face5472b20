// ConnectUdpProxy, ProxyClients and a target on the loopback interface.

#include "io_running_proxy.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <map>
#include <tuple>

namespace ngmasque {
namespace {

using quic_test::CertificateFiles;
using quic_test::Local;

class ConnectUdpProxyTest : public RunningProxyTest {
protected:
  ConnectUdpProxyTest() { Begin(Options()); }

  std::uint16_t port() const { return proxy->addresses().front().port; }

  bool IsRefused(Client &client) {
    return RunUntil([&] { return client.recorder.ended.size() == 1; });
  }
};

TEST_F(ConnectUdpProxyTest, TunnelsBothWays) {
  auto &client = Connect({.ca_file = certificate.file()});
  const auto packet = LongTo(client.id);
  ASSERT_EQ(client.tunnel->Send(packet, 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil([&] { return client.recorder.packets.size() == 1; }));
  EXPECT_EQ(client.recorder.packets.front(), packet);
  const auto counters = proxy->counters();
  EXPECT_EQ(counters.tunnels[Way::kTunnelledToTarget].passed.packets, 1u);
  EXPECT_EQ(counters.tunnels[Way::kTunnelledToClient].passed.packets, 1u);
  EXPECT_EQ(proxy->server_statistics().handshakes, 1u);
}

TEST_F(ConnectUdpProxyTest, ForwardsAlsoAfterTheClientHasMoved) {
  auto &client = Connect();
  BeginForwarding(client);
  ASSERT_TRUE(client.proxy.ChangeLocalAddress());
  // Before, while the path is validated, and afterwards.
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(Forwards(client));
  }
  EXPECT_GT(proxy->counters().tunnels[Way::kForwardedToClient].passed.packets, 1u);
}

// The last packets of a connection are still to be sent when it ends, in one batch.
TEST_F(ConnectUdpProxyTest, ForwardsAndEndsInOneBatch) {
  auto &client = Connect();
  BeginForwarding(client);
  ASSERT_EQ(SendShort(client), SendStatus::kSent);
  client.proxy.Close();
  EXPECT_TRUE(RunUntil([&] { return proxy->connections() == 0; }));
}

TEST_F(ConnectUdpProxyTest, TargetIsGoneWhenTheLastPacketsAreSent) {
  auto &client = Connect();
  target.reset();
  ASSERT_EQ(client.tunnel->Send(LongTo(client.id), 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil(
    [&] { return proxy->counters().tunnels[Way::kTunnelledToTarget].passed.packets == 1; }));
  std::ignore = client.tunnel->Send(LongTo(client.id), 0);
  client.proxy.Close();
  EXPECT_TRUE(RunUntil([&] { return proxy->connections() == 0; }));
}

TEST_F(ConnectUdpProxyTest, ConnectionsBeyondTheBoundOfAClientDoNotStay) {
  constexpr std::size_t kBound = 3;
  auto options = Options();
  options.proxy.proxy.routing.max_connections_per_client = kBound;
  Begin(options);
  for (std::size_t i = 0; i < kBound + 2; ++i) {
    Open(Add());
  }
  const auto count = [&](auto is) {
    return static_cast<std::size_t>(
      std::ranges::count_if(clients, [&](const auto &client) { return is(*client); }));
  };
  EXPECT_TRUE(RunUntil([&] { return count([](Client &c) { return c.closed.has_value(); }) == 2; }));
  EXPECT_TRUE(RunUntil([&] { return proxy->connections() == kBound; }));
  EXPECT_TRUE(
    RunUntil([&] { return count([](Client &c) { return c.recorder.opened == 1; }) == kBound; }));
}

// Whoever asks why a client cannot connect has a line of it.
TEST_F(ConnectUdpProxyTest, ConnectionsThatDoNotComeAboutAreLogged) {
  const auto logged = [&](std::string_view text) {
    return std::ranges::any_of(lines, [text](const std::string &line) {
      return line.starts_with("connection of 127.0.0.1:") && line.contains(text);
    });
  };
  const CertificateFiles other;
  Open(Add({.ca_file = other.file()}));
  EXPECT_TRUE(RunUntil([&] { return logged("no handshake: closed by the peer"); }));
  EXPECT_EQ(proxy->server_statistics().handshakes, 0u);

  auto options = Options();
  options.server.max_connections = 0;
  Begin(options);
  Open(Add());
  EXPECT_TRUE(RunUntil([&] { return logged("refused: there are too many connections"); }));
  EXPECT_GE(proxy->server_statistics().refused, 1u);
}

TEST_F(ConnectUdpProxyTest, ManyClientsHaveTheirOwnPackets) {
  constexpr std::size_t kClients = 40;
  for (std::size_t i = 0; i < kClients; ++i) {
    Open(Add());
  }
  const auto all = [&](auto is) {
    return std::ranges::all_of(clients, [&](const auto &client) { return is(*client); });
  };
  ASSERT_TRUE(RunUntil([&] { return all([](Client &c) { return c.recorder.opened == 1; }); }));
  EXPECT_EQ(proxy->connections(), kClients);
  for (std::size_t i = 0; i < kClients; ++i) {
    ASSERT_EQ(clients[i]->tunnel->Send(LongTo(clients[i]->id, 1000 + i), 0), SendStatus::kSent);
  }
  ASSERT_TRUE(RunUntil([&] { return all([](Client &c) { return c.recorder.packets.size() == 1; }); }));
  for (std::size_t i = 0; i < kClients; ++i) {
    EXPECT_EQ(clients[i]->recorder.packets.front(), LongTo(clients[i]->id, 1000 + i));
  }
}

TEST_F(ConnectUdpProxyTest, ConnectionsThatClientsCloseAreForgotten) {
  auto &client = Connect();
  EXPECT_EQ(proxy->counters().flows.now, 1u);
  client.proxy.Close();
  EXPECT_TRUE(RunUntil([&] { return proxy->connections() == 0; }));
  EXPECT_EQ(proxy->counters().flows.now, 0u);
  EXPECT_EQ(proxy->counters().sockets.now, 0u);
}

TEST_F(ConnectUdpProxyTest, CloseEndsAllTunnels) {
  auto &one = Connect(), &two = Connect();
  proxy->Close();
  EXPECT_EQ(proxy->connections(), 0u);
  EXPECT_TRUE(RunUntil([&] { return one.closed && two.closed; }));
  EXPECT_EQ(one.recorder.ended.size(), 1u);
}

TEST_F(ConnectUdpProxyTest, CertificateIsReplacedWhileTunnelsStay) {
  auto &old = Connect({.ca_file = certificate.file()});
  const CertificateFiles other;
  EXPECT_EQ(proxy->ReplaceCertificate("/none", other.key).error(), QuicError::kTls);
  ASSERT_TRUE(proxy->ReplaceCertificate(other.file(), other.key));

  Connect({.ca_file = other.file()});
  auto &outdated = Add({.ca_file = certificate.file()});
  Open(outdated);
  EXPECT_TRUE(RunUntil([&] { return outdated.closed.has_value(); }));
  EXPECT_EQ(outdated.recorder.opened, 0);
  EXPECT_TRUE(Echoes(old));
}

TEST_F(ConnectUdpProxyTest, OwnAddressIsNoTarget) {
  auto &client = Add();
  Open(client, port());
  ASSERT_TRUE(IsRefused(client));
  EXPECT_EQ(proxy->counters().refused, (std::map<unsigned, std::uint64_t>{{403, 1}}));
}

// Nor is it when the policy is replaced, by one that says nothing of it.
TEST_F(ConnectUdpProxyTest, AnotherPolicyKeepsTunnelsAndTheOwnAddress) {
  auto &client = Connect();
  proxy->SetPolicy({.allow = {*ParseAddressBlock("127.0.0.0/8")}, .deny = {}, .ports = {}});
  auto &to_proxy = Add();
  Open(to_proxy, port());
  ASSERT_TRUE(IsRefused(to_proxy));
  proxy->SetPolicy({});
  auto &denied = Add();
  Open(denied);
  ASSERT_TRUE(IsRefused(denied));
  EXPECT_EQ(proxy->counters().errors,
            (std::map<SessionError, std::uint64_t>{{SessionError::kOwnAddress, 1},
                                                   {SessionError::kLoopbackAddress, 1}}));
  EXPECT_TRUE(Echoes(client));
}

TEST_F(ConnectUdpProxyTest, SaysWhyItCannotStart) {
  auto options = Options();
  options.listener.addresses = {Local(port())};
  const auto in_use = ConnectUdpProxy::Create(loop, options);
  ASSERT_FALSE(in_use);
  EXPECT_EQ(in_use.error().system, EADDRINUSE);
  options.listener.addresses = {Local(0)};
  options.server.key_file = "/none";
  EXPECT_EQ(ConnectUdpProxy::Create(loop, options).error(), IoError::kTls);
  EXPECT_EQ(ConnectUdpProxy::Create(loop, {}).error(), IoError::kArgument);
}

} // namespace
} // namespace ngmasque
