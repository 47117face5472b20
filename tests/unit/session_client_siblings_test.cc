// ClientTunnel: the tunnels of one inner connection, which have the same client connection IDs.

#include "session_client_support.h"

#include <algorithm>
#include <optional>

namespace ngmasque {
namespace {

class Siblings : public testing::Test {
protected:
  static ClientTunnel::Options To(std::string host, const ClientTunnel *sibling = nullptr) {
    return {.authority = {std::move(host), 443}, .sibling = sibling};
  }

  // The proxy accepts each request that is among them.
  static void Accept(ClientTunnel &tunnel, const std::vector<ClientAction> &actions) {
    for (const auto &action : actions) {
      if (const auto *send = std::get_if<client_action::SendRequest>(&action)) {
        const auto fields = ResponseFields(*ParseRequest(send->fields), 200);
        std::ignore = tunnel.OnResponse(send->request, fields);
      }
    }
  }
  static void Open(ClientTunnel &tunnel, std::string_view server) {
    Accept(tunnel, tunnel.Start(Id("client-1")));
    Accept(tunnel, tunnel.AddClientId(Id("client-2")));
    Accept(tunnel, tunnel.AddServerId(Id(server)));
    ASSERT_TRUE(tunnel.open());
  }

  const ClientTunnel *OwnerOf(std::string_view id) const {
    return ids.FindForwarded(Short(std::string(id) + " and more")).tunnel;
  }

  ClientIds ids{kTestKey};
  std::unique_ptr<ClientDialect> dialect = MakeDraft00Client({});
  std::optional<ClientTunnel> one{std::in_place, ids, *dialect, To("one.example")};
  std::optional<ClientTunnel> two{std::in_place, ids, *dialect, To("two.example", &*one)};
};

TEST_F(Siblings, HaveTheSameConnectionIds) {
  Open(*one, "server-1");
  Open(*two, "server-2");
  EXPECT_TRUE(one->HasClientId(Id("client-2")) && two->HasClientId(Id("client-2")));
  ClientTunnel other(ids, *dialect, To("one.example"));
  const auto actions = other.Start(Id("client-1"));
  EXPECT_TRUE(std::get<client_action::Failed>(actions.front()).retry) << "others must not";
}

TEST_F(Siblings, AForwardedPacketIsTheOneOfThePathInUse) {
  Open(*one, "server-1");
  Open(*two, "server-2");
  ASSERT_EQ(one->FromInner(Short("server-1")), kForward);
  EXPECT_EQ(OwnerOf("client-1"), &*one);
  ASSERT_EQ(two->FromInner(Short("server-2")), kForward);
  EXPECT_EQ(OwnerOf("client-1"), &*two);
  EXPECT_EQ(OwnerOf("client-2"), &*two);
  ASSERT_EQ(one->FromInner(Short("server-1")), kForward);
  EXPECT_EQ(OwnerOf("client-2"), &*one) << "back again";
}

// Packets that the path in use cannot have brought are the other one's still.
TEST_F(Siblings, WhatOneHasNotIsTheOthers) {
  Open(*one, "server-1");
  ASSERT_EQ(one->FromInner(Short("server-1")), kForward);
  Open(*two, "server-2");
  const auto asked = one->AddClientId(Id("client-3"));
  Accept(*one, asked);
  const auto pending = two->AddClientId(Id("client-3"));
  ASSERT_EQ(two->FromInner(Short("server-2")), kForward);
  EXPECT_EQ(OwnerOf("client-3"), &*one);
  Accept(*two, pending);
  EXPECT_EQ(OwnerOf("client-3"), &*two) << "its proxy has accepted it now";
  std::ignore = two->RemoveClientId(Id("client-3"));
  EXPECT_EQ(OwnerOf("client-3"), &*one);
  std::ignore = one->RemoveClientId(Id("client-3"));
  EXPECT_EQ(OwnerOf("client-3"), nullptr);
  EXPECT_TRUE(ids.Check(Id("client-3")));
}

TEST_F(Siblings, EitherMayGoFirst) {
  Open(*one, "server-1");
  Open(*two, "server-2");
  ASSERT_EQ(one->FromInner(Short("server-1")), kForward);
  ASSERT_EQ(two->FromInner(Short("server-2")), kForward);
  two.reset();
  EXPECT_EQ(OwnerOf("client-1"), &*one);
  ClientTunnel three(ids, *dialect, To("three.example", &*one));
  Open(three, "server-3");
  one.reset();
  EXPECT_EQ(OwnerOf("client-1"), nullptr) << "it has not begun to forward";
  ASSERT_EQ(three.FromInner(Short("server-3")), kForward);
  EXPECT_EQ(OwnerOf("client-1"), &three);
  std::ignore = three.Close();
  EXPECT_TRUE(ids.Check(Id("client-1")));
}

// A refusal at one proxy's socket says nothing of the other one's.
TEST_F(Siblings, RefusalOfOneLeavesTheOther) {
  Open(*one, "server-1");
  ASSERT_EQ(one->FromInner(Short("server-1")), kForward);
  const auto asked = two->Start(Id("client-1"));
  const auto &send = std::get<client_action::SendRequest>(asked.front());
  std::ignore = two->OnResponse(send.request, ResponseFields(*ParseRequest(send.fields), 403));
  EXPECT_TRUE(two->over());
  EXPECT_TRUE(one->open());
  EXPECT_EQ(OwnerOf("client-1"), &*one);
}

} // namespace
} // namespace ngmasque
