// Router: what is registered, refused and removed.

#include "ngmasque/routing/router.h"

#include "routing_support.h"

#include <gtest/gtest.h>

namespace ngmasque {
namespace {

constexpr OuterConnection kAlice{1}, kBob{2};
constexpr SocketId kSocket{10}, kOther{11};
using Reason = RefusalReason;

Registration On(OuterConnection connection, StreamId stream, FlowId flow, SocketId socket,
                bool shared = true) {
  return {.stream = {.connection = connection, .stream = stream},
          .flow = flow,
          .socket = socket,
          .shared = shared};
}

Refusal Keep(Reason reason) { return {.reason = reason, .close_socket = false}; }
Refusal Close(Reason reason) { return {.reason = reason, .close_socket = true}; }

// Two clients, each on a 4-tuple of its own.
class RoutingRouter : public testing::Test {
protected:
  void SetUp() override { Start({}); }

  void Start(const RoutingLimits &limits) {
    router = Router(kTestKey, limits);
    ASSERT_TRUE(router.AddConnection(kAlice, Tuple(1)));
    ASSERT_TRUE(router.AddConnection(kBob, Tuple(2)));
  }

  Router router{kTestKey};
};

// P1
TEST_F(RoutingRouter, FlowHasOneSocket) {
  EXPECT_EQ(router.FindFlow(kAlice, 0).error(), NotRouted::kUnknownFlow);
  ASSERT_TRUE(router.AddClientId(On(kAlice, 0, 0, kSocket), Id("client-1")));
  ASSERT_TRUE(router.AddClientId(On(kAlice, 4, 0, kSocket), Id("client-2")));
  EXPECT_EQ(router.FindFlow(kAlice, 0), kSocket);
  EXPECT_EQ(router.FindFlow(kAlice, 2).error(), NotRouted::kUnknownFlow);
  EXPECT_EQ(router.FindFlow(kBob, 0).error(), NotRouted::kUnknownFlow)
    << "flows are per connection";
  EXPECT_EQ(router.FindFlow(OuterConnection{3}, 0).error(), NotRouted::kUnknownFlow);
  EXPECT_EQ(router.AddServerId(On(kAlice, 8, 0, kOther), Id("server-1")).error(),
            Close(Reason::kFlowOnOtherSocket));
  // "Multiple datagram flow IDs can map to the same server-facing socket".
  ASSERT_TRUE(router.AddClientId(On(kAlice, 8, 2, kSocket), Id("client-3")));
  EXPECT_EQ(router.FindFlow(kAlice, 2), kSocket);
}

// P2, P4: the scope of a server connection ID is the 4-tuple, whichever connection asks.
TEST_F(RoutingRouter, ServerIdsConflictOnOneTupleOnly) {
  ASSERT_TRUE(router.AddServerId(On(kAlice, 0, 0, kSocket), Id("server")));
  EXPECT_TRUE(router.AddServerId(On(kBob, 0, 0, kSocket), Id("server"))) << "another 4-tuple";
  EXPECT_EQ(router.AddServerId(On(kAlice, 4, 2, kOther), Id("server")).error(),
            Close(Reason::kEqual))
    << "another socket and flow do not matter";
  EXPECT_EQ(router.AddServerId(On(kAlice, 4, 0, kSocket), Id("server-1")).error(),
            Keep(Reason::kExistingIsPrefix));
  EXPECT_EQ(router.AddServerId(On(kAlice, 4, 0, kSocket), Id("serve")).error(),
            Keep(Reason::kNewIsPrefix));
  EXPECT_TRUE(router.AddClientId(On(kAlice, 4, 0, kSocket), Id("server"))) << "the other direction";

  const OuterConnection neighbour{3};
  ASSERT_TRUE(router.AddConnection(neighbour, Tuple(1)));
  EXPECT_EQ(router.AddServerId(On(neighbour, 0, 0, kSocket), Id("server")).error(),
            Keep(Reason::kEqual));
}

// P3, P4: the scope of a client connection ID is the server-facing socket.
TEST_F(RoutingRouter, ClientIdsConflictOnOneSocketOnly) {
  ASSERT_TRUE(router.AddClientId(On(kAlice, 0, 0, kSocket), Id("client")));
  EXPECT_EQ(router.AddClientId(On(kBob, 0, 0, kSocket), Id("client")).error(),
            Keep(Reason::kEqual));
  EXPECT_EQ(router.AddClientId(On(kBob, 0, 0, kSocket), Id("client-1")).error(),
            Keep(Reason::kExistingIsPrefix));
  EXPECT_EQ(router.AddClientId(On(kBob, 0, 0, kSocket), Id("clie")).error(),
            Keep(Reason::kNewIsPrefix));
  EXPECT_EQ(router.AddClientId(On(kAlice, 4, 0, kSocket), Id("client")).error(),
            Keep(Reason::kEqual))
    << "of the same flow, too";
  EXPECT_TRUE(router.AddClientId(On(kBob, 0, 0, kOther), Id("client")));
}

// P4
TEST_F(RoutingRouter, IdsThatTheProxyIssuedConflict) {
  ASSERT_TRUE(router.Reserve(kAlice, Id("proxy-id")));
  for (const auto *id : {"proxy-id", "proxy-id-1", "proxy"}) {
    const auto refused = router.AddServerId(On(kAlice, 0, 0, kSocket), Id(id));
    ASSERT_FALSE(refused) << id;
    EXPECT_TRUE(IsConflict(refused.error().reason)) << id;
  }
  EXPECT_TRUE(router.AddServerId(On(kBob, 0, 0, kSocket), Id("proxy-id"))) << "another 4-tuple";
  router.Unreserve(kBob, Id("proxy-id"));
  router.Unreserve(kAlice, Id("proxy"));
  EXPECT_FALSE(router.AddServerId(On(kAlice, 0, 0, kSocket), Id("proxy-id")));
  router.Unreserve(kAlice, Id("proxy-id"));
  EXPECT_TRUE(router.AddServerId(On(kAlice, 0, 0, kSocket), Id("proxy-id")));
  // The other way round: the proxy has to issue another one.  Its length is its own business.
  EXPECT_EQ(router.Reserve(kAlice, Id("proxy-id")).error().reason, Reason::kEqual);
  EXPECT_TRUE(router.Reserve(kAlice, Id("x")));
  EXPECT_EQ(router.Reserve(kBob, Id("")).error().reason, Reason::kNewIsPrefix);
  EXPECT_EQ(router.Reserve(OuterConnection{3}, Id("y")).error().reason, Reason::kUnknownConnection);
}

// P4: "configurable minimum".
TEST_F(RoutingRouter, ShortIdsAreConflicts) {
  EXPECT_TRUE(router.AddClientId(On(kAlice, 0, 0, kSocket), Id("1234"))) << "the draft's example";
  EXPECT_EQ(router.AddClientId(On(kAlice, 4, 2, kOther), Id("567")).error(),
            Close(Reason::kTooShort));
  EXPECT_EQ(router.AddServerId(On(kAlice, 4, 0, kSocket), Id("")).error(), Keep(Reason::kTooShort));
  EXPECT_TRUE(IsConflict(Reason::kTooShort));
  EXPECT_FALSE(IsConflict(Reason::kTooManyIds));

  Start({.min_connection_id = 0});
  EXPECT_TRUE(router.AddClientId(On(kAlice, 0, 0, kSocket), Id("")));
  EXPECT_EQ(router.AddClientId(On(kBob, 0, 0, kSocket), Id("12345678")).error(),
            Keep(Reason::kExistingIsPrefix));
  EXPECT_TRUE(router.AddServerId(On(kAlice, 4, 0, kSocket), Id("")));
}

// P7: the first request of a flow leaves nothing when it is refused; a later one leaves the flow.
TEST_F(RoutingRouter, RefusalDropsTheFlowOnlyIfItWasItsFirstRequest) {
  ASSERT_TRUE(router.AddClientId(On(kAlice, 0, 0, kSocket), Id("client")));
  ASSERT_FALSE(router.AddClientId(On(kBob, 0, 6, kSocket), Id("client")));
  EXPECT_FALSE(router.FindFlow(kBob, 6));
  EXPECT_EQ(router.RemoveStream({kBob, 0}), std::nullopt);
  EXPECT_TRUE(router.AddClientId(On(kBob, 0, 6, kOther), Id("client"))) << "nothing is in use";

  ASSERT_FALSE(router.AddClientId(On(kAlice, 4, 0, kSocket), Id("client")));
  EXPECT_EQ(router.FindFlow(kAlice, 0), kSocket);
}

// P12
TEST_F(RoutingRouter, MappingsDieWithTheirStream) {
  ASSERT_TRUE(router.AddClientId(On(kAlice, 0, 0, kSocket), Id("client-1")));
  ASSERT_TRUE(router.AddServerId(On(kAlice, 4, 0, kSocket), Id("server-1")));
  ASSERT_TRUE(router.AddClientId(On(kBob, 0, 0, kSocket), Id("client-2")));

  EXPECT_EQ(router.RemoveStream({kAlice, 4}), std::nullopt);
  EXPECT_FALSE(router.FromClient(Tuple(1), Short("server-1")));
  EXPECT_TRUE(router.FromTarget(kSocket, Short("client-1")));
  EXPECT_EQ(router.RemoveStream({kAlice, 4}), std::nullopt) << "twice";
  EXPECT_EQ(router.RemoveStream({kAlice, 0}), std::nullopt) << "the other client uses the socket";
  EXPECT_FALSE(router.FindFlow(kAlice, 0));
  EXPECT_EQ(router.FromTarget(kSocket, Short("client-1")).error(), NotRouted::kUnknownConnectionId);
  EXPECT_EQ(router.RemoveStream({kBob, 0}), kSocket);
  EXPECT_EQ(router.FromTarget(kSocket, Short("client-2")).error(), NotRouted::kUnknownSocket);
  EXPECT_EQ(router.RemoveStream({OuterConnection{3}, 0}), std::nullopt);
  EXPECT_EQ(router.counts(), (RouterCounts{.connections = 2, .tuples = 2, .sockets = 0}));
}

// P12
TEST_F(RoutingRouter, MappingsDieWithTheirConnection) {
  ASSERT_TRUE(router.Reserve(kAlice, Id("proxy-id")));
  ASSERT_TRUE(router.AddClientId(On(kAlice, 0, 0, SocketId{30}), Id("client-1")));
  ASSERT_TRUE(router.AddClientId(On(kAlice, 4, 2, kSocket), Id("client-1")));
  ASSERT_TRUE(router.AddServerId(On(kAlice, 8, 2, kSocket), Id("server-1")));
  ASSERT_TRUE(router.AddPlain(On(kAlice, 12, 4, SocketId{20})));
  ASSERT_TRUE(router.AddClientId(On(kBob, 0, 0, kSocket), Id("client-2")));

  EXPECT_EQ(router.RemoveConnection(kAlice), (std::vector{SocketId{20}, SocketId{30}}));
  EXPECT_TRUE(router.FromTarget(kSocket, Short("client-2")));
  EXPECT_FALSE(router.FromTarget(kSocket, Short("client-1")));
  EXPECT_EQ(router.FromClient(Tuple(1), Short("server-1")).error(), NotRouted::kUnknownTuple);
  EXPECT_EQ(router.AddClientId(On(kAlice, 0, 0, kOther), Id("client-1")).error(),
            Close(Reason::kUnknownConnection));
  EXPECT_TRUE(router.RemoveConnection(kAlice).empty());
  EXPECT_EQ(router.counts(), (RouterCounts{.connections = 1, .tuples = 1, .sockets = 1}));

  // What it had is free for the next one on the same 4-tuple.
  ASSERT_TRUE(router.AddConnection(kAlice, Tuple(1)));
  EXPECT_TRUE(router.AddServerId(On(kAlice, 0, 0, kSocket), Id("proxy-id")));
  EXPECT_TRUE(router.AddServerId(On(kAlice, 4, 0, kSocket), Id("server-1")));
}

TEST_F(RoutingRouter, RequestsDieWithTheirSocket) {
  ASSERT_TRUE(router.AddClientId(On(kBob, 8, 0, kSocket), Id("client-2")));
  ASSERT_TRUE(router.AddClientId(On(kAlice, 0, 0, kSocket), Id("client-1")));
  ASSERT_TRUE(router.AddServerId(On(kAlice, 4, 0, kSocket), Id("server-1")));
  ASSERT_TRUE(router.AddClientId(On(kAlice, 8, 2, kOther), Id("client-1")));
  EXPECT_EQ(router.RemoveSocket(kSocket),
            (std::vector<StreamKey>{{kAlice, 0}, {kAlice, 4}, {kBob, 8}}));
  EXPECT_TRUE(router.RemoveSocket(kSocket).empty());
  EXPECT_FALSE(router.FromClient(Tuple(1), Short("server-1")));
  EXPECT_FALSE(router.FindFlow(kAlice, 0));
  EXPECT_TRUE(router.FindFlow(kAlice, 2));
}

// P14: QUIC-aware and plain flows never share a socket.
TEST_F(RoutingRouter, SocketsThatAreNotShared) {
  ASSERT_TRUE(router.AddPlain(On(kAlice, 0, 0, kSocket)));
  EXPECT_EQ(router.AddClientId(On(kBob, 0, 0, kSocket), Id("client")).error(),
            Keep(Reason::kSocketNotShared));
  EXPECT_EQ(router.AddPlain(On(kBob, 0, 0, kSocket)).error(), Keep(Reason::kSocketNotShared));
  EXPECT_EQ(router.AddServerId(On(kAlice, 4, 0, kSocket), Id("server")).error(),
            Keep(Reason::kFlowInUse));
  EXPECT_EQ(router.AddPlain(On(kAlice, 4, 0, kSocket)).error(), Keep(Reason::kFlowInUse));

  ASSERT_TRUE(router.AddClientId(On(kAlice, 4, 2, kOther, false), Id("client-1")));
  EXPECT_EQ(router.AddClientId(On(kBob, 0, 0, kOther), Id("client-2")).error(),
            Keep(Reason::kSocketNotShared));
  EXPECT_EQ(router.AddPlain(On(kAlice, 8, 2, kOther)).error(), Keep(Reason::kFlowInUse));
  EXPECT_TRUE(router.AddClientId(On(kAlice, 8, 2, kOther), Id("client-2"))) << "its own flow";

  ASSERT_TRUE(router.AddClientId(On(kBob, 0, 0, SocketId{12}), Id("client")));
  EXPECT_EQ(router.AddPlain(On(kAlice, 12, 4, SocketId{12})).error(),
            Keep(Reason::kSocketNotShared));
}

TEST_F(RoutingRouter, ErrorsOfTheCaller) {
  EXPECT_EQ(router.AddConnection(kAlice, Tuple(3)).error(), Keep(Reason::kConnectionInUse));
  ASSERT_TRUE(router.AddClientId(On(kAlice, 0, 0, kSocket), Id("client")));
  EXPECT_EQ(router.AddServerId(On(kAlice, 0, 0, kSocket), Id("server")).error(),
            Keep(Reason::kStreamInUse));
  EXPECT_EQ(router.AddPlain(On(OuterConnection{9}, 0, 0, kOther)).error(),
            Close(Reason::kUnknownConnection));
}

// P13: at each bound the answer that it documents, and those who are there are not disturbed.
TEST_F(RoutingRouter, Bounds) {
  Start({.max_connections = 2,
         .max_sockets = 3,
         .max_flows_per_connection = 3,
         .max_streams_per_connection = 5,
         .max_reserved_per_connection = 1,
         .max_flows_per_socket = 2,
         .max_ids_per_scope = 3,
         .max_lengths_per_scope = 2});
  EXPECT_EQ(router.AddConnection(OuterConnection{3}, Tuple(1)).error(),
            Keep(Reason::kTooManyConnections));
  ASSERT_TRUE(router.Reserve(kAlice, Id("proxy-1")));
  EXPECT_EQ(router.Reserve(kAlice, Id("proxy-2")).error(), Keep(Reason::kTooManyReserved));

  ASSERT_TRUE(router.AddClientId(On(kAlice, 0, 0, kSocket), Id("client-1")));
  ASSERT_TRUE(router.AddClientId(On(kAlice, 4, 2, kSocket), Id("client-2")));
  EXPECT_EQ(router.AddClientId(On(kBob, 0, 0, kSocket), Id("client-3")).error(),
            Keep(Reason::kTooManyFlowsOnSocket));
  ASSERT_TRUE(router.AddClientId(On(kAlice, 8, 0, kSocket), Id("another")));
  EXPECT_EQ(router.AddClientId(On(kAlice, 12, 0, kSocket), Id("client-3")).error(),
            Keep(Reason::kTooManyIds));
  ASSERT_TRUE(router.AddServerId(On(kAlice, 12, 4, kOther), Id("server-1")));
  EXPECT_EQ(router.AddServerId(On(kAlice, 16, 4, kOther), Id("other")).error(),
            Keep(Reason::kTooManyLengths))
    << "the proxy's own ID has a length as well";
  EXPECT_EQ(router.AddPlain(On(kAlice, 16, 6, SocketId{20})).error(), Close(Reason::kTooManyFlows));
  ASSERT_TRUE(router.AddServerId(On(kAlice, 16, 0, kSocket), Id("server-2")));
  EXPECT_EQ(router.AddServerId(On(kAlice, 20, 0, kSocket), Id("server-3")).error(),
            Keep(Reason::kTooManyStreams));
  ASSERT_TRUE(router.AddPlain(On(kBob, 0, 0, SocketId{20})));
  EXPECT_EQ(router.AddPlain(On(kBob, 4, 2, SocketId{21})).error(), Close(Reason::kTooManySockets));

  EXPECT_TRUE(router.FromTarget(kSocket, Short("client-1")));
  EXPECT_TRUE(router.FromClient(Tuple(1), Short("server-1")));
  EXPECT_EQ(router.RemoveStream({kBob, 0}), SocketId{20});
  EXPECT_TRUE(router.AddPlain(On(kBob, 4, 2, SocketId{21})));
}

} // namespace
} // namespace ngmasque
