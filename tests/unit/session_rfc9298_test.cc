// Dialect rfc9298: a client and a proxy that speak it.

#include "session_revisions.h"
#include "session_rfc9298_support.h"

#include <algorithm>
#include <ranges>
#include <tuple>

namespace ngmasque {
namespace {

using Texts = std::vector<std::string>;

TargetPolicy Open() {
  TargetPolicy::Options options;
  options.allow = {ParseAddressBlock("192.0.2.0/24").value()};
  return TargetPolicy(options);
}

// What a packet is long enough for, whatever the transform.
const std::string kRest = " and what follows it, which is long enough";

using Variant = std::tuple<QuicProxyRevision, Transform, bool>;

class Rfc9298Conversation : public testing::TestWithParam<Variant> {
protected:
  static Rfc9298ClientOptions Options() {
    auto options = ModernOptions();
    options.revision = std::get<0>(GetParam());
    options.transforms = {std::get<1>(GetParam())};
    options.port_sharing = std::get<2>(GetParam());
    return options;
  }

  ProxyWorld world{{}, Open()};
  ModernClient client{world, Options()};
};

TEST_P(Rfc9298Conversation, ToTheEnd) {
  client.Talk(client.tunnel.Start(Id("client-0")));
  EXPECT_EQ(client.said, Texts{"opened"});
  EXPECT_EQ(world.Field(kAlice, 8, "capsule-protocol"), "?1");
  EXPECT_EQ(world.Field(kAlice, 8, "proxy-status"), "ngmasque;next-hop=\"192.0.2.9\"");
  client.Talk(client.tunnel.AddClientId(Id("client-1")));
  EXPECT_EQ(client.said.back(), "release client-1");

  // Forwarded down before up, as each side says for itself when it is ready.
  EXPECT_EQ(client.Down("client-0" + kRest), "client-0" + kRest);
  EXPECT_EQ(client.Up("server-2" + kRest), "tunnelled");
  client.Talk(client.tunnel.AddServerId(Id("server-2")));
  EXPECT_EQ(client.Up("server-2" + kRest), "server-2" + kRest);

  // What is on the link has another connection ID, and with a transform nothing else is the same.
  const auto text = ToText(client.on_link);
  EXPECT_EQ(text.find("server-2"), std::string::npos);
  EXPECT_EQ(text.find(kRest) == std::string::npos,
            std::get<1>(GetParam()) == Transform::kScrambleDt);
  EXPECT_EQ(client.on_link.front() & 0x80, 0);
  EXPECT_EQ(client.Down("client-1" + kRest), "client-1" + kRest);
  EXPECT_EQ(ToText(client.on_link).find("client-1"), std::string::npos);
  EXPECT_EQ(client.on_link.size(), ("client-1" + kRest).size() + 1);

  client.Talk(client.tunnel.RemoveServerId(Id("server-2")));
  EXPECT_EQ(client.Up("server-2" + kRest), "tunnelled");
  client.Talk(client.tunnel.RemoveClientId(Id("client-1")));
  EXPECT_EQ(client.Down("client-1" + kRest),
            std::get<2>(GetParam()) ? "unknown connection ID" : "tunnelled");
  client.Talk(client.tunnel.Close());
  ASSERT_EQ(world.ended.size(), 1u);
  EXPECT_EQ(world.ended[0].reason, EndReason::kClosed);
}

// Each capsule comes a byte at a time.
TEST_P(Rfc9298Conversation, CapsulesInPieces) {
  client.Talk(client.tunnel.Start(Id("client-0")));
  auto actions = client.tunnel.AddClientId(Id("client-1"));
  const auto message = std::get<client_action::SendOnStream>(actions.at(0)).message;
  for (const auto &byte : message) {
    client.ToProxy(std::span(&byte, 1));
  }
  Bytes answers;
  for (const auto &[key, bytes] : std::exchange(world.messages, {})) {
    answers.insert(answers.end(), bytes.begin(), bytes.end());
  }
  for (const auto &byte : answers) {
    client.ToClient(std::span(&byte, 1));
  }
  EXPECT_EQ(client.said.back(), "release client-1");
}

// A hundred connection IDs, a few at a time: more are allowed as others are closed.
TEST_P(Rfc9298Conversation, RegistrationsWithoutEnd) {
  client.Talk(client.tunnel.Start(Id("client-0")));
  for (int i = 0; i < 100; ++i) {
    const auto text = "server" + std::to_string(100 + i);
    client.Talk(client.tunnel.AddServerId(Id(text)));
    ASSERT_EQ(client.Up(text + kRest), text + kRest) << i;
    if (i >= 4) {
      client.Talk(client.tunnel.RemoveServerId(Id("server" + std::to_string(100 + i - 4))));
    }
  }
  EXPECT_EQ(client.said, Texts{"opened"});
}

// The client moves, and with it go no connection IDs: it gets others for what it has.
TEST_P(Rfc9298Conversation, ActiveMigration) {
  client.Talk(client.tunnel.Start(Id("client-0")));
  client.Talk(client.tunnel.AddServerId(Id("server-2")));
  ASSERT_EQ(client.Up("server-2" + kRest), "server-2" + kRest);
  const auto before_up = client.on_link;
  ASSERT_EQ(client.Down("client-0" + kRest), "client-0" + kRest);
  const auto before_down = client.on_link;

  world.Do(world.proxy.OnMigrating(kAlice, world.now));
  const auto forwarded = [&](const FourTuple &tuple) {
    auto old = before_up;
    return world.proxy.FromClient(world.proxy.FindPath(tuple), {.bytes = old}, world.now)
             ->mapping != nullptr;
  };
  EXPECT_TRUE(forwarded(Tuple(1))) << "it has left before the client";
  EXPECT_EQ(client.Down("client-0" + kRest), "tunnelled");
  client.Talk(client.tunnel.OnMigrated());
  EXPECT_EQ(client.Down("client-0" + kRest), "tunnelled") << "to the old path";
  world.Do(world.proxy.MoveConnection(kAlice, Tuple(5), world.now).actions);
  client.tuple = Tuple(5);
  EXPECT_EQ(client.Up("server-2" + kRest), "server-2" + kRest);
  EXPECT_FALSE(std::ranges::equal(client.on_link | std::views::take(9),
                                  before_up | std::views::take(9)));
  EXPECT_EQ(client.Down("client-0" + kRest), "client-0" + kRest);
  EXPECT_FALSE(std::ranges::equal(client.on_link | std::views::take(9),
                                  before_down | std::views::take(9)));
  EXPECT_TRUE(forwarded(Tuple(1)));
  EXPECT_FALSE(forwarded(Tuple(5)));
  EXPECT_EQ(client.said, Texts{"opened"});
}

// The proxy moves, or the client, and again before what was sent to where it was has come.
TEST_P(Rfc9298Conversation, WhatComesLateToTheClient) {
  client.Talk(client.tunnel.Start(Id("client-0")));
  client.Talk(client.tunnel.AddServerId(Id("server-2")));
  ASSERT_EQ(client.Down("client-0" + kRest), "client-0" + kRest);
  const auto first = client.on_link;
  for (std::size_t move = 0; move < ClientMapping::kMaxPrevious; ++move) {
    client.Move(Tuple(static_cast<std::uint16_t>(5 + move)));
    EXPECT_EQ(client.Down("client-0" + kRest), "client-0" + kRest) << move;
    EXPECT_EQ(client.FromLink(first), "client-0" + kRest) << move;
  }
  client.Move(Tuple(20));
  EXPECT_EQ(client.FromLink(first), "lost");
  client.Talk(client.tunnel.RemoveClientId(Id("client-0")));
  EXPECT_EQ(client.FromLink(client.on_link), "lost");
}

// A packet that is too large for a datagram may wait until it can be forwarded again, if others were
// as large: a larger one may be a probe of the path.
TEST_P(Rfc9298Conversation, LargePacketsMayWaitForTheClient) {
  client.Talk(client.tunnel.Start(Id("client-0")));
  client.Talk(client.tunnel.AddServerId(Id("server-2")));
  const auto may_wait = [this](std::string_view text) {
    auto bytes = Short(text);
    const auto to = world.proxy.FromTarget(world.proxy.Find(world.socket()), {.bytes = bytes},
                                           world.now);
    return to && to->form == ClientForm::kDatagram && world.proxy.MayWait(*to);
  };
  const auto packet = "client-0" + kRest, probe = packet + " and more";
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(client.Down(packet), packet);
  }
  ASSERT_EQ(client.Down(probe), probe);
  world.Do(world.proxy.OnMigrating(kAlice, world.now));
  EXPECT_TRUE(may_wait(packet));
  EXPECT_FALSE(may_wait(probe));
  EXPECT_FALSE(may_wait("client-9" + kRest)) << "it is never forwarded";
  client.Move(Tuple(5));
  EXPECT_FALSE(may_wait(packet));
  EXPECT_EQ(client.Down(packet), packet);
}

// A NAT's new address costs nothing: what is forwarded follows the validated path.
TEST_P(Rfc9298Conversation, Rebinding) {
  client.Talk(client.tunnel.Start(Id("client-0")));
  client.Talk(client.tunnel.AddServerId(Id("server-2")));
  world.Do(world.proxy.MoveConnection(kAlice, Tuple(5), world.now).actions);
  client.tuple = Tuple(5);
  EXPECT_EQ(client.Up("server-2" + kRest), "server-2" + kRest);
  EXPECT_EQ(client.Down("client-0" + kRest), "client-0" + kRest);
}

INSTANTIATE_TEST_SUITE_P(
  All, Rfc9298Conversation,
  testing::Combine(AllRevisions(),
                   testing::Values(Transform::kIdentity, Transform::kScrambleDt),
                   testing::Bool()),
  [](const auto &info) {
    return RevisionName(std::get<0>(info.param)) +
           (std::get<1>(info.param) == Transform::kIdentity ? "_identity" : "_scramble") +
           (std::get<2>(info.param) ? "_shared" : "_own");
  });

TEST(Rfc9298, ForwardingThatTheProxyDoesNotAllow) {
  ProxyWorld world({.forwarding = false}, Open());
  ModernClient client(world, ModernOptions());
  client.Talk(client.tunnel.Start(Id("client-0")));
  EXPECT_EQ(client.said, (Texts{"opened", std::string(ReasonName(Fallback::kForwardingRefused))}));
  client.Talk(client.tunnel.AddServerId(Id("server-2")));
  EXPECT_EQ(client.Up("server-2" + kRest), "tunnelled");
  EXPECT_EQ(client.Down("client-0" + kRest), "tunnelled");
}

TEST(Rfc9298, ProxyWithoutTheExtension) {
  ProxyWorld world({.connection_ids = false}, Open());
  ModernClient client(world, ModernOptions());
  client.Talk(client.tunnel.Start(Id("client-0")));
  EXPECT_EQ(client.said, (Texts{"opened", std::string(ReasonName(Fallback::kNotEchoed))}));
  client.Talk(client.tunnel.AddClientId(Id("client-1")));
  EXPECT_EQ(client.said.back(), "release client-1");
  EXPECT_EQ(client.Down("client-0" + kRest), "tunnelled");
}

// Two clients share a socket, and a stateless reset finds the one that it is for.
TEST(Rfc9298, StatelessResetsBehindASharedSocket) {
  ProxyWorld world({}, Open());
  ModernClient alice(world, ModernOptions());
  auto options = ModernOptions();
  options.key.k0 = 9;
  ModernClient bob(world, options, {}, 4, kBob);
  alice.Talk(alice.tunnel.Start(Id("client-a")));
  bob.Talk(bob.tunnel.Start(Id("client-b")));
  EXPECT_EQ(world.opened, 1);
  ResetToken token;
  token.fill(0x77);
  bob.Talk(bob.tunnel.AddServerId(Id("server-b"), token));

  auto reset = Short("random bytes that nobody knows ");
  EXPECT_EQ(world.Receive(world.socket(), reset).error(), DropReason::kUnknownConnectionId);
  reset.insert(reset.end(), token.begin(), token.end());
  const auto received = world.Receive(world.socket(), reset);
  ASSERT_TRUE(received);
  EXPECT_EQ(received->connection, kBob);
  EXPECT_EQ(received->form, ClientForm::kDatagram) << "never forwarded";

  bob.Talk(bob.tunnel.RemoveServerId(Id("server-b")));
  EXPECT_EQ(world.Receive(world.socket(), reset).error(), DropReason::kUnknownConnectionId);
}

// Nothing goes to the target by a shared socket before something could come back from there.
TEST(Rfc9298, SharedSocketWaitsForAConnectionId) {
  ProxyWorld world({}, Open());
  ModernClient client(world, ModernOptions());
  auto actions = client.tunnel.Start(Id("client-0"));
  const auto registration = std::get<client_action::SendOnStream>(actions.at(1)).message;
  actions.pop_back();
  client.Talk(std::move(actions));
  const auto prefix = client.tunnel.dialect().datagram_prefix().view();
  Bytes datagram(prefix.begin(), prefix.end());
  datagram.push_back('x');
  const auto to = world.OnDatagram(kAlice, datagram, world.now);
  ASSERT_TRUE(to);
  EXPECT_FALSE(to->tunnel) << "it is kept";
  EXPECT_TRUE(world.sent.empty());
  client.ToProxy(registration);
  ASSERT_EQ(world.sent.size(), 1u);
  EXPECT_EQ(world.sent[0].second, "x");
}

// A client whose first packet fits no datagram, as it has not probed its path yet.
TEST(Rfc9298, LargeOnesOnTheStreamDecideNothing) {
  ProxyWorld world({}, Open());
  ModernClient client(world, ModernOptions());
  client.Talk(client.tunnel.Start(Id("client-0")));
  const auto capsule = [&](std::size_t size) {
    const auto prefix = client.tunnel.dialect().StreamPrefix(size).value();
    Bytes bytes(prefix.view().begin(), prefix.view().end());
    bytes.resize(bytes.size() + size);
    client.ToProxy(bytes);
  };
  const auto receive = [&](std::size_t size) {
    auto packet = Short("client-1");
    packet.resize(size);
    const auto received = world.Receive(world.socket(), packet);
    return received ? std::optional(received->form) : std::nullopt;
  };
  client.Talk(client.tunnel.AddClientId(Id("client-1")));
  world.Do(world.proxy.OnMigrating(kAlice, world.now)); // Nothing is forwarded.
  EXPECT_EQ(receive(1400), ClientForm::kDatagram);
  capsule(1200);
  EXPECT_EQ(receive(1200), ClientForm::kStream);
  EXPECT_EQ(receive(1400), std::nullopt) << "it would seem to fit";
  const auto prefix = client.tunnel.dialect().datagram_prefix().view();
  EXPECT_TRUE(world.OnDatagram(kAlice, Bytes(prefix.begin(), prefix.end()), world.now));
  EXPECT_EQ(receive(1400), ClientForm::kDatagram);
  capsule(10);
  EXPECT_EQ(receive(1400), ClientForm::kDatagram) << "once is enough";
}

// One that has no use for datagrams.
TEST(Rfc9298, CapsulesAreAnsweredWithCapsules) {
  ProxyWorld world({}, Open());
  ModernClient client(world, ModernOptions());
  client.Talk(client.tunnel.Start(Id("client-0")));
  const Bytes capsule{0, 2, 0, 'x'};
  client.ToProxy(capsule);
  auto packet = Long(Id("client-0").bytes());
  const auto received = world.Receive(world.socket(), packet);
  ASSERT_TRUE(received);
  EXPECT_EQ(received->form, ClientForm::kStream);
}

TEST(Rfc9298, OneDialectOnAConnection) {
  ProxyWorld world({}, Open());
  ModernClient client(world, ModernOptions());
  client.Talk(client.tunnel.Start(Id("client-0")));
  EXPECT_EQ(world.Request(kAlice, 12, WithClientId("192.0.2.9:443", 0, "client-1")), 400u);
  EXPECT_NE(world.Field(kAlice, 12, "proxy-status").find("another dialect"), std::string::npos);
  EXPECT_EQ(world.Request(kBob, 0, WithClientId("192.0.2.9:443", 0, "client-1")), 200u);
  EXPECT_EQ(world.Request(kBob, 4, client.request), 400u);
}

// A refused one decides nothing.
TEST(Rfc9298, OtherDialectAfterARefusal) {
  ProxyWorld world({}, Open());
  EXPECT_EQ(world.Request(kAlice, 0, WithClientId("10.0.0.1:443", 0, "client-1")), 403u);
  ModernClient client(world, ModernOptions());
  client.Talk(client.tunnel.Start(Id("client-0")));
  EXPECT_EQ(client.said, Texts{"opened"});
}

} // namespace
} // namespace ngmasque
