// ClientTunnel: what its requirements leave open, and what a proxy does that it should not.

#include "session_client_support.h"

#include <gtest/gtest.h>

namespace ngmasque {
namespace {

using Fields = std::vector<HeaderField>;

// Forwarded mode is wanted and the first request accepted.
TEST(ClientTunnel, HeldBackUntilTheFirstResponse) {
  TestClient client;
  client.Start("client-0");
  EXPECT_EQ(client.AddServerId("server-0"), Texts{});
  EXPECT_EQ(client.AddClientId("client-1"), Texts{});
  EXPECT_EQ(client.AddServerId("server-1"), Texts{});
  EXPECT_EQ(client.RemoveServerId("server-1"), Texts{}) << "nothing to close";
  EXPECT_EQ(client.AddClientId("client-2"), Texts{});
  EXPECT_EQ(client.RemoveClientId("client-2"), Texts{}) << "nothing to close";
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  // What was not sent has no response and does not end.
  EXPECT_EQ(client.RespondPlain(1), Texts{});
  EXPECT_EQ(client.Closed(1), Texts{});
  EXPECT_EQ(client.Respond(0, 200), (Texts{"opened", "send 1 server-connection-id server-0",
                                           "send 2 client-connection-id client-1"}));
  EXPECT_TRUE(client.tunnel.open());
}

TEST(ClientTunnel, ForwardingNotWanted) {
  auto options = TestOptions();
  options.forward = false;
  TestClient client(options);
  client.Start("client-0");
  EXPECT_EQ(client.AddServerId("server-0"), Texts{});
  EXPECT_EQ(client.Respond(0, 200), Texts{"opened"});
  EXPECT_EQ(client.AddServerId("server-1"), Texts{});
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  EXPECT_FALSE(client.IsForwarded(Short("client-0")));
  EXPECT_EQ(client.AddClientId("client-1"), Texts{"send 1 client-connection-id client-1"});
}

// Another connection ID than the one that was asked for, or another flow id, is not an echo.
TEST(ClientTunnel, EchoOfSomethingElse) {
  const HeaderField id{"client-connection-id", ":Y2xpZW50LTA=:"}, flow{"datagram-flow-id", "2"};
  for (const auto &fields :
       {Fields{{"client-connection-id", ":Y2xpZW50LTE=:"}, flow},
        Fields{{"client-connection-id", ":Y2xpZW50LTAA:"}, flow},
        Fields{{"client-connection-id", "::"}, flow},
        Fields{{"server-connection-id", ":Y2xpZW50LTA=:"}, flow},
        Fields{id, {"server-connection-id", ":Y2xpZW50LTA=:"}, flow}, Fields{id, id, flow},
        Fields{{"client-connection-id", "client-0"}, flow}, Fields{id, {"datagram-flow-id", "4"}},
        Fields{flow}}) {
    TestClient client;
    client.Start("client-0");
    client.AddClientId("client-1");
    auto response = Fields{{":status", "200"}};
    response.insert(response.end(), fields.begin(), fields.end());
    EXPECT_EQ(client.Respond(0, response),
              (Texts{"opened", FellBack(Fallback::kNotEchoed), "release client-1"}))
      << testing::PrintToString(fields.size());
    EXPECT_EQ(client.AddServerId("server-0"), Texts{});
  }
  // Without a flow id, or with one that cannot be read, the connection ID is enough.
  for (const auto &fields : {Fields{{":status", "200"}, id},
                             Fields{{":status", "200"}, id, {"datagram-flow-id", "x"}}}) {
    TestClient client;
    client.Start("client-0");
    EXPECT_EQ(client.Respond(0, fields), Texts{"opened"});
    EXPECT_EQ(client.AddServerId("server-0"), Texts{"send 1 server-connection-id server-0"});
  }
}

// It is said once that there is no forwarding, however many were asked for.
TEST(ClientTunnel, AllServerIdsRefused) {
  TestClient client;
  client.Open();
  client.AddServerId("server-0");
  client.AddServerId("server-1");
  EXPECT_EQ(client.Respond(1, 403), (Texts{"close 1", FellBack(Fallback::kForwardingRefused)}));
  EXPECT_EQ(client.Respond(2, 403), Texts{"close 2"});
}

// Later on a proxy that does not echo has not done what it was asked for.
TEST(ClientTunnel, LaterResponseThatDoesNotEcho) {
  TestClient client;
  client.Open();
  client.AddClientId("client-1");
  EXPECT_EQ(client.RespondPlain(1),
            (Texts{"close 1", "discard client-1", FellBack(Fallback::kClientIdRefused)}));
  client.AddServerId("server-0");
  EXPECT_EQ(client.RespondPlain(2), (Texts{"close 2", FellBack(Fallback::kForwardingRefused)}));
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  EXPECT_TRUE(client.tunnel.open());
}

TEST(ClientTunnel, MalformedResponse) {
  const Fields malformed{{":status", "200"},
                         {"client-connection-id", ":Y2xpZW50LTA=:"},
                         {"datagram-flow-id", "2"},
                         {"content-length", "0"}};
  for (const auto &fields : {malformed, Fields{}, Fields{{":status", "103"}}}) {
    TestClient client;
    client.Start("client-0");
    EXPECT_EQ(client.Respond(0, fields), (Texts{"close 0", "failed 0"}));
  }
  TestClient client;
  client.Open();
  client.AddClientId("client-1");
  client.AddServerId("server-0");
  EXPECT_EQ(client.Respond(1, malformed),
            (Texts{"close 1", "discard client-1", FellBack(Fallback::kClientIdRefused)}));
  EXPECT_EQ(client.Respond(2, malformed),
            (Texts{"close 2", FellBack(Fallback::kForwardingRefused)}));
}

TEST(ClientTunnel, FailedTellsWhatTheProxySaid) {
  ClientIds ids{kTestKey};
  const auto dialect = MakeDraft00Client({});
  ClientTunnel tunnel{ids, *dialect, TestOptions().Tunnel()};
  ASSERT_EQ(tunnel.Start(Id("client-0")).size(), 1u);
  const auto actions =
    tunnel.OnResponse(0, Fields{{":status", "502"}, {"proxy-status", "p;error=dns_error"}});
  ASSERT_EQ(actions.size(), 2u);
  const auto &failed = std::get<client_action::Failed>(actions[1]);
  EXPECT_EQ(failed.refusal.status, 502u);
  EXPECT_EQ(failed.refusal.proxy_status, "p;error=dns_error");
  EXPECT_EQ(failed.refusal.retry_after, std::nullopt);
  EXPECT_FALSE(failed.retry);
}

TEST(ClientTunnel, FailedTellsWhenToTryAgain) {
  using Case = std::pair<std::vector<std::string>, std::optional<unsigned>>;
  constexpr auto kMost = std::numeric_limits<unsigned>::max();
  for (const auto &[values, expected] :
       {Case{{"10"}, 10}, Case{{"0"}, 0}, Case{{"4294967295"}, kMost}, Case{{"4294967296"}, kMost},
        Case{{std::string(100, '9')}, kMost}, Case{{"-1"}, {}}, Case{{"+1"}, {}}, Case{{"1.5"}, {}},
        Case{{""}, {}}, Case{{"1 0"}, {}}, Case{{"10", "10"}, {}},
        Case{{"Fri, 31 Dec 1999 23:59:59 GMT"}, {}}}) {
    ClientIds ids{kTestKey};
    const auto dialect = MakeDraft00Client({});
    ClientTunnel tunnel{ids, *dialect, TestOptions().Tunnel()};
    ASSERT_FALSE(tunnel.Start(Id("client-0")).empty());
    Fields fields{{":status", "429"}};
    for (const auto &value : values) {
      fields.push_back({"retry-after", value});
    }
    const auto actions = tunnel.OnResponse(0, fields);
    EXPECT_EQ(std::get<client_action::Failed>(actions.back()).refusal.retry_after, expected);
  }
}

TEST(ClientTunnel, ResponsesThatNobodyWaitsFor) {
  TestClient client;
  EXPECT_EQ(client.RespondPlain(0), Texts{}) << "not started";
  client.Open();
  EXPECT_EQ(client.Respond(0, 409), Texts{}) << "a second one";
  EXPECT_EQ(client.RespondPlain(7), Texts{}) << "unknown";
  EXPECT_EQ(client.Closed(7), Texts{}) << "unknown";
  EXPECT_TRUE(client.tunnel.open());
}

TEST(ClientTunnel, RemovedWhileTheResponseIsPending) {
  TestClient client;
  client.Open();
  client.AddServerId("server-0");
  client.AddClientId("client-1");
  EXPECT_EQ(client.RemoveServerId("server-0"), Texts{"close 1"});
  EXPECT_EQ(client.RemoveClientId("client-1"), Texts{"close 2"});
  EXPECT_EQ(client.Respond(1, 200), Texts{});
  EXPECT_EQ(client.Respond(2, 200), Texts{});
  EXPECT_EQ(client.Closed(1), Texts{});
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  // It was not refused, and may be asked for again.
  EXPECT_EQ(client.AddServerId("server-0"), Texts{"send 3 server-connection-id server-0"});
  client.Respond(3, 200);
  EXPECT_EQ(client.Send(Short("server-0")), kForward);
  EXPECT_FALSE(client.IsForwarded(Short("client-1")));
}

TEST(ClientTunnel, WithoutClientIdsItIsOver) {
  TestClient client;
  client.Open();
  client.AddServerId("server-0");
  EXPECT_EQ(client.RemoveClientId("client-0"), (Texts{"close 0", "close 1"}));
  EXPECT_EQ(client.Send(Long("server-0")), kDrop);

  TestClient waiting;
  waiting.Start("client-0");
  waiting.AddClientId("client-1");
  EXPECT_EQ(waiting.RemoveClientId("client-0"), Texts{"close 0"});
  EXPECT_EQ(waiting.Respond(0, 200), Texts{});
  EXPECT_FALSE(waiting.tunnel.open());
}

TEST(ClientTunnel, StreamEndsBeforeTheResponse) {
  TestClient client;
  client.Start("client-0");
  client.AddClientId("client-1");
  EXPECT_EQ(client.Closed(0), (Texts{"discard client-1", "failed 0"})) << "no stream to close";
  EXPECT_EQ(client.Respond(0, 200), Texts{});

  TestClient later;
  later.Open();
  later.AddClientId("client-1");
  later.AddServerId("server-0");
  EXPECT_EQ(later.Closed(1), (Texts{"discard client-1", FellBack(Fallback::kClientIdRefused)}));
  EXPECT_EQ(later.Closed(2), Texts{FellBack(Fallback::kForwardingRefused)});
  EXPECT_EQ(later.AddServerId("server-1"), Texts{}) << "it is a refusal, and not by 409";
}

TEST(ClientTunnel, StreamEndsAfterTheResponse) {
  TestClient client;
  client.Open();
  client.AddClientId("client-1");
  client.AddServerId("server-0");
  client.AddServerId("server-1");
  client.Respond(1, 200);
  client.Respond(2, 200);
  client.Respond(3, 200);
  ASSERT_EQ(client.Send(Short("server-0")), kForward);
  EXPECT_EQ(client.Closed(2), Texts{FellBack(Fallback::kRequestEnded)});
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  EXPECT_EQ(client.Send(Short("server-1")), kForward);
  EXPECT_EQ(client.Closed(0), Texts{FellBack(Fallback::kRequestEnded)});
  EXPECT_FALSE(client.IsForwarded(Short("client-0")));
  EXPECT_TRUE(client.IsForwarded(Short("client-1")));
  EXPECT_EQ(client.Closed(1), (Texts{"close 3", "failed 0"})) << "that was the last one";
  EXPECT_EQ(client.Closed(3), Texts{});

  TestClient plain;
  plain.Start("client-0");
  plain.RespondPlain(0);
  EXPECT_EQ(plain.Closed(0), Texts{"failed 0"});
}

// The first connection ID has gone, and its successor is refused: nothing can come back.
TEST(ClientTunnel, LastClientIdRefused) {
  TestClient client;
  client.Open();
  client.AddClientId("client-1");
  client.AddServerId("server-0");
  EXPECT_EQ(client.RemoveClientId("client-0"), Texts{"close 0"});
  EXPECT_EQ(client.Respond(1, 409),
            (Texts{"close 1", "discard client-1", FellBack(Fallback::kClientIdRefused), "close 2",
                   "failed 409"}));
}

// For a service that is not QUIC: a request with a flow id and no connection ID, and nothing else.
TEST(ClientTunnel, PlainByChoice) {
  auto options = TestOptions();
  options.connection_ids = false;
  TestClient client(options);
  EXPECT_EQ(client.Start(""), Texts{"send 0 plain"});
  EXPECT_EQ(client.sent.at(0), (Fields{{":method", "CONNECT-UDP"},
                                       {":authority", "target.example:443"},
                                       {"datagram-flow-id", "2"}}));
  EXPECT_EQ(client.AddServerId("server-0"), Texts{});
  EXPECT_EQ(client.Respond(0, 200), Texts{"opened"});
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  const auto prefix = client.tunnel.dialect().datagram_prefix().view();
  EXPECT_EQ(Bytes(prefix.begin(), prefix.end()), Bytes{2});
  EXPECT_EQ(client.Closed(0), Texts{"failed 0"});
}

//= draft-00, section 3
//# Like the Datagram-Flow-Id header [CONNECT-UDP], the Client-Connection-Id and
//# Server-Connection-Id headers can only be supported by an HTTP/3 proxy.
TEST(ClientTunnel, NoDatagrams) {
  auto options = TestOptions();
  options.datagrams = false;
  TestClient client(options);
  EXPECT_EQ(client.Start("client-0"), (Texts{"send 0 plain", FellBack(Fallback::kNoDatagrams)}));
  EXPECT_EQ(client.sent.at(0),
            (Fields{{":method", "CONNECT-UDP"}, {":authority", "target.example:443"}}));
  EXPECT_EQ(client.AddClientId("client-1"), Texts{"release client-1"});
  EXPECT_EQ(client.AddServerId("server-0"), Texts{});
  EXPECT_EQ(client.RemoveClientId("client-0"), Texts{});
  EXPECT_EQ(client.Respond(0, 200), Texts{"opened"}) << "nothing was to be echoed";
  EXPECT_TRUE(client.tunnel.open());
  EXPECT_EQ(client.Send(Long("initial")), kTunnel);
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  EXPECT_EQ(client.Do(client.tunnel.Close()), Texts{"close 0"});

  TestClient refused(options);
  refused.Start("client-0");
  EXPECT_EQ(refused.Respond(0, 409), (Texts{"close 0", "failed 409"}))
    << "it had no connection ID that another one could be tried for";
}

TEST(ClientTunnel, PayloadsOnTheStream) {
  const Bytes stream{0, 2, 5, 6, 0, 0, 0, 1, 7};
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    TestClient client;
    client.Open();
    std::vector<ClientAction> actions;
    std::vector<Bytes> payloads;
    for (auto part : {std::span(stream).first(cut), std::span(stream).subspan(cut)}) {
      while (!part.empty()) {
        const auto payload = client.tunnel.OnStreamData(0, part, actions);
        ASSERT_TRUE(payload);
        if (*payload) {
          payloads.emplace_back((*payload)->begin(), (*payload)->end());
        }
      }
    }
    EXPECT_EQ(payloads, (std::vector<Bytes>{{5, 6}, {}, {7}})) << "cut at " << cut;
    EXPECT_TRUE(actions.empty());
  }
}

// What has it may close the tunnel.
TEST(ClientTunnel, PayloadOutlivesTheRequest) {
  TestClient client;
  client.Open();
  const Bytes one{0, 2, 5}, other{6}, more{0, 1, 7};
  std::vector<ClientAction> actions;
  std::span<const std::uint8_t> input = one;
  EXPECT_FALSE(client.tunnel.OnStreamData(0, input, actions).value());
  input = other;
  const auto payload = client.tunnel.OnStreamData(0, input, actions).value();
  (void)client.tunnel.Close();
  EXPECT_EQ(Bytes(payload->begin(), payload->end()), (Bytes{5, 6}));
  input = more;
  EXPECT_EQ(client.tunnel.OnStreamData(0, input, actions).error(), DropReason::kUnknownFlow);
  EXPECT_TRUE(input.empty());
}

TEST(ClientTunnel, ReasonNames) {
  for (int i = 0; i <= static_cast<int>(Fallback::kMappingReset); ++i) {
    EXPECT_NE(ReasonName(Fallback(i)), "unknown reason") << i;
  }
  EXPECT_EQ(ReasonName(Fallback(200)), "unknown reason");
}

} // namespace
} // namespace ngmasque
