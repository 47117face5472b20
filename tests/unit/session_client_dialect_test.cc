// ClientTunnel with a dialect that is not draft-00, and that with a Proxy which speaks it too: what
// the cut between the two has to bear.

#include "ngmasque/session/client_dialect.h"

#include "ngmasque/session/client_ids.h"

#include "session_proxy_support.h"
#include "session_toy_client.h"
#include "session_toy_dialect.h"

namespace ngmasque {
namespace {

using Texts = std::vector<std::string>;

class ClientDialectTest : public testing::Test {
protected:
  // What the tunnel has to say becomes a text for each: "request", "0:O0c client-0", "close",
  // "release client-1", ...
  Texts Do(const std::vector<ClientAction> &actions) {
    Texts texts;
    for (const auto &action : actions) {
      texts.push_back(std::visit([this](const auto &what) { return Describe(what); }, action));
    }
    return texts;
  }

  Texts Respond(const std::string &status) {
    return Do(tunnel.OnResponse(0, std::vector<HeaderField>{{":status", status}}));
  }
  // Bytes from the proxy.  Payloads are kept.
  Texts Hear(std::span<const std::uint8_t> bytes) {
    std::vector<ClientAction> actions;
    while (!bytes.empty()) {
      if (const auto payload = tunnel.OnStreamData(0, bytes, actions).value()) {
        payloads.push_back(ToText(*payload));
      }
    }
    return Do(actions);
  }
  Texts Acknowledge(std::uint8_t number) { return Hear(Bytes{'O', 1, number}); }

  // A tunnel whose first client connection ID is acknowledged.
  void Open() {
    (void)Do(tunnel.Start(Id("client-0")));
    (void)Respond("200");
    (void)Acknowledge(0);
  }
  ClientWay Way(std::string_view id) { return tunnel.FromInner(Short(std::string(id) + "...")); }

  ClientIds ids{kTestKey};
  std::unique_ptr<ClientDialect> dialect = ToyClient::Make({});
  ClientTunnel tunnel{ids, *dialect, {.authority = {"5.6.7.8", 443}}};
  std::vector<HeaderField> request;
  std::vector<Bytes> messages; // That were sent.
  Texts payloads;

private:
  std::string Describe(const client_action::SendRequest &send) {
    EXPECT_EQ(send.request, 0u);
    request = send.fields;
    return "request";
  }
  std::string Describe(const client_action::SendOnStream &send) {
    EXPECT_EQ(send.request, 0u);
    messages.push_back(send.message);
    const auto &bytes = send.message;
    return std::string(1, static_cast<char>(bytes.at(0))) + std::to_string(bytes.at(2)) +
           ToText(std::span(bytes).subspan(3));
  }
  std::string Describe(const client_action::CloseRequest &) { return "close"; }
  std::string Describe(const client_action::ReleaseClientId &release) {
    return "release " + ToText(release.id.bytes());
  }
  std::string Describe(const client_action::DiscardClientId &discard) {
    return "discard " + ToText(discard.id.bytes());
  }
  std::string Describe(const client_action::Opened &) { return "opened"; }
  std::string Describe(const client_action::FellBack &fell_back) {
    return std::string(ReasonName(fell_back.reason));
  }
  std::string Describe(const client_action::Failed &failed) {
    return "failed " + std::to_string(failed.refusal.status) + (failed.retry ? " retry" : "");
  }
};

TEST_F(ClientDialectTest, ManyMappingsOnOneStream) {
  EXPECT_EQ(Do(tunnel.AddServerId(Id("server-0"))), Texts{}) << "held back";
  EXPECT_EQ(Do(tunnel.Start(Id("client-0"))), Texts{"request"});
  EXPECT_EQ(request, (std::vector<HeaderField>{{":authority", "5.6.7.8:443"}}));
  EXPECT_EQ(Do(tunnel.AddClientId(Id("client-1"))), Texts{});
  EXPECT_EQ(Respond("200"), (Texts{"O1cclient-0", "opened", "O0tserver-0", "O2cclient-1"}));
  EXPECT_EQ(Do(tunnel.AddServerId(Id("server-1"))), Texts{"O3tserver-1"});
  EXPECT_EQ(Acknowledge(1), Texts{"O1"}) << "the target has it already";
  EXPECT_EQ(Acknowledge(2), (Texts{"O2", "release client-1"}));

  EXPECT_EQ(Do(tunnel.RemoveServerId(Id("server-1"))), Texts{"C3"});
  EXPECT_EQ(Acknowledge(3), Texts{}) << "it has crossed the close";
  EXPECT_EQ(Do(tunnel.RemoveClientId(Id("client-0"))), Texts{"C1"});
  EXPECT_EQ(Do(tunnel.RemoveClientId(Id("client-1"))), (Texts{"C2", "close"})) << "the last one";
  EXPECT_TRUE(tunnel.over());
}

TEST_F(ClientDialectTest, NothingIsForwardedBeforeTheAcknowledgement) {
  Open();
  EXPECT_EQ(Do(tunnel.AddServerId(Id("server-0"))), Texts{"O1tserver-0"});
  EXPECT_EQ(Way("server-0"), ClientWay::kTunnel);
  EXPECT_EQ(Do(tunnel.AddClientId(Id("client-1"))), Texts{"O2cclient-1"});
  EXPECT_EQ(Acknowledge(1), Texts{}) << "to the target the proxy alone acknowledges";
  EXPECT_EQ(Way("server-0"), ClientWay::kForward);
  EXPECT_EQ(ids.FindForwarded(Short("client-0...")).tunnel, &tunnel);
  EXPECT_EQ(ids.FindForwarded(Short("client-1...")).tunnel, nullptr);
  EXPECT_EQ(Acknowledge(2), (Texts{"O2", "release client-1"}));
  EXPECT_EQ(ids.FindForwarded(Short("client-1...")).tunnel, &tunnel);
  EXPECT_EQ(Acknowledge(2), (Texts{"close", "failed 0"})) << "twice is an error";
}

TEST_F(ClientDialectTest, RefusedMappingsLeaveTheTunnel) {
  Open();
  (void)Do(tunnel.AddServerId(Id("server-0")));
  (void)Do(tunnel.AddClientId(Id("client-1")));
  EXPECT_EQ(Hear(Bytes{'C', 1, 1, 'C', 1, 2}),
            (Texts{std::string(ReasonName(Fallback::kServerIdConflict)), "discard client-1",
                   std::string(ReasonName(Fallback::kClientIdRefused))}));
  EXPECT_EQ(Way("server-0"), ClientWay::kTunnel);
  EXPECT_EQ(Do(tunnel.AddServerId(Id("server-0"))), Texts{}) << "never again";
  EXPECT_EQ(Do(tunnel.AddServerId(Id("server-1"))), Texts{"O3tserver-1"});
  (void)Acknowledge(3);
  // One that the proxy ends later.
  EXPECT_EQ(Way("server-1"), ClientWay::kForward);
  EXPECT_EQ(Hear(Bytes{'C', 1, 3}), Texts{std::string(ReasonName(Fallback::kRequestEnded))});
  EXPECT_EQ(Way("server-1"), ClientWay::kTunnel);
  EXPECT_TRUE(tunnel.open());
  EXPECT_EQ(Hear(Bytes{'C', 1, 0}), (Texts{"close", "failed 0"})) << "no client connection ID left";
}

TEST_F(ClientDialectTest, RefusedTunnel) {
  (void)Do(tunnel.Start(Id("client-0")));
  EXPECT_EQ(Respond("403"), (Texts{"close", "failed 403"}));

  ClientTunnel first_refused{ids, *dialect, {.authority = {"5.6.7.8", 443}}};
  (void)Do(first_refused.Start(Id("client-0")));
  (void)first_refused.OnResponse(0, std::vector<HeaderField>{{":status", "200"}});
  const Bytes refusal{'C', 1, 0};
  std::span<const std::uint8_t> input = refusal;
  std::vector<ClientAction> actions;
  (void)first_refused.OnStreamData(0, input, actions);
  EXPECT_EQ(Do(actions), (Texts{"close", "failed 0 retry"}));

  ClientTunnel reset{ids, *dialect, {.authority = {"5.6.7.8", 443}}};
  (void)Do(reset.Start(Id("client-0")));
  EXPECT_EQ(Do(reset.OnRequestClosed(0, kH3ConnectError)),
            Texts{"failed 0"});
}

TEST_F(ClientDialectTest, Payloads) {
  (void)Do(tunnel.Start(Id("client-0")));
  EXPECT_EQ(tunnel.dialect().datagram_prefix().size, 0u) << "the stream is not known yet";
  EXPECT_EQ(dialect->OnDatagram(Bytes{1, 0, 'a'}).error().reason, DropReason::kUnknownFlow);
  tunnel.OnSent(0, 4);
  EXPECT_EQ(tunnel.dialect().datagram_prefix().bytes[0], 1u);
  EXPECT_EQ(tunnel.dialect().payload_request(), std::nullopt);
  const Bytes bytes{1, 0, 'a'};
  const auto datagram = dialect->OnDatagram(bytes).value();
  EXPECT_EQ(datagram.tunnel, &tunnel);
  EXPECT_EQ(ToText(datagram.payload), "a");
  EXPECT_EQ(dialect->OnDatagram(Bytes{1}).error().close, 0x33u);
  (void)Respond("200");
  EXPECT_EQ(tunnel.dialect().payload_request(), 0u);
  (void)Do(tunnel.Close());
  EXPECT_EQ(dialect->OnDatagram(Bytes{1, 0, 'a'}).error().reason, DropReason::kUnknownFlow);
}

TEST_F(ClientDialectTest, MessagesCutAtEveryByte) {
  const Bytes stream{'P', 3, 'o', 'n', 'e', 'O', 1, 0, 'P', 0, 'O', 1,
                     1,   'C', 1, 2,   'P', 3, 't', 'w', 'o'};
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    ClientIds all(kTestKey);
    ClientTunnel cut_one{all, *dialect, {.authority = {"5.6.7.8", 443}}};
    (void)cut_one.Start(Id("client-0"));
    (void)cut_one.OnResponse(0, std::vector<HeaderField>{{":status", "200"}});
    (void)cut_one.AddClientId(Id("client-1"));
    (void)cut_one.AddServerId(Id("server-2"));
    std::vector<ClientAction> actions;
    payloads.clear();
    for (auto part : {std::span(stream).first(cut), std::span(stream).subspan(cut)}) {
      while (!part.empty()) {
        if (const auto payload = cut_one.OnStreamData(0, part, actions).value()) {
          payloads.push_back(ToText(*payload));
        }
      }
    }
    EXPECT_EQ(Do(actions), (Texts{"O0", "O1", "release client-1",
                                  std::string(ReasonName(Fallback::kServerIdConflict))}))
      << "cut at " << cut;
    EXPECT_EQ(payloads, (Texts{"one", "", "two"})) << "cut at " << cut;
  }
}

// The client of the tests above, and a proxy.
class ToyConversation : public ClientDialectTest {
protected:
  static ProxyOptions WithToy() {
    ProxyOptions options;
    options.dialect = &ToyDialect::Make;
    return options;
  }

  // Hands over what both have to say, until they have no more.
  void Talk(const std::vector<ClientAction> &actions) {
    auto said = Do(actions);
    all.insert(all.end(), said.begin(), said.end());
    if (std::ranges::contains(said, "request")) {
      tunnel.OnSent(0, kStream);
      (void)world.Request(kAlice, kStream, request);
      Talk(tunnel.OnResponse(0, world.answers.at({kAlice, kStream}).fields));
    }
    for (const auto &message : std::exchange(messages, {})) {
      std::span<const std::uint8_t> bytes = message;
      while (!bytes.empty()) {
        ProxyActions answers;
        const auto to =
          world.proxy.OnStreamData({kAlice, kStream}, bytes, world.now, answers);
        EXPECT_TRUE(to && !to->tunnel) << "a message taken for a payload";
        world.Do(answers);
      }
    }
    for (const auto &[stream, message] : std::exchange(world.messages, {})) {
      std::vector<ClientAction> answers;
      std::span<const std::uint8_t> bytes = message;
      while (!bytes.empty()) {
        (void)tunnel.OnStreamData(0, bytes, answers);
      }
      Talk(answers);
    }
    if (std::ranges::contains(said, "close")) {
      world.Close(kAlice, kStream);
    }
  }

  ClientForm Form(std::string_view id) {
    return world.Receive(world.socket(), Short(std::string(id) + "..."))->form;
  }

  static constexpr StreamId kStream = 8;
  ProxyWorld world{WithToy()};
  Texts all;
};

TEST_F(ToyConversation, ToTheEnd) {
  Talk(tunnel.Start(Id("client-0")));
  EXPECT_TRUE(tunnel.open());
  Talk(tunnel.AddClientId(Id("client-1")));
  Talk(tunnel.AddServerId(Id("server-2")));
  EXPECT_EQ(all, (Texts{"request", "O0cclient-0", "opened", "O0", "O1cclient-1", "O1",
                        "release client-1", "O2tserver-2"}));

  // Both directions are forwarded, with the same marks in between.
  EXPECT_EQ(Way("server-2"), ClientWay::kForward);
  EXPECT_TRUE(world.Forward(Tuple(1), Short("server-2...")));
  EXPECT_EQ(Form("client-0"), ClientForm::kForward);
  EXPECT_EQ(Form("client-1"), ClientForm::kForward);
  auto datagram = Bytes(2);
  std::ranges::copy(tunnel.dialect().datagram_prefix().view(), datagram.begin());
  datagram.push_back('x');
  const auto to = world.OnDatagram(kAlice, datagram, world.now);
  ASSERT_TRUE(to);
  EXPECT_EQ(ToText(to->payload), "x");
  EXPECT_EQ(dialect->OnDatagram(datagram)->tunnel, &tunnel);

  // A mapping that another client has already is refused, and no more than that.
  EXPECT_EQ(world.Request(kBob, 0, request), 200u);
  const Bytes open_it{'O', 10, 7, 'c', 'c', 'l', 'i', 'e', 'n', 't', '-', '9'};
  std::span<const std::uint8_t> bytes = open_it;
  ProxyActions actions;
  (void)world.proxy.OnStreamData({kBob, 0}, bytes, world.now, actions);
  world.Do(actions);
  world.messages.clear();
  all.clear();
  Talk(tunnel.AddClientId(Id("client-9")));
  EXPECT_EQ(all, (Texts{"O3cclient-9", "discard client-9",
                        std::string(ReasonName(Fallback::kClientIdRefused))}));

  Talk(tunnel.RemoveServerId(Id("server-2")));
  EXPECT_FALSE(world.Forward(Tuple(1), Short("server-2...")));
  Talk(tunnel.Close());
  EXPECT_TRUE(tunnel.over());
  ASSERT_EQ(world.ended.size(), 1u);
  EXPECT_EQ(world.ended[0].reason, EndReason::kClosed);
}

} // namespace
} // namespace ngmasque
