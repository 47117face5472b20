// Dialect rfc9298 at the proxy: what it does with capsules, in order and out of it (proxying.md,
// section 4; adversarial.md, classes 16 and 21 to 23).

#include "session_revisions.h"
#include "session_rfc9298_raw.h"

#include <algorithm>

namespace ngmasque {
namespace {

class Rfc9298Proxy : public testing::TestWithParam<QuicProxyRevision> {
protected:
  RawClient Client(OuterConnection connection = kAlice, StreamId stream = 0) {
    return RawClient(world, connection, stream, GetParam());
  }
  // The maximum on the wire that allows so many registrations.
  static std::string Allowed(std::uint64_t registrations) {
    return Describe(Maximum(registrations - RulesOf(GetParam()).allowed_by_zero));
  }
  static std::string Refused(std::string_view kind, std::string_view id, CidReason reason) {
    const bool has_reason = GetParam() != QuicProxyRevision::k06;
    return std::string(RulesOf(GetParam()).has_reject ? "REJECT_" : "CLOSE_") + std::string(kind) +
           "_CID " + std::string(id) + ' ' +
           std::to_string(has_reason ? std::to_underlying(reason) : 0);
  }

  ProxyWorld world{{}, OpenPolicy()};
};

//= draft-ietf-masque-quic-proxy, section 5.10
//# The proxy MUST reply to each REGISTER_CLIENT_CID capsule with either an ACK_CLIENT_CID or
//# CLOSE_CLIENT_CID capsule containing the Connection ID that was in the registration capsule.
//
//= draft-ietf-masque-quic-proxy, section 5.10
//# Similarly, the proxy MUST reply to each REGISTER_TARGET_CID capsule with either an
//# ACK_TARGET_CID or CLOSE_TARGET_CID capsule containing the Connection ID that was in the
//# registration capsule.
//
//= draft-ietf-masque-quic-proxy, section 2.2
//# To reduce the likelihood of connection ID conflicts, the proxy MUST choose a client VCID that is
//# at least as long as the original client CID.
TEST_P(Rfc9298Proxy, Registrations) {
  auto client = Client();
  ASSERT_EQ(client.Open(), 200u);
  EXPECT_EQ(client.Say(Register("client-0")),
            (Texts{"ACK_CLIENT_CID client-0 8", Allowed(64)}));
  EXPECT_EQ(client.Say(RegisterTarget("server-0")), Texts{"ACK_TARGET_CID server-0 16"});
  EXPECT_EQ(client.Say(Register("a-longer-client-ID")), Texts{"ACK_CLIENT_CID a-longer-client-ID 18"});
  EXPECT_EQ(client.Say(RegisterTarget("target's with 20 byt")),
            Texts{"ACK_TARGET_CID target's with 20 byt 20"});
  EXPECT_EQ(client.reset(), 0u);
}

// A registration that is made anew gets another virtual connection ID, each time.
TEST_P(Rfc9298Proxy, Repeats) {
  auto client = Client();
  client.Open();
  std::vector<ConnectionId> seen{Id("client-0")};
  for (int i = 0; i < 8; ++i) {
    const auto answers = client.Ask(Register("client-0"));
    ASSERT_FALSE(answers.empty());
    EXPECT_EQ(answers[0].virtual_id.size(), 8u);
    EXPECT_FALSE(std::ranges::contains(seen, answers[0].virtual_id));
    seen.push_back(answers[0].virtual_id);
  }
  for (int i = 0; i < 8; ++i) {
    const auto answers = client.Ask(RegisterTarget("server-0"));
    ASSERT_FALSE(answers.empty());
    EXPECT_FALSE(std::ranges::contains(seen, answers[0].virtual_id));
    seen.push_back(answers[0].virtual_id);
  }
  EXPECT_EQ(client.reset(), 0u);
}

// Only in -09 are repeats free: then any number of them leaves room for all others.
TEST_P(Rfc9298Proxy, WhatRepeatsCost) {
  auto client = Client();
  client.Open();
  client.Map(Register("client-0"));
  std::uint64_t allowed = 64;
  for (int i = 0; i < 200; ++i) {
    for (const auto &answer : client.Ask(RegisterTarget("server-0"))) {
      if (answer.kind == Kind::kMaxConnectionIds) {
        allowed = answer.maximum + RulesOf(GetParam()).allowed_by_zero;
      }
    }
  }
  EXPECT_EQ(client.reset(), 0u);
  if (RulesOf(GetParam()).repeats_are_free) {
    EXPECT_EQ(allowed, 64u);
  } else {
    EXPECT_GT(allowed, 201u);
    EXPECT_LE(allowed, 201u + 64u);
  }
}

//= draft-ietf-masque-quic-proxy, section 5
//# These capsule types MUST only be sent by a proxy.
//
//= draft-ietf-masque-quic-proxy, section 5
//# The MAX_CONNECTION_IDS capsule type MUST only be sent by the proxy.
TEST_P(Rfc9298Proxy, CapsulesOfAProxy) {
  const std::vector<CidCapsule> wrong{
    Ack(Kind::kAckClientCid, "client-0", Id("virtual0")),
    Ack(Kind::kAckTargetCid, "server-0", Id("virtual0")),
    Close(Kind::kRejectClientCid, "client-0"), Close(Kind::kRejectTargetCid, "server-0"),
    Maximum(100)};
  StreamId stream = 0;
  for (const auto &capsule : wrong) {
    auto client = Client(kAlice, stream += 4);
    client.Open();
    client.Map(Register("client-" + std::to_string(stream)));
    (void)client.Say(capsule);
    // A rejection of older revisions is a CLOSE, which is the client's, too.
    const bool is_close = !RulesOf(GetParam()).has_reject &&
                          (capsule.kind == Kind::kRejectClientCid ||
                           capsule.kind == Kind::kRejectTargetCid);
    EXPECT_EQ(client.reset(), is_close ? 0u : kH3DatagramError) << Describe(capsule);
  }
}

TEST_P(Rfc9298Proxy, AcknowledgementsThatAreNone) {
  const auto end = [&](StreamId stream, auto say) {
    auto client = Client(kAlice, stream);
    client.Open();
    const auto virtual_id = client.Ask(Register("client-" + std::to_string(stream)))[0].virtual_id;
    say(client, virtual_id, Id("client-" + std::to_string(stream)));
    return client.reset();
  };
  using Virtual = const ConnectionId &;
  const auto vcid = [](const ConnectionId &id, const ConnectionId &virtual_id) {
    return CidCapsule{
      .kind = Kind::kAckClientVcid, .id = id, .virtual_id = virtual_id, .token = {}};
  };
  EXPECT_EQ(end(4, [&](RawClient &c, Virtual v, Virtual id) { c.Say(vcid(id, v)); }), 0u);
  EXPECT_EQ(end(8, [&](RawClient &c, Virtual v, Virtual) { c.Say(vcid(Id("unknown0"), v)); }),
            kH3DatagramError);
  EXPECT_EQ(end(12, [&](RawClient &c, Virtual, Virtual id) { c.Say(vcid(id, Id("unknown0"))); }),
            kH3DatagramError);
  EXPECT_EQ(end(16, [&](RawClient &c, Virtual, Virtual id) { c.Say(vcid(id, {})); }),
            kH3DatagramError);
  EXPECT_EQ(end(20,
                [&](RawClient &c, Virtual v, Virtual id) {
                  c.Say(vcid(id, v));
                  EXPECT_EQ(c.reset(), 0u);
                  c.Say(vcid(id, v));
                }),
            kH3DatagramError)
    << "twice";
  EXPECT_EQ(end(24,
                [&](RawClient &c, Virtual v, Virtual id) {
                  c.Say(Close(Kind::kCloseClientCid, ToText(id.bytes())));
                  c.Say(vcid(id, v));
                }),
            kH3DatagramError)
    << "after CLOSE";
}

// What the client's move has made void is acknowledged in vain, but that is no error.
TEST_P(Rfc9298Proxy, VoidAcknowledgement) {
  auto client = Client();
  client.Open();
  const auto before = client.Ask(Register("client-0"))[0].virtual_id;
  world.Do(world.proxy.OnMigrating(kAlice, world.now));
  auto ack = Ack(Kind::kAckClientVcid, "client-0", before);
  EXPECT_TRUE(client.Say(ack).empty());
  EXPECT_EQ(client.reset(), 0u);
  const auto packet = Short("client-0 and so on");
  EXPECT_EQ(world.Receive(world.socket(), packet)->form, ClientForm::kDatagram);
  client.Map(Register("client-0"));
  world.Do(world.proxy.MoveConnection(kAlice, Tuple(5), world.now).actions);
  EXPECT_EQ(world.Receive(world.socket(), packet)->form, ClientForm::kForward);
  EXPECT_TRUE(client.Say(ack).empty());
  EXPECT_EQ(client.reset(), kH3DatagramError) << "it is unknown by now";
}

//= draft-ietf-masque-quic-proxy, section 5
//# The proxy MUST NOT send forwarded mode packets to the client prior to receiving this
//# acknowledgement.
//
//= draft-ietf-masque-quic-proxy, section 5.9
//# The proxy MUST NOT send in forwarded mode until ACK_CLIENT_VCID has been received.
TEST_P(Rfc9298Proxy, NothingIsForwardedBeforeTheAcknowledgement) {
  auto client = Client();
  client.Open();
  const auto packet = Short("client-0 and so on");
  const auto virtual_id = client.Ask(Register("client-0"))[0].virtual_id;
  EXPECT_EQ(world.Receive(world.socket(), packet)->form, ClientForm::kDatagram);
  (void)client.Say(Ack(Kind::kAckClientVcid, "client-0", virtual_id));
  EXPECT_EQ(world.Receive(world.socket(), packet)->form, ClientForm::kForward);
  //= draft-ietf-masque-quic-proxy, section 5.10
  //# The proxy MUST use tunnelled mode (HTTP Datagram frames) for any long header packets.
  EXPECT_EQ(world.Receive(world.socket(), Long("client-0"))->form, ClientForm::kDatagram);
  // A new virtual one does not stop the old one.
  EXPECT_EQ(client.Ask(Register("client-0")).at(0).virtual_id.size(), 8u);
  EXPECT_EQ(world.Receive(world.socket(), packet)->form, ClientForm::kForward);
  (void)client.Say(Close(Kind::kCloseClientCid, "client-0"));
  EXPECT_FALSE(world.Receive(world.socket(), packet));
}

// Closed twice, or never registered: the client may have crossed our refusal.
TEST_P(Rfc9298Proxy, CloseOfWhatIsNotThere) {
  auto client = Client();
  client.Open();
  client.Map(Register("client-0"));
  for (const auto kind : {Kind::kCloseClientCid, Kind::kCloseTargetCid}) {
    EXPECT_TRUE(client.Say(Close(kind, "unknown0")).empty());
    EXPECT_TRUE(client.Say(Close(kind, "client-0", CidReason::kConflict)).empty());
    EXPECT_TRUE(client.Say(Close(kind, "client-0")).empty());
  }
  EXPECT_EQ(client.reset(), 0u);
  // And it can come again.
  EXPECT_EQ(client.Say(Register("client-0")), Texts{"ACK_CLIENT_CID client-0 8"});
}

//= draft-ietf-masque-quic-proxy, section 5.8
//# Two Connection IDs conflict if and only if one Connection ID is equal to or a prefix of another.
//
//= draft-ietf-masque-quic-proxy, section 2.1
//# In order to share a proxy-to-target 4-tuple between multiple proxied connections, the proxy MUST
//# guarantee that the client CIDs do not conflict.
TEST_P(Rfc9298Proxy, ConflictsOnASharedSocket) {
  auto alice = Client();
  alice.Open();
  alice.Map(Register("client-0"));
  auto bob = Client(kBob);
  bob.Open();
  EXPECT_EQ(world.opened, 1);
  EXPECT_EQ(bob.Say(Register("client-0")),
            (Texts{Refused("CLIENT", "client-0", CidReason::kConflict), Allowed(65)}));
  for (const auto *id : {"client", "client-00"}) {
    EXPECT_EQ(bob.Say(Register(id)), Texts{Refused("CLIENT", id, CidReason::kConflict)}) << id;
  }
  for (const auto *id : {"", "c", "cli"}) {
    EXPECT_EQ(bob.Say(Register(id)), Texts{Refused("CLIENT", id, CidReason::kTooShort)}) << id;
  }
  EXPECT_EQ(bob.reset(), 0u);
  EXPECT_EQ(bob.Say(Register("client-1")), Texts{"ACK_CLIENT_CID client-1 8"});
  EXPECT_EQ(world.Receive(world.socket(), Short("client-1 x"))->connection, kBob);
  EXPECT_EQ(world.Receive(world.socket(), Short("client-0 x"))->connection, kAlice);
  (void)alice.Say(Close(Kind::kCloseClientCid, "client-0"));
  EXPECT_EQ(bob.Say(Register("client-0")), Texts{"ACK_CLIENT_CID client-0 8"});
  EXPECT_EQ(world.Receive(world.socket(), Short("client-0 x"))->connection, kBob);
}

// With a socket for itself nobody else is in the way; but what is its own.
//
//= draft-ietf-masque-quic-proxy, section 5.10
//# If the client did not send a value of "?1" for the "Proxy-QUIC-Port-Sharing" header, port reuse
//# is not permitted and the proxy MUST allocate a new UDP 4-tuple.
TEST_P(Rfc9298Proxy, NoConflictsBetweenSockets) {
  auto alice = Client();
  auto bob = Client(kBob);
  alice.Open(Offer(), false);
  bob.Open(Offer(), false);
  EXPECT_EQ(world.opened, 2);
  alice.Map(Register("client-0"));
  bob.Map(Register("client-0"));
  EXPECT_EQ(bob.Say(Register("client-00")),
            Texts{Refused("CLIENT", "client-00", CidReason::kConflict)});
  // Several connection IDs of a target may be in each other's way: what is between client and
  // proxy is not.
  for (const auto *id : {"server-0", "server", "", "s"}) {
    EXPECT_EQ(alice.Say(RegisterTarget(id)),
              Texts{"ACK_TARGET_CID " + std::string(id) + " 16"});
  }
}

//= draft-ietf-masque-quic-proxy, section 5.3
//# This MUST be a valid connection ID length for the QUIC version used in the client-to-proxy QUIC
//# connection.
TEST_P(Rfc9298Proxy, IdsThatAreTooLongForVersion1) {
  auto client = Client();
  client.Open();
  client.Map(Register("client-0"));
  const std::string longer(21, 'x'), longest(255, 'y');
  for (const auto &id : {longer, longest}) {
    EXPECT_EQ(client.Say(Register(id)), Texts{"ACK_CLIENT_CID " + id + " 0"});
    EXPECT_EQ(client.Say(RegisterTarget(id)), Texts{Refused("TARGET", id, CidReason::kDefault)});
    EXPECT_EQ(world.Receive(world.socket(), Short(id + " and so on"))->form,
              ClientForm::kDatagram);
  }
  EXPECT_EQ(client.reset(), 0u);
}

// A capsule of another revision than the first one is unknown, and nothing comes of it.
TEST_P(Rfc9298Proxy, OneRevisionOnAStream) {
  auto client = Client();
  client.Open();
  client.Map(Register("client-0"));
  for (const auto other : {QuicProxyRevision::k06, QuicProxyRevision::k08, QuicProxyRevision::k09}) {
    if (other != GetParam()) {
      (void)client.Send(WriteCidCapsule(other, Register("client-1")));
      (void)client.Send(WriteCidCapsule(other, Maximum(1)));
    }
  }
  EXPECT_TRUE(world.messages.empty());
  EXPECT_EQ(client.reset(), 0u);
}

INSTANTIATE_TEST_SUITE_P(All, Rfc9298Proxy, AllRevisions(), NameOfInfo);

} // namespace
} // namespace ngmasque
