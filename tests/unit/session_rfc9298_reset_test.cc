// Dialect rfc9298: stateless resets by which a proxy says that a virtual connection ID leads nowhere
// any more.

#include "session_revisions.h"
#include "session_rfc9298_raw_proxy.h"
#include "session_rfc9298_support.h"

#include <algorithm>
#include <tuple>

namespace ngmasque {
namespace {

const std::string kRest = " and what follows it, which is long enough";

ResetToken TokenOf(std::span<const std::uint8_t> virtual_id) {
  ResetToken token;
  std::ranges::copy(virtual_id.first(token.size()), token.begin());
  std::ranges::reverse(token);
  return token;
}

Bytes ResetWith(const ResetToken &token) {
  auto packet = Short("unpredictable");
  packet.insert(packet.end(), token.begin(), token.end());
  return packet;
}

ProxyOptions WithTokens() {
  ProxyOptions options;
  options.reset_token = TokenOf;
  return options;
}

// What a client that speaks with a proxy knows, it takes for what it is, and no more than that.
TEST(Rfc9298Reset, FromProxyToClient) {
  ProxyWorld world(WithTokens(), OpenPolicy());
  ModernClient client(world, ModernOptions());
  client.Talk(client.tunnel.Start(Id("client-0")));
  client.Talk(client.tunnel.AddServerId(Id("server-0")));
  ASSERT_EQ(client.Up("server-0" + kRest), "server-0" + kRest);
  const Bytes before(client.on_link.begin() + 1, client.on_link.begin() + 17);

  const auto found = client.ids.FindReset(ResetWith(TokenOf(before)));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->tunnel, &client.tunnel);
  client.Talk(client.tunnel.OnReset(found->mapping));
  EXPECT_EQ(client.said, (Texts{"opened", std::string(ReasonName(Fallback::kMappingReset))}));
  // Asked for again, and with another one.
  EXPECT_EQ(client.Up("server-0" + kRest), "server-0" + kRest);
  EXPECT_FALSE(std::ranges::equal(before, std::span(client.on_link).subspan(1, 16)));
  EXPECT_FALSE(client.ids.FindReset(ResetWith(TokenOf(before)))) << "it has come once";
  EXPECT_EQ(client.Down("client-0" + kRest), "client-0" + kRest);
  EXPECT_TRUE(client.tunnel.open());
}

// Only of what leads nowhere may it be said.
TEST(Rfc9298Reset, OverAtTheProxy) {
  ProxyWorld world(WithTokens(), OpenPolicy());
  RawClient client(world);
  client.Open();
  client.Map(Register("client-0"));
  const auto answer = client.Ask(RegisterTarget("server-0")).at(0);
  const auto &virtual_id = answer.virtual_id;
  EXPECT_EQ(answer.token, TokenOf(virtual_id.bytes()));
  auto packet = Bytes(virtual_id.bytes().begin(), virtual_id.bytes().end());
  packet.resize(40);
  EXPECT_FALSE(world.proxy.IsOver(packet));
  // Where it has been forwarded from may not be where it is from then on, but it is not over.
  world.Do(world.proxy.OnMigrating(kAlice, world.now));
  EXPECT_FALSE(world.proxy.IsOver(packet)) << "it may come late";
  world.Do(world.proxy.RemoveConnection(kAlice, world.now));
  EXPECT_TRUE(world.proxy.IsOver(packet));
  EXPECT_TRUE(world.proxy.IsOver(std::span(packet).first(16)));
  EXPECT_FALSE(world.proxy.IsOver(std::span(packet).first(15)));
  packet[15] ^= 1;
  EXPECT_FALSE(world.proxy.IsOver(packet)) << "nobody has drawn it";
}

TEST(Rfc9298Reset, OverWhenItIsClosedOrReplaced) {
  ProxyWorld world({}, OpenPolicy());
  RawClient client(world);
  client.Open();
  client.Map(Register("client-0"));
  std::vector<ConnectionId> drawn;
  for (std::size_t i = 0; i < rfc9298::kMaxVirtual + 1; ++i) {
    const auto answer = client.Ask(RegisterTarget("server-0")).at(0);
    EXPECT_EQ(answer.token, std::nullopt) << "nobody makes one";
    drawn.push_back(answer.virtual_id);
  }
  EXPECT_TRUE(world.proxy.IsOver(drawn.front().bytes()));
  EXPECT_FALSE(world.proxy.IsOver(drawn[1].bytes()));
  (void)client.Say(Close(Kind::kCloseTargetCid, "server-0"));
  for (const auto &id : drawn) {
    EXPECT_TRUE(world.proxy.IsOver(id.bytes()));
  }
}

// The one that comes after it knows what it has drawn, and draws others.
TEST(Rfc9298Reset, OverAfterARestart) {
  constexpr HashKey kKept{.k0 = 11, .k1 = 12};
  const auto draw = [](ProxyWorld &world) {
    RawClient client(world);
    client.Open();
    client.Map(Register("client-0"));
    return client.Ask(RegisterTarget("server-0")).at(0).virtual_id;
  };
  ProxyWorld before({.id_key = kKept}, OpenPolicy());
  const auto first = draw(before);
  Proxy restarted({.k0 = 21, .k1 = 22}, {.id_key = kKept}, OpenPolicy());
  Proxy neighbour({.k0 = 21, .k1 = 22}, {.worker = 1, .id_key = kKept}, OpenPolicy());
  Proxy stranger({.k0 = 21, .k1 = 22}, {}, OpenPolicy());
  EXPECT_FALSE(before.proxy.IsOver(first.bytes()));
  EXPECT_TRUE(restarted.IsOver(first.bytes()));
  EXPECT_FALSE(neighbour.IsOver(first.bytes()));
  EXPECT_FALSE(stranger.IsOver(first.bytes()));
}

class Rfc9298ResetClient : public testing::TestWithParam<QuicProxyRevision> {
protected:
  Rfc9298ResetClient() {
    proxy.Open();
    proxy.Do(proxy.tunnel.AddServerId(Id("server-0")));
  }
  Texts AckTarget(std::string_view virtual_id, const std::optional<ResetToken> &token) {
    auto ack = Ack(Kind::kAckTargetCid, "server-0", Id(virtual_id));
    ack.token = token;
    return proxy.Say(ack);
  }
  bool Forwards() {
    return proxy.tunnel.FromInner(Short("server-0" + kRest)) == ClientWay::kForward;
  }

  RawProxy proxy{GetParam()};
  ResetToken token = TokenOf(Id("sixteen bytes...").bytes());
};

//= draft-ietf-masque-quic-proxy, section 5.4
//# Clients receiving a zero-length stateless reset token MUST ignore it.
TEST_P(Rfc9298ResetClient, WhatIsNone) {
  AckTarget("virtual1", std::nullopt);
  EXPECT_TRUE(Forwards());
  EXPECT_FALSE(proxy.ids.FindReset(ResetWith({})));
  proxy.Do(proxy.tunnel.OnMigrated());
  AckTarget("virtual2", token);
  EXPECT_TRUE(proxy.ids.FindReset(ResetWith(token)));
  auto other = token;
  other.back() ^= 1;
  EXPECT_FALSE(proxy.ids.FindReset(ResetWith(other)));
  auto packet = ResetWith(token);
  packet[0] |= 0x80;
  EXPECT_FALSE(proxy.ids.FindReset(packet)) << "a long header";
  const auto whole = ResetWith(token);
  EXPECT_TRUE(proxy.ids.FindReset(Concat({{0x40}, Bytes(whole.end() - 20, whole.end())})));
  EXPECT_FALSE(proxy.ids.FindReset(Concat({{0x40}, Bytes(whole.end() - 19, whole.end())})));
  EXPECT_FALSE(proxy.ids.FindReset({}));
  proxy.Do(proxy.tunnel.RemoveServerId(Id("server-0")));
  EXPECT_FALSE(proxy.ids.FindReset(ResetWith(token))) << "nobody's any more";
}

TEST_P(Rfc9298ResetClient, TunnelsAndAsksAgain) {
  AckTarget("virtual1", token);
  ASSERT_TRUE(Forwards());
  const auto found = proxy.ids.FindReset(ResetWith(token));
  ASSERT_TRUE(found);
  const auto fell_back = "fell back: " + std::string(ReasonName(Fallback::kMappingReset));
  EXPECT_EQ(proxy.Do(proxy.tunnel.OnReset(found->mapping)),
            (Texts{fell_back, "REGISTER_TARGET_CID server-0 0"}));
  EXPECT_FALSE(Forwards());
  // Before it has an answer, it does not ask once more.
  EXPECT_EQ(proxy.Do(proxy.tunnel.OnReset(found->mapping)), Texts{fell_back});
  AckTarget("virtual2", token);
  EXPECT_TRUE(Forwards());
  // One that has been forgotten is nobody's.
  EXPECT_EQ(proxy.Do(proxy.tunnel.OnReset(found->mapping + 10)), Texts{});
  proxy.Do(proxy.tunnel.Close());
  EXPECT_EQ(proxy.Do(proxy.tunnel.OnReset(found->mapping)), Texts{});
  EXPECT_FALSE(proxy.ids.FindReset(ResetWith(token)));
}

// A proxy that gives the same one twice is believed of the first one.
TEST_P(Rfc9298ResetClient, OneTokenForTwo) {
  AckTarget("virtual1", token);
  proxy.Do(proxy.tunnel.AddServerId(Id("server-1")));
  auto ack = Ack(Kind::kAckTargetCid, "server-1", Id("virtual2"));
  ack.token = token;
  EXPECT_EQ(proxy.Say(ack), Texts{});
  const auto first = proxy.ids.FindReset(ResetWith(token));
  ASSERT_TRUE(first);
  std::ignore = proxy.tunnel.OnReset(first->mapping);
  EXPECT_FALSE(Forwards());
  EXPECT_EQ(proxy.tunnel.FromInner(Short("server-1" + kRest)), ClientWay::kForward);
}

INSTANTIATE_TEST_SUITE_P(All, Rfc9298ResetClient, AllRevisions(), NameOfInfo);

} // namespace
} // namespace ngmasque
