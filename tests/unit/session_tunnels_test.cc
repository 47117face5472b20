// Tunnels: what is registered, refused and removed.

#include "ngmasque/session/tunnels.h"

#include "session_tunnels_support.h"

#include <gtest/gtest.h>

namespace ngmasque {
namespace {

constexpr OuterConnection kAlice{1}, kBob{2};
constexpr SocketId kSocket{10}, kOther{11};
using Reason = SessionError;

Registration On(OuterConnection connection, StreamId stream, TunnelKey flow, SocketId socket,
                bool shared = true) {
  return {.stream = {.connection = connection, .stream = stream},
          .flow = flow,
          .socket = socket,
          .shared = shared};
}

Refusal Keep(Reason reason) { return {.reason = reason, .close_socket = false}; }
Refusal Close(Reason reason) { return {.reason = reason, .close_socket = true}; }

// Two clients, each on a 4-tuple of its own.
class TunnelsTest : public testing::Test {
protected:
  void SetUp() override { Start({}); }

  void Start(const RoutingLimits &limits) {
    registry = Registry(kTestKey, limits);
    ASSERT_TRUE(registry.AddConnection(kAlice, Tuple(1)));
    ASSERT_TRUE(registry.AddConnection(kBob, Tuple(2)));
  }

  Registry registry{kTestKey};
};

// P1
TEST_F(TunnelsTest, FlowHasOneSocket) {
  EXPECT_EQ(registry.FindFlow(kAlice, 0).error(), DropReason::kUnknownFlow);
  ASSERT_TRUE(registry.AddClientId(On(kAlice, 0, 0, kSocket), Id("client-1")));
  ASSERT_TRUE(registry.AddClientId(On(kAlice, 4, 0, kSocket), Id("client-2")));
  EXPECT_EQ(registry.FindFlow(kAlice, 0), kSocket);
  EXPECT_EQ(registry.FindFlow(kAlice, 2).error(), DropReason::kUnknownFlow);
  EXPECT_EQ(registry.FindFlow(kBob, 0).error(), DropReason::kUnknownFlow)
    << "flows are per connection";
  EXPECT_EQ(registry.FindFlow(OuterConnection{3}, 0).error(), DropReason::kUnknownFlow);
  // "Multiple datagram flow IDs can map to the same server-facing socket".
  ASSERT_TRUE(registry.AddClientId(On(kAlice, 8, 2, kSocket), Id("client-3")));
  EXPECT_EQ(registry.FindFlow(kAlice, 2), kSocket);
}

// P2, P4: the scope of a server connection ID is the 4-tuple, whichever connection asks.
TEST_F(TunnelsTest, ServerIdsConflictOnOneTupleOnly) {
  ASSERT_TRUE(registry.AddServerId(On(kAlice, 0, 0, kSocket), Id("server")));
  EXPECT_TRUE(registry.AddServerId(On(kBob, 0, 0, kSocket), Id("server"))) << "another 4-tuple";
  EXPECT_EQ(registry.AddServerId(On(kAlice, 4, 2, kOther), Id("server")).error(),
            Close(Reason::kEqual))
    << "another socket and flow do not matter";
  EXPECT_EQ(registry.AddServerId(On(kAlice, 4, 0, kSocket), Id("server-1")).error(),
            Keep(Reason::kExistingIsPrefix));
  EXPECT_EQ(registry.AddServerId(On(kAlice, 4, 0, kSocket), Id("serve")).error(),
            Keep(Reason::kNewIsPrefix));
  EXPECT_TRUE(registry.AddClientId(On(kAlice, 4, 0, kSocket), Id("server")))
    << "the other direction";

  const OuterConnection neighbour{3};
  ASSERT_TRUE(registry.AddConnection(neighbour, Tuple(1)));
  EXPECT_EQ(registry.AddServerId(On(neighbour, 0, 0, kSocket), Id("server")).error(),
            Keep(Reason::kEqual));
}

// P3, P4: the scope of a client connection ID is the server-facing socket.
TEST_F(TunnelsTest, ClientIdsConflictOnOneSocketOnly) {
  ASSERT_TRUE(registry.AddClientId(On(kAlice, 0, 0, kSocket), Id("client")));
  EXPECT_EQ(registry.AddClientId(On(kBob, 0, 0, kSocket), Id("client")).error(),
            Keep(Reason::kEqual));
  EXPECT_EQ(registry.AddClientId(On(kBob, 0, 0, kSocket), Id("client-1")).error(),
            Keep(Reason::kExistingIsPrefix));
  EXPECT_EQ(registry.AddClientId(On(kBob, 0, 0, kSocket), Id("clie")).error(),
            Keep(Reason::kNewIsPrefix));
  EXPECT_EQ(registry.AddClientId(On(kAlice, 4, 0, kSocket), Id("client")).error(),
            Keep(Reason::kEqual))
    << "of the same flow, too";
  EXPECT_TRUE(registry.AddClientId(On(kBob, 0, 0, kOther), Id("client")));
}

// P4
TEST_F(TunnelsTest, IdsThatTheProxyIssuedConflict) {
  ASSERT_TRUE(registry.Reserve(kAlice, Id("proxy-id")));
  for (const auto *id : {"proxy-id", "proxy-id-1", "proxy"}) {
    const auto refused = registry.AddServerId(On(kAlice, 0, 0, kSocket), Id(id));
    ASSERT_FALSE(refused) << id;
    EXPECT_EQ(HttpStatus(refused.error().reason), 409u) << id;
  }
  EXPECT_TRUE(registry.AddServerId(On(kBob, 0, 0, kSocket), Id("proxy-id"))) << "another 4-tuple";
  registry.Unreserve(kBob, Id("proxy-id"));
  registry.Unreserve(kAlice, Id("proxy"));
  EXPECT_FALSE(registry.AddServerId(On(kAlice, 0, 0, kSocket), Id("proxy-id")));
  registry.Unreserve(kAlice, Id("proxy-id"));
  EXPECT_TRUE(registry.AddServerId(On(kAlice, 0, 0, kSocket), Id("proxy-id")));
  // The other way round: the proxy has to issue another one.  Its length is its own business.
  EXPECT_EQ(registry.Reserve(kAlice, Id("proxy-id")).error().reason, Reason::kEqual);
  EXPECT_TRUE(registry.Reserve(kAlice, Id("x")));
  EXPECT_EQ(registry.Reserve(kBob, Id("")).error().reason, Reason::kNewIsPrefix);
}

// P4: "configurable minimum".
TEST_F(TunnelsTest, ShortIdsAreConflicts) {
  EXPECT_TRUE(registry.AddClientId(On(kAlice, 0, 0, kSocket), Id("1234"))) << "the draft's example";
  EXPECT_EQ(registry.AddClientId(On(kAlice, 4, 2, kOther), Id("567")).error(),
            Close(Reason::kTooShort));
  EXPECT_EQ(registry.AddServerId(On(kAlice, 4, 0, kSocket), Id("")).error(),
            Keep(Reason::kTooShort));
  EXPECT_EQ(HttpStatus(Reason::kTooShort), 409u);
  EXPECT_NE(HttpStatus(Reason::kTooManyIds), 409u);

  Start({.min_connection_id = 0});
  EXPECT_TRUE(registry.AddClientId(On(kAlice, 0, 0, kSocket), Id("")));
  EXPECT_EQ(registry.AddClientId(On(kBob, 0, 0, kSocket), Id("12345678")).error(),
            Keep(Reason::kExistingIsPrefix));
  EXPECT_TRUE(registry.AddServerId(On(kAlice, 4, 0, kSocket), Id("")));
}

// P7: the first request of a flow leaves nothing when it is refused; a later one leaves the flow.
TEST_F(TunnelsTest, RefusalDropsTheFlowOnlyIfItWasItsFirstRequest) {
  ASSERT_TRUE(registry.AddClientId(On(kAlice, 0, 0, kSocket), Id("client")));
  ASSERT_FALSE(registry.AddClientId(On(kBob, 0, 6, kSocket), Id("client")));
  EXPECT_FALSE(registry.FindFlow(kBob, 6));
  EXPECT_EQ(registry.RemoveStream({kBob, 0}), std::nullopt);
  EXPECT_TRUE(registry.AddClientId(On(kBob, 0, 6, kOther), Id("client"))) << "nothing is in use";

  ASSERT_FALSE(registry.AddClientId(On(kAlice, 4, 0, kSocket), Id("client")));
  EXPECT_EQ(registry.FindFlow(kAlice, 0), kSocket);
}

// P12
TEST_F(TunnelsTest, MappingsDieWithTheirStream) {
  ASSERT_TRUE(registry.AddClientId(On(kAlice, 0, 0, kSocket), Id("client-1")));
  ASSERT_TRUE(registry.AddServerId(On(kAlice, 4, 0, kSocket), Id("server-1")));
  ASSERT_TRUE(registry.AddClientId(On(kBob, 0, 0, kSocket), Id("client-2")));

  EXPECT_EQ(registry.RemoveStream({kAlice, 4}), std::nullopt);
  EXPECT_FALSE(registry.FromClient(Tuple(1), Short("server-1")));
  EXPECT_TRUE(registry.FromTarget(kSocket, Short("client-1")));
  EXPECT_EQ(registry.RemoveStream({kAlice, 4}), std::nullopt) << "twice";
  EXPECT_EQ(registry.RemoveStream({kAlice, 0}), std::nullopt) << "the other client uses the socket";
  EXPECT_FALSE(registry.FindFlow(kAlice, 0));
  EXPECT_EQ(registry.FromTarget(kSocket, Short("client-1")).error(),
            DropReason::kUnknownConnectionId);
  EXPECT_EQ(registry.RemoveStream({kBob, 0}), kSocket);
  EXPECT_EQ(registry.FromTarget(kSocket, Short("client-2")).error(), DropReason::kUnknownSocket);
  EXPECT_EQ(registry.RemoveStream({OuterConnection{3}, 0}), std::nullopt);
  EXPECT_EQ(registry.counts(), (TunnelCounts{.clients = 2, .connections = 2, .paths = 2}));
}

// P12
TEST_F(TunnelsTest, MappingsDieWithTheirConnection) {
  ASSERT_TRUE(registry.Reserve(kAlice, Id("proxy-id")));
  ASSERT_TRUE(registry.AddClientId(On(kAlice, 0, 0, SocketId{30}), Id("client-1")));
  ASSERT_TRUE(registry.AddClientId(On(kAlice, 4, 2, kSocket), Id("client-1")));
  ASSERT_TRUE(registry.AddServerId(On(kAlice, 8, 2, kSocket), Id("server-1")));
  ASSERT_TRUE(registry.AddPlain(On(kAlice, 12, 4, SocketId{20})));
  ASSERT_TRUE(registry.AddClientId(On(kBob, 0, 0, kSocket), Id("client-2")));

  EXPECT_EQ(registry.RemoveConnection(kAlice), (std::vector{SocketId{20}, SocketId{30}}));
  EXPECT_TRUE(registry.FromTarget(kSocket, Short("client-2")));
  EXPECT_FALSE(registry.FromTarget(kSocket, Short("client-1")));
  EXPECT_EQ(registry.FromClient(Tuple(1), Short("server-1")).error(), kForQuic);
  EXPECT_TRUE(registry.RemoveConnection(kAlice).empty());
  EXPECT_EQ(registry.counts(), (TunnelCounts{.clients = 1, .connections = 1, .paths = 1, .sockets = 1, .mappings = 1}));

  // What it had is free for the next one on the same 4-tuple.
  ASSERT_TRUE(registry.AddConnection(kAlice, Tuple(1)));
  EXPECT_TRUE(registry.AddServerId(On(kAlice, 0, 0, kSocket), Id("proxy-id")));
  EXPECT_TRUE(registry.AddServerId(On(kAlice, 4, 0, kSocket), Id("server-1")));
}

TEST_F(TunnelsTest, RequestsDieWithTheirSocket) {
  ASSERT_TRUE(registry.AddClientId(On(kBob, 8, 0, kSocket), Id("client-2")));
  ASSERT_TRUE(registry.AddClientId(On(kAlice, 0, 0, kSocket), Id("client-1")));
  ASSERT_TRUE(registry.AddServerId(On(kAlice, 4, 0, kSocket), Id("server-1")));
  ASSERT_TRUE(registry.AddClientId(On(kAlice, 8, 2, kOther), Id("client-1")));
  EXPECT_EQ(registry.RemoveSocket(kSocket),
            (std::vector<StreamKey>{{kAlice, 0}, {kAlice, 4}, {kBob, 8}}));
  EXPECT_TRUE(registry.RemoveSocket(kSocket).empty());
  EXPECT_FALSE(registry.FromClient(Tuple(1), Short("server-1")));
  EXPECT_FALSE(registry.FindFlow(kAlice, 0));
  EXPECT_TRUE(registry.FindFlow(kAlice, 2));
}

// P14: QUIC-aware and plain flows never share a socket.
TEST_F(TunnelsTest, SocketsThatAreNotShared) {
  ASSERT_TRUE(registry.AddPlain(On(kAlice, 0, 0, kSocket)));
  EXPECT_EQ(registry.AddClientId(On(kBob, 0, 0, kSocket), Id("client")).error(),
            Keep(Reason::kSocketNotShared));
  EXPECT_EQ(registry.AddPlain(On(kBob, 0, 0, kSocket)).error(), Keep(Reason::kSocketNotShared));
  EXPECT_EQ(registry.AddServerId(On(kAlice, 4, 0, kSocket), Id("server")).error(),
            Keep(Reason::kFlowInUse));
  EXPECT_EQ(registry.AddPlain(On(kAlice, 4, 0, kSocket)).error(), Keep(Reason::kFlowInUse));

  ASSERT_TRUE(registry.AddClientId(On(kAlice, 4, 2, kOther, false), Id("client-1")));
  EXPECT_EQ(registry.AddClientId(On(kBob, 0, 0, kOther), Id("client-2")).error(),
            Keep(Reason::kSocketNotShared));
  EXPECT_EQ(registry.AddPlain(On(kAlice, 8, 2, kOther)).error(), Keep(Reason::kFlowInUse));
  EXPECT_TRUE(registry.AddClientId(On(kAlice, 8, 2, kOther), Id("client-2"))) << "its own flow";

  ASSERT_TRUE(registry.AddClientId(On(kBob, 0, 0, SocketId{12}), Id("client")));
  EXPECT_EQ(registry.AddPlain(On(kAlice, 12, 4, SocketId{12})).error(),
            Keep(Reason::kSocketNotShared));
}

TEST_F(TunnelsTest, ErrorsOfTheCaller) {
  EXPECT_EQ(registry.AddConnection(kAlice, Tuple(3)).error(), Keep(Reason::kConnectionInUse));
}

// P13: at each bound the answer that it documents, and those who are there are not disturbed.
TEST_F(TunnelsTest, Bounds) {
  Start({.max_connections = 2,
         .max_sockets = 3,
         .max_flows_per_client = 3,
         .max_reserved_per_connection = 1,
         .max_flows_per_socket = 2,
         .max_ids_per_scope = 3,
         .max_lengths_per_scope = 2});
  EXPECT_EQ(registry.AddConnection(OuterConnection{3}, Tuple(1)).error(),
            Keep(Reason::kTooManyConnections));
  ASSERT_TRUE(registry.Reserve(kAlice, Id("proxy-1")));
  EXPECT_EQ(registry.Reserve(kAlice, Id("proxy-2")).error(), Keep(Reason::kTooManyReserved));

  ASSERT_TRUE(registry.AddClientId(On(kAlice, 0, 0, kSocket), Id("client-1")));
  ASSERT_TRUE(registry.AddClientId(On(kAlice, 4, 2, kSocket), Id("client-2")));
  EXPECT_EQ(registry.AddClientId(On(kBob, 0, 0, kSocket), Id("client-3")).error(),
            Keep(Reason::kTooManyFlowsOnSocket));
  ASSERT_TRUE(registry.AddClientId(On(kAlice, 8, 0, kSocket), Id("another")));
  EXPECT_EQ(registry.AddClientId(On(kAlice, 12, 0, kSocket), Id("client-3")).error(),
            Keep(Reason::kTooManyIds));
  ASSERT_TRUE(registry.AddServerId(On(kAlice, 12, 4, kOther), Id("server-1")));
  EXPECT_EQ(registry.AddServerId(On(kAlice, 16, 4, kOther), Id("other")).error(),
            Keep(Reason::kTooManyLengths))
    << "the proxy's own ID has a length as well";
  EXPECT_EQ(registry.AddPlain(On(kAlice, 16, 6, SocketId{20})).error(),
            Close(Reason::kTooManyFlows));
  ASSERT_TRUE(registry.AddServerId(On(kAlice, 16, 0, kSocket), Id("server-2")));
  ASSERT_TRUE(registry.AddPlain(On(kBob, 0, 0, SocketId{20})));
  EXPECT_EQ(registry.AddPlain(On(kBob, 4, 2, SocketId{21})).error(),
            Close(Reason::kTooManySockets));

  EXPECT_TRUE(registry.FromTarget(kSocket, Short("client-1")));
  EXPECT_TRUE(registry.FromClient(Tuple(1), Short("server-1")));
  EXPECT_EQ(registry.RemoveStream({kBob, 0}), SocketId{20});
  EXPECT_TRUE(registry.AddPlain(On(kBob, 4, 2, SocketId{21})));
}

// Those of a client count for all of its connections, wherever they are.
TEST_F(TunnelsTest, BoundsOfAClient) {
  Start({.max_connections_per_client = 2, .max_flows_per_client = 2});
  const OuterConnection second{3};
  auto tuple = Tuple(1);
  tuple.remote.port = 1000;
  ASSERT_TRUE(registry.AddConnection(second, tuple));
  EXPECT_EQ(registry.AddConnection(OuterConnection{4}, tuple).error(),
            Keep(Reason::kTooManyClientConnections));
  ASSERT_TRUE(registry.AddClientId(On(kAlice, 0, 0, kSocket), Id("client-1")));
  ASSERT_TRUE(registry.AddClientId(On(second, 0, 0, kSocket), Id("client-2")));
  registry.MoveConnection(second, Tuple(3));
  EXPECT_EQ(registry.AddClientId(On(kAlice, 4, 2, kSocket), Id("client-3")).error(),
            Keep(Reason::kTooManyFlows));
  EXPECT_EQ(registry.AddConnection(OuterConnection{4}, tuple).error(),
            Keep(Reason::kTooManyClientConnections));
  ASSERT_TRUE(registry.AddConnection(OuterConnection{4}, Tuple(3)));
  ASSERT_TRUE(registry.AddClientId(On(OuterConnection{4}, 0, 0, kSocket), Id("client-3")));
  registry.RemoveConnection(second);
  EXPECT_TRUE(registry.AddClientId(On(kAlice, 8, 2, kSocket), Id("client-4")));
  EXPECT_EQ(registry.counts().clients, 3u);
}

} // namespace
} // namespace ngmasque
