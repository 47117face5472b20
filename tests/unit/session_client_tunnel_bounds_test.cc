// ClientTunnel: connection IDs that are in conflict, of the shortest and the longest kind, and too
// many of them.

#include "session_client_support.h"

#include <gtest/gtest.h>

namespace ngmasque {
namespace {

// A packet without a connection ID cannot be told from any other.
TEST(ClientTunnel, ZeroLengthClientId) {
  TestClient client;
  ASSERT_TRUE(client.ids.Reserve(Id("outer-id")));
  EXPECT_EQ(client.Start(""), Texts{"send 0 client-connection-id "}) << "the draft allows it";
  EXPECT_TRUE(client.ids.Reserve(Id("outer-2"))) << "the outer connection keeps its packets";
  EXPECT_EQ(client.Respond(0, 200), Texts{"opened"});
  client.AddServerId("server-0");
  client.Respond(1, 200);
  ASSERT_EQ(client.Send(Short("server-0")), kForward) << "the other way there is no reason not to";
  EXPECT_FALSE(client.IsForwarded(Short("outer-id")));
  EXPECT_FALSE(client.IsForwarded(Short("")));
  EXPECT_FALSE(client.IsForwarded(Short("anything")));
  EXPECT_EQ(client.RemoveClientId(""), (Texts{"close 0", "close 1"}));
}

// It would be in conflict with every connection ID of the proxy itself.
TEST(ClientTunnel, ZeroLengthServerId) {
  TestClient client;
  client.Open();
  EXPECT_EQ(client.AddServerId(""), Texts{FellBack(Fallback::kServerIdConflict)});
  EXPECT_EQ(client.AddServerId(""), Texts{});
  EXPECT_EQ(client.Send(Short("")), kTunnel);
  EXPECT_EQ(client.Send(Short("anything")), kTunnel);
}

// One that was refused is not forwarded because another one, which was not, is a prefix of it.
TEST(ClientTunnel, ServerIdsOfATargetInConflict) {
  const struct {
    std::string_view first, second;
  } cases[] = {{"server", "server-0"}, {"server-0", "server"}, {"server", ""}};
  for (const auto &[first, second] : cases) {
    TestClient client;
    client.Open();
    client.AddServerId("another");
    client.Respond(1, 200);
    client.AddServerId(first);
    client.Respond(2, 200);
    ASSERT_EQ(client.Send(Short("server-0")), kForward);
    const auto conflict = FellBack(Fallback::kServerIdConflict);
    auto expected = Texts{"close 2", conflict, conflict};
    if (second.empty()) {
      expected = {"close 1", conflict, "close 2", conflict, conflict};
    }
    EXPECT_EQ(client.AddServerId(second), expected) << first << ' ' << second;
    EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
    EXPECT_EQ(client.AddServerId("server-0-longer"), Texts{conflict}) << "with a refused one";
    EXPECT_EQ(client.Send(Short("another")), second.empty() ? kTunnel : kForward);
  }
}

// A longer one, refused with 409 by the proxy, while the shorter one is accepted.
TEST(ClientTunnel, RefusedServerIdIsNotForwardedByItsPrefix) {
  TestClient client;
  client.Open();
  client.AddServerId("server-0");
  client.Respond(1, 409);
  EXPECT_EQ(client.AddServerId("server"), Texts{FellBack(Fallback::kServerIdConflict)});
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
}

TEST(ClientTunnel, ClientIdsInConflict) {
  TestClient client;
  client.Open();
  const auto discarded = [](std::string_view id) {
    return Texts{"discard " + std::string(id), FellBack(Fallback::kClientIdRefused)};
  };
  EXPECT_EQ(client.AddClientId("client-0-longer"), discarded("client-0-longer"));
  EXPECT_EQ(client.AddClientId("client"), discarded("client"));
  EXPECT_EQ(client.AddClientId("client-0"), Texts{}) << "known, and in use";
  EXPECT_EQ(client.sent.size(), 1u);
}

TEST(ClientTunnel, TooManyRequests) {
  TestClient client(TestOptions(), {.max_mappings = 3});
  client.Open();
  client.AddServerId("server-0");
  client.AddClientId("client-1");
  EXPECT_EQ(client.AddClientId("client-2"),
            (Texts{"discard client-2", FellBack(Fallback::kTooManyRequests)}));
  EXPECT_EQ(client.AddServerId("server-1"), Texts{FellBack(Fallback::kTooManyRequests)});
  EXPECT_EQ(client.Send(Short("server-1")), kTunnel);
  // What is there keeps working, and what ends makes room.
  EXPECT_EQ(client.Respond(1, 200), Texts{});
  EXPECT_EQ(client.Send(Short("server-0")), kForward);
  client.RemoveServerId("server-0");
  EXPECT_EQ(client.AddServerId("server-1"), Texts{}) << "as if it had been refused";
  EXPECT_EQ(client.AddServerId("server-2"), Texts{"send 3 server-connection-id server-2"});
}

// Held back they count, too: a target cannot fill the memory before the proxy has answered.
TEST(ClientTunnel, TooManyHeldBack) {
  TestClient client(TestOptions(), {.max_mappings = 2});
  client.Start("client-0");
  EXPECT_EQ(client.AddServerId("server-0"), Texts{});
  EXPECT_EQ(client.AddServerId("server-1"), Texts{FellBack(Fallback::kTooManyRequests)});
  EXPECT_EQ(client.AddClientId("client-1"),
            (Texts{"discard client-1", FellBack(Fallback::kTooManyRequests)}));
  EXPECT_EQ(client.Respond(0, 200), (Texts{"opened", "send 1 server-connection-id server-0"}));
}

// Beyond what can be remembered nothing is asked for, so that nothing is asked for twice.
TEST(ClientTunnel, TooManyRefused) {
  TestClient client(TestOptions(), {.max_refused = 2});
  client.Open();
  for (const RequestId request : {1, 2}) {
    client.AddServerId("server-" + std::to_string(request));
    EXPECT_EQ(client.Respond(request, 409).back(), FellBack(Fallback::kServerIdConflict));
  }
  client.AddServerId("server-3");
  client.AddServerId("server-4");
  EXPECT_EQ(client.Respond(3, 409), (Texts{"close 3", FellBack(Fallback::kTooManyRequests)}));
  EXPECT_EQ(client.AddServerId("server-3"), Texts{});
  EXPECT_EQ(client.AddServerId("server-5"), Texts{});
  client.Respond(4, 200);
  EXPECT_EQ(client.Send(Short("server-4")), kForward) << "it keeps working";

  // The same before the first response: what is held back is not sent then.
  TestClient waiting(TestOptions(), {.max_refused = 0});
  waiting.Start("client-0");
  waiting.AddServerId("server-0");
  EXPECT_EQ(waiting.AddServerId(""),
            (Texts{FellBack(Fallback::kTooManyRequests), FellBack(Fallback::kTooManyRequests)}));
  EXPECT_EQ(waiting.Respond(0, 200), Texts{"opened"});
}

TEST(ClientTunnel, HeldBackServerIdIsNotSentWhenNoneIsAskedForAnyMore) {
  TestClient client(TestOptions(), {.max_refused = 1});
  client.Start("client-0");
  client.AddServerId("kept");
  client.AddServerId("server-0");
  EXPECT_EQ(client.AddServerId("server"),
            (Texts{FellBack(Fallback::kServerIdConflict), FellBack(Fallback::kTooManyRequests)}));
  EXPECT_EQ(client.Respond(0, 200), Texts{"opened"});
  EXPECT_EQ(client.Send(Short("kept")), kTunnel);
}

TEST(ClientTunnel, LongestConnectionIds) {
  TestClient client;
  const std::string client_id(255, 'c'), server_id(255, 's');
  client.Start(client_id);
  EXPECT_EQ(client.Respond(0, 200), Texts{"opened"});
  client.AddServerId(server_id);
  EXPECT_EQ(client.Respond(1, 200), Texts{});
  EXPECT_EQ(client.Send(Short(server_id.substr(1))), kTunnel);
  EXPECT_EQ(client.Send(Short(server_id)), kForward);
  EXPECT_TRUE(client.IsForwarded(Short(client_id + "and more")));
}

} // namespace
} // namespace ngmasque
