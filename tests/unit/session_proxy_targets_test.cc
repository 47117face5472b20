// Proxy: look-ups, addresses and sockets, and what is answered when there are none or too many.

#include "session_proxy_support.h"

namespace ngmasque {
namespace {

constexpr std::string_view kTarget = "5.6.7.8:443";
constexpr std::string_view kName = "target.example:443";

TargetPolicy AllowLoopback() {
  return TargetPolicy(
    {.allow = {*ParseAddressBlock("127.0.0.0/8")}, .own = {At("127.0.0.1", 4433)}, .local = {}});
}

class ProxyTargets : public testing::Test {
protected:
  void Start(const ProxyOptions &options, TargetPolicy policy = {}) {
    world = ProxyWorld(options, std::move(policy));
  }

  unsigned Open(OuterConnection connection, StreamId stream, FlowId flow, std::string_view id,
                std::string_view authority = kTarget) {
    return world.Request(connection, stream, WithClientId(authority, flow, id));
  }

  std::string ProxyStatus(OuterConnection connection, StreamId stream) {
    return world.Field(connection, stream, "proxy-status");
  }

  ProxyWorld world;
};

//= RFC 9298, section 3.1
//# if the "target_host" is a DNS name, the UDP proxy MUST perform DNS resolution before replying to
//# the HTTP request.
//
//= RFC 9298, section 3.1
//# If errors occur during this process, the UDP proxy MUST reject the request and SHOULD send
//# details using an appropriate Proxy-Status header field
TEST_F(ProxyTargets, LookupThatFails) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  world.NotFound(world.lookup(), SessionError::kNoAddress);
  EXPECT_EQ(world.Status(kAlice, 0), 502u);
  EXPECT_EQ(ProxyStatus(kAlice, 0), "ngmasque;error=dns_error");

  ASSERT_EQ(Open(kAlice, 4, 2, "client-1", kName), 0u);
  world.NotFound(world.lookup(), SessionError::kLookupTimeout);
  EXPECT_EQ(world.Status(kAlice, 4), 504u);
  EXPECT_EQ(ProxyStatus(kAlice, 4), "ngmasque;error=dns_timeout");

  ASSERT_EQ(Open(kAlice, 8, 4, "client-1", kName), 0u);
  world.Found(world.lookup(), {});
  EXPECT_EQ(world.Status(kAlice, 8), 502u);
  EXPECT_EQ(world.cancelled, 0) << "they were all answered";
  EXPECT_EQ(world.proxy.counters().flows.now, 0u);
}

// adversarial.md, row 13.
TEST_F(ProxyTargets, ProhibitedTargets) {
  StreamId stream = 0;
  const auto refused = [&](std::string_view authority, const std::vector<Endpoint> &found = {}) {
    stream += 4;
    Open(kAlice, stream, stream, "client-1", authority);
    if (!world.lookups.empty()) {
      world.Found(world.lookup(), found);
    }
    return world.Status(kAlice, stream) == 403 && world.targets.empty() &&
           ProxyStatus(kAlice, stream) == "ngmasque;error=destination_ip_prohibited";
  };
  EXPECT_TRUE(refused("127.0.0.1:443"));
  EXPECT_TRUE(refused("[::1]:443"));
  EXPECT_TRUE(refused("[::ffff:127.0.0.1]:443")) << "mapped";
  EXPECT_TRUE(refused("[64:ff9b::7f00:1]:443")) << "NAT64";
  const auto loopback = At("127.0.0.1", 0);
  // What resolvers make of these is for them to know: here it is an address like others.
  EXPECT_TRUE(refused("2130706433:443", {loopback})) << "decimal";
  EXPECT_TRUE(refused("0177.0.0.1:443", {loopback})) << "octal";
  EXPECT_TRUE(refused("127.1:443", {loopback})) << "short";
  EXPECT_TRUE(refused("localhost.:443", {loopback}));
  EXPECT_TRUE(refused("alias.example:443", {At("10.0.0.1", 0)})) << "an internal name";
  EXPECT_TRUE(refused("mixed.example:443", {At("5.6.7.8", 0), loopback}));
  EXPECT_TRUE(refused("mixed.example:443", {loopback, At("5.6.7.8", 0)}));

  auto fields = RequestFields(WithClientId(kTarget, 2, "client-1"));
  fields[1].value = "[fe80::1%eth0]:443";
  EXPECT_EQ(world.Request(kAlice, stream + 4, fields), 400u) << "zone identifiers are no authority";
  EXPECT_TRUE(world.targets.empty());
}

TEST_F(ProxyTargets, PortsAreCheckedBeforeTheLookup) {
  EXPECT_EQ(Open(kAlice, 0, 0, "client-1", "target.example:53"), 403u);
  EXPECT_EQ(ProxyStatus(kAlice, 0), "ngmasque;error=http_request_denied");
  EXPECT_EQ(Open(kAlice, 4, 2, "client-1", "5.6.7.8:11211"), 403u);
  EXPECT_EQ(world.proxy.counters().lookups, 0u);
  EXPECT_TRUE(world.targets.empty());
}

TEST_F(ProxyTargets, AnswerThatChangesIsCheckedAgain) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  ASSERT_EQ(world.Status(kAlice, 0), 200u);
  // Another plain flow looks it up for itself, as it has its own socket.
  ASSERT_EQ(world.Request(kAlice, 4, Plain(kName, 2)), 0u);
  world.Found(world.lookup(), {At("169.254.169.254", 0)});
  EXPECT_EQ(world.Status(kAlice, 4), 403u);
  EXPECT_EQ(world.targets.size(), 1u);
}

TEST_F(ProxyTargets, MixedAnswersIfTheOperatorWantsThem) {
  Start({.mixed_addresses = true});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  world.Found(world.lookup(), {At("10.0.0.1", 0), At("5.6.7.8", 0), At("127.0.0.1", 0)});
  EXPECT_EQ(world.Status(kAlice, 0), 200u);
  EXPECT_EQ(world.targets.size(), 1u);
  EXPECT_EQ(world.targets.at(world.socket()), At("5.6.7.8", 443));
}

TEST_F(ProxyTargets, AllowListAndOwnListener) {
  Start({}, AllowLoopback());
  EXPECT_EQ(Open(kAlice, 0, 0, "client-1", "127.0.0.1:443"), 200u);
  EXPECT_EQ(Open(kAlice, 4, 2, "client-2", "127.0.0.1:4433"), 403u) << "the proxy itself";
  EXPECT_EQ(Open(kAlice, 8, 4, "client-3", "[::1]:443"), 403u);
}

TEST_F(ProxyTargets, SharedSocketsGrowWithTheirFlows) {
  StreamId stream = 0;
  for (FlowId flow = 0; flow < 18; flow += 2) {
    ASSERT_EQ(Open(kAlice, stream, flow, "client-" + std::to_string(flow + 10)), 200u);
    stream += 4;
  }
  const auto socket = world.socket();
  using Grown = std::vector<std::pair<SocketId, std::size_t>>;
  EXPECT_EQ(world.grown, (Grown{{socket, 2}, {socket, 4}, {socket, 8}}));
  // Plain ones have one each.
  ASSERT_EQ(world.Request(kAlice, stream, Plain(kTarget, 100)), 200u);
  EXPECT_EQ(world.grown.size(), 3u);
}

TEST_F(ProxyTargets, NextAddressIsTried) {
  world.open_at_once = false;
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  ASSERT_EQ(Open(kBob, 0, 0, "client-2", kName), 0u);
  world.Found(LookupId{0}, {At("2606:4700::1", 0), At("5.6.7.8", 0)});
  world.Found(LookupId{1}, {At("2606:4700::1", 0), At("5.6.7.8", 0)});
  ASSERT_EQ(world.targets.size(), 1u) << "both wait for the same socket";
  world.NotOpened(world.socket(), SessionError::kUnroutable);
  ASSERT_EQ(world.targets.size(), 2u) << "and then for the same again";
  EXPECT_EQ(world.targets.at(world.socket()), At("5.6.7.8", 443));
  world.Opened(world.socket());
  EXPECT_EQ(world.Status(kAlice, 0), 200u);
  EXPECT_EQ(world.Status(kBob, 0), 200u);
}

TEST_F(ProxyTargets, NoAddressCanBeConnectedTo) {
  world.open_at_once = false;
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  world.Found(world.lookup(), {At("2606:4700::1", 0), At("5.6.7.8", 0)});
  world.NotOpened(world.socket(), SessionError::kUnroutable);
  world.NotOpened(world.socket(), SessionError::kUnroutable);
  EXPECT_EQ(world.Status(kAlice, 0), 502u);
  EXPECT_EQ(ProxyStatus(kAlice, 0), "ngmasque;error=destination_ip_unroutable");

  ASSERT_EQ(Open(kAlice, 4, 2, "client-1"), 0u);
  world.NotOpened(world.socket(), SessionError::kNoSocket);
  EXPECT_EQ(world.Status(kAlice, 4), 503u);
  EXPECT_EQ(ProxyStatus(kAlice, 4), "ngmasque;error=connection_limit_reached");
  EXPECT_EQ(world.proxy.counters().sockets, (Level{.now = 0, .highest = 1}));
}

TEST_F(ProxyTargets, AddressesAreBounded) {
  Start({.max_addresses = 2});
  world.open_at_once = false;
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  world.Found(world.lookup(), {At("5.6.7.1", 0), At("5.6.7.2", 0), At("5.6.7.3", 0)});
  world.NotOpened(world.socket(), SessionError::kUnroutable);
  world.NotOpened(world.socket(), SessionError::kUnroutable);
  EXPECT_EQ(world.Status(kAlice, 0), 502u);
  EXPECT_EQ(world.targets.size(), 2u);
}

//= RFC 9298, section 3.1
//# If a UDP proxy is notified by its operating system that its socket is no longer usable, it MUST
//# close the request stream.
TEST_F(ProxyTargets, SocketThatFailsResetsItsStreams) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(world.Request(kAlice, 4, WithServerId(kTarget, 0, "server-1")), 200u);
  ASSERT_EQ(Open(kBob, 0, 0, "client-2"), 200u);
  ASSERT_EQ(Open(kBob, 4, 2, "client-3", "5.6.7.9:443"), 200u);
  world.Do(world.proxy.OnSocketFailed(SocketId{0}, world.now));
  EXPECT_EQ(world.resets, (std::vector<StreamKey>{{kAlice, 0}, {kAlice, 4}, {kBob, 0}}));
  EXPECT_EQ(world.closed, 1);
  EXPECT_TRUE(world.Send(kBob, 2, "the other one goes on"));
  EXPECT_EQ(world.proxy.counters().reset, 3u);
  // Nobody finds the dead one.
  EXPECT_EQ(Open(kAlice, 8, 4, "client-1"), 200u);
  EXPECT_EQ(world.targets.size(), 3u);
  EXPECT_TRUE(world.proxy.OnSocketFailed(SocketId{0}, world.now).empty());
}

// What the network says may be forged.
TEST_F(ProxyTargets, FlowsThatHadAnswersOutliveAFailure) {
  Start({});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kBob, 0, 0, "client-2"), 200u);
  ASSERT_TRUE(world.Receive(world.socket(), Long("client-1")));
  world.Do(world.proxy.OnSocketFailed(world.socket(), world.now));
  EXPECT_EQ(world.resets, (std::vector<StreamKey>{{kBob, 0}}));
  EXPECT_EQ(world.closed, 0);
  EXPECT_TRUE(world.Send(kAlice, 0, "it goes on"));
  EXPECT_TRUE(world.Receive(world.socket(), Long("client-1")));
  EXPECT_FALSE(world.Receive(world.socket(), Long("client-2")));
}

TEST_F(ProxyTargets, SharingOff) {
  Start({.port_sharing = false});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kBob, 0, 0, "client-1"), 200u) << "no conflict";
  EXPECT_EQ(world.open.size(), 2u);
  EXPECT_TRUE(world.Receive(world.socket(), Short("stateless reset")));
}

TEST_F(ProxyTargets, ConnectionIdsOff) {
  Start({.connection_ids = false});
  auto fields = RequestFields(WithClientId(kTarget, 0, "client-1"));
  fields.push_back({"server-connection-id", "nonsense"});
  ASSERT_EQ(world.Request(kAlice, 0, fields), 200u);
  EXPECT_EQ(world.Field(kAlice, 0, "datagram-flow-id"), "0");
  EXPECT_EQ(world.Field(kAlice, 0, "client-connection-id"), "");
  EXPECT_TRUE(world.Receive(world.socket(), Short("anything")));
  ASSERT_EQ(Open(kBob, 0, 0, "client-1"), 200u);
  EXPECT_EQ(world.open.size(), 2u);
}

TEST_F(ProxyTargets, FullSharedSocketMakesRoomElsewhere) {
  Start({.routing = {.max_flows_per_socket = 1}});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kAlice, 4, 2, "client-2"), 200u);
  ASSERT_EQ(Open(kBob, 0, 0, "client-3"), 200u);
  EXPECT_EQ(world.open.size(), 3u);
  for (const auto &[socket, target] : world.targets) {
    EXPECT_EQ(target, At("5.6.7.8", 443));
  }
  EXPECT_EQ(Open(kBob, 4, 2, "client-1"), 200u) << "nothing is in its way there";

  Start({.routing = {.max_lengths_per_scope = 1}});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kBob, 0, 0, "longer-client-2"), 200u);
  EXPECT_EQ(world.open.size(), 2u);
  EXPECT_EQ(Open(kAlice, 4, 0, "longer-client-3"), 503u) << "its flow has a socket already";
  EXPECT_EQ(Open(kBob, 4, 0, "client-4"), 429u) << "that is all its own";
  EXPECT_TRUE(world.Send(kAlice, 0, "a"));
  EXPECT_TRUE(world.Send(kBob, 0, "b"));
}

// P13, bound by bound: the answer, and that others do not notice.

TEST_F(ProxyTargets, P13_Connections) {
  Start({.routing = {.max_connections = 2}});
  EXPECT_EQ(world.proxy.AddConnection(OuterConnection{3}, Tuple(3)).error(),
            SessionError::kTooManyConnections);
  EXPECT_EQ(Open(kBob, 0, 0, "client-1"), 200u);
}

TEST_F(ProxyTargets, P13_Flows) {
  Start({.routing = {.max_flows_per_client = 1}});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  EXPECT_EQ(Open(kAlice, 4, 2, "client-2"), 429u) << "those that wait count";
  EXPECT_EQ(ProxyStatus(kAlice, 4),
            "ngmasque;error=http_request_error;details=\"too many flows of the client\"");
  EXPECT_EQ(Open(kBob, 0, 0, "client-3"), 200u);
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  EXPECT_EQ(world.Status(kAlice, 0), 200u);
  world.Close(kAlice, 0);
  EXPECT_EQ(Open(kAlice, 8, 2, "client-2"), 200u);
}

TEST_F(ProxyTargets, P13_Requests) {
  Start({.routing = {.max_streams_per_client = 2}});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  ASSERT_EQ(Open(kAlice, 4, 0, "client-2", kName), 0u);
  EXPECT_EQ(Open(kAlice, 8, 0, "client-3", kName), 429u);
  EXPECT_EQ(Open(kBob, 0, 0, "client-3"), 200u);
  world.Found(world.lookup(), {At("5.6.7.9", 0)});
  EXPECT_EQ(world.Status(kAlice, 4), 200u);
  EXPECT_EQ(Open(kAlice, 12, 0, "client-3", kName), 429u);
}

TEST_F(ProxyTargets, P13_ConnectionIds) {
  Start({.routing = {.max_ids_per_scope = 1}});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(world.Request(kAlice, 4, WithServerId(kTarget, 0, "server-1")), 200u);
  EXPECT_EQ(world.Request(kAlice, 8, WithServerId(kTarget, 0, "server-2")), 429u);
  EXPECT_EQ(Open(kBob, 0, 0, "client-2"), 200u) << "on a socket of its own";
  EXPECT_EQ(world.Request(kBob, 4, WithServerId(kTarget, 0, "server-1")), 200u);
}

TEST_F(ProxyTargets, P13_Sockets) {
  Start({.routing = {.max_sockets = 1}});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  EXPECT_EQ(Open(kAlice, 4, 2, "client-2", "5.6.7.9:443"), 503u);
  EXPECT_EQ(ProxyStatus(kAlice, 4), "ngmasque;error=connection_limit_reached");
  EXPECT_EQ(Open(kBob, 0, 0, "client-2"), 200u) << "on the one that there is";
  EXPECT_TRUE(world.Send(kAlice, 0, "a"));
}

TEST_F(ProxyTargets, P13_Lookups) {
  Start({.max_lookups_per_client = 1, .max_lookups = 2});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  EXPECT_EQ(Open(kAlice, 4, 2, "client-2", kName), 429u);
  ASSERT_EQ(Open(kBob, 0, 0, "client-2", kName), 0u);
  ASSERT_TRUE(world.proxy.AddConnection(OuterConnection{3}, Tuple(3)));
  EXPECT_EQ(Open(OuterConnection{3}, 0, 0, "client-3", kName), 503u);
  // What nobody waits for any more is still under way, and counts until it is answered.
  world.Close(kAlice, 0);
  EXPECT_EQ(world.cancelled, 1);
  EXPECT_EQ(Open(kAlice, 8, 0, "client-1", kName), 429u);
  EXPECT_EQ(Open(OuterConnection{3}, 4, 0, "client-3", kName), 503u);
  world.NotFound(LookupId{0}, SessionError::kNoAddress);
  EXPECT_EQ(world.Status(kAlice, 0), 0u);
  EXPECT_EQ(Open(OuterConnection{3}, 8, 0, "client-3", kName), 0u);
  // The same if its connection is gone.
  world.Do(world.proxy.RemoveConnection(OuterConnection{3}, world.now));
  EXPECT_EQ(Open(kAlice, 12, 0, "client-1", kName), 503u);
  // Nor does it make the client another one.
  ASSERT_TRUE(world.proxy.AddConnection(OuterConnection{4}, Tuple(3)));
  EXPECT_EQ(Open(OuterConnection{4}, 0, 0, "client-3", kName), 429u);
  world.NotFound(LookupId{2}, SessionError::kNoAddress);
  EXPECT_EQ(Open(kAlice, 16, 0, "client-1", kName), 0u);
}

TEST_F(ProxyTargets, MoveGivesUpWhatOthersHave) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kBob, 0, 0, "client-2", "5.6.7.9:443"), 200u);
  ASSERT_EQ(world.Request(kAlice, 4, WithServerId(kTarget, 0, "server-1")), 200u);
  ASSERT_EQ(world.Request(kAlice, 8, WithServerId(kTarget, 0, "server-2")), 200u);
  ASSERT_EQ(world.Request(kBob, 4, WithServerId("5.6.7.9:443", 0, "server-1")), 200u);
  ASSERT_EQ(world.Request(kBob, 8, WithServerId("5.6.7.9:443", 0, "proxy-id")), 200u);
  ASSERT_TRUE(world.proxy.Reserve(kAlice, Id("proxy-id")));

  const auto moved = world.proxy.MoveConnection(kAlice, Tuple(2), world.now);
  EXPECT_EQ(moved.reserved, std::vector{Id("proxy-id")});
  world.Do(moved.actions);
  EXPECT_EQ(world.resets, (std::vector<StreamKey>{{kAlice, 4}}));
  EXPECT_EQ(world.Forward(Tuple(2), Short("server-1"))->connection, kBob);
  EXPECT_EQ(world.Forward(Tuple(2), Short("proxy-id"))->connection, kBob);
  EXPECT_EQ(world.Forward(Tuple(2), Short("server-2"))->connection, kAlice);
  EXPECT_EQ(world.Request(kAlice, 12, WithServerId(kTarget, 0, "server-3")), 200u);
}

TEST_F(ProxyTargets, UnknownOnesAreIgnored) {
  const OuterConnection nobody{9};
  EXPECT_TRUE(world.proxy.OnRequest({nobody, 0}, RequestFields(Plain(kTarget)), world.now).empty());
  EXPECT_TRUE(world.proxy.OnStreamClosed({nobody, 0}, world.now).empty());
  EXPECT_TRUE(world.proxy.OnStreamClosed({kAlice, 0}, world.now).empty());
  EXPECT_TRUE(world.proxy.RemoveConnection(nobody, world.now).empty());
  EXPECT_TRUE(world.proxy.MoveConnection(nobody, Tuple(3), world.now).actions.empty());
  EXPECT_FALSE(world.proxy.Reserve(nobody, Id("proxy-id")));
  EXPECT_TRUE(world.proxy.OnSocket(SocketId{5}, nullptr, world.now).empty());
  EXPECT_TRUE(world.proxy.OnSocketFailed(SocketId{5}, world.now).empty());
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  EXPECT_TRUE(world.proxy.OnRequest({kAlice, 0}, RequestFields(Plain(kTarget)), world.now).empty())
    << "a stream has one request";
  EXPECT_TRUE(
    world.proxy.OnSocket(world.socket(), std::unexpected(SessionError::kNoSocket), world.now)
      .empty())
    << "it is open";
  EXPECT_TRUE(world.Send(kAlice, 0, "a"));
}

} // namespace
} // namespace ngmasque
