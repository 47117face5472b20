// Dialect rfc9298 at the proxy: its bounds, and what happens at them (adversarial.md, classes 16, 20
// and 21).

#include "session_revisions.h"
#include "session_rfc9298_raw.h"

#include <algorithm>

namespace ngmasque {
namespace {

std::string Number(int n) { return std::to_string(10'000'000 + n); }

class Rfc9298Limits : public testing::TestWithParam<QuicProxyRevision> {
protected:
  // Reads what the proxy allows.
  void Note(const std::vector<CidCapsule> &answers) {
    for (const auto &answer : answers) {
      if (answer.kind == Kind::kMaxConnectionIds) {
        const auto now = answer.maximum + RulesOf(GetParam()).allowed_by_zero;
        EXPECT_GT(now, allowed);
        allowed = now;
        ++told;
      }
    }
  }

  ProxyWorld world{{}, OpenPolicy()};
  RawClient client{world, kAlice, 0, GetParam()};
  std::uint64_t allowed = 2;
  int told = 0; // How often.
};

// It is never left without another one as long as it keeps to what may be in force.
//
//= draft-ietf-masque-quic-proxy, section 5.7
//# This MUST NOT be less than 1.
TEST_P(Rfc9298Limits, AsManyAsAllowed) {
  client.Open();
  for (int i = 0; i < 64; ++i) {
    ASSERT_GT(allowed, static_cast<std::uint64_t>(i));
    Note(client.Ask(i % 2 == 0 ? Register(Number(i)) : RegisterTarget(Number(i))));
  }
  EXPECT_EQ(allowed, 64u);
  EXPECT_EQ(client.reset(), 0u);
  // One is closed, another one comes, and so on: there is always one more.
  std::uint64_t registered = 64;
  for (int i = 0; i < 40; ++i) {
    Note(client.Ask(Close(Kind::kCloseTargetCid, Number(2 * (i % 32) + 1))));
    ASSERT_GT(allowed, registered) << i;
    Note(client.Ask(RegisterTarget(Number(2 * (i % 32) + 1))));
    ++registered;
  }
  EXPECT_EQ(client.reset(), 0u);
  EXPECT_EQ(allowed, registered);
  (void)client.Say(RegisterTarget(Number(1000)));
  EXPECT_EQ(client.reset(), kH3DatagramError);
  EXPECT_EQ(world.ended.at(0).reason, EndReason::kProtocol);
  EXPECT_EQ(world.proxy.Find(kAlice)->client->mappings, 0u);
}

//= draft-ietf-masque-quic-proxy, section 5.9
//# The client MUST NOT send a registration capsule with a sequence number greater than what the proxy
//# advertises via the MAX_CONNECTION_IDS capsule.
TEST_P(Rfc9298Limits, OneMore) {
  client.Open();
  for (int i = 0; i <= 64; ++i) {
    EXPECT_EQ(client.reset(), 0u) << i;
    Note(client.Ask(Register(Number(i))));
  }
  EXPECT_EQ(client.reset(), kH3DatagramError);
}

// Opened and closed for ever: it costs the proxy nothing but a word now and then.
TEST_P(Rfc9298Limits, RegisteredAndClosedForEver) {
  client.Open();
  for (int i = 0; i < 3000; ++i) {
    ASSERT_GT(allowed, static_cast<std::uint64_t>(i));
    Note(client.Ask(i % 2 == 0 ? Register(Number(i)) : RegisterTarget(Number(i))));
    Note(client.Ask(Close(i % 2 == 0 ? Kind::kCloseClientCid : Kind::kCloseTargetCid, Number(i))));
    ASSERT_LE(world.proxy.Find(kAlice)->client->mappings, 1u);
  }
  EXPECT_EQ(client.reset(), 0u);
  EXPECT_LE(told, 3000 / 15);
}

TEST_P(Rfc9298Limits, RejectedForEver) {
  client.Open();
  for (int i = 0; i < 300; ++i) {
    ASSERT_GT(allowed, static_cast<std::uint64_t>(i));
    Note(client.Ask(Register("abc")));
  }
  EXPECT_EQ(client.reset(), 0u);
  EXPECT_EQ(world.proxy.Find(kAlice)->client->mappings, 0u);
}

TEST_P(Rfc9298Limits, VirtualIdsThatAreNotAcknowledged) {
  client.Open();
  for (std::size_t i = 0; i < rfc9298::kMaxOffered; ++i) {
    EXPECT_EQ(client.Ask(Register("client-0")).at(0).kind, Kind::kAckClientCid);
  }
  EXPECT_EQ(client.reset(), 0u);
  (void)client.Say(Register("client-0"));
  EXPECT_EQ(client.reset(), kH3DatagramError);
}

// Those of before a move do not count for ever: a client that is moved all the time has no answer for
// them.
TEST_P(Rfc9298Limits, VirtualIdsThatAreVoid) {
  client.Open();
  const auto first = client.Ask(Register("client-0")).at(0).virtual_id;
  for (std::size_t i = 0; i < 2 * rfc9298::kMaxOffered; ++i) {
    world.Do(world.proxy.OnMigrating(kAlice, world.now));
    ASSERT_EQ(client.Ask(Register("client-0")).at(0).kind, Kind::kAckClientCid) << i;
  }
  (void)client.Say(Ack(Kind::kAckClientVcid, "client-0", first));
  EXPECT_EQ(client.reset(), 0u);
}

// An acknowledgement is for those before it as well.
TEST_P(Rfc9298Limits, AcknowledgedNowAndThen) {
  client.Open();
  for (int round = 0; round < 10; ++round) {
    ConnectionId last;
    for (std::size_t i = 0; i < rfc9298::kMaxOffered; ++i) {
      last = client.Ask(Register("client-0")).at(0).virtual_id;
    }
    (void)client.Say(Ack(Kind::kAckClientVcid, "client-0", last));
    ASSERT_EQ(client.reset(), 0u) << round;
  }
}

// The newest ones of a target's connection ID lead to it, and no others; a stateless reset finds its
// way however often they are renewed.
TEST_P(Rfc9298Limits, VirtualIdsOfATarget) {
  client.Open();
  client.Map(Register("client-0"));
  ResetToken token;
  token.fill(0x77);
  auto reset = Short("random bytes that nobody knows ");
  reset.insert(reset.end(), token.begin(), token.end());
  std::vector<ConnectionId> virtual_ids;
  for (int i = 0; i < 6; ++i) {
    virtual_ids.push_back(client.Ask(RegisterTarget("server-0", token)).at(0).virtual_id);
    ASSERT_LE(world.proxy.Find(kAlice)->client->mappings, 1 + rfc9298::kMaxVirtual);
    EXPECT_TRUE(world.Receive(world.socket(), reset)) << i;
  }
  for (std::size_t i = 0; i < virtual_ids.size(); ++i) {
    auto packet = Short(virtual_ids[i].bytes());
    packet.resize(60);
    EXPECT_EQ(world.Forward(Tuple(1), packet).has_value(), i + rfc9298::kMaxVirtual >= 6) << i;
  }
  (void)client.Say(Close(Kind::kCloseTargetCid, "server-0"));
  EXPECT_FALSE(world.Receive(world.socket(), reset));
  EXPECT_EQ(world.proxy.Find(kAlice)->client->mappings, 1u);
}

INSTANTIATE_TEST_SUITE_P(All, Rfc9298Limits, AllRevisions(), NameOfInfo);

// A client that has no mapping left is not told that what it had is refused: that would be after an
// acknowledgement.
TEST(Rfc9298Bounds, RepeatWithoutRoom) {
  ProxyWorld world({.routing = {.max_streams_per_client = 3}}, OpenPolicy());
  RawClient client(world), other(world, kAlice, 4);
  client.Open();
  other.Open();
  client.Map(Register("client-0"));
  EXPECT_EQ(client.Ask(RegisterTarget("server-0")).at(0).virtual_id.size(), 16u);
  EXPECT_EQ(other.Ask(Register("client-1")).at(0).kind, Kind::kAckClientCid);
  EXPECT_EQ(client.Say(RegisterTarget("server-0")), Texts{"ACK_TARGET_CID server-0 0"});
  EXPECT_EQ(client.Say(RegisterTarget("server-1")), Texts{"REJECT_TARGET_CID server-1 0"});
  (void)other.Say(Close(Kind::kCloseClientCid, "client-1"));
  EXPECT_EQ(client.Say(RegisterTarget("server-0")), Texts{"ACK_TARGET_CID server-0 16"});
}

// What an operator asks for is asked of what a client chooses, not of what the proxy does.
TEST(Rfc9298Bounds, LongestOfShortIds) {
  ProxyWorld world({.routing = {.min_connection_id = 18}}, OpenPolicy());
  RawClient client(world);
  client.Open();
  EXPECT_EQ(client.Say(Register("sixteen bytes...")).at(0), "REJECT_CLIENT_CID sixteen bytes... 1");
  EXPECT_EQ(client.Say(RegisterTarget("server-0")), Texts{"ACK_TARGET_CID server-0 16"});
}

// Where nothing may wait, payloads in pieces are lost, but nothing that is said of connection IDs.
TEST(Rfc9298Bounds, PiecesWithoutRoomToWait) {
  ProxyWorld world({.routing = {.max_waiting_bytes_per_client = 0}}, OpenPolicy());
  RawClient client(world);
  client.Open();
  const auto bytes = Concat({InCapsule("lost"), WriteCidCapsule(kNewestRevision, Register("client-0")),
                             InCapsule("lost, too"),
                             WriteCidCapsule(kNewestRevision, RegisterTarget("server-0"))});
  for (const auto &byte : bytes) {
    EXPECT_TRUE(client.Send(std::span(&byte, 1)).empty());
  }
  EXPECT_EQ(RawClient::Describe(client.Heard()),
            (Texts{"ACK_CLIENT_CID client-0 8", "MAX_CONNECTION_IDS 64",
                   "ACK_TARGET_CID server-0 16"}));
  EXPECT_EQ(world.proxy.counters().dropped.at(static_cast<std::size_t>(DropReason::kQueueFull)), 2u);
  EXPECT_EQ(client.Send(InCapsule("in one piece")), Texts{"in one piece"});
}

// What comes before the tunnel has a socket is held, and answered in its order.
TEST(Rfc9298Bounds, BeforeTheAnswer) {
  ProxyWorld world({}, OpenPolicy());
  world.open_at_once = false;
  RawClient client(world);
  EXPECT_EQ(client.Open(), 0u);
  EXPECT_TRUE(client.Say(RegisterTarget("server-0")).empty());
  EXPECT_TRUE(client.Say(Register("client-0")).empty());
  world.Opened(world.socket());
  EXPECT_EQ(world.Status(kAlice, 0), 200u);
  EXPECT_EQ(RawClient::Describe(client.Heard()),
            (Texts{"ACK_TARGET_CID server-0 16", "MAX_CONNECTION_IDS 64",
                   "ACK_CLIENT_CID client-0 8"}));
  EXPECT_FALSE(world.proxy.Find(kAlice)->tunnels.begin()->second.silent);
}

// What is said again before the answer counts as it does after it.
TEST(Rfc9298Bounds, RepeatsBeforeTheAnswer) {
  for (const auto revision : {QuicProxyRevision::k08, QuicProxyRevision::k09}) {
    ProxyWorld world({}, OpenPolicy());
    world.open_at_once = false;
    RawClient client(world, kAlice, 0, revision);
    client.Open();
    for (const auto *id : {"client-0", "client-0", "client-1"}) {
      (void)client.Say(Register(id));
    }
    const bool free = RulesOf(revision).repeats_are_free;
    EXPECT_EQ(world.Status(kAlice, 0), free ? 0u : 400u);
    if (free) {
      world.Opened(world.socket());
      const auto answers = RawClient::Describe(client.Heard());
      EXPECT_EQ(answers.size(), 4u);
      EXPECT_EQ(answers.back(), "ACK_CLIENT_CID client-1 8");
    }
  }
}

TEST(Rfc9298Bounds, TooManyBeforeTheAnswer) {
  for (const auto revision :
       {QuicProxyRevision::k06, QuicProxyRevision::k08, QuicProxyRevision::k09}) {
    ProxyWorld world({}, OpenPolicy());
    world.open_at_once = false;
    RawClient client(world, kAlice, 0, revision);
    client.Open();
    for (const auto *id : {"client-0", "client-1", "client-2"}) {
      (void)client.Say(Register(id));
    }
    EXPECT_EQ(world.Status(kAlice, 0), 400u);
    EXPECT_EQ(world.ended.at(0).reason, EndReason::kProtocol);
    EXPECT_TRUE(world.opening.empty());
  }
  // Whatever they are, they are not kept without end.
  ProxyWorld world({}, OpenPolicy());
  world.open_at_once = false;
  RawClient client(world);
  client.Open();
  for (std::size_t i = 0; i < rfc9298::kMaxHeld; ++i) {
    (void)client.Say(Close(Kind::kCloseClientCid, "client-0"));
    EXPECT_EQ(world.Status(kAlice, 0), 0u);
  }
  (void)client.Say(Close(Kind::kCloseClientCid, "client-0"));
  EXPECT_EQ(world.Status(kAlice, 0), 400u);
  EXPECT_EQ(world.ended.at(0).reason, EndReason::kProtocol);
}

// Others have filled the shared socket: who comes now gets one for itself, whether what it registers
// is known by then or not.
TEST(Rfc9298Bounds, FullSharedSocket) {
  ProxyWorld world({.routing = {.max_lengths_per_scope = 2}}, OpenPolicy());
  RawClient alice(world);
  alice.Open();
  alice.Map(Register("client-0"));
  alice.Map(Register("a-longer-1"));
  EXPECT_EQ(alice.Say(Register("another-client")), Texts{"REJECT_CLIENT_CID another-client 0"});

  RawClient bob(world, kBob);
  EXPECT_EQ(bob.Open(), 200u);
  EXPECT_EQ(world.opened, 2);
  EXPECT_EQ(bob.Say(Register("another-client")),
            (Texts{"ACK_CLIENT_CID another-client 14", "MAX_CONNECTION_IDS 64"}));

  // The first of all waits for its socket, and others fill that meanwhile.
  world.open_at_once = false;
  RawClient first(world, kAlice, 8), second(world, kBob, 8), third(world, kBob, 12);
  const auto to = [&](RawClient &client) {
    auto fields = RawClient::Fields();
    std::ranges::find(fields, ":path", &HeaderField::name)->value =
      "/.well-known/masque/udp/192.0.2.77/443/";
    (void)world.Request(client.connection, client.stream, fields);
  };
  to(first);
  to(second);
  to(third);
  (void)first.Say(Register("first-id"));
  (void)first.Say(Register("1st-id-2nd"));
  (void)second.Say(Register("second-id-of-16b"));
  (void)third.Say(Register("third-id-that-is-17"));
  world.Opened(world.socket());
  EXPECT_EQ(world.Status(kBob, 8), 0u) << "it waits for a socket of its own";
  EXPECT_EQ(world.opening.size(), 2u);
  for (const auto socket : std::set(world.opening)) {
    world.Opened(socket);
  }
  EXPECT_EQ(RawClient::Describe(second.Heard()).at(0), "ACK_CLIENT_CID second-id-of-16b 16");
  EXPECT_EQ(RawClient::Describe(third.Heard()).at(0), "ACK_CLIENT_CID third-id-that-is-17 19");
}

// However often somebody is rejected on a shared socket, and whether it comes before the socket is open
// or after: it keeps no room there.
TEST(Rfc9298Bounds, RejectedOnASharedSocket) {
  ProxyWorld world({}, OpenPolicy());
  RawClient alice(world);
  alice.Open();
  alice.Map(Register("client-0"));
  const auto *socket = world.proxy.Find(world.socket());
  for (StreamId stream = 0; stream < 4 * 250; stream += 4) {
    RawClient bob(world, kBob, stream);
    const bool first = stream % 8 == 0;
    const auto id = stream % 12 == 0   ? "abc"
                    : stream % 20 == 0 ? "client-0-longer"
                                       : "client-0";
    if (first) {
      bob.Open();
    }
    EXPECT_EQ(bob.Ask(Register(id)).empty(), !first);
    if (!first) {
      bob.Open();
    }
    ASSERT_EQ(world.Status(kBob, stream), 200u);
    if (stream % 16 != 0) {
      world.Close(kBob, stream);
    }
  }
  EXPECT_EQ(world.opened, 1) << "all have shared it";
  EXPECT_EQ(socket->ids.size(), 1u);
  EXPECT_EQ(socket->ids.lengths(), 1u);
  EXPECT_TRUE(socket->tokens.empty());
  world.Do(world.proxy.RemoveConnection(kBob, world.now));
  EXPECT_EQ(socket->users.size(), 1u);
}

// What has waited for a connection ID that is rejected then is over, and leaves its place to others.
TEST(Rfc9298Bounds, WhatHasWaitedForARejectedOne) {
  ProxyWorld world({.max_early_flows = 2}, OpenPolicy());
  RawClient alice(world);
  alice.Open();
  alice.Map(Register("client-0"));
  for (StreamId stream = 0; stream < 40; stream += 4) {
    RawClient bob(world, kBob, stream);
    bob.Open();
    const auto payload = InDatagram(stream, "payload");
    EXPECT_TRUE(world.OnDatagram(kBob, payload, world.now)) << stream << ": it waits";
    EXPECT_EQ(bob.Say(Register("client-0")).at(0), "REJECT_CLIENT_CID client-0 2");
    EXPECT_EQ(world.proxy.Find(kBob)->client->waiting->bytes(), 0u);
    EXPECT_EQ(world.OnDatagram(kBob, payload, world.now).error(),
              DropReason::kUnknownConnectionId);
  }
  EXPECT_TRUE(world.sent.empty());
  const auto counters = world.proxy.counters();
  const auto &dropped = counters.tunnels[Way::kTunnelledToTarget].dropped;
  EXPECT_EQ(dropped[static_cast<std::size_t>(DropReason::kUnknownConnectionId)], 20u);
}

// A move to a 4-tuple that others have filled loses the mappings of a tunnel, all at once.
TEST(Rfc9298Bounds, MoveThatLosesSeveral) {
  ProxyWorld world({.routing = {.max_lengths_per_scope = 1}}, OpenPolicy());
  ASSERT_TRUE(world.proxy.Reserve(kBob, Id("reserved")));
  RawClient client(world), other(world, kAlice, 4);
  client.Open();
  client.Map(Register("client-0"));
  (void)client.Ask(RegisterTarget("server-0"));
  (void)client.Ask(RegisterTarget("server-1"));
  (void)client.Ask(RegisterTarget("server-2"));
  other.Open();
  other.Map(Register("client-1"));
  world.Do(world.proxy.MoveConnection(kAlice, Tuple(2), world.now).actions);
  EXPECT_EQ(client.reset(), kH3ConnectError);
  ASSERT_EQ(world.ended.size(), 1u);
  EXPECT_EQ(world.ended[0].reason, EndReason::kConflict);
  EXPECT_EQ(other.reset(), 0u);
  EXPECT_EQ(world.proxy.Find(kAlice)->client->mappings, 1u);
}

} // namespace
} // namespace ngmasque
