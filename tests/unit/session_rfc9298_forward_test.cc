// Dialect rfc9298: packets in forwarded mode, and moves of the client (adversarial.md, classes 21 to
// 24).

#include "session_rfc9298_raw_proxy.h"

#include "ngmasque/routing/scramble.h"

#include <algorithm>

namespace ngmasque {
namespace {

// Long enough for whatever transform.
const std::string kRest = " and what follows it, which is long enough";

Bytes With(const ConnectionId &id, std::string_view rest = kRest) {
  auto packet = Short(id.bytes());
  const auto more = ToBytes(rest);
  packet.insert(packet.end(), more.begin(), more.end());
  return packet;
}

class Rfc9298Forwarding : public testing::TestWithParam<Transform> {
protected:
  Rfc9298Forwarding() {
    EXPECT_EQ(client.Open(Offer({GetParam()})), 200u);
    client_vcid = client.Map(Register("client-0"));
    target_vcid = client.Map(RegisterTarget("server-0"));
  }
  bool scrambles() const { return GetParam() == Transform::kScrambleDt; }
  const Scramble *Transformed() const {
    return world.proxy.Find(kAlice)->tunnels.begin()->second.scramble.get();
  }
  // A packet as a client would send it: with its own key.
  Bytes OnLink(const Bytes &packet, std::size_t length) const {
    auto bytes = packet;
    if (scrambles()) {
      const ScrambleKey mine{1, 2, 3};
      EXPECT_TRUE(Scramble(mine, {}).Encode(bytes, length));
    }
    return bytes;
  }
  std::uint64_t Dropped(DropReason reason) const {
    return world.proxy.counters().dropped.at(static_cast<std::size_t>(reason));
  }
  ClientForm FormOf(const Bytes &packet) {
    return world.Receive(world.socket(), packet)->form;
  }

  ProxyWorld world{{}, OpenPolicy()};
  RawClient client{world};
  ConnectionId client_vcid, target_vcid;
};

TEST_P(Rfc9298Forwarding, ToTheTarget) {
  auto packet = OnLink(With(target_vcid), target_vcid.size());
  const auto to = world.proxy.FromClient(world.proxy.FindPath(Tuple(1)), {.bytes = packet},
                                         world.now);
  ASSERT_TRUE(to && to->mapping);
  const Bytes got(to->packet.bytes.begin(), to->packet.bytes.end());
  auto wanted = With(Id("server-0"));
  // Of the first byte a transform only keeps that the header is short.
  EXPECT_EQ(Bytes(got.begin() + 1, got.end()), Bytes(wanted.begin() + 1, wanted.end()));
  EXPECT_EQ(got[0] & 0x80, 0);
}

//= draft-ietf-masque-quic-proxy, section 5.10
//# The proxy MUST only forward non-tunnelled packets from the client that are QUIC short header packets
//# (based on the Header Form bit) and have mapped target VCIDs.
TEST_P(Rfc9298Forwarding, WhatIsNotForwarded) {
  const auto good = OnLink(With(target_vcid), target_vcid.size());
  EXPECT_EQ(world.Forward(Tuple(2), good).error(), kForQuic) << "another 4-tuple";
  EXPECT_EQ(world.Forward(Tuple(3), good).error(), kForQuic) << "one that nobody uses";
  EXPECT_EQ(world.Forward(Tuple(1), Long(target_vcid.bytes())).error(), kForQuic);
  EXPECT_EQ(world.Forward(Tuple(1), With(Id("server-0"))).error(), kForQuic) << "the real one";
  EXPECT_EQ(world.Forward(Tuple(1), With(client_vcid)).error(), kForQuic);
  const auto part = std::span(good).first(target_vcid.size());
  EXPECT_EQ(world.Forward(Tuple(1), Bytes(part.begin(), part.end())).error(), kForQuic);
  EXPECT_TRUE(world.Forward(Tuple(1), good));
  (void)client.Say(Close(Kind::kCloseTargetCid, "server-0"));
  EXPECT_EQ(world.Forward(Tuple(1), good).error(), kForQuic);
}

TEST_P(Rfc9298Forwarding, DiesWithItsStream) {
  const auto good = OnLink(With(target_vcid), target_vcid.size());
  world.Close(kAlice, 0);
  EXPECT_EQ(world.Forward(Tuple(1), good).error(), kForQuic);
  RawClient bob(world, kBob);
  bob.Open();
  EXPECT_EQ(bob.Ask(Register("client-0")).at(0).kind, Kind::kAckClientCid) << "it is free again";
  const auto bobs = bob.Map(RegisterTarget("server-0"));
  world.Do(world.proxy.RemoveConnection(kBob, world.now));
  EXPECT_EQ(world.Forward(Tuple(2), With(bobs)).error(), kForQuic);
}

// One that could not have been scrambled.
TEST_P(Rfc9298Forwarding, TooShortOnes) {
  for (std::size_t rest = 0; rest < 20; ++rest) {
    const std::string text(rest, 'x');
    const bool possible = !scrambles() || rest >= Scramble::kMinBehindId;
    const auto before = Dropped(DropReason::kMalformed);
    EXPECT_EQ(world.Forward(Tuple(1), With(target_vcid, text)).has_value(), possible) << rest;
    EXPECT_EQ(Dropped(DropReason::kMalformed) - before, possible ? 0u : 1u);
    // Towards the client it is tunnelled instead.
    EXPECT_EQ(FormOf(With(Id("client-0"), text)),
              possible ? ClientForm::kForward : ClientForm::kDatagram);
  }
}

// The form bit stays what it is whatever the packet.
//
//= draft-ietf-masque-quic-proxy, section 9
//# Accordingly proxies with forwarding mode enabled MUST NOT rely on this bit for protocol
//# identification
TEST_P(Rfc9298Forwarding, FormBit) {
  for (int first = 0; first < 0x80; ++first) {
    auto packet = With(Id("client-0"), kRest + std::to_string(first));
    packet[0] = static_cast<std::uint8_t>(first);
    const auto to = world.proxy.FromTarget(world.proxy.Find(world.socket()), {.bytes = packet},
                                           world.now);
    ASSERT_TRUE(to);
    ASSERT_EQ(to->form, ClientForm::kForward);
    EXPECT_EQ(to->packet.bytes[0] & 0x80, 0);
    //= draft-ietf-masque-quic-proxy, section 6.1
    //# Prior to sending a forwarded mode packet, the sender MUST replace the Connection ID with the
    //# Virtual Connection ID.
    //
    //= draft-ietf-masque-quic-proxy, section 5.3
    //# The proxy-chosen connection ID that the proxy MUST use when sending in forwarded mode.
    EXPECT_TRUE(std::ranges::equal(to->packet.bytes.subspan(1, 8), client_vcid.bytes()));
    if (scrambles()) {
      const Bytes rest(to->packet.bytes.begin() + 9, to->packet.bytes.end());
      EXPECT_FALSE(ToText(rest).contains("and what follows"));
    }
  }
}

// A stateless reset of the target ends with a token and not with what its packets begin with: it is
// tunnelled, even if by chance it begins like that.
TEST_P(Rfc9298Forwarding, StatelessResets) {
  ResetToken token;
  token.fill(0x66);
  (void)client.Ask(RegisterTarget("server-1", token));
  auto reset = With(Id("not of the client's"), "random");
  reset.insert(reset.end(), token.begin(), token.end());
  EXPECT_EQ(FormOf(reset), ClientForm::kDatagram);
}

//= draft-ietf-masque-quic-proxy, section 6.5
//# In the event of active migration, the proxy removes forwarding rules in order to not send packets
//# with the same connection ID bytes over multiple network paths.
TEST_P(Rfc9298Forwarding, Migrating) {
  const auto up = OnLink(With(target_vcid), target_vcid.size());
  const auto down = With(Id("client-0"));
  world.Do(world.proxy.OnMigrating(kAlice, world.now));
  world.Do(world.proxy.OnMigrating(kAlice, world.now)); // And again.
  EXPECT_EQ(world.Forward(Tuple(1), up).error(), kForQuic);
  EXPECT_EQ(FormOf(down), ClientForm::kDatagram);
  world.Do(world.proxy.MoveConnection(kAlice, Tuple(7), world.now).actions);
  EXPECT_EQ(world.Forward(Tuple(7), up).error(), kForQuic);
  EXPECT_EQ(FormOf(down), ClientForm::kDatagram);
  const auto fresh = client.Map(RegisterTarget("server-0"));
  EXPECT_NE(fresh, target_vcid);
  EXPECT_NE(client.Map(Register("client-0")), client_vcid);
  EXPECT_TRUE(world.Forward(Tuple(7), OnLink(With(fresh), fresh.size())));
  EXPECT_EQ(FormOf(down), ClientForm::kForward);
  EXPECT_TRUE(client.Say(Close(Kind::kCloseTargetCid, "server-0")).empty());
  EXPECT_EQ(client.reset(), 0u);
}

// In whatever state its tunnels are.
TEST_P(Rfc9298Forwarding, MigratingMeanwhile) {
  RawClient waiting(world, kAlice, 4), looking(world, kAlice, 8);
  world.open_at_once = false;
  EXPECT_EQ(waiting.Open(Offer({GetParam()}), false), 0u);
  (void)waiting.Say(Register("client-4"));
  auto fields = RawClient::Fields();
  std::ranges::find(fields, ":path", &HeaderField::name)->value =
    "/.well-known/masque/udp/target.example/443/";
  EXPECT_EQ(world.Request(kAlice, 8, fields), 0u);
  (void)looking.Say(Register("client-8"));
  (void)client.Ask(RegisterTarget("server-1"));
  (void)client.Ask(Register("client-1")); // Not acknowledged.
  world.Do(world.proxy.OnMigrating(kAlice, world.now));
  for (const auto socket : std::set(world.opening)) {
    world.Opened(socket);
  }
  EXPECT_EQ(RawClient::Describe(waiting.Heard()),
            (Texts{"ACK_CLIENT_CID client-4 8", "MAX_CONNECTION_IDS 64"}));
  world.Do(world.proxy.OnMigrating(kAlice, world.now));
  EXPECT_EQ(world.Status(kAlice, 8), 0u);
  world.Close(kAlice, 8);
  world.Do(world.proxy.OnMigrating(kAlice, world.now));
  world.Do(world.proxy.OnMigrating(kBob, world.now));
  EXPECT_EQ(client.reset() + waiting.reset(), 0u);
}

INSTANTIATE_TEST_SUITE_P(All, Rfc9298Forwarding,
                         testing::Values(Transform::kIdentity, Transform::kScrambleDt),
                         [](const auto &info) {
                           return info.param == Transform::kIdentity ? "identity" : "scramble";
                         });

// What the proxy draws is in no conflict with what it has issued itself on the 4-tuple, nor with each
// other, and is not what the client has said.
//
//= draft-ietf-masque-quic-proxy, section 2.2
//# For such proxies, a non-empty client VCID MUST NOT be equal to the original client CID.
//
//= draft-ietf-masque-quic-proxy, section 5.10
//# If forwarded mode is supported, the proxy MUST use a target VCID that does not introduce a
//# conflict with any other Connection ID on the client-to-proxy 4-tuple.
TEST(Rfc9298VirtualIds, AreInNobodysWay) {
  ProxyWorld world({}, OpenPolicy());
  RawClient client(world);
  client.Open();
  std::vector<ConnectionId> virtual_ids;
  for (int i = 0; i < 40; ++i) {
    const auto id = std::to_string(1000 + i);
    const auto answer = client.Ask(i % 2 == 0 ? Register(id) : RegisterTarget(id)).at(0);
    EXPECT_NE(answer.virtual_id, answer.id);
    EXPECT_GE(answer.virtual_id.size(), answer.id.size());
    if (answer.kind == Kind::kAckTargetCid) {
      // It is refused as one of the proxy's own: it is on the 4-tuple.
      EXPECT_FALSE(world.proxy.Reserve(kAlice, answer.virtual_id));
    }
    for (const auto &other : virtual_ids) {
      EXPECT_EQ(Compare(answer.virtual_id.bytes(), other.bytes()), Relation::kUnrelated);
    }
    virtual_ids.push_back(answer.virtual_id);
  }
}

// A client that moves before the answer, or before it has been told what it may use.
TEST(Rfc9298ClientMoves, BeforeTheAnswer) {
  RawProxy proxy;
  EXPECT_EQ(proxy.Start(), (Texts{"request", "REGISTER_CLIENT_CID client-0 0"}));
  EXPECT_TRUE(proxy.Do(proxy.tunnel.OnMigrated()).empty());
  EXPECT_TRUE(proxy.Do(proxy.tunnel.OnMigrated()).empty());
  proxy.Respond(RawProxy::Accepting());
  // The first one is of before the move.
  EXPECT_EQ(proxy.Say(Ack(Kind::kAckClientCid, "client-0", Id("virtual0"))),
            Texts{"REGISTER_CLIENT_CID client-0 0"});
  EXPECT_FALSE(proxy.ids.FindForwarded(With(Id("virtual0"))).tunnel);
  EXPECT_EQ(proxy.Say(Ack(Kind::kAckClientCid, "client-0", Id("virtual1"))),
            Texts{"ACK_CLIENT_VCID client-0 8"});
  EXPECT_EQ(proxy.ids.FindForwarded(With(Id("virtual1"))).tunnel, &proxy.tunnel);
}

// In -08 a repeat costs, and has to wait: what has been asked for before the move is of no use.
TEST(Rfc9298ClientMoves, WithoutAllowance) {
  RawProxy proxy(QuicProxyRevision::k08);
  proxy.Open(3);
  EXPECT_EQ(proxy.Do(proxy.tunnel.AddServerId(Id("server-0"))).size(), 1u);
  EXPECT_EQ(proxy.Do(proxy.tunnel.OnMigrated()), Texts{"REGISTER_CLIENT_CID client-0 0"});
  EXPECT_TRUE(proxy.Do(proxy.tunnel.OnMigrated()).empty()) << "nothing waits twice";
  EXPECT_TRUE(proxy.Say(Ack(Kind::kAckTargetCid, "server-0", Id("virtual1"))).empty());
  EXPECT_EQ(proxy.tunnel.FromInner(With(Id("server-0"))), ClientWay::kTunnel);
  EXPECT_EQ(proxy.Say(Maximum(10)).size(), 1u);
  EXPECT_TRUE(proxy.Say(Ack(Kind::kAckTargetCid, "server-0", Id("virtual2"))).empty());
  EXPECT_EQ(proxy.tunnel.FromInner(With(Id("server-0"))), ClientWay::kForward);
  // One that waits is registered all the same, and is closed.
  proxy.Say(Maximum(11));
  (void)proxy.Do(proxy.tunnel.AddServerId(Id("server-1")));
  for (int i = 0; i < 6; ++i) {
    (void)proxy.Do(proxy.tunnel.OnMigrated());
  }
  EXPECT_EQ(proxy.Do(proxy.tunnel.RemoveServerId(Id("server-0"))),
            Texts{"CLOSE_TARGET_CID server-0 0"});
}

// What was forwarded may wait to be forwarded again, and nothing else.
TEST(Rfc9298ClientMoves, WhatMayWait) {
  RawProxy proxy;
  proxy.Open();
  (void)proxy.Do(proxy.tunnel.AddServerId(Id("server-0")));
  const auto usual = With(Id("server-0"));
  auto larger = usual;
  larger.push_back(0);
  const auto may_wait = [&](const Bytes &packet) { return proxy.tunnel.MayWait(packet); };
  EXPECT_FALSE(may_wait(usual)) << "it is not acknowledged";
  (void)proxy.Say(Ack(Kind::kAckTargetCid, "server-0", Id("virtual0")));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(proxy.tunnel.FromInner(usual), ClientWay::kForward);
  }
  EXPECT_EQ(proxy.tunnel.FromInner(larger), ClientWay::kForward) << "a probe";
  EXPECT_FALSE(may_wait(usual)) << "it is forwarded";
  (void)proxy.Do(proxy.tunnel.OnMigrated());
  EXPECT_EQ(proxy.tunnel.FromInner(usual), ClientWay::kTunnel);
  EXPECT_TRUE(may_wait(usual));
  EXPECT_FALSE(may_wait(larger));
  EXPECT_FALSE(may_wait(With(Id("server-1"))));
  EXPECT_FALSE(may_wait(Long(Id("server-0").bytes())));
  (void)proxy.Do(proxy.tunnel.OnMigrated());
  (void)proxy.Say(Ack(Kind::kAckTargetCid, "server-0", Id("virtual1")));
  EXPECT_TRUE(may_wait(usual)) << "that was of before the second move";
  (void)proxy.Say(Ack(Kind::kAckTargetCid, "server-0", Id("virtual2")));
  EXPECT_FALSE(may_wait(usual));
  (void)proxy.Do(proxy.tunnel.OnMigrated());
  (void)proxy.Say(Ack(Kind::kAckTargetCid, "server-0", {}));
  EXPECT_FALSE(may_wait(usual)) << "the proxy has no room for it any more";
}

// A client link's packets that are too short to be unscrambled are nobody's.
TEST(Rfc9298ClientMoves, ShortPackets) {
  RawProxy proxy(kNewestRevision, {Transform::kScrambleDt});
  proxy.Start();
  proxy.Respond(RawProxy::Accepting("scramble-dt"));
  EXPECT_EQ(proxy.Say(Ack(Kind::kAckClientCid, "client-0", Id("virtual0"))).size(), 1u);
  auto packet = With(Id("virtual0"), "15 more bytes..");
  const auto found = proxy.ids.FindForwarded(packet);
  ASSERT_EQ(found.tunnel, &proxy.tunnel);
  EXPECT_FALSE(proxy.tunnel.FromProxy(found, packet));
  packet = With(Id("virtual0"), "16 more bytes...");
  EXPECT_TRUE(proxy.tunnel.FromProxy(found, packet));
  (void)proxy.Do(proxy.tunnel.AddServerId(Id("server-0")));
  (void)proxy.Say(Ack(Kind::kAckTargetCid, "server-0", Id("virtual1")));
  EXPECT_EQ(proxy.tunnel.FromInner(With(Id("server-0"), "15 more bytes..")), ClientWay::kTunnel);
  EXPECT_EQ(proxy.tunnel.FromInner(With(Id("server-0"), "16 more bytes...")), ClientWay::kForward);
}

//= draft-ietf-masque-quic-proxy, section 6.1
//# Clients and proxies supporting forwarded mode MUST be able to handle Virtual Connection IDs of
//# different lengths than the corresponding Connection IDs.
//
//= draft-ietf-masque-quic-proxy, section 6.1
//# If the Virtual Connection ID is smaller than the Connection ID, the sender MUST shrink the length of
//# the packet by the difference between the two lengths.
//
//= draft-ietf-masque-quic-proxy, section 6.1
//# If the Virtual Connection ID is larger than the Connection ID, the sender MUST extend the length
//# of the packet by the difference between the two lengths, to include the entire Virtual
//# Connection ID.
//
//= draft-ietf-masque-quic-proxy, section 5.4
//# The proxy-chosen connection ID that the client MUST use when sending in forwarded mode.
TEST(Rfc9298ClientMoves, LengthsOfVirtualIds) {
  for (const auto *virtual_id : {"v", "virtual1", "a virtual one of 20b"}) {
    RawProxy proxy;
    proxy.Open();
    (void)proxy.Do(proxy.tunnel.AddServerId(Id("server-0")));
    (void)proxy.Say(Ack(Kind::kAckTargetCid, "server-0", Id(virtual_id)));
    const auto packet = With(Id("server-0"));
    ASSERT_EQ(proxy.tunnel.FromInner(packet), ClientWay::kForward);
    Bytes room(packet.size() + ClientTunnel::kMaxGrowth);
    const auto written = proxy.tunnel.ToProxy(packet, room);
    EXPECT_EQ(Bytes(written.begin(), written.end()), With(Id(virtual_id)));
  }
  for (const auto *virtual_id : {"virtual1", "a virtual one of 20b"}) {
    RawProxy proxy;
    proxy.Open();
    (void)proxy.Do(proxy.tunnel.AddClientId(Id("client-1")));
    (void)proxy.Say(Ack(Kind::kAckClientCid, "client-1", Id(virtual_id)));
    auto packet = With(Id(virtual_id));
    const auto found = proxy.ids.FindForwarded(packet);
    const auto read = proxy.tunnel.FromProxy(found, packet);
    ASSERT_TRUE(read);
    EXPECT_EQ(Bytes(read->begin(), read->end()), With(Id("client-1")));
  }
}

} // namespace
} // namespace ngmasque
