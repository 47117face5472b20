// PathTunnels with a ConnectUdpProxy, in each dialect: targets at several addresses.

#include "io_loop_support.h"
#include "quic_certificate_files.h"
#include "quic_proxy_support.h"

#include "ngmasque/io/connect_udp_proxy.h"
#include "ngmasque/io/path_tunnels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ngmasque {
namespace {

using namespace std::chrono_literals;
using quic_test::Bytes;
using quic_test::Id;
using quic_test::Local;
using quic_test::Short;

constexpr std::uint8_t kClientId = 0x60, kSecondId = 0x61, kServerId = 0x55, kSecondServerId = 0x56;

// A target that answers each packet to the connection ID that is in `answer_to`.
struct Target {
  explicit Target(struct ev_loop *loop)
    : socket(loop, [this](const Bytes &packet, const Endpoint &from) {
        got.push_back(packet);
        sources.push_back(from);
        socket.Send(from, Short(answer_to));
      }) {}

  std::uint8_t answer_to = kClientId;
  std::vector<Bytes> got;
  std::vector<Endpoint> sources;
  Socket socket;
};

class PathTunnelsTest : public testing::TestWithParam<ProxyDialect>,
                        public ProxyClient::Handler,
                        public PathTunnels::Handler {
protected:
  void Start(PathTunnels::Options options = {}, std::size_t max_flows = 0) {
    ASSERT_NO_FATAL_FAILURE(Connect(options, max_flows));
    ASSERT_TRUE(tunnels->Open({.host = "127.0.0.1", .port = targets[0].socket.at.port},
                              targets[0].socket.at, Id(kClientId)));
    ASSERT_TRUE(loop.RunUntil([this] { return opened; }));
  }
  void Connect(PathTunnels::Options options = {}, std::size_t max_flows = 0) {
    ConnectUdpProxy::Options of_proxy;
    of_proxy.listener.addresses = {Local(0)};
    of_proxy.server.certificate_file = certificate.file();
    of_proxy.server.key_file = certificate.key;
    of_proxy.proxy.policy.allow.push_back(*ParseAddressBlock("127.0.0.0/8"));
    if (max_flows != 0) {
      of_proxy.proxy.proxy.routing.max_flows_per_client = max_flows;
    }
    proxy = ConnectUdpProxy::Create(loop, of_proxy).value();
    ProxyClient::Options of_client{.host = "127.0.0.1",
                                   .port = std::to_string(proxy->addresses().front().port)};
    of_client.dialects.dialect = GetParam();
    of_client.idle_timeout = idle_timeout;
    client.emplace(loop, of_client, *this);
    ASSERT_TRUE(client->Start());
    tunnels.emplace(loop, *client, *this, options);
  }
  void TearDown() override {
    tunnels.reset();
    client.reset();
    proxy.reset();
  }

  Target &AddTarget() { return targets.emplace_back(loop); }

  // Whether a packet reaches a target, and its answer comes from there.
  bool Answers(Target &target, std::uint8_t server_id = kServerId) {
    const auto before = target.got.size();
    packets.clear();
    return loop.RunUntil([&] {
      std::ignore = tunnels->SendBurst(target.socket.at, Short(server_id), 100, 0);
      return target.got.size() > before &&
             std::ranges::contains(packets, target.socket.at, &Packet::remote);
    });
  }
  bool Forwards(Target &target, std::uint8_t server_id) {
    const auto before = tunnels->statistics();
    return loop.RunUntil([&] {
      std::ignore = Answers(target, server_id);
      const auto now = tunnels->statistics();
      return now.forwarded_tx.packets > before.forwarded_tx.packets &&
             now.forwarded_rx.packets > before.forwarded_rx.packets;
    });
  }

  // Handlers

  void OnClosed(std::string_view text) override {
    EXPECT_TRUE(closes) << text;
    closed = true;
  }
  void OnOpened() override { opened = true; }
  void OnPacket(const Endpoint &remote, std::span<const std::uint8_t> packet, unsigned) override {
    packets.push_back({.remote = remote, .bytes = Bytes(packet.begin(), packet.end())});
    if (on_packet) {
      on_packet();
    }
  }
  void OnReleaseClientId(const ConnectionId &id) override { released.push_back(id); }
  void OnDiscardClientId(const ConnectionId &id) override { discarded.push_back(id); }
  void OnWritable() override {}
  void OnPathEnded(const Endpoint &remote, const TunnelEnd &end) override {
    paths_ended.emplace_back(remote, end);
  }
  void OnEnded(const TunnelEnd &end) override { ended.push_back(end); }

  struct Packet {
    Endpoint remote;
    Bytes bytes;
  };

  Loop loop;
  quic_test::CertificateFiles certificate;
  std::deque<Target> targets; // Sockets stay where they are.
  std::unique_ptr<ConnectUdpProxy> proxy;
  std::optional<ProxyClient> client;
  std::optional<PathTunnels> tunnels;
  std::chrono::milliseconds idle_timeout{30'000};
  bool closes = false; // The connection to the proxy is to end.
  bool closed = false;
  bool opened = false;
  std::vector<Packet> packets;
  std::function<void()> on_packet;
  std::vector<ConnectionId> released, discarded;
  std::vector<std::pair<Endpoint, TunnelEnd>> paths_ended;
  std::vector<TunnelEnd> ended;
};

TEST_P(PathTunnelsTest, EachAddressHasATunnelAndKeepsIt) {
  auto &first = AddTarget(), &second = AddTarget();
  ASSERT_NO_FATAL_FAILURE(Start());
  for (int round = 0; round < 5; ++round) {
    EXPECT_TRUE(Answers(first));
    EXPECT_TRUE(Answers(second));
  }
  EXPECT_EQ(tunnels->size(), 2u);
  EXPECT_EQ(tunnels->opened(), 2u) << "a move to where it has been costs no request";
  EXPECT_NE(first.sources.front(), second.sources.front()) << "a socket of the proxy for each";
  EXPECT_TRUE(ended.empty() && paths_ended.empty());
}

TEST_P(PathTunnelsTest, BothForwardWithTheSameClientConnectionId) {
  auto &first = AddTarget(), &second = AddTarget();
  ASSERT_NO_FATAL_FAILURE(Start());
  tunnels->AddServerId(first.socket.at, Id(kServerId));
  tunnels->AddServerId(second.socket.at, Id(kSecondServerId));
  EXPECT_EQ(tunnels->size(), 2u) << "where it will send";
  for (int round = 0; round < 3; ++round) {
    EXPECT_TRUE(Forwards(first, kServerId));
    EXPECT_TRUE(Forwards(second, kSecondServerId));
  }
  // Once more after it was retired, as there is no other one.
  tunnels->RemoveServerId(Id(kSecondServerId));
  tunnels->AddServerId(second.socket.at, Id(kSecondServerId));
  EXPECT_TRUE(Forwards(second, kSecondServerId));
}

// Or else the proxy might drop the answer.
TEST_P(PathTunnelsTest, NothingIsSentBeforeTheAnswerCanCome) {
  auto &first = AddTarget(), &second = AddTarget();
  ASSERT_NO_FATAL_FAILURE(Start());
  tunnels->AddClientId(Id(kSecondId));
  ASSERT_TRUE(loop.RunUntil([this] { return released == std::vector{Id(kSecondId)}; }));
  second.answer_to = kClientId; // Not the one that the tunnel is opened with.
  std::ignore = tunnels->SendBurst(second.socket.at, Short(kServerId), 100, 0);
  ASSERT_TRUE(loop.RunUntil([&] { return !packets.empty(); })) << "the first packet has its answer";
  EXPECT_EQ(packets.front().remote, second.socket.at);
  EXPECT_TRUE(Answers(first));
}

TEST_P(PathTunnelsTest, AConnectionIdIsReleasedWhenAllTunnelsHaveIt) {
  AddTarget();
  auto &second = AddTarget();
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_TRUE(Answers(second));
  tunnels->AddClientId(Id(kSecondId));
  EXPECT_TRUE(released.empty());
  ASSERT_TRUE(loop.RunUntil([this] { return !released.empty(); }));
  for (auto &target : targets) {
    target.answer_to = kSecondId;
    EXPECT_TRUE(Answers(target));
  }
  EXPECT_EQ(released, std::vector{Id(kSecondId)}) << "once";
  EXPECT_TRUE(discarded.empty());
}

TEST_P(PathTunnelsTest, ARefusedAddressCostsNothing) {
  auto &first = AddTarget(), &second = AddTarget();
  ASSERT_NO_FATAL_FAILURE(Start({}, 1));
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(tunnels->SendBurst(second.socket.at, Short(kServerId), 100, 0).empty()) << "as if lost";
    EXPECT_TRUE(Answers(first));
  }
  ASSERT_TRUE(loop.RunUntil([this] { return !paths_ended.empty(); }));
  EXPECT_EQ(paths_ended.size(), 1u) << "asked for once";
  EXPECT_EQ(paths_ended.front().first, second.socket.at);
  EXPECT_EQ(paths_ended.front().second.status, 429u);
  EXPECT_TRUE(second.got.empty());
  EXPECT_TRUE(ended.empty());
}

TEST_P(PathTunnelsTest, TheEndIsToldWhateverIsSentBefore) {
  auto &target = AddTarget();
  ASSERT_NO_FATAL_FAILURE(Connect());
  ASSERT_TRUE(tunnels->Open({.host = "10.0.0.1", .port = 443}, target.socket.at, Id(kClientId)));
  tunnels->AddServerId(target.socket.at, Id(kServerId));
  ASSERT_TRUE(loop.RunUntil([&] {
    std::ignore = tunnels->SendBurst(target.socket.at, Short(kServerId), 100, 0);
    return !ended.empty();
  }));
  EXPECT_EQ(ended.front().status, 403u);
  EXPECT_EQ(tunnels->opened(), 1u);
}

TEST_P(PathTunnelsTest, TheEndOfTheConnectionIsToldOnce) {
  auto &first = AddTarget(), &second = AddTarget();
  idle_timeout = 300ms;
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_TRUE(Answers(first));
  ASSERT_TRUE(Answers(second));
  closes = true;
  proxy.reset();
  ASSERT_TRUE(loop.RunUntil([this] { return closed; }));
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended.front().kind, TunnelEnd::Kind::kConnection);
  EXPECT_TRUE(paths_ended.empty());
  EXPECT_EQ(tunnels->size(), 0u);
}

TEST_P(PathTunnelsTest, NoMoreTunnelsThanPaths) {
  ASSERT_NO_FATAL_FAILURE((AddTarget(), Start({.max_paths = 3})));
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(Answers(AddTarget()));
    EXPECT_LE(tunnels->size(), 3u);
    EXPECT_LE(client->tunnels(), 3u);
  }
  EXPECT_EQ(tunnels->opened(), 11u);
  EXPECT_TRUE(Answers(targets.front())) << "opened again";
  EXPECT_TRUE(ended.empty());
}

TEST_P(PathTunnelsTest, IdleOnesAreClosedButForTheOneInUse) {
  auto &first = AddTarget(), &second = AddTarget();
  ASSERT_NO_FATAL_FAILURE(Start({.keep = 50ms}));
  ASSERT_TRUE(Answers(first));
  ASSERT_TRUE(Answers(second));
  ASSERT_TRUE(loop.RunUntil([this] { return tunnels->size() == 1; }));
  EXPECT_EQ(tunnels->opened(), 2u);
  EXPECT_TRUE(Answers(second)) << "that is the one that stays";
  EXPECT_EQ(tunnels->opened(), 2u);
}

TEST_P(PathTunnelsTest, MayBeGoneWithinACall) {
  auto &first = AddTarget();
  ASSERT_NO_FATAL_FAILURE(Start());
  on_packet = [this] {
    on_packet = {};
    tunnels.reset();
  };
  std::ignore = tunnels->SendBurst(first.socket.at, Short(kServerId), 100, 0);
  EXPECT_TRUE(loop.RunUntil([this] { return !tunnels; }));
  EXPECT_EQ(client->tunnels(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Dialects, PathTunnelsTest,
                         testing::Values(ProxyDialect::kDraft00, ProxyDialect::kRfc9298),
                         [](const auto &info) {
                           return info.param == ProxyDialect::kDraft00 ? "draft00" : "rfc9298";
                         });

} // namespace
} // namespace ngmasque
