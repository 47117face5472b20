// Dialect rfc9298: inner connections whose client has chosen a connection ID of zero length, as
// browsers do.  They are forwarded towards the target, and tunnelled back.

#include "session_revisions.h"
#include "session_rfc9298_raw_proxy.h"

#include <utility>
#include <variant>

namespace ngmasque {
namespace {

const std::string kRest = " and what follows it, which is long enough";

class Rfc9298ZeroLength : public testing::TestWithParam<QuicProxyRevision> {
protected:
  RawClient Client(OuterConnection connection = kAlice, StreamId stream = 0) {
    return RawClient(world, connection, stream, GetParam());
  }
  std::string Allowed(std::uint64_t registrations) const {
    return Describe(Maximum(registrations - RulesOf(GetParam()).allowed_by_zero));
  }
  std::string Refused(std::string_view id, CidReason reason) const {
    const bool has_reason = GetParam() != QuicProxyRevision::k06;
    return (RulesOf(GetParam()).has_reject ? "REJECT_CLIENT_CID " : "CLOSE_CLIENT_CID ") +
           std::string(id) + ' ' + std::to_string(has_reason ? std::to_underlying(reason) : 0);
  }
  static bool Forwards(RawProxy &proxy, std::string_view id) {
    return proxy.tunnel.FromInner(Short(std::string(id) + kRest)) == ClientWay::kForward;
  }

  ProxyWorld world{{}, OpenPolicy()};
};

//= draft-ietf-masque-quic-proxy, section 5.8
//# Since very short Connection IDs are more likely to lead to conflicts, particularly zero-length
//# Connection IDs, a proxy MAY choose to reject all registrations for very short Connection IDs as
//# conflicts, in anticipation of future conflicts.
//
// On a socket that nobody else gets there are none.
TEST_P(Rfc9298ZeroLength, OnASocketOfItsOwn) {
  auto alice = Client();
  auto bob = Client(kBob);
  ASSERT_EQ(alice.Open(Offer(), false), 200u);
  ASSERT_EQ(bob.Open(Offer(), false), 200u);
  EXPECT_EQ(alice.Say(Register("")), (Texts{"ACK_CLIENT_CID  0", Allowed(64)}));
  const auto alices = world.socket();
  EXPECT_EQ(bob.Say(Register("")), (Texts{"ACK_CLIENT_CID  0", Allowed(64)}));
  const auto target_vcid = alice.Map(RegisterTarget("server-0"));
  auto packet = Short(target_vcid.bytes());
  const auto rest = ToBytes(kRest);
  packet.insert(packet.end(), rest.begin(), rest.end());
  EXPECT_TRUE(world.Forward(Tuple(1), packet));
  for (const auto &answer :
       {Short("whatever it is" + kRest), Long(""), Long("of another length")}) {
    const auto received = world.Receive(alices, answer);
    ASSERT_TRUE(received);
    EXPECT_EQ(received->form, ClientForm::kDatagram);
  }
  EXPECT_EQ(alice.reset() + bob.reset(), 0u);
}

//= draft-ietf-masque-quic-proxy, section 5.8
//# For example, a zero-length Connection ID conflicts with all connection IDs.
TEST_P(Rfc9298ZeroLength, IsInConflictWithItsOwn) {
  auto alice = Client();
  alice.Open(Offer(), false);
  EXPECT_EQ(alice.Say(Register("")), (Texts{"ACK_CLIENT_CID  0", Allowed(64)}));
  EXPECT_EQ(alice.Say(Register("client-0")), Texts{Refused("client-0", CidReason::kConflict)});
  EXPECT_TRUE(alice.Say(Close(Kind::kCloseClientCid, "")).empty());
  EXPECT_EQ(alice.Say(Register("client-0")), Texts{"ACK_CLIENT_CID client-0 8"});
  EXPECT_EQ(alice.Say(Register("")), Texts{Refused("", CidReason::kConflict)});
  EXPECT_EQ(alice.Say(Register("cli")), Texts{Refused("cli", CidReason::kTooShort)});
}

// Whoever is told that others may come to the same socket, gets none that leads there.
TEST_P(Rfc9298ZeroLength, NotOnASharedSocket) {
  auto alice = Client();
  alice.Open(Offer(), true);
  EXPECT_EQ(alice.Say(Register("")), (Texts{Refused("", CidReason::kTooShort), Allowed(65)}));
}

// What is too large for a datagram waits until the client is forwarded to again: this one never is.
TEST_P(Rfc9298ZeroLength, NothingWaitsAfterAMove) {
  auto with = Client();
  auto without = Client(kBob);
  with.Open(Offer(), false);
  with.Map(Register("client-0"));
  const auto withs = world.socket();
  without.Open(Offer(), false);
  (void)without.Say(Register(""));
  const auto withouts = world.socket();
  ASSERT_NE(withs, withouts);
  const auto may_wait = [&](auto socket) {
    bool waits = false;
    for (int i = 0; i < 3; ++i) {
      auto packet = Short("client-0" + kRest);
      const auto to =
        world.proxy.FromTarget(world.proxy.Find(socket), {.bytes = packet}, world.now);
      waits = to && world.proxy.MayWait(*to);
    }
    return waits;
  };
  EXPECT_FALSE(may_wait(withs));
  for (const auto connection : {kAlice, kBob}) {
    world.Do(world.proxy.OnMigrating(connection, world.now));
  }
  EXPECT_TRUE(may_wait(withs));
  EXPECT_FALSE(may_wait(withouts));
}

//= draft-ietf-masque-quic-proxy, section 6.1
//# Once the client has learned the target server's Connection ID, such as in the response to a QUIC
//# Initial packet, it can send a REGISTER_TARGET_CID capsule containing the target CID to request
//# the ability to forward packets.
TEST_P(Rfc9298ZeroLength, ClientForwardsToTheTarget) {
  RawProxy proxy(GetParam(), {Transform::kIdentity}, false);
  EXPECT_EQ(proxy.Start(""), (Texts{"request", "REGISTER_CLIENT_CID  0"}));
  EXPECT_EQ(proxy.Respond(RawProxy::Accepting("identity", false)), Texts{"opened"});
  EXPECT_TRUE(proxy.Say(Ack(Kind::kAckClientCid, "")).empty()) << "there is nothing to acknowledge";
  EXPECT_TRUE(proxy.Say(Maximum(20)).empty());
  EXPECT_EQ(proxy.Do(proxy.tunnel.AddServerId(Id("server-0"))),
            Texts{"REGISTER_TARGET_CID server-0 0"});
  EXPECT_FALSE(Forwards(proxy, "server-0"));
  EXPECT_TRUE(proxy.Say(Ack(Kind::kAckTargetCid, "server-0", Id("virtual1"))).empty());
  EXPECT_TRUE(Forwards(proxy, "server-0"));
  EXPECT_EQ(proxy.ids.FindForwarded(Short("server-0" + kRest)).tunnel, nullptr);
  // Both are registered again from its next address.
  EXPECT_EQ(proxy.Do(proxy.tunnel.OnMigrated()),
            (Texts{"REGISTER_CLIENT_CID  0", "REGISTER_TARGET_CID server-0 0"}));
  EXPECT_FALSE(Forwards(proxy, "server-0"));
  EXPECT_TRUE(proxy.Say(Ack(Kind::kAckClientCid, "")).empty());
  EXPECT_TRUE(proxy.Say(Ack(Kind::kAckTargetCid, "server-0", Id("virtual2"))).empty());
  EXPECT_TRUE(Forwards(proxy, "server-0"));
}

// Any number of tunnels of a connection can have it, as none of them is looked for by it.
TEST_P(Rfc9298ZeroLength, SeveralTunnels) {
  RawProxy proxy(GetParam(), {Transform::kIdentity}, false);
  (void)proxy.Start("");
  ClientTunnel another(proxy.ids, *proxy.dialect,
                       {.authority = ParseAuthority("192.0.2.9:443").value()});
  const auto actions = another.Start({});
  ASSERT_EQ(actions.size(), 2u);
  EXPECT_TRUE(std::holds_alternative<client_action::SendRequest>(actions[0]));
  EXPECT_FALSE(another.over());
  EXPECT_TRUE(proxy.ids.Check(Id("client-1")));
}

// A proxy that gives it a virtual one, which may be longer, can forward both ways.
TEST_P(Rfc9298ZeroLength, ClientTakesAVirtualOne) {
  RawProxy proxy(GetParam(), {Transform::kIdentity}, false);
  (void)proxy.Start("");
  (void)proxy.Respond(RawProxy::Accepting("identity", false));
  EXPECT_EQ(proxy.Say(Ack(Kind::kAckClientCid, "", Id("virtual0"))), Texts{"ACK_CLIENT_VCID  8"});
  auto packet = Short("virtual0" + kRest);
  const auto found = proxy.ids.FindForwarded(packet);
  ASSERT_EQ(found.tunnel, &proxy.tunnel);
  const auto got = proxy.tunnel.FromProxy(found, packet);
  ASSERT_TRUE(got);
  EXPECT_EQ(ToText(got->subspan(1)), kRest);
}

// With a reason or without one, there is another way: a tunnel without connection IDs.
TEST_P(Rfc9298ZeroLength, ClientIsRefused) {
  RawProxy proxy(GetParam(), {Transform::kIdentity}, false);
  (void)proxy.Start("");
  (void)proxy.Respond(RawProxy::Accepting("identity", false));
  const bool has_reason = GetParam() != QuicProxyRevision::k06;
  EXPECT_EQ(proxy.Say(Close(Kind::kRejectClientCid, "", CidReason::kTooShort)).back(),
            has_reason ? "failed 0 retry" : "failed 0");
  EXPECT_TRUE(proxy.tunnel.over());
}

INSTANTIATE_TEST_SUITE_P(All, Rfc9298ZeroLength, AllRevisions(), NameOfInfo);

} // namespace
} // namespace ngmasque
