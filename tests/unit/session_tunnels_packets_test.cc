// Tunnels: where packets go, and what a change of address does to that.

#include "ngmasque/session/tunnels.h"

#include "session_tunnels_support.h"

#include <gtest/gtest.h>

#include <string>
#include <tuple>

namespace ngmasque {
namespace {

constexpr OuterConnection kAlice{1}, kBob{2};
constexpr bool kTunnel = false, kForward = true;
constexpr SocketId kShared{10}, kOwn{11}, kPlain{12};

// Alice has two flows on the shared socket, one on a socket of her own and a plain one; Bob has
// one on the shared socket.
class TunnelsPackets : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_TRUE(registry.AddConnection(kAlice, Tuple(1)));
    ASSERT_TRUE(registry.AddConnection(kBob, Tuple(2)));
    ASSERT_TRUE(registry.Reserve(kAlice, Id("proxy-id")));
    Client(kAlice, 0, 0, kShared, "alice-client-0");
    Server(kAlice, 4, 0, kShared, "server-0");
    Client(kAlice, 8, 2, kShared, "alice-client-2");
    Server(kAlice, 12, 2, kShared, "server-2-longer");
    Client(kAlice, 16, 4, kOwn, "alice-client-4");
    ASSERT_TRUE(registry.AddPlain({.stream = {kAlice, 20}, .flow = 6, .socket = kPlain}));
    Client(kBob, 0, 0, kShared, "bob-client");
    Server(kBob, 4, 0, kShared, "server-0");
  }

  void Client(OuterConnection connection, StreamId stream, TunnelKey flow, SocketId socket,
              std::string_view id) {
    ASSERT_TRUE(registry.AddClientId(
      {.stream = {connection, stream}, .flow = flow, .socket = socket, .shared = socket == kShared},
      Id(id)));
  }

  void Server(OuterConnection connection, StreamId stream, TunnelKey flow, SocketId socket,
              std::string_view id) {
    ASSERT_TRUE(registry.AddServerId(
      {.stream = {connection, stream}, .flow = flow, .socket = socket, .shared = socket == kShared},
      Id(id)));
  }

  std::expected<bool, DropReason> WayOf(SocketId socket, const Bytes &packet) const {
    const auto to = registry.FromTarget(socket, packet);
    return to ? std::expected<bool, DropReason>(to->forward) : std::unexpected(to.error());
  }

  Registry registry{kTestKey};
};

// P2, P9, P11
TEST_F(TunnelsPackets, FromClient) {
  EXPECT_EQ(registry.FromClient(Tuple(1), Short("server-0 and more")),
            (ToTarget{.connection = kAlice, .flow = 0, .socket = kShared}));
  EXPECT_EQ(registry.FromClient(Tuple(1), Short("server-2-longer")),
            (ToTarget{.connection = kAlice, .flow = 2, .socket = kShared}));
  EXPECT_EQ(registry.FromClient(Tuple(2), Short("server-0")),
            (ToTarget{.connection = kBob, .flow = 0, .socket = kShared}));
  EXPECT_EQ(registry.FromClient(Tuple(1), Long("server-0")).error(), kForQuic);
  EXPECT_EQ(registry.FromClient(Tuple(1), Short("proxy-id")).error(), kForQuic);
  EXPECT_EQ(registry.FromClient(Tuple(1), Short("server-1")).error(), kForQuic);
  EXPECT_EQ(registry.FromClient(Tuple(1), Short("server")).error(), kForQuic) << "cut off";
  EXPECT_EQ(registry.FromClient(Tuple(2), Short("server-2-longer")).error(), kForQuic)
    << "from another client";
  EXPECT_EQ(registry.FromClient(Tuple(3), Short("server-0")).error(), kForQuic);
  EXPECT_EQ(registry.FromClient(Tuple(1), {}).error(), DropReason::kMalformed);
  EXPECT_EQ(registry.FromClient(Tuple(1), Bytes{0x40}).error(), kForQuic);
}

// The fixed bit says nothing in the invariants of QUIC; only the form of the header does.
TEST_F(TunnelsPackets, TheQuicBitDoesNotMatter) {
  auto packet = Short("server-0");
  for (const std::uint8_t first : {0x00, 0x40, 0x7f, 0x3f}) {
    packet[0] = first;
    EXPECT_TRUE(registry.FromClient(Tuple(1), packet)) << int{first};
  }
  packet[0] = 0x80;
  EXPECT_FALSE(registry.FromClient(Tuple(1), packet));
}

// P3
TEST_F(TunnelsPackets, FromTarget) {
  const struct {
    std::string_view id;
    OuterConnection connection;
    TunnelKey flow;
    std::uint16_t port;
  } cases[] = {
    {"alice-client-0", kAlice, 0, 1}, {"alice-client-2", kAlice, 2, 1}, {"bob-client", kBob, 0, 2}};
  for (const auto &[id, connection, flow, port] : cases) {
    const ToClient to{
      .connection = connection, .flow = flow, .tuple = Tuple(port), .forward = false};
    EXPECT_EQ(registry.FromTarget(kShared, Short(id)), to) << id;
    EXPECT_EQ(registry.FromTarget(kShared, Short(std::string(id) + " and more")), to) << id;
    EXPECT_EQ(registry.FromTarget(kShared, Long(id)), to) << id;
  }
}

// P14
TEST_F(TunnelsPackets, UnknownOnSharedSocketIsDropped) {
  EXPECT_EQ(WayOf(kShared, Short("somebody else")).error(), DropReason::kUnknownConnectionId);
  EXPECT_EQ(WayOf(kShared, Long("somebody else")).error(), DropReason::kUnknownConnectionId);
  EXPECT_EQ(WayOf(kShared, Long("bob-client-1")).error(), DropReason::kUnknownConnectionId)
    << "a long header says where the connection ID ends";
  EXPECT_EQ(WayOf(kShared, {}).error(), DropReason::kMalformed);
  EXPECT_EQ(WayOf(kShared, {0xc0, 0, 0, 0, 1, 4, 'b'}).error(), DropReason::kMalformed);
  EXPECT_EQ(WayOf(SocketId{99}, Short("bob-client")).error(), DropReason::kUnknownSocket);
  // Also when there is only one flow left on it: it may be a late packet of one that has gone.
  EXPECT_EQ(registry.RemoveStream({kAlice, 0}), std::nullopt);
  EXPECT_TRUE(registry.RemoveConnection(kBob).empty());
  EXPECT_EQ(WayOf(kShared, Short("bob-client")).error(), DropReason::kUnknownConnectionId);
}

// A stateless reset has no connection ID: it is tunnelled, never forwarded.
TEST_F(TunnelsPackets, UnknownOnUnsharedSocketIsTunnelled) {
  Server(kAlice, 24, 4, kOwn, "server-4");
  ASSERT_TRUE(registry.FromClient(Tuple(1), Short("server-4")));
  EXPECT_EQ(WayOf(kOwn, Short("alice-client-4")), kForward);
  const ToClient to{.connection = kAlice, .flow = 4, .tuple = Tuple(1), .forward = false};
  for (const auto &packet :
       {Short("stateless reset"), Long("unknown"), Bytes{}, Bytes{0xc0, 1}, Bytes{0x40}}) {
    EXPECT_EQ(registry.FromTarget(kOwn, packet), to) << testing::PrintToString(packet);
  }
}

TEST_F(TunnelsPackets, PlainFlowsAreAlwaysTunnelled) {
  const ToClient to{.connection = kAlice, .flow = 6, .tuple = Tuple(1), .forward = false};
  for (const auto &packet : {Short("alice-client-0"), Long("x"), Bytes{}, ToBytes("not QUIC")}) {
    EXPECT_EQ(registry.FromTarget(kPlain, packet), to) << testing::PrintToString(packet);
  }
}

// P8: once for each flow, and for its short headers alone.
TEST_F(TunnelsPackets, ForwardedOnlyAfterTheClientHas) {
  EXPECT_EQ(WayOf(kShared, Short("alice-client-0")), kTunnel);
  ASSERT_FALSE(registry.FromClient(Tuple(1), Long("server-0")));
  ASSERT_FALSE(registry.FromClient(Tuple(3), Short("server-0")));
  EXPECT_EQ(WayOf(kShared, Short("alice-client-0")), kTunnel) << "nothing was forwarded";

  ASSERT_TRUE(registry.FromClient(Tuple(1), Short("server-0")));
  EXPECT_EQ(WayOf(kShared, Short("alice-client-0")), kForward);
  EXPECT_EQ(WayOf(kShared, Long("alice-client-0")), kTunnel);
  EXPECT_EQ(WayOf(kShared, Short("alice-client-2")), kTunnel) << "another flow";
  EXPECT_EQ(WayOf(kShared, Short("bob-client")), kTunnel) << "another client";
  Client(kAlice, 24, 0, kShared, "alice-new-client-0");
  EXPECT_EQ(WayOf(kShared, Short("alice-new-client-0")), kForward);
}

// C15, P8: with its last server connection ID the client takes back that it forwards.
TEST_F(TunnelsPackets, TunnelledAgainAfterTheLastServerId) {
  Server(kAlice, 24, 0, kShared, "another-server-0");
  ASSERT_TRUE(registry.FromClient(Tuple(1), Short("server-0")));
  EXPECT_EQ(registry.RemoveStream({kAlice, 4}), std::nullopt);
  EXPECT_EQ(WayOf(kShared, Short("alice-client-0")), kForward) << "it has another one";
  EXPECT_EQ(registry.RemoveStream({kAlice, 24}), std::nullopt);
  EXPECT_EQ(WayOf(kShared, Short("alice-client-0")), kTunnel);
  Server(kAlice, 28, 0, kShared, "server-0");
  EXPECT_EQ(WayOf(kShared, Short("alice-client-0")), kTunnel) << "not before it is used";
  ASSERT_TRUE(registry.FromClient(Tuple(1), Short("server-0")));
  EXPECT_EQ(WayOf(kShared, Short("alice-client-0")), kForward);
}

// The client cannot tell what has a zero-length connection ID from its own.
TEST_F(TunnelsPackets, ZeroLengthIsNeverForwarded) {
  registry = Registry(kTestKey, {.min_connection_id = 0});
  ASSERT_TRUE(registry.AddConnection(kAlice, Tuple(1)));
  Client(kAlice, 0, 0, kOwn, "");
  Server(kAlice, 4, 0, kOwn, "server-0");
  ASSERT_TRUE(registry.FromClient(Tuple(1), Short("server-0")));
  EXPECT_EQ(WayOf(kOwn, Short("anything")), kTunnel);
  EXPECT_EQ(WayOf(kOwn, Long("")), kTunnel);
}

// One probe for each length that is in use in that place.
TEST_F(TunnelsPackets, Probes) {
  const auto probes = [&](auto &&look_up) {
    const auto before = registry.probes();
    look_up();
    return registry.probes() - before;
  };
  const auto unknown = Short("unknown, and longer than all of them");
  EXPECT_EQ(probes([&] { std::ignore = registry.FromClient(Tuple(1), unknown); }), 2u);
  EXPECT_EQ(probes([&] { std::ignore = registry.FromClient(Tuple(2), unknown); }), 1u);
  EXPECT_EQ(probes([&] { std::ignore = registry.FromTarget(kShared, unknown); }), 2u);
  EXPECT_EQ(probes([&] { std::ignore = registry.FromTarget(kShared, Long("bob-client")); }), 1u);
  EXPECT_EQ(probes([&] { std::ignore = registry.FromTarget(kShared, Long("unknown")); }), 0u);
  EXPECT_EQ(probes([&] { std::ignore = registry.FromClient(Tuple(1), Long("server-0")); }), 0u);
  EXPECT_EQ(probes([&] { std::ignore = registry.FromTarget(kPlain, unknown); }), 0u);
}

// A change of address takes along what was registered, and what was reserved.
TEST_F(TunnelsPackets, Move) {
  ASSERT_TRUE(registry.FromClient(Tuple(1), Short("server-0")));
  const auto moved = registry.MoveConnection(kAlice, Tuple(3));
  EXPECT_TRUE(moved.lost.empty() && moved.reserved.empty() && moved.unused.empty());
  EXPECT_TRUE(registry.FromClient(Tuple(1), Short("server-0"))) << "it has left before the move";
  EXPECT_TRUE(registry.FromClient(Tuple(3), Short("server-0")));
  EXPECT_EQ(registry.FromClient(Tuple(3), Short("proxy-id")).error(), kForQuic);
  EXPECT_EQ(registry.FromTarget(kShared, Short("alice-client-0")),
            (ToClient{.connection = kAlice, .flow = 0, .tuple = Tuple(3), .forward = true}));
  EXPECT_EQ(registry.FromTarget(kShared, Short("bob-client"))->tuple, Tuple(2));
  EXPECT_TRUE(registry.MoveConnection(kAlice, Tuple(3)).lost.empty());
  EXPECT_TRUE(registry.FromClient(Tuple(3), Short("server-0")));
  EXPECT_TRUE(registry.MoveConnection(OuterConnection{3}, Tuple(1)).lost.empty());
  EXPECT_EQ(registry.counts().paths, 3u);
}

TEST_F(TunnelsPackets, WhatComesLateIsTakenFromTheLastTuples) {
  for (std::uint16_t tuple = 3; tuple < 3 + Tunnels::kMaxOthers; ++tuple) {
    registry.MoveConnection(kAlice, Tuple(tuple));
    EXPECT_TRUE(registry.FromClient(Tuple(1), Short("server-0"))) << tuple;
  }
  registry.MoveConnection(kAlice, Tuple(9));
  EXPECT_EQ(registry.FromClient(Tuple(1), Short("server-0")).error(), kForQuic);
  EXPECT_TRUE(registry.FromClient(Tuple(3), Short("server-0")));
  EXPECT_TRUE(registry.FromClient(Tuple(9), Short("server-0")));
  EXPECT_EQ(registry.counts().paths, 2u + Tunnels::kMaxOthers);
  registry.RemoveStream({kAlice, 4});
  EXPECT_EQ(registry.FromClient(Tuple(3), Short("server-0")).error(), kForQuic);
  registry.RemoveConnection(kAlice);
  EXPECT_EQ(registry.counts().paths, 1u);
}

TEST_F(TunnelsPackets, WhatComesLateIsInNobodysWay) {
  registry.MoveConnection(kAlice, Tuple(3));
  ASSERT_TRUE(registry.AddConnection(OuterConnection{3}, Tuple(1)));
  ASSERT_TRUE(registry.Reserve(OuterConnection{3}, Id("server-2")));
  Server(OuterConnection{3}, 4, 0, kShared, "server-0");
  EXPECT_EQ(registry.FromClient(Tuple(1), Short("server-0"))->connection, OuterConnection{3});
  EXPECT_EQ(registry.FromClient(Tuple(1), Short("server-2-longer")).error(), kForQuic);
}

TEST_F(TunnelsPackets, APathThatIsBeingValidated) {
  registry.Expect(kAlice, Tuple(2));
  EXPECT_EQ(registry.FromClient(Tuple(2), Short("server-0"))->connection, kBob);
  EXPECT_EQ(registry.FromClient(Tuple(2), Short("server-2-longer"))->connection, kAlice);
  EXPECT_TRUE(registry.FromClient(Tuple(1), Short("server-2-longer")));
  EXPECT_EQ(registry.FromTarget(kShared, Short("alice-client-2"))->tuple, Tuple(1));
  registry.MoveConnection(kAlice, Tuple(2));
  EXPECT_EQ(registry.FromTarget(kShared, Short("alice-client-2"))->tuple, Tuple(2));
  EXPECT_EQ(registry.FromClient(Tuple(2), Short("server-2-longer"))->connection, kAlice);
}

// It is for packets that come late, where they have left from, and for nothing else.
TEST_F(TunnelsPackets, Retired) {
  ASSERT_TRUE(registry.FromClient(Tuple(1), Short("server-2-longer")));
  registry.Expect(kAlice, Tuple(3));
  registry.Retire({kAlice, 12});
  EXPECT_TRUE(registry.FromClient(Tuple(1), Short("server-2-longer")));
  EXPECT_EQ(registry.FromClient(Tuple(3), Short("server-2-longer")).error(), kForQuic);
  EXPECT_EQ(WayOf(kShared, Short("alice-client-2")), kTunnel) << "it has no other one";
  registry.MoveConnection(kAlice, Tuple(3));
  Server(kAlice, 24, 2, kShared, "server-2");
  EXPECT_TRUE(registry.FromClient(Tuple(1), Short("server-2-longer")));
  EXPECT_TRUE(registry.FromClient(Tuple(3), Short("server-2-longer")));
  registry.RemoveStream({kAlice, 24});
  EXPECT_TRUE(registry.FromClient(Tuple(1), Short("server-2-longer")));
  registry.RemoveStream({kAlice, 8}); // And with it the tunnel.
  EXPECT_EQ(registry.FromClient(Tuple(1), Short("server-2-longer")).error(), kForQuic);
}

TEST_F(TunnelsPackets, TheLastOnesThatAreRetired) {
  const auto text = [](std::size_t i) { return "server-" + std::to_string(1000 + i); };
  for (std::size_t i = 0; i <= Tunnels::kMaxRetired; ++i) {
    Server(kAlice, 24, 0, kShared, text(i));
    registry.Retire({kAlice, 24});
  }
  EXPECT_EQ(registry.FromClient(Tuple(1), Short(text(0))).error(), kForQuic);
  for (std::size_t i = 1; i <= Tunnels::kMaxRetired; ++i) {
    EXPECT_TRUE(registry.FromClient(Tuple(1), Short(text(i)))) << i;
  }
}

// Who is there already keeps what it has.
TEST_F(TunnelsPackets, MoveIntoConflicts) {
  Server(kBob, 8, 0, kShared, "proxy-id-and-more");
  ASSERT_TRUE(registry.AddServerId({.stream = {kAlice, 24}, .flow = 8, .socket = SocketId{13}},
                                 Id("server-9")));
  Server(kBob, 12, 0, kShared, "server-9");

  const auto moved = registry.MoveConnection(kAlice, Tuple(2));
  EXPECT_EQ(moved.lost, (std::vector<StreamKey>{{kAlice, 4}, {kAlice, 24}}));
  EXPECT_EQ(moved.reserved, (std::vector{Id("proxy-id")}));
  EXPECT_EQ(moved.unused, (std::vector{SocketId{13}}));
  EXPECT_EQ(registry.FromClient(Tuple(2), Short("server-0"))->connection, kBob);
  EXPECT_EQ(registry.FromClient(Tuple(2), Short("proxy-id-and-more"))->connection, kBob);
  EXPECT_EQ(registry.FromClient(Tuple(2), Short("server-2-longer"))->connection, kAlice);
  EXPECT_EQ(registry.RemoveStream({kAlice, 4}), std::nullopt) << "it is gone";
  EXPECT_TRUE(registry.FindFlow(kAlice, 0)) << "the flow has another request";
  EXPECT_FALSE(registry.FindFlow(kAlice, 8));
  // Its owner is not undone by what happens to the one who lost.
  EXPECT_EQ(registry.RemoveConnection(kAlice), (std::vector{kOwn, kPlain}));
  EXPECT_EQ(registry.FromClient(Tuple(2), Short("server-0"))->connection, kBob);
}

} // namespace
} // namespace ngmasque
