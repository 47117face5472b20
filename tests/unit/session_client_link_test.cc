// A tunnel of dialect draft-00 whose proxy lies behind another one: nothing is forwarded to the
// client before that one knows what it begins with.

#include "session_client_support.h"

#include <gtest/gtest.h>

namespace ngmasque {
namespace {

const auto kRefused = FellBack(Fallback::kClientIdRefused);
const std::string kRest = " and what follows it";

class Link : public testing::Test {
protected:
  static Draft00Options Chained() {
    auto options = TestOptions();
    options.chained = true;
    return options;
  }

  // "< client-0" for one of packets to the client, "> server-0" for one of packets to the target.
  Texts Ids() const {
    Texts texts;
    for (const auto &[direction, id, token] : client.tunnel.LinkIds()) {
      texts.push_back((direction == Direction::kToClient ? "< " : "> ") + Text(id));
    }
    return texts;
  }
  Texts OnLinkId(std::string_view id, bool usable) {
    return client.Do(client.tunnel.OnLinkId(Id(id), usable));
  }

  TestClient client{Chained()};
};

TEST_F(Link, FirstOne) {
  EXPECT_EQ(client.Start("client-0"), Texts{"send 0 client-connection-id client-0"});
  EXPECT_EQ(Ids(), Texts{"< client-0"});
  EXPECT_EQ(client.Respond(0, 200), Texts{"opened"});
  // The proxy may forward as soon as the client has, so the client does not.
  EXPECT_EQ(client.AddServerId("server-0"), Texts{});
  EXPECT_EQ(client.Send(Short("server-0" + kRest)), kTunnel);
  EXPECT_EQ(OnLinkId("client-0", true), Texts{"send 1 server-connection-id server-0"});
  EXPECT_EQ(OnLinkId("client-0", true), Texts{}) << "said once more";
  EXPECT_EQ(Ids(), Texts{"< client-0"});
  client.Respond(1, 200);
  EXPECT_EQ(Ids(), (Texts{"< client-0", "> server-0"}));
  EXPECT_EQ(client.Send(Short("server-0" + kRest)), kForward);
  client.RemoveServerId("server-0");
  EXPECT_EQ(Ids(), Texts{"< client-0"});
}

TEST_F(Link, KnownBeforeTheTunnelIsThere) {
  client.Start("client-0");
  EXPECT_EQ(OnLinkId("client-0", true), Texts{});
  client.AddServerId("server-0");
  EXPECT_EQ(client.Respond(0, 200), (Texts{"opened", "send 1 server-connection-id server-0"}));
}

TEST_F(Link, FirstOneIsRefused) {
  client.Start("client-0");
  client.AddServerId("server-0");
  client.Respond(0, 200);
  EXPECT_EQ(OnLinkId("client-0", false), Texts{kRefused});
  EXPECT_EQ(client.AddServerId("server-1"), Texts{});
  // All of it is tunnelled, and others change nothing.
  client.AddClientId("client-1");
  EXPECT_EQ(OnLinkId("client-1", true), Texts{"send 2 client-connection-id client-1"});
  EXPECT_EQ(client.Respond(2, 200), Texts{"release client-1"});
  EXPECT_EQ(client.Send(Short("server-0" + kRest)), kTunnel);
  EXPECT_TRUE(client.tunnel.open());
}

TEST_F(Link, FurtherOnes) {
  client.Open();
  OnLinkId("client-0", true);
  EXPECT_EQ(client.AddClientId("client-1"), Texts{});
  EXPECT_EQ(Ids(), (Texts{"< client-0", "< client-1"}));
  client.AddClientId("client-2");
  EXPECT_EQ(OnLinkId("client-2", true), Texts{"send 2 client-connection-id client-2"});
  EXPECT_EQ(client.Respond(2, 200), Texts{"release client-2"});
  EXPECT_EQ(OnLinkId("client-1", false), (Texts{"discard client-1", kRefused}));
  EXPECT_EQ(Ids(), (Texts{"< client-0", "< client-2"}));
  // One that is given up meanwhile.
  client.AddClientId("client-3");
  EXPECT_EQ(client.RemoveClientId("client-3"), Texts{});
  EXPECT_EQ(OnLinkId("client-3", true), Texts{});
  EXPECT_EQ(OnLinkId("client-3", false), Texts{});
}

TEST_F(Link, FirstOneIsRetired) {
  client.Open();
  client.AddServerId("server-0");
  client.AddClientId("client-1");
  EXPECT_EQ(OnLinkId("client-1", true), Texts{"send 2 client-connection-id client-1"});
  EXPECT_EQ(client.RemoveClientId("client-0"), Texts{"close 0"});
  client.Respond(2, 200);
  EXPECT_EQ(client.AddServerId("server-1"), Texts{"send 3 server-connection-id server-1"});
}

TEST_F(Link, WithoutConnectionIds) {
  client.Start("client-0");
  client.AddClientId("client-1");
  EXPECT_EQ(client.RespondPlain(0),
            (Texts{"opened", FellBack(Fallback::kNotEchoed), "release client-1"}));
  EXPECT_EQ(Ids(), Texts{}) << "there are none that anybody had to know";
}

TEST_F(Link, Over) {
  client.Open();
  client.AddClientId("client-1");
  EXPECT_EQ(client.Do(client.tunnel.Close()), Texts{"close 0"});
  EXPECT_EQ(Ids(), Texts{});
  EXPECT_EQ(OnLinkId("client-1", true), Texts{});
}

TEST_F(Link, NoneBefore) {
  TestClient only;
  only.Open();
  EXPECT_TRUE(only.tunnel.LinkIds().empty());
  EXPECT_EQ(only.AddClientId("client-1"), Texts{"send 1 client-connection-id client-1"});
}

} // namespace
} // namespace ngmasque
