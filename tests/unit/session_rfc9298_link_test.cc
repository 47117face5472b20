// A tunnel of dialect rfc9298 whose proxy lies behind another one: a virtual connection ID is
// acknowledged when that one knows it, and not before.

#include "session_rfc9298_raw_proxy.h"

namespace ngmasque {
namespace {

const std::string kRefused = "fell back: client connection ID is refused or in conflict";
const std::string kRest = " and what follows it, which is long enough";

class Rfc9298Link : public testing::Test {
protected:
  Texts Ids() const {
    Texts texts;
    for (const auto &[direction, id, token] : proxy.tunnel.LinkIds()) {
      texts.push_back((direction == Direction::kToClient ? "< " : "> ") + ToText(id.bytes()));
    }
    return texts;
  }
  Texts OnLinkId(std::string_view id, bool usable) {
    return proxy.Do(proxy.tunnel.OnLinkId(Id(id), usable));
  }
  // The first one, up to where it is held back.
  void Open() {
    proxy.Start();
    EXPECT_TRUE(proxy.tunnel.LinkIds().empty());
    EXPECT_EQ(proxy.Respond(RawProxy::Accepting()), Texts{"opened"});
    EXPECT_TRUE(proxy.Say(Maximum(20)).empty());
    EXPECT_TRUE(proxy.Say(Ack(Kind::kAckClientCid, "client-0", Id("virtual0"))).empty());
  }

  RawProxy proxy{kNewestRevision, {Transform::kIdentity}, true, true, true};
};

TEST_F(Rfc9298Link, FirstOne) {
  Open();
  EXPECT_EQ(Ids(), Texts{"< virtual0"});
  //= draft-ietf-masque-quic-proxy, section 5.9
  //# The client MUST acknowledge the new client VCID with an ACK_CLIENT_VCID capsule or close the
  //# registration.
  EXPECT_EQ(OnLinkId("virtual0", true), Texts{"ACK_CLIENT_VCID client-0 8"});
  // What goes to the target needs nobody's leave: the proxy before this one tunnels it until it
  // knows it.
  EXPECT_EQ(proxy.Do(proxy.tunnel.AddServerId(Id("server-0"))),
            Texts{"REGISTER_TARGET_CID server-0 0"});
  EXPECT_EQ(Ids(), Texts{"< virtual0"});
  proxy.Say(Ack(Kind::kAckTargetCid, "server-0", Id("v1")));
  EXPECT_EQ(Ids(), (Texts{"< virtual0", "> v1"}));
  EXPECT_EQ(proxy.tunnel.FromInner(Short("server-0" + kRest)), ClientWay::kForward);
}

TEST_F(Rfc9298Link, FirstOneIsRefused) {
  Open();
  EXPECT_EQ(OnLinkId("virtual0", false),
            (Texts{"CLOSE_CLIENT_CID client-0 2", "close " + std::to_string(kH3RequestCancelled),
                   "failed 0 retry"}));
  EXPECT_TRUE(proxy.tunnel.over());
  EXPECT_EQ(Ids(), Texts{});
}

TEST_F(Rfc9298Link, FurtherOnes) {
  Open();
  OnLinkId("virtual0", true);
  for (const auto *id : {"client-1", "client-2", "client-3"}) {
    proxy.Do(proxy.tunnel.AddClientId(Id(id)));
  }
  // The target is not told of it yet: in a shared socket its packets could be lost.
  EXPECT_EQ(proxy.Say(Ack(Kind::kAckClientCid, "client-1", Id("virtual1"))), Texts{});
  EXPECT_EQ(proxy.Say(Ack(Kind::kAckClientCid, "client-2", Id("virtual2"))), Texts{});
  EXPECT_EQ(OnLinkId("virtual2", true), (Texts{"ACK_CLIENT_VCID client-2 8", "release client-2"}));
  EXPECT_EQ(OnLinkId("virtual1", false),
            (Texts{"CLOSE_CLIENT_CID client-1 2", "discard client-1", kRefused}));
  EXPECT_EQ(Ids(), (Texts{"< virtual0", "< virtual2"}));
  // One that is given up meanwhile.
  proxy.Say(Ack(Kind::kAckClientCid, "client-3", Id("virtual3")));
  EXPECT_EQ(proxy.Do(proxy.tunnel.RemoveClientId(Id("client-3"))),
            Texts{"CLOSE_CLIENT_CID client-3 0"});
  EXPECT_EQ(OnLinkId("virtual3", true), Texts{});
}

// Nothing is forwarded then, and nobody has to know anything.
TEST_F(Rfc9298Link, NothingIsForwarded) {
  proxy.Start();
  auto answer = RawProxy::Accepting();
  answer.forwarding->forwarding = false;
  proxy.Respond(answer);
  EXPECT_TRUE(proxy.Say(Ack(Kind::kAckClientCid, "client-0")).empty());
  proxy.Do(proxy.tunnel.AddClientId(Id("client-1")));
  EXPECT_EQ(proxy.Say(Ack(Kind::kAckClientCid, "client-1")), Texts{"release client-1"});
  EXPECT_EQ(Ids(), Texts{});
}

TEST_F(Rfc9298Link, MovedMeanwhile) {
  Open();
  OnLinkId("virtual0", true);
  EXPECT_EQ(proxy.Do(proxy.tunnel.OnMigrated()), Texts{"REGISTER_CLIENT_CID client-0 0"});
  EXPECT_EQ(Ids(), Texts{"< virtual0"}) << "what is on its way";
  EXPECT_EQ(proxy.Say(Ack(Kind::kAckClientCid, "client-0", Id("virtual1"))), Texts{});
  EXPECT_EQ(proxy.Do(proxy.tunnel.OnMigrated()), Texts{"REGISTER_CLIENT_CID client-0 0"});
  EXPECT_EQ(proxy.Say(Ack(Kind::kAckClientCid, "client-0", Id("virtual2"))), Texts{});
  // That of the one before does not matter any more.
  EXPECT_EQ(OnLinkId("virtual1", false), Texts{});
  EXPECT_EQ(OnLinkId("virtual2", true), Texts{"ACK_CLIENT_VCID client-0 8"});
}

// The proxy before this one may say of them in any order, as there is a tunnel of it to each address of
// this one.
TEST_F(Rfc9298Link, MovedAndLate) {
  Open();
  EXPECT_EQ(proxy.Do(proxy.tunnel.OnMigrated()), Texts{"REGISTER_CLIENT_CID client-0 0"});
  EXPECT_EQ(proxy.Say(Ack(Kind::kAckClientCid, "client-0", Id("virtual1"))), Texts{});
  EXPECT_EQ(OnLinkId("virtual1", true), Texts{"ACK_CLIENT_VCID client-0 8"});
  EXPECT_EQ(OnLinkId("virtual0", true), Texts{}) << "the other one has answered for it";
}

} // namespace
} // namespace ngmasque
