// Proxy: requirements P1 to P15 of proxying.md, section 2, by name.

#include "session_proxy_support.h"

namespace ngmasque {
namespace {

constexpr std::string_view kTarget = "5.6.7.8:443";
constexpr std::string_view kName = "target.example:443";

class ProxyRequirements : public testing::Test {
protected:
  unsigned Open(OuterConnection connection, StreamId stream, FlowId flow, std::string_view id,
                std::string_view authority = kTarget) {
    return world.Request(connection, stream, WithClientId(authority, flow, id));
  }

  ProxyWorld world;
};

TEST_F(ProxyRequirements, P1_FlowHasOneSocket) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  const auto socket = world.socket();
  ASSERT_EQ(Open(kAlice, 4, 0, "client-2"), 200u);
  ASSERT_EQ(world.Request(kAlice, 8, WithServerId(kTarget, 0, "server-1")), 200u);
  EXPECT_EQ(world.targets.size(), 1u);
  EXPECT_EQ(world.Send(kAlice, 0, "a"), socket);
}

TEST_F(ProxyRequirements, P2_ServerIdLeadsToSocket) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kAlice, 4, 2, "client-2", "5.6.7.9:443"), 200u);
  ASSERT_EQ(world.Request(kAlice, 8, WithServerId(kTarget, 0, "server-1")), 200u);
  ASSERT_EQ(world.Request(kAlice, 12, WithServerId("5.6.7.9:443", 2, "server-2")), 200u);
  const auto to = [&](std::string_view id) {
    return world.targets.at(world.Forward(Tuple(1), Short(id)).value().socket);
  };
  EXPECT_EQ(to("server-1"), At("5.6.7.8", 443));
  EXPECT_EQ(to("server-2"), At("5.6.7.9", 443));
}

TEST_F(ProxyRequirements, P3_ClientIdLeadsToFlow) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kAlice, 4, 2, "client-2"), 200u);
  ASSERT_EQ(Open(kBob, 0, 0, "client-3"), 200u);
  ASSERT_EQ(world.open.size(), 1u) << "one socket for all";
  const auto to = [&](std::string_view id) {
    const auto packet = world.Receive(world.socket(), Short(id)).value();
    return std::pair(packet.connection, packet.flow);
  };
  EXPECT_EQ(to("client-1"), std::pair(kAlice, FlowId{0}));
  EXPECT_EQ(to("client-2"), std::pair(kAlice, FlowId{2}));
  EXPECT_EQ(to("client-3"), std::pair(kBob, FlowId{0}));
}

TEST_F(ProxyRequirements, P4_ConflictsAreRefused) {
  ASSERT_TRUE(world.proxy.Reserve(kAlice, Id("proxy-id")));
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  StreamId stream = 4;
  for (const auto *id : {"client-1", "client", "client-1.", "", "abc"}) {
    EXPECT_EQ(Open(kBob, stream, stream, id), 409u) << id;
    stream += 4;
  }
  for (const auto *id : {"proxy-id", "proxy", "proxy-id."}) {
    EXPECT_EQ(world.Request(kAlice, stream, WithServerId(kTarget, 0, id)), 409u) << id;
    stream += 4;
  }
  EXPECT_EQ(world.Field(kAlice, stream - 4, "proxy-status"),
            "ngmasque;error=http_request_error;details=\"connection ID conflict\"");
  world.proxy.Unreserve(kAlice, Id("proxy-id"));
  EXPECT_EQ(world.Request(kAlice, stream, WithServerId(kTarget, 0, "proxy-id")), 200u);
  EXPECT_FALSE(world.proxy.Reserve(kAlice, Id("proxy-id"))) << "now it is the client's";
}

TEST_F(ProxyRequirements, P5_MalformedRequestsAreRefused) {
  auto fields = RequestFields(WithClientId(kTarget, 0, "client-1"));
  fields.push_back({"server-connection-id", ":MTIzNDU2:"});
  EXPECT_EQ(world.Request(kAlice, 0, fields), 400u);
  EXPECT_EQ(world.Field(kAlice, 0, "proxy-status"),
            "ngmasque;error=http_request_error;"
            "details=\"client-connection-id together with server-connection-id\"");
  ASSERT_EQ(Open(kAlice, 4, 0, "client-1"), 200u);
  EXPECT_EQ(Open(kAlice, 8, 0, "client-2", "5.6.7.9:443"), 400u) << "flow with another authority";
  EXPECT_EQ(world.Request(kAlice, 12, Plain(kTarget, 0)), 400u) << "and without connection ID";
  ASSERT_EQ(world.Request(kAlice, 16, Plain(kTarget, 2)), 200u);
  EXPECT_EQ(world.Request(kAlice, 20, Plain(kTarget, 2)), 400u);
  EXPECT_EQ(world.Request(kAlice, 24, WithServerId(kTarget, 2, "server-1")), 400u);
  ASSERT_EQ(world.Request(kAlice, 28, Plain(kName, 4)), 0u);
  EXPECT_EQ(Open(kAlice, 32, 4, "client-2", kName), 400u) << "at once, not after the look-up";
}

//= draft-00, section 5
//# The proxy also MUST reject the request if the requested datagram flow ID has already been used
//# on that client <-> proxy QUIC connection with a different requested authority.
TEST_F(ProxyRequirements, P5_FlowIdBelongsToItsAuthorityAfterItsEndToo) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  world.Close(kAlice, 0);
  EXPECT_EQ(Open(kAlice, 4, 0, "client-1", "5.6.7.9:443"), 400u);
  EXPECT_EQ(world.Field(kAlice, 4, "proxy-status"),
            "ngmasque;error=http_request_error;details=\"flow id is used up\"");
  EXPECT_EQ(Open(kAlice, 8, 0, "client-1", "5.6.7.8:444"), 400u);
  EXPECT_EQ(world.Request(kAlice, 12, Plain("5.6.7.9:443", 0)), 400u);
  EXPECT_EQ(Open(kAlice, 16, 0, "client-1"), 200u) << "with the same authority";
  // One that was refused has been used, too: before its look-up, and after it.
  ASSERT_EQ(Open(kAlice, 20, 2, "client-2", "10.0.0.1:443"), 403u);
  EXPECT_EQ(Open(kAlice, 24, 2, "client-2"), 400u);
  ASSERT_EQ(Open(kAlice, 28, 4, "client-2", kName), 0u);
  world.NotFound(world.lookup(), SessionError::kNoAddress);
  EXPECT_EQ(Open(kAlice, 32, 4, "client-2"), 400u);
  // Of another connection they say nothing.
  EXPECT_EQ(Open(kBob, 0, 0, "client-3", "5.6.7.9:443"), 200u);
  world.Do(world.proxy.RemoveConnection(kAlice, world.now));
  ASSERT_TRUE(world.proxy.AddConnection(kAlice, Tuple(1)));
  EXPECT_EQ(Open(kAlice, 36, 0, "client-1", "5.6.7.9:443"), 200u);
}

TEST_F(ProxyRequirements, P5_FlowIdsThatAreForgottenAreUsedUp) {
  constexpr FlowId remembered = 256;
  StreamId stream = 0;
  const auto use = [&](FlowId flow, std::string_view authority) {
    const auto status = Open(kAlice, stream, flow, "client-1", authority);
    world.Close(kAlice, stream);
    stream += 4;
    return status;
  };
  ASSERT_EQ(Open(kBob, 0, 0, "client-0"), 200u);
  ASSERT_EQ(Open(kAlice, stream, 2, "client-2"), 200u);
  stream += 4;
  for (FlowId number = 0; number <= remembered; ++number) {
    ASSERT_EQ(use(4 + 2 * number, kTarget), 200u) << number;
  }
  const FlowId highest = 4 + 2 * remembered;
  EXPECT_EQ(use(4, kTarget), 400u) << "forgotten, so nobody knows";
  EXPECT_EQ(use(0, kTarget), 400u) << "never used, but lower";
  EXPECT_EQ(use(6, kTarget), 200u);
  EXPECT_EQ(use(6, "5.6.7.9:443"), 400u);
  EXPECT_EQ(use(highest, "5.6.7.9:443"), 400u);
  EXPECT_EQ(use(highest + 2, "5.6.7.9:443"), 200u);
  // A flow that is there goes on.
  EXPECT_EQ(world.Request(kAlice, stream, WithServerId(kTarget, 2, "server-1")), 200u);
}

TEST_F(ProxyRequirements, P5_OddFlowIdsAreTheProxys) {
  EXPECT_EQ(Open(kAlice, 0, 1, "client-1"), 400u);
  EXPECT_EQ(world.Request(kAlice, 4, Plain(kTarget, 3)), 400u);
  EXPECT_EQ(Open(kAlice, 8, 999'999'999'999'999, "client-1"), 400u);
  EXPECT_EQ(Open(kAlice, 12, 999'999'999'999'998, "client-1"), 200u);
  EXPECT_TRUE(world.lookups.empty());
}

TEST_F(ProxyRequirements, P6_NoSecondLookupForSocketOrFlow) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  EXPECT_EQ(world.lookups.at(world.lookup()), "target.example");
  // While it runs, requests of the same flow wait for it.
  ASSERT_EQ(world.Request(kAlice, 4, WithServerId(kName, 0, "server-1")), 0u);
  ASSERT_EQ(Open(kAlice, 8, 0, "client-2", kName), 0u);
  EXPECT_EQ(world.proxy.counters().lookups, 1u);
  world.Found(world.lookup(), {At("5.6.7.8", 0), At("5.6.7.9", 0)});
  for (const StreamId stream : {0, 4, 8}) {
    EXPECT_EQ(world.Status(kAlice, stream), 200u);
  }
  // Afterwards, other flows find the socket by its authority.
  ASSERT_EQ(Open(kBob, 0, 0, "client-3", kName), 200u);
  EXPECT_EQ(world.proxy.counters().lookups, 1u);
  EXPECT_EQ(world.targets.size(), 1u);
  // With another port it is another one.
  ASSERT_EQ(Open(kBob, 4, 2, "client-4", "target.example:4443"), 0u);
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  EXPECT_EQ(world.targets.at(world.Send(kBob, 2, "a").value()), At("5.6.7.8", 4443));
  // When the last flow for it is gone, so is the memory of the name.
  world.Do(world.proxy.RemoveConnection(kAlice, world.now));
  world.Do(world.proxy.RemoveConnection(kBob, world.now));
  ASSERT_TRUE(world.proxy.AddConnection(kBob, Tuple(2)));
  ASSERT_EQ(Open(kBob, 8, 0, "client-3", kName), 0u);
  EXPECT_EQ(world.proxy.counters().lookups, 3u);
}

TEST_F(ProxyRequirements, P6_SocketIsKnownByTheNamesOfItsFlowsOnly) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  ASSERT_EQ(Open(kBob, 0, 0, "client-2", "alias.example:443"), 0u);
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  ASSERT_EQ(world.targets.size(), 1u) << "the same socket";
  world.Close(kAlice, 0);
  EXPECT_EQ(world.open.size(), 1u);
  EXPECT_EQ(Open(kAlice, 4, 2, "client-3", "alias.example:443"), 200u);
  EXPECT_EQ(Open(kAlice, 8, 4, "client-4", kName), 0u) << "is looked up again";
}

TEST_F(ProxyRequirements, P7_ConflictOfFirstRequestDropsFlow) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kBob, 0, 0, "client-1"), 409u);
  EXPECT_EQ(world.open.size(), 1u) << "Alice's";
  EXPECT_EQ(world.proxy.counters().flows.now, 1u);
  // A socket that was opened for it is closed again.
  ASSERT_EQ(Open(kBob, 4, 2, "abc", "5.6.7.9:443"), 409u);
  EXPECT_EQ(world.open.size(), 1u);
  // What waited for the first request has the same answer.
  ASSERT_EQ(Open(kBob, 8, 4, "client-1", kName), 0u);
  ASSERT_EQ(Open(kBob, 12, 4, "client-2", kName), 0u);
  EXPECT_EQ(world.Send(kBob, 4, "early").error(), kLater);
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  EXPECT_EQ(world.Status(kBob, 8), 409u);
  EXPECT_EQ(world.Status(kBob, 12), 409u);
  EXPECT_TRUE(world.sent.empty());
}

TEST_F(ProxyRequirements, P8_ForwardsToClientOnceItHasForwarded) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(world.Request(kAlice, 4, WithServerId(kTarget, 0, "server-1")), 200u);
  const auto packet = Short("client-1...");
  EXPECT_EQ(world.Receive(world.socket(), packet)->form, ClientForm::kDatagram);
  ASSERT_TRUE(world.Forward(Tuple(1), Short("server-1...")));
  EXPECT_EQ(
    world.Receive(world.socket(), packet),
    (Received{.connection = kAlice, .form = ClientForm::kForward, .tuple = Tuple(1)}));
  EXPECT_EQ(world.Receive(world.socket(), Long("client-1"))->form, ClientForm::kDatagram);
}

TEST_F(ProxyRequirements, P9_ForwardsFromTheMappedTupleOnly) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(world.Request(kAlice, 4, WithServerId(kTarget, 0, "server-1")), 200u);
  const auto packet = Short("server-1...");
  EXPECT_FALSE(world.Forward(Tuple(2), packet));
  EXPECT_TRUE(world.proxy.MoveConnection(kAlice, Tuple(3), world.now).actions.empty());
  EXPECT_TRUE(world.Forward(Tuple(3), packet));
  // What has left from where the client was may come after it.
  EXPECT_TRUE(world.Forward(Tuple(1), packet));
  for (std::uint16_t tuple = 4; tuple < 4 + Tunnels::kMaxOthers; ++tuple) {
    EXPECT_TRUE(world.proxy.MoveConnection(kAlice, Tuple(tuple), world.now).actions.empty());
  }
  EXPECT_FALSE(world.Forward(Tuple(1), packet));
}

TEST_F(ProxyRequirements, P10_ForwardingOff) {
  world = ProxyWorld({.forwarding = false});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  EXPECT_EQ(world.Request(kAlice, 4, WithServerId(kTarget, 0, "server-1")), 403u);
  EXPECT_EQ(world.Field(kAlice, 4, "proxy-status"), "ngmasque;error=http_request_denied");
  EXPECT_TRUE(world.Send(kAlice, 0, "the flow goes on"));
  EXPECT_EQ(Open(kAlice, 8, 0, "client-2"), 200u);
}

TEST_F(ProxyRequirements, P11_ForwardedPacketIsActivityOfItsConnection) {
  ASSERT_EQ(Open(kBob, 0, 0, "client-1"), 200u);
  ASSERT_EQ(world.Request(kBob, 4, WithServerId(kTarget, 0, "server-1")), 200u);
  EXPECT_EQ(world.Forward(Tuple(2), Short("server-1..."))->connection, kBob);
}

TEST_F(ProxyRequirements, P12_MappingsDieWithStreamAndConnection) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kAlice, 4, 2, "client-2", "5.6.7.9:443"), 200u);
  ASSERT_EQ(Open(kBob, 0, 0, "client-3"), 200u);
  world.Close(kAlice, 0);
  EXPECT_EQ(world.Receive(world.Send(kBob, 0, "").value(), Short("client-1")).error(),
            DropReason::kUnknownConnectionId);
  world.Do(world.proxy.RemoveConnection(kAlice, world.now));
  EXPECT_EQ(world.open.size(), 1u) << "Bob's";
  world.Do(world.proxy.RemoveConnection(kBob, world.now));
  EXPECT_TRUE(world.open.empty());
  EXPECT_EQ(world.closed, 2);
  EXPECT_TRUE(world.resets.empty()) << "there is nothing to reset any more";
}

TEST_F(ProxyRequirements, P12_StreamsThatCloseBeforeTheirAnswer) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  ASSERT_EQ(Open(kAlice, 4, 0, "client-2", kName), 0u);
  world.Close(kAlice, 0);
  EXPECT_EQ(world.cancelled, 0) << "the other one waits still";
  world.Close(kAlice, 4);
  EXPECT_EQ(world.cancelled, 1);
  EXPECT_TRUE(world.proxy.OnLookup(LookupId{0}, std::vector{At("5.6.7.8", 0)}, world.now).empty());

  world.open_at_once = false;
  ASSERT_EQ(Open(kAlice, 8, 2, "client-1"), 0u);
  const auto socket = world.socket();
  world.Close(kAlice, 8);
  EXPECT_TRUE(world.opening.empty()) << "CloseSocket was said";
  EXPECT_TRUE(world.proxy.OnSocket(socket, nullptr, world.now).empty());
  EXPECT_EQ(world.proxy.counters().sockets, (Level{.now = 0, .highest = 1}));
  EXPECT_TRUE(world.answers.empty());

  // What is left of a flow has to begin as flows do.
  ASSERT_EQ(Open(kAlice, 12, 4, "client-1"), 0u);
  ASSERT_EQ(world.Request(kAlice, 16, WithServerId(kTarget, 4, "server-1")), 0u);
  world.Close(kAlice, 12);
  world.Opened(world.socket());
  EXPECT_EQ(world.Status(kAlice, 16), 400u);
  EXPECT_TRUE(world.open.empty());
}

TEST_F(ProxyRequirements, P14_SharedAndPlainSockets) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  const auto shared = world.socket();
  ASSERT_EQ(world.Request(kBob, 0, Plain(kTarget, 0)), 200u);
  const auto own = world.socket();
  EXPECT_NE(shared, own) << "plain flows share nothing";
  ASSERT_EQ(world.Request(kBob, 4, Plain(kTarget, 2)), 200u);
  EXPECT_NE(world.socket(), own);
  EXPECT_EQ(world.Receive(shared, Short("stranger")).error(), DropReason::kUnknownConnectionId);
  EXPECT_EQ(world.Receive(shared, {}).error(), DropReason::kMalformed);
  EXPECT_EQ(world.Receive(own, Short("stranger"))->connection, kBob);
  ASSERT_EQ(Open(kBob, 8, 4, "client-2"), 200u);
  EXPECT_EQ(world.Send(kBob, 4, "a"), shared);
  // An own socket takes nothing with it.
  world.Close(kBob, 0);
  ASSERT_EQ(Open(kBob, 12, 6, "client-3", kName), 0u);
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  EXPECT_EQ(world.Send(kBob, 6, "a"), shared);
}

TEST_F(ProxyRequirements, P15_SourceIsChecked) {
  ASSERT_EQ(world.Request(kAlice, 0, Plain("[2606:4700::1]:5300", 0)), 200u);
  const auto from = [&](const Endpoint &source) {
    return world.Receive(world.socket(), source, Short("answer"));
  };
  EXPECT_TRUE(from(At("2606:4700::1", 5300)));
  //= RFC 9298, section 3.1
  //# If the UDP proxy uses a non-connected socket, it MUST validate the IP source address and UDP
  //# source port on received packets to ensure they match the client's request.
  //
  //= RFC 9298, section 3.1
  //# Packets that do not match MUST be discarded by the UDP proxy.
  EXPECT_EQ(from(At("2606:4700::2", 53)).error(), DropReason::kWrongSource);
  EXPECT_EQ(from(At("2606:4700::1", 5301)).error(), DropReason::kWrongSource);
  EXPECT_EQ(world.proxy.counters().dropped[std::size_t(DropReason::kWrongSource)], 2u);
}

} // namespace
} // namespace ngmasque
