// ClientIds: several tunnels on one outer connection.

#include "session_client_support.h"

namespace ngmasque {
namespace {

// Two tunnels on one outer connection.
class ClientIdsTest : public testing::Test {
protected:
  // Without helpers that read the requests: what comes of each event is looked at.
  static ClientTunnel::Options Of(std::string host) {
    return {.authority = {std::move(host), 443}};
  }

  // A tunnel with `client_id` accepted that has begun to forward.
  static void Forward(ClientTunnel &tunnel, std::string_view client_id,
                      std::string_view server_id) {
    Accept(tunnel, tunnel.Start(Id(client_id)));
    Accept(tunnel, tunnel.AddServerId(Id(server_id)));
    ASSERT_EQ(tunnel.FromInner(Short(server_id)), kForward);
  }

  // The proxy accepts each request that is among them.
  static void Accept(ClientTunnel &tunnel, const std::vector<ClientAction> &actions) {
    for (const auto &action : actions) {
      if (const auto *send = std::get_if<client_action::SendRequest>(&action)) {
        (void)tunnel.OnResponse(send->request, ResponseFields(*ParseRequest(send->fields), 200));
      }
    }
  }

  template <typename Action> static bool Has(const std::vector<ClientAction> &actions) {
    return std::ranges::any_of(
      actions, [](const ClientAction &action) { return std::holds_alternative<Action>(action); });
  }

  ClientIds ids{kTestKey};
  std::unique_ptr<ClientDialect> dialect = MakeDraft00Client({});
  ClientTunnel one{ids, *dialect, Of("one.example")};
  ClientTunnel two{ids, *dialect, Of("two.example")};
};

TEST_F(ClientIdsTest, EachPacketHasItsTunnel) {
  ASSERT_TRUE(ids.Reserve(Id("outer")));
  Forward(one, "client-1", "server");
  Accept(two, two.Start(Id("client-2")));
  EXPECT_EQ(ids.FindForwarded(Short("client-1 and more")).tunnel, &one);
  EXPECT_EQ(ids.FindForwarded(Short("client-2 and more")).tunnel, nullptr) << "it has not begun to forward";
  // Both targets may choose the same one: the proxy says whether they can.
  Accept(two, two.AddServerId(Id("server")));
  EXPECT_EQ(two.FromInner(Short("server")), kForward);
  EXPECT_EQ(ids.FindForwarded(Short("client-2 and more")).tunnel, &two);
  EXPECT_EQ(ids.FindForwarded(Short("outer and more")).tunnel, nullptr);
  EXPECT_EQ(ids.FindForwarded(Short("client")).tunnel, nullptr);
  (void)one.Close();
  EXPECT_EQ(ids.FindForwarded(Short("client-1 and more")).tunnel, nullptr);
  EXPECT_EQ(ids.FindForwarded(Short("client-2 and more")).tunnel, &two);
}

TEST_F(ClientIdsTest, ConflictOfTheFirstOneSaysRetry) {
  Accept(one, one.Start(Id("client")));
  const auto actions = two.Start(Id("client-2"));
  ASSERT_EQ(actions.size(), 1u) << "nothing is sent";
  EXPECT_TRUE(std::get<client_action::Failed>(actions.front()).retry);
  EXPECT_TRUE(two.over());
  EXPECT_TRUE(one.open()) << "the other one goes on";
}

TEST_F(ClientIdsTest, ConflictOfAFurtherOneDiscardsIt) {
  Accept(one, one.Start(Id("client-1")));
  Accept(two, two.Start(Id("client-2")));
  const auto refused = two.AddClientId(Id("client-1"));
  EXPECT_FALSE(Has<client_action::SendRequest>(refused));
  EXPECT_TRUE(Has<client_action::DiscardClientId>(refused));
  (void)one.RemoveClientId(Id("client-1"));
  EXPECT_TRUE(Has<client_action::SendRequest>(two.AddClientId(Id("client-1")))) << "free again";
}

TEST_F(ClientIdsTest, ZeroLengthOnesAreInNobodysWay) {
  Accept(one, one.Start({}));
  Accept(two, two.Start({}));
  EXPECT_TRUE(one.open() && two.open());
  EXPECT_TRUE(ids.Reserve(Id("outer")));
  EXPECT_EQ(ids.FindForwarded(Short("anything")).tunnel, nullptr);
}

TEST_F(ClientIdsTest, TunnelThatIsGoneLeavesNothing) {
  {
    ClientTunnel three(ids, *dialect, Of("three.example"));
    Forward(three, "client-3", "server");
  }
  EXPECT_EQ(ids.FindForwarded(Short("client-3")).tunnel, nullptr);
  EXPECT_TRUE(ids.Check(Id("client-3")));
}

TEST(ClientIds, ReservedOnes) {
  ClientIds ids(kTestKey);
  const auto dialect = MakeDraft00Client({});
  ClientTunnel tunnel(ids, *dialect, TestOptions().Tunnel());
  EXPECT_TRUE(ids.Reserve(Id("outer")));
  EXPECT_TRUE(ids.Reserve(Id("outer"))) << "known";
  EXPECT_FALSE(ids.Reserve(Id("outer-2")));
  (void)tunnel.Start(Id("client"));
  EXPECT_FALSE(ids.Reserve(Id("client")));
  ids.Release(Id("client"));
  EXPECT_FALSE(ids.Check(Id("client"))) << "that is the tunnel's";
  ids.Release(Id("outer"));
  EXPECT_TRUE(ids.Check(Id("outer-2")));
}

TEST(ClientIds, Bound) {
  ClientIds ids(kTestKey, 2);
  EXPECT_TRUE(ids.Reserve(Id("outer-0")));
  EXPECT_TRUE(ids.Reserve(Id("outer-1")));
  EXPECT_FALSE(ids.Reserve(Id("outer-2")));
  const auto dialect = MakeDraft00Client({});
  ClientTunnel tunnel(ids, *dialect, TestOptions().Tunnel());
  const auto actions = tunnel.Start(Id("client"));
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_FALSE(std::get<client_action::Failed>(actions.front()).retry) << "another one is as bad";
  ids.Release(Id("outer-0"));
  EXPECT_TRUE(ids.Reserve(Id("outer-2")));
}

} // namespace
} // namespace ngmasque
