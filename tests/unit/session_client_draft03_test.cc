// ClientTunnel with a proxy of draft-ietf-masque-connect-udp-01 to -03.

#include "session_client_support.h"

#include <gtest/gtest.h>

namespace ngmasque {
namespace {

using Fields = std::vector<HeaderField>;

class ClientDraft03Test : public testing::Test {
protected:
  // The only request in what is to be done.
  static Fields Request(const std::vector<ClientAction> &actions) {
    EXPECT_EQ(actions.size(), 1u);
    const auto *send =
      actions.empty() ? nullptr : std::get_if<client_action::SendRequest>(&actions.front());
    return send ? send->fields : Fields{};
  }

  ClientIds ids{kTestKey};
  std::unique_ptr<ClientDialect> dialect =
    MakeDraft03Client({.settings = PeerSettings{.draft_datagrams = true}});
  ClientTunnel tunnel{ids, *dialect, {.authority = {"target.example", 443}}};
};

TEST_F(ClientDraft03Test, Request) {
  const Fields fields{{":method", "CONNECT-UDP"},
                      {":authority", "target.example:443"},
                      {":scheme", "masque"},
                      {":path", "/"},
                      {"client-connection-id", ":Y2xpZW50LTA=:"},
                      {"datagram-flow-id", "0"}};
  EXPECT_EQ(Request(tunnel.Start(Id("client-0"))), fields);
}

// Such a proxy knows no connection IDs, and the client asks for no others.
TEST_F(ClientDraft03Test, FallsBack) {
  (void)tunnel.Start(Id("client-0"));
  const auto actions = tunnel.OnResponse(0, Fields{{":status", "200"}, {"datagram-flow-id", "0"}});
  ASSERT_EQ(actions.size(), 2u);
  EXPECT_TRUE(std::holds_alternative<client_action::Opened>(actions[0]));
  EXPECT_EQ(std::get<client_action::FellBack>(actions[1]).reason, Fallback::kNotEchoed);
  EXPECT_TRUE(tunnel.AddServerId(Id("server-0")).empty());
  EXPECT_EQ(tunnel.FromInner(Short("server-0")), kTunnel);
  EXPECT_EQ(Of(tunnel.dialect().datagram_prefix()), Bytes{0});
  const Bytes datagram{0, 'x'};
  const auto payload = dialect->OnDatagram(datagram);
  ASSERT_TRUE(payload);
  EXPECT_EQ(payload->tunnel, &tunnel);
  EXPECT_EQ(Bytes(payload->payload.begin(), payload->payload.end()), Bytes{'x'});
}

// A proxy that knows them is used as one of draft-00.
TEST_F(ClientDraft03Test, Echo) {
  auto fields = Request(tunnel.Start(Id("client-0")));
  ASSERT_TRUE(ParseRequest(fields));
  (void)tunnel.OnResponse(0, ResponseFields(*ParseRequest(fields), 200));
  fields = Request(tunnel.AddServerId(Id("server-0")));
  EXPECT_EQ(fields.at(2), (HeaderField{":scheme", "masque"}));
  EXPECT_EQ(fields.at(3), (HeaderField{":path", "/"}));
  ASSERT_TRUE(ParseRequest(fields));
  (void)tunnel.OnResponse(1, ResponseFields(*ParseRequest(fields), 200));
  EXPECT_EQ(tunnel.FromInner(Short("server-0")), kForward);
}

// What draft-00 has there would be something else for such a proxy, and the other way round.
TEST_F(ClientDraft03Test, NothingOnTheStream) {
  (void)tunnel.Start(Id("client-0"));
  (void)tunnel.OnResponse(0, Fields{{":status", "200"}});
  EXPECT_EQ(tunnel.dialect().StreamPrefix(1), std::unexpected(DropReason::kTooLarge));
  const Bytes chunk{0, 1, 'x', 0, 1, 'y'};
  std::span<const std::uint8_t> input = chunk;
  std::vector<ClientAction> actions;
  EXPECT_EQ(tunnel.OnStreamData(0, input, actions), std::unexpected(DropReason::kUnknownFlow));
  EXPECT_TRUE(input.empty() && actions.empty());
  EXPECT_TRUE(tunnel.open());
}

// The proxy's word is waited for, and it has to be the one of its time.
TEST(ClientDraft03, NeedsDatagrams) {
  const PeerSettings both{.draft_datagrams = true};
  EXPECT_EQ(MakeDraft03Client({}), nullptr) << "no SETTINGS yet";
  EXPECT_EQ(MakeDraft03Client({.settings = PeerSettings{}}), nullptr);
  const PeerSettings later{.datagrams = true, .connect_protocol = true};
  EXPECT_EQ(MakeDraft03Client({.settings = later}), nullptr);
  EXPECT_EQ(MakeDraft03Client({.datagrams = false, .settings = both}), nullptr);
  EXPECT_NE(MakeDraft03Client({.settings = both}), nullptr);
}

} // namespace
} // namespace ngmasque
