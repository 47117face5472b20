// TargetPolicy: proxying.md, section 5, and adversarial.md, row 13.

#include "ngmasque/session/target_policy.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace ngmasque {
namespace {

constexpr std::uint16_t kPort = 443;

Endpoint At(std::string_view address, std::uint16_t port = kPort) {
  return {.address = ParseAddress(address).value(), .port = port};
}

std::vector<AddressBlock> Blocks(std::initializer_list<std::string_view> texts) {
  std::vector<AddressBlock> blocks;
  for (const auto text : texts) {
    blocks.push_back(ParseAddressBlock(text).value());
  }
  return blocks;
}

// The reason, or nothing if the target is allowed.
std::optional<Prohibited> Why(const TargetPolicy &policy, const Endpoint &target) {
  const auto checked = policy.Check(target);
  return checked ? std::nullopt : std::optional(checked.error());
}

struct Case {
  std::string_view address;
  std::optional<Prohibited> reason;
};

TEST(TargetPolicy, DefaultOfIpv4) {
  using enum Prohibited;
  // Each block by its first and last address, and its neighbours.
  const Case cases[] = {
    {"0.0.0.0", kUnspecified},
    {"0.255.255.255", kUnspecified},
    {"1.0.0.0", {}},
    {"9.255.255.255", {}},
    {"10.0.0.0", kPrivate},
    {"10.255.255.255", kPrivate},
    {"11.0.0.0", {}},
    {"100.63.255.255", {}},
    {"100.64.0.0", kShared},
    {"100.127.255.255", kShared},
    {"100.128.0.0", {}},
    {"126.255.255.255", {}},
    {"127.0.0.0", kLoopback},
    {"127.255.255.255", kLoopback},
    {"128.0.0.0", {}},
    {"169.253.255.255", {}},
    {"169.254.0.0", kLinkLocal},
    {"169.254.169.254", kLinkLocal},
    {"169.254.255.255", kLinkLocal},
    {"169.255.0.0", {}},
    {"172.15.255.255", {}},
    {"172.16.0.0", kPrivate},
    {"172.31.255.255", kPrivate},
    {"172.32.0.0", {}},
    {"191.255.255.255", {}},
    {"192.0.0.0", kReserved},
    {"192.0.0.255", kReserved},
    {"192.0.1.0", {}},
    {"192.0.2.0", kDocumentation},
    {"192.0.2.255", kDocumentation},
    {"192.0.3.0", {}},
    {"192.88.99.1", kReserved},
    {"192.88.100.0", {}},
    {"192.167.255.255", {}},
    {"192.168.0.0", kPrivate},
    {"192.168.255.255", kPrivate},
    {"192.169.0.0", {}},
    {"198.17.255.255", {}},
    {"198.18.0.0", kBenchmarking},
    {"198.19.255.255", kBenchmarking},
    {"198.20.0.0", {}},
    {"198.51.99.255", {}},
    {"198.51.100.0", kDocumentation},
    {"198.51.100.255", kDocumentation},
    {"198.51.101.0", {}},
    {"203.0.112.255", {}},
    {"203.0.113.0", kDocumentation},
    {"203.0.113.255", kDocumentation},
    {"203.0.114.0", {}},
    {"223.255.255.255", {}},
    {"224.0.0.0", kMulticast},
    {"239.255.255.255", kMulticast},
    {"240.0.0.0", kReserved},
    {"255.255.255.254", kReserved},
    {"255.255.255.255", kBroadcast},
  };
  for (const auto &[address, reason] : cases) {
    EXPECT_EQ(Why({}, At(address)), reason) << address;
    EXPECT_EQ(Why({}, At("::ffff:" + std::string(address))), reason) << address << ", mapped";
    EXPECT_EQ(Why({}, At("64:ff9b::" + std::string(address))), reason) << address << ", NAT64";
  }
}

TEST(TargetPolicy, DefaultOfIpv6) {
  using enum Prohibited;
  const Case cases[] = {
    {"::", kUnspecified},
    {"::1", kLoopback},
    {"::2", kReserved},
    {"::127.0.0.1", kReserved},
    {"::5.6.7.8", kReserved},
    {"::fffe:5.6.7.8", kReserved},
    {"100::1", kReserved},
    {"1fff:ffff::1", kReserved},
    {"2000::", {}},
    {"2001:1ff:ffff::1", kReserved},
    {"2001:200::1", {}},
    {"2001:2::1", kBenchmarking},
    {"2001:2:0:ffff:ffff:ffff:ffff:ffff", kBenchmarking},
    {"2001:2:1::1", kReserved},
    {"2001:20::1", kReserved},
    {"2001:db7:ffff::1", {}},
    {"2001:db8::1", kDocumentation},
    {"2001:db9::1", {}},
    {"2606:4700::1111", {}},
    {"3ffe:ffff::1", {}},
    {"3fff::1", kDocumentation},
    {"3fff:fff::1", kDocumentation},
    {"3fff:1000::1", {}},
    {"4000::1", kReserved},
    {"5f00::1", kReserved},
    {"fbff::1", kReserved},
    {"fc00::1", kPrivate},
    {"fdff:ffff::1", kPrivate},
    {"fe00::1", kReserved},
    {"fe7f:ffff::1", kReserved},
    {"fe80::1", kLinkLocal},
    {"febf:ffff::1", kLinkLocal},
    {"fec0::1", kPrivate},
    {"feff:ffff::1", kPrivate},
    {"ff00::1", kMulticast},
    {"ff02::1", kMulticast},
    {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", kMulticast},
    // IPv4 in it.
    {"64:ff9b:0:0:0:1:506:708", kReserved},
    {"64:ff9b:1::5.6.7.8", kPrivate},
    {"64:ff9b:1:ffff:ffff:ffff:ffff:ffff", kPrivate},
    {"64:ff9b:2::1", kReserved},
    {"2002:506:708::1", {}},
    {"2002:7f00:1::1", kLoopback},
    {"2002:a00:1::1", kPrivate},
    {"2002:a9fe:a9fe::1", kLinkLocal},
    {"2002:e000:1::1", kMulticast},
    // Teredo: server 5.6.7.8 and client 5.6.7.9, then a loopback or private address for one.
    {"2001:0:506:708:0:ffff:faf9:f8f6", {}},
    {"2001:0:7f00:1:0:ffff:faf9:f8f6", kLoopback},
    {"2001:0:506:708:0:ffff:80ff:fffe", kLoopback},
    {"2001:0:506:708:0:ffff:f5ff:fffe", kPrivate},
  };
  for (const auto &[address, reason] : cases) {
    EXPECT_EQ(Why({}, At(address)), reason) << address;
  }
}

TEST(TargetPolicy, PortZero) {
  const TargetPolicy all({.allow = Blocks({"0.0.0.0/0", "::/0"}),
                          .own = {},
                          .local = {},
                          .ports = ParsePorts("1-65535")});
  EXPECT_EQ(Why(all, At("5.6.7.8", 0)), Prohibited::kPort);
  EXPECT_EQ(Why(all, At("5.6.7.8", 1)), std::nullopt);
  EXPECT_EQ(Why(all, At("5.6.7.8", 65535)), std::nullopt);
  EXPECT_EQ(Why({}, At("5.6.7.8", 0)), Prohibited::kPort);
}

TEST(TargetPolicy, Ports) {
  for (const std::uint16_t port : {80, 443, 1024, 4433, 8443, 65535}) {
    EXPECT_EQ(Why({}, At("5.6.7.8", port)), std::nullopt) << port;
    EXPECT_TRUE(TargetPolicy().AllowsPort(port));
  }
  // Those of CISA's alert TA14-017A, all below 1024, and some that amplify above.
  for (const std::uint16_t port :
       {1,    17,   19,   53,   69,    111,   123,   137,   161,   389,
        520,  1023, 1900, 3283, 3389,  3702,  4672,  5353,  6881,  11211,
        5683, 5093, 1434, 1604, 10001, 17185, 27015, 27960, 37810, 47808}) {
    EXPECT_EQ(Why({}, At("5.6.7.8", port)), Prohibited::kPort) << port;
    EXPECT_FALSE(TargetPolicy().AllowsPort(port));
  }
  const TargetPolicy some({.allow = Blocks({"127.0.0.0/8"}),
                           .own = {},
                           .local = {},
                           .ports = ParsePorts("53,5000-5353")});
  EXPECT_EQ(Why(some, At("5.6.7.8", 53)), std::nullopt);
  EXPECT_EQ(Why(some, At("127.0.0.1", 5353)), std::nullopt);
  for (const std::uint16_t port : {0, 52, 54, 443, 4999, 5354}) {
    EXPECT_EQ(Why(some, At("127.0.0.1", port)), Prohibited::kPort) << port;
  }
}

TEST(TargetPolicy, ParsePorts) {
  using Ranges = std::vector<PortRange>;
  EXPECT_EQ(ParsePorts("443"), (Ranges{{443, 443}}));
  EXPECT_EQ(ParsePorts("1-65535"), (Ranges{{1, 65535}}));
  EXPECT_EQ(ParsePorts("443,80,8000-8000"), (Ranges{{443, 443}, {80, 80}, {8000, 8000}}));
  for (const auto *text : {"", ",", "443,", ",443", "0", "0-80", "65536", "80-65536", "90-80",
                           "-80", "80-", "1-2-3", "+80", " 80", "80 ", "https", "4294967739"}) {
    EXPECT_EQ(ParsePorts(text), std::nullopt) << text;
  }
  std::string list = "1";
  for (std::size_t ranges = 1; ranges < kMaxPortRanges; ++ranges) {
    list += ",1";
  }
  EXPECT_TRUE(ParsePorts(list));
  EXPECT_FALSE(ParsePorts(list + ",1"));
}

TEST(TargetPolicy, AllowList) {
  const TargetPolicy some(
    {.allow = Blocks({"127.0.0.0/8", "10.1.2.3", "fd00::/16"}), .own = {}, .local = {}});
  EXPECT_EQ(Why(some, At("127.255.255.255")), std::nullopt);
  EXPECT_EQ(Why(some, At("::ffff:127.0.0.1")), std::nullopt) << "the same address";
  EXPECT_EQ(Why(some, At("10.1.2.3")), std::nullopt);
  EXPECT_EQ(Why(some, At("10.1.2.4")), Prohibited::kPrivate);
  EXPECT_EQ(Why(some, At("fd00:ffff::1")), std::nullopt);
  EXPECT_EQ(Why(some, At("fd01::1")), Prohibited::kPrivate);
  EXPECT_EQ(Why(some, At("::1")), Prohibited::kLoopback);
  EXPECT_EQ(Why(some, At("5.6.7.8")), std::nullopt) << "it takes nothing away";
  // What leads to an allowed address is allowed if it is itself of a kind that is.
  EXPECT_EQ(Why(some, At("64:ff9b::127.0.0.1")), std::nullopt);
  EXPECT_EQ(Why(some, At("64:ff9b:1::127.0.0.1")), Prohibited::kPrivate);

  const TargetPolicy ipv6({.allow = Blocks({"::/0"}), .own = {}, .local = {}});
  EXPECT_EQ(Why(ipv6, At("::1")), std::nullopt);
  EXPECT_EQ(Why(ipv6, At("127.0.0.1")), Prohibited::kLoopback) << "IPv4 is not IPv6";
  const TargetPolicy ipv4({.allow = Blocks({"0.0.0.0/0"}), .own = {}, .local = {}});
  EXPECT_EQ(Why(ipv4, At("127.0.0.1")), std::nullopt);
  EXPECT_EQ(Why(ipv4, At("::1")), Prohibited::kLoopback);
}

TEST(TargetPolicy, OwnListeners) {
  const auto everything = Blocks({"0.0.0.0/0", "::/0"});
  const TargetPolicy one({.allow = everything, .own = {At("5.6.7.8")}, .local = {}});
  EXPECT_EQ(Why(one, At("5.6.7.8")), Prohibited::kOwn);
  EXPECT_EQ(Why(one, At("5.6.7.8", 4444)), Prohibited::kOwn) << "whatever listens there";
  EXPECT_EQ(Why(one, At("5.6.7.9")), std::nullopt);
  EXPECT_EQ(Why(one, At("64:ff9b::5.6.7.8")), Prohibited::kOwn) << "by a detour";
  EXPECT_EQ(Why(one, At("2002:506:708::1")), Prohibited::kOwn);
  EXPECT_EQ(Why(one, At("127.0.0.1")), std::nullopt);

  for (const auto *wildcard : {"0.0.0.0", "::"}) {
    const TargetPolicy any(
      {.allow = everything,
       .own = {At(wildcard)},
       .local = Blocks({"5.6.7.8", "2606:4700::1", "127.0.0.1", "9.8.7.0/24"})});
    for (const auto *own : {"5.6.7.8", "2606:4700::1", "64:ff9b::5.6.7.8", "9.8.7.255"}) {
      EXPECT_EQ(Why(any, At(own)), Prohibited::kOwn) << own << ", " << wildcard;
      EXPECT_EQ(Why(any, At(own, 4444)), Prohibited::kOwn) << own;
    }
    for (const auto *own : {"127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::"}) {
      EXPECT_EQ(Why(any, At(own)), Prohibited::kOwn) << own << ", " << wildcard;
      EXPECT_EQ(Why(any, At(own, 4444)), std::nullopt) << own << " is allowed";
    }
    EXPECT_EQ(Why(any, At("5.6.7.9")), std::nullopt);
    EXPECT_EQ(Why(any, At("9.8.6.255")), std::nullopt);
  }

  // Nobody has to be told that an own address is not to be a target.
  const TargetPolicy by_default(
    {.allow = {}, .own = {}, .local = Blocks({"5.6.7.8", "127.0.0.1"})});
  EXPECT_EQ(Why(by_default, At("5.6.7.8")), Prohibited::kOwn);
  EXPECT_EQ(Why(by_default, At("127.0.0.1")), Prohibited::kLoopback);

  // To connect to an unspecified address is to connect to oneself.
  const TargetPolicy loopback({.allow = everything, .own = {At("::1")}, .local = {}});
  EXPECT_EQ(Why(loopback, At("::")), Prohibited::kOwn);
}

TEST(TargetPolicy, ParseAddress) {
  const Address mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4};
  EXPECT_EQ(ParseAddress("1.2.3.4"), mapped);
  EXPECT_EQ(ParseAddress("::ffff:1.2.3.4"), mapped);
  EXPECT_EQ(ParseAddress("::ffff:102:304"), mapped);
  EXPECT_EQ(ParseAddress("::"), Address{});
  EXPECT_TRUE(ParseAddress("0000:0000:0000:0000:0000:ffff:255.255.255.255"));
  for (const auto *text :
       {"",          "1",        "1.2.3",     "1.2.3.4.5",
        "1.2.3.256", "01.2.3.4", "0x1.2.3.4", "1.2.3.4 ",
        " 1.2.3.4",  "+1.2.3.4", "1..3.4",    ":",
        ":::",       "1::2::3",  "12345::",   "::g",
        "fe80::1%1", "[::1]",    "localhost", "0000:0000:0000:0000:0000:ffff:255.255.255.2555"}) {
    EXPECT_FALSE(ParseAddress(text)) << text;
  }
  EXPECT_FALSE(ParseAddress(std::string_view("1.2.3.4\0", 8)));
}

TEST(TargetPolicy, ParseAddressBlock) {
  EXPECT_EQ(ParseAddressBlock("192.0.2.0/24"),
            (AddressBlock{.address = *ParseAddress("192.0.2.0"), .length = 120}));
  EXPECT_EQ(ParseAddressBlock("192.0.2.1"),
            (AddressBlock{.address = *ParseAddress("192.0.2.1"), .length = 128}));
  EXPECT_EQ(ParseAddressBlock("0.0.0.0/0"),
            (AddressBlock{.address = *ParseAddress("0.0.0.0"), .length = 96}));
  EXPECT_EQ(ParseAddressBlock("2001:db8::/32"),
            (AddressBlock{.address = *ParseAddress("2001:db8::"), .length = 32}));
  EXPECT_EQ(ParseAddressBlock("::/0"), (AddressBlock{.address = {}, .length = 0}));
  EXPECT_EQ(ParseAddressBlock("::1/128"), ParseAddressBlock("::1"));
  for (const auto *text :
       {"", "/", "/24", "192.0.2.0/", "192.0.2.0/33", "192.0.2.1/24", "192.0.2.128/24",
        "192.0.2.0/-1", "192.0.2.0/+24", "192.0.2.0/024", "192.0.2.0/24 ", "192.0.2.0/24/24",
        "192.0.2.0/99999999999", "::/129", "2001:db8::1/64", "8000::/0", "localhost/8", "10/8"}) {
    EXPECT_FALSE(ParseAddressBlock(text)) << text;
  }
}

TEST(TargetPolicy, ReasonsHaveNames) {
  std::set<std::string_view> names;
  const auto last = static_cast<int>(Prohibited::kReserved);
  for (int reason = 0; reason <= last; ++reason) {
    names.insert(ReasonName(Prohibited(reason)));
  }
  EXPECT_EQ(names.size(), last + 1u);
  EXPECT_FALSE(names.contains(ReasonName(Prohibited(last + 1))));
}

} // namespace
} // namespace ngmasque
