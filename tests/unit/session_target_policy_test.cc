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
std::optional<SessionError> Why(const TargetPolicy &policy, const Endpoint &target) {
  const auto checked = policy.Check(target);
  return checked ? std::nullopt : std::optional(checked.error());
}

struct Case {
  std::string_view address;
  std::optional<SessionError> reason;
};

TEST(TargetPolicy, DefaultOfIpv4) {
  using enum SessionError;
  // Each block by its first and last address, and its neighbours.
  const Case cases[] = {
    {"0.0.0.0", kUnspecifiedAddress},
    {"0.255.255.255", kUnspecifiedAddress},
    {"1.0.0.0", {}},
    {"9.255.255.255", {}},
    {"10.0.0.0", kPrivateAddress},
    {"10.255.255.255", kPrivateAddress},
    {"11.0.0.0", {}},
    {"100.63.255.255", {}},
    {"100.64.0.0", kSharedAddress},
    {"100.127.255.255", kSharedAddress},
    {"100.128.0.0", {}},
    {"126.255.255.255", {}},
    {"127.0.0.0", kLoopbackAddress},
    {"127.255.255.255", kLoopbackAddress},
    {"128.0.0.0", {}},
    {"169.253.255.255", {}},
    {"169.254.0.0", kLinkLocalAddress},
    {"169.254.169.254", kLinkLocalAddress},
    {"169.254.255.255", kLinkLocalAddress},
    {"169.255.0.0", {}},
    {"172.15.255.255", {}},
    {"172.16.0.0", kPrivateAddress},
    {"172.31.255.255", kPrivateAddress},
    {"172.32.0.0", {}},
    {"191.255.255.255", {}},
    {"192.0.0.0", kReservedAddress},
    {"192.0.0.255", kReservedAddress},
    {"192.0.1.0", {}},
    {"192.0.2.0", kDocumentationAddress},
    {"192.0.2.255", kDocumentationAddress},
    {"192.0.3.0", {}},
    {"192.88.99.1", kReservedAddress},
    {"192.88.100.0", {}},
    {"192.167.255.255", {}},
    {"192.168.0.0", kPrivateAddress},
    {"192.168.255.255", kPrivateAddress},
    {"192.169.0.0", {}},
    {"198.17.255.255", {}},
    {"198.18.0.0", kBenchmarkingAddress},
    {"198.19.255.255", kBenchmarkingAddress},
    {"198.20.0.0", {}},
    {"198.51.99.255", {}},
    {"198.51.100.0", kDocumentationAddress},
    {"198.51.100.255", kDocumentationAddress},
    {"198.51.101.0", {}},
    {"203.0.112.255", {}},
    {"203.0.113.0", kDocumentationAddress},
    {"203.0.113.255", kDocumentationAddress},
    {"203.0.114.0", {}},
    {"223.255.255.255", {}},
    {"224.0.0.0", kMulticastAddress},
    {"239.255.255.255", kMulticastAddress},
    {"240.0.0.0", kReservedAddress},
    {"255.255.255.254", kReservedAddress},
    {"255.255.255.255", kBroadcastAddress},
  };
  for (const auto &[address, reason] : cases) {
    EXPECT_EQ(Why({}, At(address)), reason) << address;
    EXPECT_EQ(Why({}, At("::ffff:" + std::string(address))), reason) << address << ", mapped";
    EXPECT_EQ(Why({}, At("64:ff9b::" + std::string(address))), reason) << address << ", NAT64";
  }
}

TEST(TargetPolicy, DefaultOfIpv6) {
  using enum SessionError;
  const Case cases[] = {
    {"::", kUnspecifiedAddress},
    {"::1", kLoopbackAddress},
    {"::2", kReservedAddress},
    {"::127.0.0.1", kReservedAddress},
    {"::5.6.7.8", kReservedAddress},
    {"::fffe:5.6.7.8", kReservedAddress},
    {"100::1", kReservedAddress},
    {"1fff:ffff::1", kReservedAddress},
    {"2000::", {}},
    {"2001:1ff:ffff::1", kReservedAddress},
    {"2001:200::1", {}},
    {"2001:2::1", kBenchmarkingAddress},
    {"2001:2:0:ffff:ffff:ffff:ffff:ffff", kBenchmarkingAddress},
    {"2001:2:1::1", kReservedAddress},
    {"2001:20::1", kReservedAddress},
    {"2001:db7:ffff::1", {}},
    {"2001:db8::1", kDocumentationAddress},
    {"2001:db9::1", {}},
    {"2606:4700::1111", {}},
    {"3ffe:ffff::1", {}},
    {"3fff::1", kDocumentationAddress},
    {"3fff:fff::1", kDocumentationAddress},
    {"3fff:1000::1", {}},
    {"4000::1", kReservedAddress},
    {"5f00::1", kReservedAddress},
    {"fbff::1", kReservedAddress},
    {"fc00::1", kPrivateAddress},
    {"fdff:ffff::1", kPrivateAddress},
    {"fe00::1", kReservedAddress},
    {"fe7f:ffff::1", kReservedAddress},
    {"fe80::1", kLinkLocalAddress},
    {"febf:ffff::1", kLinkLocalAddress},
    {"fec0::1", kPrivateAddress},
    {"feff:ffff::1", kPrivateAddress},
    {"ff00::1", kMulticastAddress},
    {"ff02::1", kMulticastAddress},
    {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", kMulticastAddress},
    // IPv4 in it.
    {"64:ff9b:0:0:0:1:506:708", kReservedAddress},
    {"64:ff9b:1::5.6.7.8", kPrivateAddress},
    {"64:ff9b:1:ffff:ffff:ffff:ffff:ffff", kPrivateAddress},
    {"64:ff9b:2::1", kReservedAddress},
    {"2002:506:708::1", {}},
    {"2002:7f00:1::1", kLoopbackAddress},
    {"2002:a00:1::1", kPrivateAddress},
    {"2002:a9fe:a9fe::1", kLinkLocalAddress},
    {"2002:e000:1::1", kMulticastAddress},
    // Teredo: server 5.6.7.8 and client 5.6.7.9, then a loopback or private address for one.
    {"2001:0:506:708:0:ffff:faf9:f8f6", {}},
    {"2001:0:7f00:1:0:ffff:faf9:f8f6", kLoopbackAddress},
    {"2001:0:506:708:0:ffff:80ff:fffe", kLoopbackAddress},
    {"2001:0:506:708:0:ffff:f5ff:fffe", kPrivateAddress},
  };
  for (const auto &[address, reason] : cases) {
    EXPECT_EQ(Why({}, At(address)), reason) << address;
  }
}

TEST(TargetPolicy, PortZero) {
  const TargetPolicy all({.allow = Blocks({"0.0.0.0/0", "::/0"}),
                          .own = {},
                          .local = {},
                          .ports = ParsePorts("1-65535").value()});
  EXPECT_EQ(Why(all, At("5.6.7.8", 0)), SessionError::kTargetPort);
  EXPECT_EQ(Why(all, At("5.6.7.8", 1)), std::nullopt);
  EXPECT_EQ(Why(all, At("5.6.7.8", 65535)), std::nullopt);
  EXPECT_EQ(Why({}, At("5.6.7.8", 0)), SessionError::kTargetPort);
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
    EXPECT_EQ(Why({}, At("5.6.7.8", port)), SessionError::kTargetPort) << port;
    EXPECT_FALSE(TargetPolicy().AllowsPort(port));
  }
  const TargetPolicy some({.allow = Blocks({"127.0.0.0/8"}),
                           .own = {},
                           .local = {},
                           .ports = ParsePorts("53,5000-5353").value()});
  EXPECT_EQ(Why(some, At("5.6.7.8", 53)), std::nullopt);
  EXPECT_EQ(Why(some, At("127.0.0.1", 5353)), std::nullopt);
  for (const std::uint16_t port : {0, 52, 54, 443, 4999, 5354}) {
    EXPECT_EQ(Why(some, At("127.0.0.1", port)), SessionError::kTargetPort) << port;
  }
}

TEST(TargetPolicy, ParsePorts) {
  using Ranges = std::vector<PortRange>;
  EXPECT_EQ(ParsePorts("443"), (Ranges{{443, 443}}));
  EXPECT_EQ(ParsePorts("1-65535"), (Ranges{{1, 65535}}));
  EXPECT_EQ(ParsePorts("443,80,8000-8000"), (Ranges{{443, 443}, {80, 80}, {8000, 8000}}));
  for (const auto *text : {"", ",", "443,", ",443", "0", "0-80", "65536", "80-65536", "90-80",
                           "-80", "80-", "1-2-3", "+80", " 80", "80 ", "https", "4294967739"}) {
    EXPECT_EQ(ParsePorts(text), std::unexpected(SessionError::kPorts)) << text;
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
  EXPECT_EQ(Why(some, At("10.1.2.4")), SessionError::kPrivateAddress);
  EXPECT_EQ(Why(some, At("fd00:ffff::1")), std::nullopt);
  EXPECT_EQ(Why(some, At("fd01::1")), SessionError::kPrivateAddress);
  EXPECT_EQ(Why(some, At("::1")), SessionError::kLoopbackAddress);
  EXPECT_EQ(Why(some, At("5.6.7.8")), std::nullopt) << "it takes nothing away";
  // What leads to an allowed address is allowed if it is itself of a kind that is.
  EXPECT_EQ(Why(some, At("64:ff9b::127.0.0.1")), std::nullopt);
  EXPECT_EQ(Why(some, At("64:ff9b:1::127.0.0.1")), SessionError::kPrivateAddress);

  const TargetPolicy ipv6({.allow = Blocks({"::/0"}), .own = {}, .local = {}});
  EXPECT_EQ(Why(ipv6, At("::1")), std::nullopt);
  EXPECT_EQ(Why(ipv6, At("127.0.0.1")), SessionError::kLoopbackAddress) << "IPv4 is not IPv6";
  const TargetPolicy ipv4({.allow = Blocks({"0.0.0.0/0"}), .own = {}, .local = {}});
  EXPECT_EQ(Why(ipv4, At("127.0.0.1")), std::nullopt);
  EXPECT_EQ(Why(ipv4, At("::1")), SessionError::kLoopbackAddress);
}

TEST(TargetPolicy, OwnListeners) {
  const auto everything = Blocks({"0.0.0.0/0", "::/0"});
  const TargetPolicy one({.allow = everything, .own = {At("5.6.7.8")}, .local = {}});
  EXPECT_EQ(Why(one, At("5.6.7.8")), SessionError::kOwnAddress);
  EXPECT_EQ(Why(one, At("5.6.7.8", 4444)), SessionError::kOwnAddress) << "whatever listens there";
  EXPECT_EQ(Why(one, At("5.6.7.9")), std::nullopt);
  EXPECT_EQ(Why(one, At("64:ff9b::5.6.7.8")), SessionError::kOwnAddress) << "by a detour";
  EXPECT_EQ(Why(one, At("2002:506:708::1")), SessionError::kOwnAddress);
  EXPECT_EQ(Why(one, At("127.0.0.1")), std::nullopt);

  for (const auto *wildcard : {"0.0.0.0", "::"}) {
    const TargetPolicy any(
      {.allow = everything,
       .own = {At(wildcard)},
       .local = Blocks({"5.6.7.8", "2606:4700::1", "127.0.0.1", "9.8.7.0/24"})});
    for (const auto *own : {"5.6.7.8", "2606:4700::1", "64:ff9b::5.6.7.8", "9.8.7.255"}) {
      EXPECT_EQ(Why(any, At(own)), SessionError::kOwnAddress) << own << ", " << wildcard;
      EXPECT_EQ(Why(any, At(own, 4444)), SessionError::kOwnAddress) << own;
    }
    for (const auto *own : {"127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::"}) {
      EXPECT_EQ(Why(any, At(own)), SessionError::kOwnAddress) << own << ", " << wildcard;
      EXPECT_EQ(Why(any, At(own, 4444)), std::nullopt) << own << " is allowed";
    }
    EXPECT_EQ(Why(any, At("5.6.7.9")), std::nullopt);
    EXPECT_EQ(Why(any, At("9.8.6.255")), std::nullopt);
  }

  // Nobody has to be told that an own address is not to be a target.
  const TargetPolicy by_default(
    {.allow = {}, .own = {}, .local = Blocks({"5.6.7.8", "127.0.0.1"})});
  EXPECT_EQ(Why(by_default, At("5.6.7.8")), SessionError::kOwnAddress);
  EXPECT_EQ(Why(by_default, At("127.0.0.1")), SessionError::kLoopbackAddress);

  // To connect to an unspecified address is to connect to oneself.
  const TargetPolicy loopback({.allow = everything, .own = {At("::1")}, .local = {}});
  EXPECT_EQ(Why(loopback, At("::")), SessionError::kOwnAddress);
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
    EXPECT_EQ(ParseAddressBlock(text), std::unexpected(SessionError::kAddressBlock)) << text;
  }
}

TEST(TargetPolicy, ReasonsHaveNames) {
  std::set<std::string_view> names;
  const auto first = static_cast<int>(SessionError::kTargetPort);
  const auto last = static_cast<int>(SessionError::kReservedAddress);
  for (int reason = first; reason <= last; ++reason) {
    names.insert(ErrorName(SessionError(reason)));
    EXPECT_EQ(HttpStatus(SessionError(reason)), 403u);
  }
  EXPECT_EQ(names.size(), last - first + 1u);
  EXPECT_FALSE(names.contains(ErrorName(SessionError(last + 1))));
}

} // namespace
} // namespace ngmasque
