// What an operator allows and denies by lists: addresses, names, and another list later.

#include "session_proxy_support.h"

#include <string>
#include <utility>

namespace ngmasque {
namespace {

std::vector<AddressBlock> Blocks(std::initializer_list<std::string_view> texts) {
  std::vector<AddressBlock> blocks;
  for (const auto text : texts) {
    blocks.push_back(ParseAddressBlock(text).value());
  }
  return blocks;
}

std::vector<std::string> Names(std::initializer_list<std::string_view> texts) {
  std::vector<std::string> names;
  for (const auto text : texts) {
    names.push_back(ParseNameSuffix(text).value());
  }
  return names;
}

std::optional<SessionError> Why(const TargetPolicy &policy, std::string_view address) {
  const auto checked = policy.Check(At(address, 443));
  return checked ? std::nullopt : std::optional(checked.error());
}

TEST(TargetLists, DenyWins) {
  const TargetPolicy policy({.allow = Blocks({"10.0.0.0/8"}),
                             .deny = Blocks({"10.1.0.0/16", "5.6.7.0/24", "2a00:1::/32"})});
  EXPECT_EQ(Why(policy, "10.0.0.1"), std::nullopt);
  EXPECT_EQ(Why(policy, "10.1.0.1"), SessionError::kDeniedAddress);
  EXPECT_EQ(Why(policy, "5.6.7.255"), SessionError::kDeniedAddress);
  EXPECT_EQ(Why(policy, "5.6.8.0"), std::nullopt);
  EXPECT_EQ(Why(policy, "2a00:1::1"), SessionError::kDeniedAddress);
  EXPECT_EQ(Why(policy, "2a00:2::1"), std::nullopt);
  EXPECT_EQ(Why(policy, "192.168.0.1"), SessionError::kPrivateAddress) << "as without lists";
  EXPECT_EQ(HttpStatus(SessionError::kDeniedAddress), 403u);
}

TEST(TargetLists, DeniedByOtherWaysThere) {
  const TargetPolicy policy(
    {.allow = Blocks({"64:ff9b::/96", "2001::/32"}), .deny = Blocks({"5.6.7.8"})});
  EXPECT_EQ(Why(policy, "64:ff9b::506:708"), SessionError::kDeniedAddress);
  EXPECT_EQ(Why(policy, "2002:506:708::1"), SessionError::kDeniedAddress);
  EXPECT_EQ(Why(policy, "2001:0:506:708::1"), SessionError::kDeniedAddress);
  EXPECT_EQ(Why(policy, "2001:0:101:101::faf9:f8f7"), SessionError::kDeniedAddress);
  EXPECT_EQ(Why(policy, "::ffff:5.6.7.8"), SessionError::kDeniedAddress);
  EXPECT_EQ(Why(policy, "64:ff9b::506:709"), std::nullopt);
  // All IPv4 addresses, and no IPv6 address but those that lead to one.
  const TargetPolicy only6({.deny = Blocks({"0.0.0.0/0"})});
  EXPECT_EQ(Why(only6, "1.1.1.1"), SessionError::kDeniedAddress);
  EXPECT_EQ(Why(only6, "2a00::1"), std::nullopt);
}

TEST(TargetLists, NameSuffixes) {
  EXPECT_EQ(ParseNameSuffix("Example.COM"), "example.com");
  EXPECT_EQ(ParseNameSuffix(".example.com."), "example.com");
  EXPECT_EQ(ParseNameSuffix("com"), "com");
  for (const auto *text : {"", ".", "..com", "*.example.com", "exa mple", "example.com:443", "5.6.7.8",
                           "[2a00::1]", "2a00::1", "user@example.com", "b\xc3\xbc" "cher.example"}) {
    EXPECT_EQ(ParseNameSuffix(text).error(), SessionError::kNameSuffix) << text;
  }
  const std::string longest = std::string(63, 'a') + "." + std::string(63, 'a');
  EXPECT_TRUE(ParseNameSuffix(longest));
  EXPECT_FALSE(ParseNameSuffix(std::string(300, 'a')));
}

std::optional<SessionError> WhyHost(const TargetPolicy &policy, std::string_view host) {
  const auto checked = policy.CheckHost(host);
  return checked ? std::nullopt : std::optional(checked.error());
}

TEST(TargetLists, DeniedNames) {
  const TargetPolicy policy({.deny_names = Names({"internal.example", "onion"})});
  EXPECT_EQ(WhyHost(policy, "internal.example"), SessionError::kTargetName);
  EXPECT_EQ(WhyHost(policy, "a.b.internal.example"), SessionError::kTargetName);
  EXPECT_EQ(WhyHost(policy, "abc.onion"), SessionError::kTargetName);
  for (const auto *host : {"notinternal.example", "example", "internal.example.com", "5.6.7.8"}) {
    EXPECT_EQ(WhyHost(policy, host), std::nullopt) << host;
  }
}

TEST(TargetLists, AllowedNames) {
  const TargetPolicy policy({.allow = Blocks({"10.0.0.0/8"}),
                             .allow_names = Names({"example.com", "example.org"}),
                             .deny_names = Names({"secret.example.com"})});
  EXPECT_EQ(WhyHost(policy, "example.com"), std::nullopt);
  EXPECT_EQ(WhyHost(policy, "www.example.org"), std::nullopt);
  EXPECT_EQ(WhyHost(policy, "x.secret.example.com"), SessionError::kTargetName) << "deny wins";
  EXPECT_EQ(WhyHost(policy, "example.net"), SessionError::kTargetName);
  EXPECT_EQ(WhyHost(policy, "badexample.com"), SessionError::kTargetName);
  // Otherwise an address would be a way around the names.
  EXPECT_EQ(WhyHost(policy, "5.6.7.8"), SessionError::kTargetName);
  EXPECT_EQ(WhyHost(policy, "2a00::1"), SessionError::kTargetName);
  EXPECT_EQ(WhyHost(policy, "10.0.0.1"), std::nullopt);
}

// At the proxy.
constexpr std::string_view kName = "target.example:443";

TEST(TargetLists, NamesBeforeTheLookupAndAddressesAfterIt) {
  ProxyWorld world({}, TargetPolicy({.deny = Blocks({"5.6.7.8"}),
                                     .allow_names = Names({"example"}),
                                     .deny_names = Names({"evil.example"})}));
  EXPECT_EQ(world.Request(kAlice, 0, Plain("EVIL.example.:443", 0)), 403u);
  EXPECT_EQ(world.Request(kAlice, 4, Plain("target.test:443", 2)), 403u);
  EXPECT_EQ(world.Field(kAlice, 4, "proxy-status"), "ngmasque;error=http_request_denied");
  EXPECT_EQ(world.proxy.counters().lookups, 0u);
  // An allowed name with an address that is denied, or that nobody may have.
  ASSERT_EQ(world.Request(kAlice, 8, Plain(kName, 4)), 0u);
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  EXPECT_EQ(world.Status(kAlice, 8), 403u);
  ASSERT_EQ(world.Request(kAlice, 12, Plain(kName, 6)), 0u);
  world.Found(world.lookup(), {At("127.0.0.1", 0)});
  EXPECT_EQ(world.Status(kAlice, 12), 403u);
  ASSERT_EQ(world.Request(kAlice, 16, Plain(kName, 8)), 0u);
  world.Found(world.lookup(), {At("5.6.7.9", 0)});
  EXPECT_EQ(world.Status(kAlice, 16), 200u);
}

// What is there stays; what is opened from then on is checked by the new one.
TEST(TargetLists, AnotherPolicyIsForNewTunnels) {
  ProxyWorld world;
  ASSERT_EQ(world.Request(kAlice, 0, WithClientId(kName, 0, "client-1")), 0u);
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  ASSERT_EQ(world.Status(kAlice, 0), 200u);
  ASSERT_EQ(world.Request(kAlice, 4, WithClientId("other.example:443", 2, "client-2")), 0u);

  world.proxy.SetPolicy(TargetPolicy({.deny = Blocks({"5.6.7.8"})}));
  EXPECT_TRUE(world.Send(kAlice, 0, "still there"));
  EXPECT_TRUE(world.ended.empty());
  // A look-up that ran already.
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  EXPECT_EQ(world.Status(kAlice, 4), 403u);
  // The socket that the first tunnel shares is not for those who come by the same name.
  ASSERT_EQ(world.Request(kBob, 0, WithClientId(kName, 0, "client-3")), 0u);
  world.Found(world.lookup(), {At("5.6.7.8", 0)});
  EXPECT_EQ(world.Status(kBob, 0), 403u);
  // Nor are further requests of the tunnel that is there a new one.
  EXPECT_EQ(world.Request(kAlice, 8, WithServerId(kName, 0, "server-1")), 200u);

  world.proxy.SetPolicy(TargetPolicy());
  EXPECT_EQ(world.Request(kBob, 4, WithClientId(kName, 2, "client-3")), 200u) << "it joins";
}

// A user's own list says nothing of what is the proxy's.
TEST(TargetLists, UsersListsDoNotOpenTheProxyItself) {
  ProxyOptions options;
  options.access = [](const AccessRequest &) {
    return Admission{.user = "alice",
                     .policy = std::make_shared<TargetPolicy>(
                       TargetPolicy::Options{.allow = Blocks({"127.0.0.0/8", "10.0.0.0/8"})})};
  };
  ProxyWorld world(options, TargetPolicy({.own = {At("127.0.0.1", 4433)},
                                          .local = Blocks({"10.0.0.7"})}));
  auto status = [&, stream = StreamId{0}](std::string_view target) mutable {
    stream += 4;
    return world.Request(kAlice, stream, Plain(target, stream / 2));
  };
  EXPECT_EQ(status("127.0.0.1:4433"), 403u);
  EXPECT_EQ(status("10.0.0.7:443"), 403u);
  EXPECT_EQ(status("127.0.0.1:4434"), 200u);
  EXPECT_EQ(status("10.0.0.8:443"), 200u);
}

} // namespace
} // namespace ngmasque
