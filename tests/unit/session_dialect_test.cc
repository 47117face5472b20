// Proxy with a dialect that is not draft-00: what the cut between the two has to bear.

#include "ngmasque/session/dialect.h"

#include "session_proxy_support.h"
#include "session_toy_dialect.h"

namespace ngmasque {
namespace {

constexpr std::string_view kTarget = "5.6.7.8:443";

class ProxyDialect : public testing::Test {
protected:
  static ProxyOptions WithToy(ProxyOptions options) {
    options.dialect = &ToyDialect::Make;
    return options;
  }

  unsigned Connect(OuterConnection connection, StreamId stream,
                   std::string_view authority = kTarget) {
    return world.Request(connection, stream,
                         {{.name = ":authority", .value = std::string(authority)}});
  }

  // Bytes on a stream; returns the payloads in them.
  std::vector<std::string> Say(OuterConnection connection, StreamId stream,
                               std::span<const std::uint8_t> bytes) {
    std::vector<std::string> payloads;
    while (!bytes.empty()) {
      ProxyActions actions;
      const auto to = world.proxy.OnStreamData({connection, stream}, bytes, world.now, actions);
      if (to && to->tunnel) {
        payloads.push_back(ToText(to->payload));
      }
      world.Do(actions);
    }
    return payloads;
  }
  void Open(OuterConnection connection, StreamId stream, std::uint8_t number, char direction,
            std::string_view id) {
    Bytes message{'O', static_cast<std::uint8_t>(2 + id.size()), number,
                  static_cast<std::uint8_t>(direction)};
    message.insert(message.end(), id.begin(), id.end());
    Say(connection, stream, message);
  }
  void Acknowledge(OuterConnection connection, StreamId stream, std::uint8_t number) {
    Say(connection, stream, Bytes{'O', 1, number});
  }
  void Close(OuterConnection connection, StreamId stream, std::uint8_t number) {
    Say(connection, stream, Bytes{'C', 1, number});
  }

  // What the proxy has said on streams since the last time: "O1 C2".
  std::string Heard() {
    std::string text;
    for (const auto &[stream, message] : std::exchange(world.messages, {})) {
      EXPECT_EQ(message.size(), 3u);
      text += (text.empty() ? "" : " ") + std::string(1, static_cast<char>(message.at(0))) +
              std::to_string(message.at(2));
    }
    return text;
  }

  // How a target's packet gets to the client.
  std::expected<ClientForm, DropReason> Form(std::string_view id) {
    return world.Receive(world.socket(), Short(std::string(id) + "..."))
      .transform([](const Received &received) { return received.form; });
  }
  bool Forwards(std::uint16_t port, std::string_view id) {
    return world.Forward(Tuple(port), Short(std::string(id) + "...")).has_value();
  }

  ProxyWorld world{WithToy({})};
};

TEST_F(ProxyDialect, ManyMappingsOnOneStream) {
  ASSERT_EQ(Connect(kAlice, 0), 200u);
  Open(kAlice, 0, 1, 'c', "client-1");
  Open(kAlice, 0, 2, 'c', "client-2");
  Open(kAlice, 0, 3, 't', "target-3");
  Open(kAlice, 0, 4, 't', "target-4");
  EXPECT_EQ(Heard(), "O1 O2 O3 O4");
  EXPECT_TRUE(Forwards(1, "target-3"));
  EXPECT_TRUE(Forwards(1, "target-4"));
  EXPECT_FALSE(Forwards(2, "target-4")) << "another client's 4-tuple";

  // Each on its own.
  Close(kAlice, 0, 3);
  EXPECT_FALSE(Forwards(1, "target-3"));
  EXPECT_TRUE(Forwards(1, "target-4"));
  Close(kAlice, 0, 1);
  EXPECT_EQ(Form("client-1").error(), DropReason::kUnknownConnectionId);
  EXPECT_EQ(Form("client-2"), ClientForm::kDatagram);
  EXPECT_EQ(Heard(), "");
  // And all of them.
  world.Close(kAlice, 0);
  EXPECT_FALSE(Forwards(1, "target-4"));
  ASSERT_EQ(world.ended.size(), 1u);
  EXPECT_EQ(world.ended[0].reason, EndReason::kClosed);
  EXPECT_TRUE(world.open.empty());
}

TEST_F(ProxyDialect, BothSidesAcknowledge) {
  ASSERT_EQ(Connect(kAlice, 0), 200u);
  Open(kAlice, 0, 1, 'c', "client-1");
  Open(kAlice, 0, 2, 'c', "client-2");
  EXPECT_EQ(Form("client-1"), ClientForm::kDatagram);
  Acknowledge(kAlice, 0, 1);
  EXPECT_EQ(Form("client-1"), ClientForm::kForward) << "the client has not forwarded anything";
  EXPECT_EQ(Form("client-2"), ClientForm::kDatagram) << "the other one waits still";
  EXPECT_EQ(world.Receive(world.socket(), Long("client-1"))->form, ClientForm::kDatagram);
  // What the client forwards is no acknowledgement in this dialect.
  Open(kAlice, 0, 3, 't', "target-3");
  EXPECT_TRUE(Forwards(1, "target-3"));
  EXPECT_EQ(Form("client-2"), ClientForm::kDatagram);
  Acknowledge(kAlice, 0, 2);
  EXPECT_EQ(Form("client-2"), ClientForm::kForward);

  // Twice, or of what the client was to be told of: an error of the stream.
  Acknowledge(kAlice, 0, 2);
  EXPECT_EQ(world.resets, (std::vector<StreamKey>{{kAlice, 0}}));
  EXPECT_EQ(world.ended.size(), 1u);
  ASSERT_EQ(Connect(kAlice, 4), 200u);
  Open(kAlice, 4, 1, 't', "target-3");
  Acknowledge(kAlice, 4, 1);
  EXPECT_EQ(world.resets.size(), 2u);
}

TEST_F(ProxyDialect, RefusedMappingsLeaveTheTunnel) {
  ASSERT_EQ(Connect(kAlice, 0), 200u);
  ASSERT_EQ(Connect(kBob, 0), 200u);
  Open(kAlice, 0, 1, 'c', "client-1");
  Open(kBob, 0, 7, 'c', "client-1");
  Open(kBob, 0, 8, 'c', "client-");
  EXPECT_EQ(Heard(), "O1 C7 C8") << "it is the same socket";
  Open(kBob, 0, 7, 'c', "client-2");
  for (std::uint8_t number = 10; number < 16; ++number) {
    Open(kBob, 0, number, 't', "target-" + std::to_string(number));
  }
  EXPECT_EQ(Heard(), "O7 O10 O11 O12 O13 O14 C15") << "the dialect's bound";
  EXPECT_TRUE(world.resets.empty());
}

TEST_F(ProxyDialect, ModelBoundsMappings) {
  world = ProxyWorld(WithToy({.routing = {.max_streams_per_client = 2}}));
  ASSERT_EQ(Connect(kAlice, 0), 200u);
  Open(kAlice, 0, 1, 'c', "client-1");
  Open(kAlice, 0, 2, 't', "target-2");
  Open(kAlice, 0, 3, 't', "target-3");
  EXPECT_EQ(Heard(), "O1 O2 C3");
}

TEST_F(ProxyDialect, AMoveLosesMappingsAndNotTheStream) {
  ASSERT_EQ(Connect(kAlice, 0), 200u);
  ASSERT_EQ(Connect(kBob, 0), 200u);
  Open(kAlice, 0, 1, 't', "target-1");
  Open(kAlice, 0, 2, 't', "target-2");
  Open(kBob, 0, 3, 't', "target-1");
  EXPECT_EQ(Heard(), "O1 O2 O3");
  world.Do(world.proxy.MoveConnection(kAlice, Tuple(2), world.now).actions);
  EXPECT_EQ(Heard(), "C1");
  EXPECT_EQ(world.Forward(Tuple(2), Short("target-1"))->connection, kBob);
  EXPECT_EQ(world.Forward(Tuple(2), Short("target-2"))->connection, kAlice);
  // What it says of that meanwhile has crossed it.
  Close(kAlice, 0, 1);
  EXPECT_TRUE(world.resets.empty() && world.ended.empty());
}

TEST_F(ProxyDialect, Payloads) {
  world.open_at_once = false;
  // Before the tunnel is there, and even before its request.
  const Bytes early{1, 0, 'a'}, awaited{1, 0, 'b'};
  EXPECT_EQ(world.OnDatagram(kAlice, early, world.now).value().tunnel, nullptr);
  EXPECT_EQ(Connect(kAlice, 4), 0u);
  EXPECT_EQ(world.OnDatagram(kAlice, awaited, world.now).value().tunnel, nullptr);
  world.Opened(world.socket());
  ASSERT_EQ(world.Status(kAlice, 4), 200u);
  ASSERT_EQ(world.sent.size(), 2u);
  EXPECT_EQ(world.sent[0].second, "a");
  EXPECT_EQ(world.sent[1].second, "b");
  const auto to = world.OnDatagram(kAlice, early, world.now);
  ASSERT_TRUE(to);
  EXPECT_EQ(ToText(to->payload), "a");
  EXPECT_EQ(world.OnDatagram(kAlice, Bytes{1}, world.now).error(), DropReason::kMalformed);

  // Between messages on the stream, however it is cut.
  const Bytes stream{'P', 3, 'o', 'n', 'e', 'O', 6, 1, 'c', 'a', 'b', 'c', 'd',
                     'P', 0, 'C', 1,   1,   'P', 3, 't', 'w', 'o'};
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    auto payloads = Say(kAlice, 4, std::span(stream).first(cut));
    std::ranges::move(Say(kAlice, 4, std::span(stream).subspan(cut)),
                      std::back_inserter(payloads));
    EXPECT_EQ(payloads, (std::vector<std::string>{"one", "", "two"})) << "cut at " << cut;
    EXPECT_EQ(Heard(), "O1");
  }
}

TEST_F(ProxyDialect, PrefixesOfPayloadsToTheClient) {
  ASSERT_EQ(Connect(kAlice, 8), 200u);
  Open(kAlice, 8, 1, 'c', "client-1");
  auto packet = Short("client-1...");
  const auto *socket = world.proxy.Find(world.socket());
  auto to = world.proxy.FromTarget(socket, {.bytes = packet}, world.now);
  ASSERT_TRUE(to);
  EXPECT_EQ(to->form, ClientForm::kDatagram);
  EXPECT_EQ(Bytes(to->prefix.begin(), to->prefix.end()), (Bytes{2, 0}));
  world.proxy.SetDatagrams(kAlice, false);
  to = world.proxy.FromTarget(socket, {.bytes = packet}, world.now);
  ASSERT_TRUE(to);
  EXPECT_EQ(to->form, ClientForm::kStream);
  EXPECT_EQ(to->stream, 8u);
  const auto prefix = world.proxy.StreamPrefix(*to);
  ASSERT_TRUE(prefix);
  EXPECT_EQ(Bytes(prefix->view().begin(), prefix->view().end()), (Bytes{'P', 12}));
}

TEST_F(ProxyDialect, Answers) {
  EXPECT_EQ(Connect(kAlice, 0, "127.0.0.1:443"), 403u);
  EXPECT_EQ(Connect(kAlice, 4, "nonsense"), 400u);
  ASSERT_EQ(Connect(kAlice, 8), 200u);
  world.Do(world.proxy.OnSocketFailed(world.socket(), world.now));
  EXPECT_EQ(world.resets, (std::vector<StreamKey>{{kAlice, 8}}));
  ASSERT_EQ(world.ended.size(), 2u);
  EXPECT_EQ(world.ended[0].reason, EndReason::kRefused);
  EXPECT_EQ(world.ended[1].reason, EndReason::kUnreachable);
  ASSERT_EQ(Connect(kAlice, 12), 200u);
  world.Do(world.proxy.RemoveConnection(kAlice, world.now));
  EXPECT_EQ(world.ended.back().reason, EndReason::kConnectionClosed);
  EXPECT_TRUE(world.open.empty());
}

} // namespace
} // namespace ngmasque
