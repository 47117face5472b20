// Proxy: early payloads, payloads on streams, rates and counters.

#include "ngmasque/wire/datagram.h"

#include "session_proxy_support.h"

namespace ngmasque {
namespace {

constexpr std::string_view kTarget = "5.6.7.8:443";
constexpr std::string_view kName = "target.example:443";

class ProxyPackets : public testing::Test {
protected:
  unsigned Open(OuterConnection connection, StreamId stream, FlowId flow, std::string_view id,
                std::string_view authority = kTarget) {
    return world.Request(connection, stream, WithClientId(authority, flow, id));
  }

  std::optional<DropReason> Error(OuterConnection connection, FlowId flow,
                                  std::string_view payload) {
    return world.Send(connection, flow, payload).error();
  }

  // What of `bytes` on a stream gets to a target, and what comes last.
  std::pair<std::vector<std::string>, std::optional<DropReason>> Stream(const StreamKey &stream,
                                                                        const Bytes &bytes) {
    std::pair<std::vector<std::string>, std::optional<DropReason>> result{};
    ProxyActions actions;
    for (std::span<const std::uint8_t> rest(bytes); !rest.empty();) {
      const auto to = world.proxy.OnStreamData(stream, rest, world.now, actions);
      if (to && to->tunnel) {
        result.first.push_back(ToText(to->payload));
      } else {
        result.second = to ? std::nullopt : std::optional(to.error());
      }
    }
    return result;
  }

  std::uint64_t Count(DropReason reason) {
    return world.proxy.counters().dropped[static_cast<std::size_t>(reason)];
  }

  std::vector<std::string> Sent() {
    std::vector<std::string> payloads;
    for (const auto &[socket, payload] : world.sent) {
      payloads.push_back(payload);
    }
    return payloads;
  }

  ProxyWorld world;
};

TEST_F(ProxyPackets, EarlyDatagramsAreBoundedPerFlow) {
  world = ProxyWorld({.max_early_datagrams = 2});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  EXPECT_EQ(Error(kAlice, 0, "1"), kLater);
  EXPECT_EQ(Error(kAlice, 0, ""), kLater) << "an empty one is one, too";
  EXPECT_EQ(Error(kAlice, 0, "3"), DropReason::kUnknownFlow);
  EXPECT_EQ(Error(kAlice, 2, "other flow"), kLater);
  EXPECT_EQ(Error(kBob, 0, "other client"), kLater);
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  EXPECT_EQ(Sent(), (std::vector<std::string>{"1", ""}));
  ASSERT_EQ(Open(kBob, 0, 0, "client-2"), 200u);
  EXPECT_EQ(Sent().back(), "other client");
}

TEST_F(ProxyPackets, EarlyDatagramsAreBoundedInBytes) {
  world = ProxyWorld({.max_early_bytes = 10});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  EXPECT_EQ(Error(kAlice, 0, "12345678901"), DropReason::kUnknownFlow);
  EXPECT_EQ(Error(kAlice, 0, "123456"), kLater);
  EXPECT_EQ(Error(kAlice, 0, "12345"), DropReason::kUnknownFlow);
  EXPECT_EQ(Error(kAlice, 0, "1234"), kLater);
  EXPECT_EQ(Error(kBob, 0, "1234567890"), kLater) << "others have theirs";
  // What is sent makes room.
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  EXPECT_EQ(Error(kAlice, 2, "1234567890"), kLater);
  // No flow makes room for itself.
  EXPECT_EQ(Error(kBob, 0, "1"), DropReason::kUnknownFlow);
  ASSERT_EQ(Open(kBob, 0, 0, "client-2"), 200u);
  EXPECT_EQ(Sent().back(), "1234567890");
}

TEST_F(ProxyPackets, EarlyFlowsAreBounded) {
  world = ProxyWorld({.max_early_flows = 2});
  EXPECT_EQ(Error(kAlice, 0, "0"), kLater);
  EXPECT_EQ(Error(kAlice, 2, "2"), kLater);
  // The oldest one without a request makes room.
  EXPECT_EQ(Error(kAlice, 4, "4"), kLater);
  ASSERT_EQ(Open(kAlice, 0, 0, "client-0"), 200u);
  EXPECT_TRUE(Sent().empty());
  ASSERT_EQ(Open(kAlice, 4, 2, "client-2"), 200u);
  ASSERT_EQ(Open(kAlice, 8, 4, "client-4"), 200u);
  EXPECT_EQ(Sent(), (std::vector<std::string>{"2", "4"}));
  // Those with a request do not.
  ASSERT_EQ(Open(kBob, 0, 0, "client-5", kName), 0u);
  ASSERT_EQ(Open(kBob, 4, 2, "client-6", kName), 0u);
  EXPECT_EQ(Error(kBob, 0, "0"), kLater);
  EXPECT_EQ(Error(kBob, 2, "2"), kLater);
  EXPECT_EQ(Error(kBob, 4, "4"), DropReason::kUnknownFlow);
  world.Found(LookupId{0}, {At("5.6.7.9", 0)});
  EXPECT_EQ(Sent().back(), "0");
}

TEST_F(ProxyPackets, RequestSavesWhatCameBeforeIt) {
  world = ProxyWorld({.max_early_flows = 1});
  EXPECT_EQ(Error(kAlice, 0, "0"), kLater);
  ASSERT_EQ(Open(kAlice, 0, 0, "client-0", kName), 0u);
  EXPECT_EQ(Error(kAlice, 2, "2"), DropReason::kUnknownFlow);
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  EXPECT_EQ(Sent(), std::vector<std::string>{"0"});
}

TEST_F(ProxyPackets, NothingIsKeptOfRefusedAndClosedFlows) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1", kName), 0u);
  EXPECT_EQ(Error(kAlice, 0, "early"), kLater);
  world.NotFound(world.lookup(), SessionError::kNoAddress);
  EXPECT_EQ(Error(kAlice, 0, "late"), DropReason::kUnknownFlow);
  ASSERT_EQ(Open(kAlice, 4, 2, "client-2"), 200u);
  world.Close(kAlice, 4);
  EXPECT_EQ(Error(kAlice, 2, "late"), DropReason::kUnknownFlow);
  // A client that uses the flow ids again gets a new flow.
  ASSERT_EQ(Open(kAlice, 8, 0, "client-3", kName), 0u);
  EXPECT_EQ(Error(kAlice, 0, "new"), kLater);
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  EXPECT_EQ(Sent(), std::vector<std::string>{"new"});
}

TEST_F(ProxyPackets, ManyRetiredFlows) {
  for (FlowId flow = 0; flow < 62; flow += 2) {
    ASSERT_EQ(Open(kAlice, 4 * flow, flow, "abc"), 409u);
    EXPECT_EQ(Error(kAlice, flow, "late"), DropReason::kUnknownFlow);
  }
  EXPECT_EQ(Error(kAlice, 62, "new"), kLater);
  // One that is refused again and again does not push out the others.
  for (StreamId stream = 1000; stream < 1200; stream += 4) {
    ASSERT_EQ(Open(kAlice, stream, 2, "abc"), 409u);
  }
  EXPECT_EQ(Error(kAlice, 0, "late"), DropReason::kUnknownFlow);
}

TEST_F(ProxyPackets, EarlyPayloadsOnStream) {
  world.open_at_once = false;
  ASSERT_EQ(world.Request(kAlice, 0, Plain(kTarget)), 0u);
  EXPECT_EQ(Stream({kAlice, 0}, OnStream("early")).second, kLater);
  world.Opened(world.socket());
  EXPECT_EQ(Sent(), std::vector<std::string>{"early"});
  EXPECT_EQ(Stream({kAlice, 0}, OnStream("now")).first, std::vector<std::string>{"now"});
}

TEST_F(ProxyPackets, StreamPayloadsThatAreTooLong) {
  ASSERT_EQ(world.Request(kAlice, 0, Plain(kTarget)), 200u);
  // As long as what a target can send.
  const std::string longest(kMaxUdpPayload, 'x');
  auto bytes = OnStream(longest + 'x');
  const auto good = OnStream(longest);
  bytes.insert(bytes.end(), good.begin(), good.end());
  EXPECT_EQ(Stream({kAlice, 0}, bytes).first, std::vector<std::string>{longest});
  EXPECT_EQ(Count(DropReason::kTooLong), 1u);
  EXPECT_EQ(Stream({kAlice, 4}, good).second, DropReason::kUnknownFlow);
  EXPECT_EQ(Stream({kAlice, 0}, {0}).second, kLater);
  world.Close(kAlice, 0);
  EXPECT_EQ(Stream({kAlice, 0}, {2, 'a'}).second, DropReason::kUnknownFlow);
}

TEST_F(ProxyPackets, ConnectionWithoutDatagrams) {
  world.proxy.SetDatagrams(kAlice, false);
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kAlice, 4, 0, "client-2"), 200u);
  ASSERT_EQ(world.Request(kAlice, 8, WithServerId(kTarget, 0, "server-1")), 200u);
  EXPECT_EQ(Stream({kAlice, 0}, OnStream("a")).first, std::vector<std::string>{"a"});
  const auto to = [&] { return world.Receive(world.socket(), Long("client-2")).value(); };
  EXPECT_EQ(to(), (Received{.connection = kAlice, .form = ClientForm::kStream, .stream = 0}));
  world.Close(kAlice, 0);
  EXPECT_EQ(to().stream, 4u) << "the first one that is open";
  // Forwarding needs neither.
  ASSERT_TRUE(world.Forward(Tuple(1), Short("server-1")));
  EXPECT_EQ(world.Receive(world.socket(), Short("client-2"))->form, ClientForm::kForward);
}

// Whoever sends it finds out that it fits no datagram.
TEST_F(ProxyPackets, DatagramsHaveAStreamToo) {
  ASSERT_EQ(Open(kAlice, 0, 2, "client-1"), 200u);
  ASSERT_EQ(Open(kAlice, 4, 2, "client-2"), 200u);
  const auto to = [&] { return world.Receive(world.socket(), Long("client-2")).value(); };
  EXPECT_EQ(to(), (Received{
                    .connection = kAlice, .form = ClientForm::kDatagram, .flow = 2, .stream = 0}));
  world.Close(kAlice, 0);
  EXPECT_EQ(to().stream, 4u) << "the first one that is open";
}

TEST_F(ProxyPackets, RateIsPerClientAndBothWays) {
  world = ProxyWorld({.max_bytes_per_second_per_client = 1000, .burst_bytes_per_client = 100});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(world.Request(kAlice, 4, WithServerId(kTarget, 0, "server-1")), 200u);
  ASSERT_EQ(Open(kBob, 0, 0, "client-2"), 200u);
  const std::string fifty(50, 'x');
  EXPECT_TRUE(world.Send(kAlice, 0, fifty));
  auto packet = Short("client-1");
  packet.resize(50);
  EXPECT_TRUE(world.Receive(world.socket(), packet));
  // The bucket is empty now, in all directions and ways.
  EXPECT_EQ(Error(kAlice, 0, "x"), DropReason::kRateLimited);
  EXPECT_EQ(world.Receive(world.socket(), packet).error(), DropReason::kRateLimited);
  EXPECT_EQ(world.Forward(Tuple(1), Short("server-1")).error(), DropReason::kRateLimited);
  EXPECT_EQ(Error(kAlice, 2, "early"), DropReason::kRateLimited);
  EXPECT_EQ(Count(DropReason::kRateLimited), 4u);
  EXPECT_TRUE(world.Send(kBob, 0, fifty)) << "Bob has his own";
  // A byte takes a millisecond to come.
  world.now += 49'999'999;
  EXPECT_EQ(Error(kAlice, 0, fifty), DropReason::kRateLimited);
  world.now += 1;
  EXPECT_TRUE(world.Send(kAlice, 0, fifty));
  EXPECT_EQ(Error(kAlice, 0, "x"), DropReason::kRateLimited);
  // No more than the burst gathers, and what is larger never goes.
  world.now += 3'600'000'000'000;
  EXPECT_EQ(Error(kAlice, 0, std::string(101, 'x')), DropReason::kRateLimited);
  EXPECT_TRUE(world.Send(kAlice, 0, fifty + fifty));
  EXPECT_EQ(Error(kAlice, 0, "x"), DropReason::kRateLimited);
  // A clock that goes back gives nothing.
  world.now = 1;
  EXPECT_EQ(Error(kAlice, 0, "x"), DropReason::kRateLimited);
}

TEST_F(ProxyPackets, RatesOfAllSizes) {
  for (const std::uint64_t rate : {std::uint64_t{1}, std::uint64_t{1'000'000'000},
                                   std::uint64_t{10'000'000'001}, ~std::uint64_t{0}}) {
    for (const std::uint64_t burst : {std::uint64_t{1200}, ~std::uint64_t{0}}) {
      world = ProxyWorld({.max_bytes_per_second_per_client = rate, .burst_bytes_per_client = burst});
      ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
      EXPECT_TRUE(world.Send(kAlice, 0, std::string(1200, 'x'))) << rate << " " << burst;
      world.now += std::uint64_t{1'200'000'000'000};
      EXPECT_TRUE(world.Send(kAlice, 0, std::string(1200, 'x'))) << rate << " " << burst;
    }
  }
}

TEST_F(ProxyPackets, LongPayloads) {
  ASSERT_EQ(world.Request(kAlice, 0, Plain(kTarget, 0)), 200u);
  EXPECT_TRUE(world.Send(kAlice, 0, std::string(kMaxUdpPayload, 'x')));
  EXPECT_EQ(Error(kAlice, 0, std::string(kMaxUdpPayload + 1, 'x')), DropReason::kTooLong);
  EXPECT_EQ(Error(OuterConnection{9}, 0, "x"), DropReason::kUnknownFlow);
}

TEST_F(ProxyPackets, LargestFlowId) {
  auto fields = RequestFields(Plain(kTarget, 0));
  fields.back().value = "999999999999998";
  ASSERT_EQ(world.Request(kAlice, 0, fields), 200u);
  const auto to = world.Receive(world.socket(), Short("x"));
  EXPECT_EQ(to->form, ClientForm::kDatagram);
  EXPECT_EQ(to->flow, 999999999999998u);
}

TEST_F(ProxyPackets, Counters) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(world.Request(kAlice, 4, WithServerId(kTarget, 0, "server-1")), 200u);
  ASSERT_EQ(Open(kAlice, 8, 2, "client-1"), 409u);
  ASSERT_EQ(Open(kAlice, 12, 4, "client-2", "127.0.0.1:443"), 403u);
  EXPECT_TRUE(world.Send(kAlice, 0, "12345"));
  EXPECT_TRUE(world.Forward(Tuple(1), Short("server-1")));
  EXPECT_FALSE(world.Forward(Tuple(1), Short("unknown.")));
  EXPECT_FALSE(world.Forward(Tuple(1), {}));
  EXPECT_TRUE(world.Receive(world.socket(), Short("client-1")));
  EXPECT_TRUE(world.Receive(world.socket(), Long("client-1")));
  EXPECT_FALSE(world.Receive(world.socket(), Short("stranger")));
  EXPECT_FALSE(world.Receive(SocketId{99}, Short("stranger")));

  const auto &counters = world.proxy.counters();
  EXPECT_EQ(counters.requests, 4u);
  EXPECT_EQ(counters.accepted, 2u);
  EXPECT_EQ(counters.refused, (std::map<unsigned, std::uint64_t>{{403, 1}, {409, 1}}));
  EXPECT_EQ(counters.tunnels[Way::kTunnelledToTarget].passed, (Traffic{.packets = 1, .bytes = 5}));
  EXPECT_EQ(counters.tunnels[Way::kForwardedToTarget].passed, (Traffic{.packets = 1, .bytes = 9}));
  EXPECT_EQ(counters.tunnels[Way::kForwardedToClient].passed, (Traffic{.packets = 1, .bytes = 9}));
  EXPECT_EQ(counters.tunnels[Way::kTunnelledToClient].passed,
            (Traffic{.packets = 1, .bytes = 16, .long_headers = 1}));
  EXPECT_EQ(counters.flows, (Level{.now = 1, .highest = 2}));
  EXPECT_EQ(counters.sockets, (Level{.now = 1, .highest = 1}));
  EXPECT_EQ(Count(DropReason::kUnknownConnectionId), 1u) << "from the target alone";
  EXPECT_EQ(Count(DropReason::kUnknownSocket), 1u);
  EXPECT_EQ(Count(DropReason::kMalformed), 1u);
}

// Per tunnel: both directions and modes, and drops by reason.
TEST_F(ProxyPackets, StatisticsOfATunnel) {
  world = ProxyWorld({.max_bytes_per_second_per_client = 1000, .burst_bytes_per_client = 100});
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(world.Request(kAlice, 4, WithServerId(kTarget, 0, "server-1")), 200u);
  ASSERT_EQ(Open(kBob, 0, 0, "client-2"), 200u);
  const auto bytes = Datagram(0, "12345");
  auto &tunnel = *world.OnDatagram(kAlice, bytes, world.now)->tunnel;
  EXPECT_EQ(tunnel.authority, ParseAuthority(kTarget));
  ASSERT_TRUE(world.Receive(world.socket(), Long("client-1")));
  ASSERT_TRUE(world.Forward(Tuple(1), Short("server-1")));
  ASSERT_TRUE(world.Receive(world.socket(), Short("client-1...")));
  ASSERT_TRUE(world.Receive(world.socket(), Short("client-2")));
  EXPECT_EQ(tunnel.statistics[Way::kTunnelledToTarget].passed, (Traffic{1, 5, 0}));
  EXPECT_EQ(tunnel.statistics[Way::kTunnelledToClient].passed, (Traffic{1, 16, 1}));
  EXPECT_EQ(tunnel.statistics[Way::kForwardedToTarget].passed, (Traffic{1, 9, 0}));
  EXPECT_EQ(tunnel.statistics[Way::kForwardedToClient].passed, (Traffic{1, 12, 0}));

  // What does not leave was not passed.
  world.proxy.NotSent(tunnel, Way::kForwardedToClient, DropReason::kBlocked, {1, 12, 0});
  world.proxy.SentOnStream(tunnel);
  EXPECT_EQ(tunnel.statistics[Way::kForwardedToClient].passed, Traffic{});
  EXPECT_EQ(tunnel.statistics.Dropped(Way::kForwardedToClient, DropReason::kBlocked), 1u);
  const auto before = tunnel.statistics[Way::kTunnelledToClient].passed;
  auto datagram = Bytes(tunnel.datagram_prefix.view().begin(), tunnel.datagram_prefix.view().end());
  datagram.insert(datagram.end(), 12, 0x40);
  world.proxy.DatagramNotSent(kAlice, tunnel.number, datagram, DropReason::kQueueFull);
  auto after = tunnel.statistics[Way::kTunnelledToClient].passed;
  after += Traffic{1, 12, 0};
  EXPECT_EQ(after, before);
  EXPECT_EQ(tunnel.statistics.Dropped(Way::kTunnelledToClient, DropReason::kQueueFull), 1u);
  world.proxy.DatagramNotSent(kAlice, tunnel.number + 1000, datagram, DropReason::kQueueFull);
  world.proxy.DatagramNotSent(OuterConnection{1000}, tunnel.number, datagram, DropReason::kQueueFull);
  EXPECT_EQ(Count(DropReason::kQueueFull), 1u) << "of no tunnel that is there";
  EXPECT_EQ(Error(kAlice, 0, std::string(90, 'x')), DropReason::kRateLimited);
  EXPECT_EQ(tunnel.statistics.Dropped(Way::kTunnelledToTarget, DropReason::kRateLimited), 1u);
  EXPECT_EQ(tunnel.statistics.on_stream, 1u);
  EXPECT_EQ(Count(DropReason::kBlocked), 1u);
  EXPECT_EQ(Count(DropReason::kRateLimited), 1u);

  // Nothing is lost when it ends.
  const auto statistics = tunnel.statistics;
  const auto all = world.proxy.counters().tunnels;
  EXPECT_EQ(all[Way::kTunnelledToClient].passed.packets, 1u) << "Bob's";
  world.now += 5;
  world.Close(kAlice, 0);
  EXPECT_TRUE(world.ended.empty());
  world.Close(kAlice, 4);
  EXPECT_EQ(world.proxy.counters().tunnels, all);
  ASSERT_EQ(world.ended.size(), 1u);
  const auto &ended = world.ended.front();
  EXPECT_EQ(ended.connection, kAlice);
  EXPECT_EQ(ended.authority, ParseAuthority(kTarget));
  EXPECT_EQ(ended.target, At("5.6.7.8", 443));
  EXPECT_EQ(ended.reason, EndReason::kClosed);
  EXPECT_EQ(ended.duration, 5u);
  EXPECT_EQ(ended.statistics, statistics);
}

// What is forwarded is handed out with its mapping, to be written anew where it lies.
TEST_F(ProxyPackets, ForwardedPacketsCanBeRewritten) {
  ASSERT_EQ(Open(kAlice, 0, 0, "client-1"), 200u);
  ASSERT_EQ(world.Request(kAlice, 4, WithServerId(kTarget, 0, "server-1")), 200u);
  Bytes memory(100);
  const auto packet = [&](const Bytes &bytes) {
    std::ranges::copy(bytes, memory.begin() + 20);
    return MutablePacket{.bytes = std::span(memory).subspan(20, bytes.size()),
                         .before = 20,
                         .behind = 80 - bytes.size()};
  };
  const auto check = [&](const Mapping &mapping, const MutablePacket &out, std::string_view id) {
    EXPECT_EQ(mapping.id, Id(id));
    EXPECT_EQ(out.bytes.data(), memory.data() + 20);
    EXPECT_EQ(out.before, 20u);
    EXPECT_EQ(out.behind, 80 - out.bytes.size());
    // A longer connection ID: what is in front of it moves, the rest does not.
    out.bytes.data()[-3] = out.bytes[0];
  };
  const auto *path = world.proxy.FindPath(Tuple(1));
  const auto to_target = world.proxy.FromClient(path, packet(Short("server-1...")), world.now);
  ASSERT_TRUE(to_target);
  EXPECT_EQ(to_target->mapping->direction, Direction::kToTarget);
  check(*to_target->mapping, to_target->packet, "server-1");
  const auto *socket = world.proxy.Find(world.socket());
  const auto to_client =
    world.proxy.FromTarget(socket, packet(Short("client-1...")), world.now);
  ASSERT_TRUE(to_client);
  EXPECT_EQ(to_client->form, ClientForm::kForward);
  EXPECT_EQ(to_client->mapping->direction, Direction::kToClient);
  check(*to_client->mapping, to_client->packet, "client-1");
}

TEST_F(ProxyPackets, ReasonsOfEnds) {
  const auto reason = [&] {
    EXPECT_FALSE(world.ended.empty());
    const auto last = world.ended.empty() ? EndReason{} : world.ended.back().reason;
    world.ended.clear();
    return last;
  };
  ASSERT_EQ(Open(kAlice, 0, 0, "abc"), 409u);
  EXPECT_EQ(reason(), EndReason::kRefused);
  ASSERT_EQ(Open(kAlice, 4, 2, "client-1", kName), 0u);
  world.Close(kAlice, 4);
  EXPECT_EQ(world.ended.back().target, std::nullopt);
  EXPECT_EQ(reason(), EndReason::kRefused) << "before its answer";
  ASSERT_EQ(Open(kAlice, 8, 4, "client-1"), 200u);
  world.Do(world.proxy.OnSocketFailed(world.socket(), world.now));
  EXPECT_EQ(reason(), EndReason::kUnreachable);
  ASSERT_EQ(Open(kAlice, 12, 6, "client-1"), 200u);
  world.Do(world.proxy.RemoveConnection(kAlice, world.now));
  EXPECT_EQ(reason(), EndReason::kConnectionClosed);
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(EndReason::kConflict); ++i) {
    names.insert(ReasonName(EndReason(i)));
  }
  EXPECT_EQ(names.size(), 5u);
}

TEST_F(ProxyPackets, ReasonsHaveNames) {
  std::set<std::string_view> names;
  for (std::size_t reason = 0; reason < kDropReasons; ++reason) {
    names.insert(ReasonName(DropReason(reason)));
  }
  EXPECT_EQ(names.size(), kDropReasons);
  EXPECT_FALSE(names.contains(ReasonName(DropReason(kDropReasons))));
}

} // namespace
} // namespace ngmasque
