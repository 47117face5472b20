// Dialect rfc9298 at the client: what it does with what proxies say, in order and out of it
// (proxying.md, section 4; adversarial.md, classes 16 and 21 to 23).

#include "session_revisions.h"
#include "session_rfc9298_raw_proxy.h"

#include <algorithm>

namespace ngmasque {
namespace {

const std::string kClosed = "close " + std::to_string(kH3DatagramError);
const Texts kBroken{kClosed, "failed 0"};
const std::string kRest = " and what follows it, which is long enough";

class Rfc9298ClientRules : public testing::TestWithParam<QuicProxyRevision> {
protected:
  bool has_reject() const { return RulesOf(GetParam()).has_reject; }
  bool has_reason() const { return GetParam() != QuicProxyRevision::k06; }
  // Refuses: that is a CLOSE where there is no REJECT.
  Texts Reject(std::string_view id, CidReason reason = CidReason::kDefault,
               Kind kind = Kind::kRejectClientCid) {
    return proxy.Say(Close(kind, id, reason));
  }
  bool Forwards(std::string_view id) {
    return proxy.tunnel.FromInner(Short(std::string(id) + kRest)) == ClientWay::kForward;
  }
  // Whether a packet that comes with it from the proxy is the tunnel's.
  bool Takes(std::string_view id) {
    return proxy.ids.FindForwarded(Short(std::string(id) + kRest)).tunnel == &proxy.tunnel;
  }

  RawProxy proxy{GetParam()};
};

TEST_P(Rfc9298ClientRules, Conversation) {
  EXPECT_EQ(proxy.Start(), (Texts{"request", "REGISTER_CLIENT_CID client-0 0"}));
  EXPECT_EQ(proxy.Respond(RawProxy::Accepting()), Texts{"opened"});
  //= draft-ietf-masque-quic-proxy, section 5.9.2
  //# If forwarded mode is enabled, the client MUST reply to the ACK_CLIENT_CID with an
  //# ACK_CLIENT_VCID capsule with the real and virtual connection IDs along with an optional
  //# Stateless Reset Token.
  EXPECT_EQ(proxy.Say(Ack(Kind::kAckClientCid, "client-0", Id("virtual0"))),
            Texts{"ACK_CLIENT_VCID client-0 8"});
  EXPECT_TRUE(Takes("virtual0"));
  //= draft-ietf-masque-quic-proxy, section 6.2
  //# Once a client has sent an ACK_CLIENT_VCID capsule to the proxy, it MUST be prepared to receive
  //# forwarded short header packets on the 4-tuple between itself and the proxy for the specified
  //# client VCID.
  //
  //= draft-ietf-masque-quic-proxy, section 5.9.1
  //# If forwarded mode is supported, the client MUST respond with an ACK_CLIENT_VCID to signal to
  //# the proxy that it may start sending forwarded mode packets.
  EXPECT_FALSE(Takes("client-0"));
  EXPECT_EQ(proxy.Do(proxy.tunnel.AddServerId(Id("server-0"))),
            Texts{"REGISTER_TARGET_CID server-0 0"});
  EXPECT_FALSE(Forwards("server-0"));
  //= draft-ietf-masque-quic-proxy, section 6.1
  //# The client MUST wait for an ACK_TARGET_CID capsule that contains the echoed connection ID and
  //# target VCID before using forwarded mode.
  //
  //= draft-ietf-masque-quic-proxy, section 6.1
  //# Prior to receiving the proxy server response, the client MUST send short header packets
  //# tunnelled in HTTP Datagram frames.
  EXPECT_TRUE(proxy.Say(Ack(Kind::kAckTargetCid, "server-0", Id("v1"))).empty());
  EXPECT_TRUE(Forwards("server-0"));
  //= draft-ietf-masque-quic-proxy, section 6.1
  //# QUIC long header packets MUST NOT be forwarded.
  //
  //= draft-ietf-masque-quic-proxy, section 1
  //# QUIC long header packets between clients and targets MUST be proxied in tunnelled mode
  EXPECT_EQ(proxy.tunnel.FromInner(Long("server-0")), ClientWay::kTunnel);
}

//= draft-ietf-masque-quic-proxy, section 5
//# These capsule types MUST only be sent by a client.
TEST_P(Rfc9298ClientRules, CapsulesOfAClient) {
  for (const auto &capsule : {Register("client-0"), RegisterTarget("server-0"),
                              Ack(Kind::kAckClientVcid, "client-0", Id("virtual0"))}) {
    RawProxy other(GetParam());
    other.Open();
    EXPECT_EQ(other.Say(capsule), kBroken) << Describe(capsule);
    EXPECT_TRUE(other.tunnel.over());
    EXPECT_TRUE(other.Say(capsule).empty()) << "nothing comes of what is over";
  }
}

TEST_P(Rfc9298ClientRules, AcknowledgementsThatAreNone) {
  const auto say = [&](const CidCapsule &capsule) {
    RawProxy other(GetParam());
    other.Open();
    return other.Say(capsule);
  };
  EXPECT_EQ(say(Ack(Kind::kAckClientCid, "unknown0", Id("virtual1"))), kBroken);
  EXPECT_EQ(say(Ack(Kind::kAckTargetCid, "client-0", Id("virtual1"))), kBroken) << "it is no target's";
  EXPECT_EQ(say(Ack(Kind::kAckClientCid, "client-0", Id("virtual1"))), kBroken) << "twice";

  RawProxy shorter(GetParam());
  shorter.Start();
  shorter.Respond(RawProxy::Accepting());
  //= draft-ietf-masque-quic-proxy, section 5.3
  //# The client VCID Length MUST be at least as large as the Connection ID to reduce the likelihood
  //# of connection ID conflicts.
  EXPECT_EQ(shorter.Say(Ack(Kind::kAckClientCid, "client-0", Id("shorter"))), kBroken);
}

//= draft-ietf-masque-quic-proxy, section 5.3
//# When forwarded mode is not negotiated, the length MUST be zero.
TEST_P(Rfc9298ClientRules, VirtualOneWithoutForwarding) {
  auto answer = RawProxy::Accepting();
  answer.forwarding->forwarding = false;
  proxy.Start();
  EXPECT_EQ(proxy.Respond(answer), (Texts{"opened", "fell back: proxy refuses to forward"}));
  RawProxy other(GetParam());
  other.Start();
  other.Respond(answer);
  //= draft-ietf-masque-quic-proxy, section 5.9.1
  //# If forwarded mode is not supported, an ACK_CLIENT_VCID capsule MUST NOT be sent.
  //
  //= draft-ietf-masque-quic-proxy, section 5
  //# The ACK_CLIENT_VCID capsule type MUST only be sent by the client and only when forwarded mode
  //# is enabled.
  EXPECT_TRUE(proxy.Say(Ack(Kind::kAckClientCid, "client-0")).empty());
  EXPECT_EQ(other.Say(Ack(Kind::kAckClientCid, "client-0", Id("virtual0"))), kBroken);
}

//= draft-ietf-masque-quic-proxy, section 5
//# Clients receiving a MAX_CONNECTION_IDS capsule with a value less than 1 MUST reset the stream
//# with H3_DATAGRAM_ERROR error code.
TEST_P(Rfc9298ClientRules, Maxima) {
  const auto least = RulesOf(GetParam()).least_maximum;
  const auto say = [&](std::vector<std::uint64_t> maxima) {
    RawProxy other(GetParam());
    other.Open(0);
    Texts said;
    for (const auto maximum : maxima) {
      for (auto &text : other.Say(Maximum(maximum))) {
        said.push_back(text);
      }
    }
    return said;
  };
  EXPECT_TRUE(say({least}).empty());
  EXPECT_TRUE(say({5, 6, 1000, kVarintMax}).empty());
  EXPECT_EQ(say({0}), kBroken);
  EXPECT_EQ(say({least - 1}), kBroken);
  EXPECT_EQ(say({5, 4}), kBroken) << "decreasing";
  EXPECT_EQ(say({kVarintMax, 5}), kBroken);
  EXPECT_EQ(say({5, 5}), GetParam() == QuicProxyRevision::k06 ? Texts{} : kBroken) << "equal";
}

//= draft-ietf-masque-quic-proxy, section 5.9
//# The client MUST NOT send a registration capsule with a sequence number greater than what the proxy
//# advertises via the MAX_CONNECTION_IDS capsule.
TEST_P(Rfc9298ClientRules, WaitsForMoreToBeAllowed) {
  proxy.Open(0);
  EXPECT_EQ(proxy.Do(proxy.tunnel.AddClientId(Id("client-1"))),
            Texts{"REGISTER_CLIENT_CID client-1 0"});
  EXPECT_TRUE(proxy.Do(proxy.tunnel.AddClientId(Id("client-2"))).empty());
  EXPECT_TRUE(proxy.Do(proxy.tunnel.AddServerId(Id("server-0"))).empty());
  EXPECT_TRUE(proxy.Do(proxy.tunnel.AddServerId(Id("server-1"))).empty());
  // What has waited in vain is not closed.
  EXPECT_TRUE(proxy.Do(proxy.tunnel.RemoveServerId(Id("server-0"))).empty());
  const auto none = RulesOf(GetParam()).allowed_by_zero;
  EXPECT_EQ(proxy.Say(Maximum(3 - none)), Texts{"REGISTER_CLIENT_CID client-2 0"});
  EXPECT_EQ(proxy.Say(Maximum(4 - none)), Texts{"REGISTER_TARGET_CID server-1 0"});
}

TEST_P(Rfc9298ClientRules, Refusals) {
  proxy.Open();
  (void)proxy.Do(proxy.tunnel.AddClientId(Id("client-1")));
  EXPECT_EQ(Reject("client-1", CidReason::kTooShort),
            (Texts{"discard client-1",
                   "fell back: client connection ID is refused or in conflict"}));
  (void)proxy.Do(proxy.tunnel.AddServerId(Id("server-0")));
  EXPECT_EQ(Reject("server-0", CidReason::kConflict, Kind::kRejectTargetCid),
            Texts{has_reason() ? "fell back: server connection ID is in conflict"
                               : "fell back: proxy refuses to forward"});
  //= draft-ietf-masque-quic-proxy, section 6.1
  //# it MUST NOT forward packets to the requested target CID, but only use tunnelled mode.
  EXPECT_FALSE(Forwards("server-0"));
}

//= draft-ietf-masque-quic-proxy, section 5
//# the client MUST NOT send any packets until receiving an ACK_CLIENT_CID.
TEST_P(Rfc9298ClientRules, RefusalOfTheFirst) {
  proxy.Start();
  proxy.Respond(RawProxy::Accepting());
  //= draft-ietf-masque-quic-proxy, section 5.9.1
  //# If the rejection indicated a conflict due to the client CID, the client MUST select a new
  //# Connection ID before sending a new request, and generate a new packet.
  EXPECT_EQ(Reject("client-0", CidReason::kConflict),
            (Texts{"close " + std::to_string(kH3RequestCancelled),
                   has_reason() ? "failed 0 retry" : "failed 0"}));
}

// A refusal of what was acknowledged makes no sense; nor of what was never asked for.  In -06 the
// proxy may close what it has acknowledged, in -09 it has a capsule for that.
TEST_P(Rfc9298ClientRules, RefusalAfterAcknowledgement) {
  proxy.Open();
  (void)proxy.Do(proxy.tunnel.AddClientId(Id("client-1")));
  (void)proxy.Say(Ack(Kind::kAckClientCid, "client-1", Id("virtual1")));
  EXPECT_EQ(Reject("client-0"), GetParam() == QuicProxyRevision::k06
                                  ? Texts{"fell back: proxy has ended a request"}
                                  : kBroken);
}

TEST_P(Rfc9298ClientRules, CloseByTheProxy) {
  proxy.Open();
  (void)proxy.Do(proxy.tunnel.AddClientId(Id("client-1")));
  (void)proxy.Say(Ack(Kind::kAckClientCid, "client-1", Id("virtual1")));
  (void)proxy.Do(proxy.tunnel.AddServerId(Id("server-0")));
  (void)proxy.Say(Ack(Kind::kAckTargetCid, "server-0", Id("virtual2")));
  const auto closed = proxy.Say(Close(Kind::kCloseTargetCid, "server-0"));
  if (GetParam() == QuicProxyRevision::k08) {
    EXPECT_EQ(closed, kBroken);
    return;
  }
  EXPECT_EQ(closed, Texts{"fell back: proxy has ended a request"});
  EXPECT_FALSE(Forwards("server-0"));
  EXPECT_EQ(proxy.Say(Close(Kind::kCloseClientCid, "client-0")),
            Texts{"fell back: proxy has ended a request"});
  EXPECT_FALSE(Takes("virtual0"));
  EXPECT_TRUE(Takes("virtual1"));
  EXPECT_EQ(proxy.Say(Close(Kind::kCloseClientCid, "client-1")),
            (Texts{"close " + std::to_string(kH3RequestCancelled), "failed 0"}))
    << "it has none left";
}

// What is closed while its answer is on its way, and asked for again: the first answer says nothing
// of the second registration, whatever it is.
//
//= draft-ietf-masque-quic-proxy, section 5.9.2
//# Prior to informing the target of a new chosen client CID, the client MUST send a
//# REGISTER_CLIENT_CID capsule to the proxy containing the new client CID.
//
//= draft-ietf-masque-quic-proxy, section 5
//# When port sharing is supported, the client MUST register and receive acknowledgements for client
//# and target CIDs before using them.
TEST_P(Rfc9298ClientRules, ClosedAndRegisteredAgain) {
  for (const bool first_is_ack : {true, false}) {
    for (const bool second_is_ack : {true, false}) {
      RawProxy other(GetParam());
      other.Open();
      (void)other.Do(other.tunnel.AddClientId(Id("client-1")));
      EXPECT_EQ(other.Do(other.tunnel.RemoveClientId(Id("client-1"))),
                Texts{"CLOSE_CLIENT_CID client-1 0"});
      EXPECT_EQ(other.Do(other.tunnel.AddClientId(Id("client-1"))),
                Texts{"REGISTER_CLIENT_CID client-1 0"});
      EXPECT_TRUE(other
                    .Say(first_is_ack ? Ack(Kind::kAckClientCid, "client-1", Id("virtual1"))
                                      : Close(Kind::kRejectClientCid, "client-1"))
                    .empty());
      if (second_is_ack) {
        EXPECT_EQ(other.Say(Ack(Kind::kAckClientCid, "client-1", Id("virtual2"))),
                  (Texts{"ACK_CLIENT_VCID client-1 8", "release client-1"}));
      } else {
        EXPECT_EQ(other.Say(Close(Kind::kRejectClientCid, "client-1")),
                  (Texts{"discard client-1",
                         "fell back: client connection ID is refused or in conflict"}));
      }
    }
  }
}

// It uses up the allowance each time, as the proxy has forgotten it in between.
TEST_P(Rfc9298ClientRules, ClosedAndRegisteredAgainCounts) {
  proxy.Open(3 - RulesOf(GetParam()).allowed_by_zero);
  (void)proxy.Do(proxy.tunnel.AddClientId(Id("client-1")));
  (void)proxy.Do(proxy.tunnel.RemoveClientId(Id("client-1")));
  EXPECT_EQ(proxy.Do(proxy.tunnel.AddClientId(Id("client-1"))),
            Texts{"REGISTER_CLIENT_CID client-1 0"});
  (void)proxy.Do(proxy.tunnel.RemoveClientId(Id("client-1")));
  EXPECT_TRUE(proxy.Do(proxy.tunnel.AddClientId(Id("client-1"))).empty()) << "the fourth";
}

// A virtual connection ID that is somebody else's.
TEST_P(Rfc9298ClientRules, ConflictOfVirtualIds) {
  for (const auto *virtual_id : {"outer-id", "outer-id and more", "client-1", "virtual0"}) {
    RawProxy other(GetParam());
    ASSERT_TRUE(other.ids.Reserve(Id("outer-id")));
    other.Open();
    (void)other.Do(other.tunnel.AddClientId(Id("client-1")));
    //= draft-ietf-masque-quic-proxy, section 5.9
    //# The client MUST acknowledge the new client VCID with an ACK_CLIENT_VCID capsule or close the
    //# registration.
    EXPECT_EQ(other.Say(Ack(Kind::kAckClientCid, "client-1", Id(virtual_id))),
              (Texts{"CLOSE_CLIENT_CID client-1 " + std::string(has_reason() ? "2" : "0"),
                     "discard client-1",
                     "fell back: client connection ID is refused or in conflict"}))
      << virtual_id;
    EXPECT_FALSE(other.tunnel.over());
  }
}

INSTANTIATE_TEST_SUITE_P(All, Rfc9298ClientRules, AllRevisions(), NameOfInfo);

// In -09 the word on a registration that a proxy has closed can cross another one of the client's.
TEST(Rfc9298ClientCrossing, CloseByTheProxy) {
  RawProxy proxy;
  proxy.Open();
  EXPECT_EQ(proxy.Do(proxy.tunnel.AddClientId(Id("client-1"))).size(), 1u);
  (void)proxy.Say(Ack(Kind::kAckClientCid, "client-1", Id("virtual1")));
  (void)proxy.Do(proxy.tunnel.OnMigrated());
  EXPECT_EQ(proxy.Say(Close(Kind::kCloseClientCid, "client-1")),
            (Texts{"CLOSE_CLIENT_CID client-1 0", "fell back: proxy has ended a request"}));
  EXPECT_TRUE(proxy.Say(Ack(Kind::kAckClientCid, "client-1", Id("virtual2"))).empty());
  EXPECT_FALSE(proxy.tunnel.over());
  // Both ends have closed it.
  (void)proxy.Do(proxy.tunnel.RemoveClientId(Id("client-1")));
  EXPECT_TRUE(proxy.Say(Close(Kind::kCloseClientCid, "client-1")).empty());
  EXPECT_EQ(proxy.Say(Close(Kind::kRejectClientCid, "client-1")), kBroken);
}

} // namespace
} // namespace ngmasque
