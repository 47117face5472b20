// ConnectUdpProxy, ProxyClients and a target on the loopback interface.

#include "io_loop_support.h"
#include "quic_certificate_files.h"
#include "quic_proxy_support.h"

#include "ngmasque/io/connect_udp_proxy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace ngmasque {
namespace {

using quic_test::Bytes;
using quic_test::CertificateFiles;
using quic_test::Id;
using quic_test::Local;
using quic_test::Now;
using quic_test::Short;

// With a long header of QUIC version 1, to the client that has this connection ID.
Bytes LongTo(std::uint8_t id, std::size_t size) {
  Bytes packet{0xc0, 0, 0, 0, 1, 8};
  packet.insert(packet.end(), 8, id);
  packet.resize(size);
  return packet;
}

// It sends back what comes, or something else.
class Target {
public:
  explicit Target(struct ev_loop *loop) : loop_(loop) {
    const SocketAddress any(Local(0));
    fd_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::bind(fd_, any.get(), any.size()), 0);
    SocketAddress bound(Local(0));
    socklen_t size = bound.size();
    EXPECT_EQ(::getsockname(fd_, bound.get(), &size), 0);
    port = ToEndpoint(bound.get())->port;
    ev_io_init(
      &readable_, [](struct ev_loop *, ev_io *io, int) { static_cast<Target *>(io->data)->Read(); },
      fd_, EV_READ);
    readable_.data = this;
    ev_io_start(loop_, &readable_);
  }
  ~Target() {
    ev_io_stop(loop_, &readable_);
    ::close(fd_);
  }

  std::uint16_t port = 0;
  std::function<Bytes(Bytes)> answer = [](Bytes packet) { return packet; };

private:
  void Read() {
    std::array<std::uint8_t, 2048> buffer;
    SocketAddress from(Local(0));
    socklen_t size = from.size();
    for (ssize_t got = 0; (got = ::recvfrom(fd_, buffer.data(), buffer.size(), 0, from.get(),
                                            &size)) >= 0;) {
      const auto bytes = answer(Bytes(buffer.begin(), buffer.begin() + got));
      ::sendto(fd_, bytes.data(), bytes.size(), 0, from.get(), size);
    }
  }

  struct ev_loop *loop_;
  int fd_ = -1;
  ev_io readable_{};
};

// With one tunnel.
struct Client final : ProxyClient::Handler {
  Client(struct ev_loop *loop, std::uint16_t port, const Target &target,
         std::uint8_t id_in, const std::filesystem::path &ca)
    : id(id_in),
      proxy(loop,
            {.host = "127.0.0.1",
             .port = std::to_string(port),
             .sni = "proxy.example",
             .ca_file = ca},
            *this) {
    EXPECT_TRUE(proxy.Start());
    auto made = proxy.Open({.host = "127.0.0.1", .port = target.port}, Id(id), recorder);
    EXPECT_TRUE(made);
    tunnel = *std::move(made);
  }
  void OnReady() override {}
  void OnClosed(std::string_view text) override { closed = text; }

  std::uint8_t id;
  quic_test::TunnelRecorder recorder;
  std::optional<std::string> closed;
  ProxyClient proxy;
  std::unique_ptr<ProxyTunnel> tunnel;
};

class ConnectUdpProxyTest : public testing::Test {
protected:
  ConnectUdpProxyTest() {
    auto made = ConnectUdpProxy::Create(loop, Options());
    EXPECT_TRUE(made) << ErrorText(made.error());
    proxy = *std::move(made);
    port = proxy->addresses().front().port;
  }
  ~ConnectUdpProxyTest() override {
    clients.clear();
    target.reset();
    proxy.reset();
  }

  ConnectUdpProxy::Options Options() {
    ConnectUdpProxy::Options options;
    options.listener.addresses = {Local(0)};
    options.server.certificate_file = certificate.file();
    options.server.key_file = certificate.key;
    options.proxy.policy.allow.push_back(*ParseAddressBlock("127.0.0.0/8"));
    return options;
  }

  Client &Connect(const std::filesystem::path &ca = {}) {
    // Conflicting ones would not share a socket to the target.
    const auto id = static_cast<std::uint8_t>(0x60 + clients.size());
    clients.push_back(std::make_unique<Client>(loop, port, *target, id, ca));
    return *clients.back();
  }

  bool RunUntil(const std::function<bool()> &done) { return loop.RunUntil(done); }

  // Forwarded there and back.
  bool Forwards(Client &client) {
    const auto before = client.tunnel->statistics();
    return RunUntil([&] {
      std::ignore = client.tunnel->Send(Short(0x55), 0);
      const auto &now = client.tunnel->statistics();
      return now.forwarded_tx.packets > before.forwarded_tx.packets &&
             now.forwarded_rx.packets > before.forwarded_rx.packets;
    });
  }

  CertificateFiles certificate;
  Loop loop;
  std::unique_ptr<Target> target = std::make_unique<Target>(loop);
  std::unique_ptr<ConnectUdpProxy> proxy;
  std::uint16_t port = 0;
  std::vector<std::unique_ptr<Client>> clients;
};

TEST_F(ConnectUdpProxyTest, TunnelsBothWays) {
  auto &client = Connect(certificate.file());
  ASSERT_TRUE(RunUntil([&] { return client.recorder.opened == 1; }));
  const auto packet = LongTo(client.id, 1200);
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
  target->answer = [&](const Bytes &) { return Short(client.id); };
  client.tunnel->AddServerId(Id(0x55));
  ASSERT_TRUE(RunUntil([&] { return client.recorder.opened == 1; }));
  EXPECT_TRUE(Forwards(client));
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
  target->answer = [&](const Bytes &) { return Short(client.id); };
  client.tunnel->AddServerId(Id(0x55));
  ASSERT_TRUE(RunUntil([&] { return client.recorder.opened == 1; }));
  ASSERT_TRUE(Forwards(client));
  ASSERT_EQ(client.tunnel->Send(Short(0x55), 0), SendStatus::kSent);
  client.proxy.Close();
  EXPECT_TRUE(RunUntil([&] { return proxy->connections() == 0; }));
}

TEST_F(ConnectUdpProxyTest, TargetIsGoneWhenTheLastPacketsAreSent) {
  auto &client = Connect();
  ASSERT_TRUE(RunUntil([&] { return client.recorder.opened == 1; }));
  target.reset();
  ASSERT_EQ(client.tunnel->Send(LongTo(client.id, 1200), 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil(
    [&] { return proxy->counters().tunnels[Way::kTunnelledToTarget].passed.packets == 1; }));
  std::ignore = client.tunnel->Send(LongTo(client.id, 1200), 0);
  client.proxy.Close();
  EXPECT_TRUE(RunUntil([&] { return proxy->connections() == 0; }));
}

TEST_F(ConnectUdpProxyTest, ConnectionsBeyondTheBoundOfAClientDoNotStay) {
  constexpr std::size_t kBound = 3;
  auto options = Options();
  options.proxy.proxy.routing.max_connections_per_client = kBound;
  proxy = *ConnectUdpProxy::Create(loop, options);
  port = proxy->addresses().front().port;
  for (std::size_t i = 0; i < kBound + 2; ++i) {
    Connect();
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
  std::vector<std::string> lines;
  const auto logged = [&](std::string_view text) {
    return std::ranges::any_of(lines, [text](const std::string &line) {
      return line.starts_with("connection of 127.0.0.1:") && line.contains(text);
    });
  };
  auto options = Options();
  options.log = [&lines](LogLevel, std::string_view line) { lines.emplace_back(line); };
  proxy = *ConnectUdpProxy::Create(loop, options);
  port = proxy->addresses().front().port;
  const CertificateFiles other;
  Connect(other.file());
  EXPECT_TRUE(RunUntil([&] { return logged("no handshake: closed by the peer"); }));
  EXPECT_EQ(proxy->server_statistics().handshakes, 0u);

  options.server.max_connections = 0;
  proxy = *ConnectUdpProxy::Create(loop, options);
  port = proxy->addresses().front().port;
  Connect();
  EXPECT_TRUE(RunUntil([&] { return logged("refused: there are too many connections"); }));
  EXPECT_GE(proxy->server_statistics().refused, 1u);
}

TEST_F(ConnectUdpProxyTest, ManyClientsHaveTheirOwnPackets) {
  constexpr std::size_t kClients = 40;
  for (std::size_t i = 0; i < kClients; ++i) {
    Connect();
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
  ASSERT_TRUE(RunUntil([&] { return client.recorder.opened == 1; }));
  EXPECT_EQ(proxy->counters().flows.now, 1u);
  client.proxy.Close();
  EXPECT_TRUE(RunUntil([&] { return proxy->connections() == 0; }));
  EXPECT_EQ(proxy->counters().flows.now, 0u);
  EXPECT_EQ(proxy->counters().sockets.now, 0u);
}

TEST_F(ConnectUdpProxyTest, CloseEndsAllTunnels) {
  auto &one = Connect(), &two = Connect();
  ASSERT_TRUE(RunUntil([&] { return one.recorder.opened == 1 && two.recorder.opened == 1; }));
  proxy->Close();
  EXPECT_EQ(proxy->connections(), 0u);
  EXPECT_TRUE(RunUntil([&] { return one.closed && two.closed; }));
  EXPECT_EQ(one.recorder.ended.size(), 1u);
}

TEST_F(ConnectUdpProxyTest, CertificateIsReplacedWhileTunnelsStay) {
  auto &old = Connect(certificate.file());
  ASSERT_TRUE(RunUntil([&] { return old.recorder.opened == 1; }));
  const CertificateFiles other;
  EXPECT_EQ(proxy->ReplaceCertificate("/none", other.key).error(), QuicError::kTls);
  ASSERT_TRUE(proxy->ReplaceCertificate(other.file(), other.key));

  auto &renewed = Connect(other.file());
  EXPECT_TRUE(RunUntil([&] { return renewed.recorder.opened == 1; }));
  auto &outdated = Connect(certificate.file());
  EXPECT_TRUE(RunUntil([&] { return outdated.closed.has_value(); }));
  EXPECT_EQ(outdated.recorder.opened, 0);
  ASSERT_EQ(old.tunnel->Send(LongTo(old.id, 1200), 0), SendStatus::kSent);
  EXPECT_TRUE(RunUntil([&] { return old.recorder.packets.size() == 1; }));
}

TEST_F(ConnectUdpProxyTest, OwnAddressIsNoTarget) {
  target->port = port;
  auto &client = Connect();
  ASSERT_TRUE(RunUntil([&] { return client.recorder.ended.size() == 1; }));
  EXPECT_EQ(proxy->counters().refused, (std::map<unsigned, std::uint64_t>{{403, 1}}));
}

// Nor is it when the policy is replaced, by one that says nothing of it.
TEST_F(ConnectUdpProxyTest, AnotherPolicyKeepsTunnelsAndTheOwnAddress) {
  auto &client = Connect();
  ASSERT_TRUE(RunUntil([&] { return client.recorder.opened == 1; }));
  proxy->SetPolicy({.allow = {*ParseAddressBlock("127.0.0.0/8")}, .deny = {}, .ports = {}});
  const auto its = std::exchange(target->port, port);
  auto &to_proxy = Connect();
  ASSERT_TRUE(RunUntil([&] { return to_proxy.recorder.ended.size() == 1; }));
  proxy->SetPolicy({});
  target->port = its;
  auto &denied = Connect();
  ASSERT_TRUE(RunUntil([&] { return denied.recorder.ended.size() == 1; }));
  EXPECT_EQ(proxy->counters().errors,
            (std::map<SessionError, std::uint64_t>{{SessionError::kOwnAddress, 1},
                                                   {SessionError::kLoopbackAddress, 1}}));
  ASSERT_EQ(client.tunnel->Send(LongTo(client.id, 1200), 0), SendStatus::kSent);
  EXPECT_TRUE(RunUntil([&] { return client.recorder.packets.size() == 1; }));
}

TEST_F(ConnectUdpProxyTest, SaysWhyItCannotStart) {
  auto options = Options();
  options.listener.addresses = {Local(port)};
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
