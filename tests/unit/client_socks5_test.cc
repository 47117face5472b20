// SOCKS 5: control connection and datagrams.

#include "ngmasque-client/socks5.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ngmasque::programs {
namespace {

using Bytes = std::vector<std::uint8_t>;

const Bytes kHello{5, 1, 0};
const Bytes kAssociate{5, 3, 0, 1, 0, 0, 0, 0, 0, 0};

Bytes Of(std::initializer_list<int> head, std::string_view text = {},
         std::initializer_list<int> tail = {}) {
  Bytes bytes;
  for (const int byte : head) {
    bytes.push_back(static_cast<std::uint8_t>(byte));
  }
  bytes.insert(bytes.end(), text.begin(), text.end());
  for (const int byte : tail) {
    bytes.push_back(static_cast<std::uint8_t>(byte));
  }
  return bytes;
}

Bytes operator+(Bytes a, const Bytes &b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Outcome {
  bool open = true;
  Bytes out;
  std::optional<Endpoint> request;
};

// Byte by byte, or all at once: it must be the same.
Outcome Talk(const Bytes &bytes, std::optional<SocksSession::Credentials> wanted = {}) {
  SocksSession whole(wanted);
  Outcome at_once;
  at_once.open = whole.Read(bytes, at_once.out);
  at_once.request = whole.TakeRequest();
  EXPECT_FALSE(whole.TakeRequest()) << "told once";
  SocksSession parts(wanted);
  Outcome outcome;
  for (std::size_t i = 0; i < bytes.size() && outcome.open; ++i) {
    outcome.open = parts.Read(std::span(bytes).subspan(i, 1), outcome.out);
  }
  outcome.request = parts.TakeRequest();
  EXPECT_EQ(outcome.open, at_once.open);
  EXPECT_EQ(outcome.out, at_once.out);
  EXPECT_EQ(outcome.request, at_once.request);
  return outcome;
}

TEST(Socks5, Associates) {
  const auto done = Talk(kHello + kAssociate);
  EXPECT_TRUE(done.open);
  EXPECT_EQ(done.out, (Bytes{5, 0}));
  EXPECT_EQ(done.request, Endpoint{});
  const auto port = Talk(kHello + Of({5, 3, 0, 1, 127, 0, 0, 1, 0x12, 0x34}));
  ASSERT_TRUE(port.request);
  EXPECT_EQ(port.request->port, 0x1234);
  EXPECT_EQ(port.request->address[12], 127);
  EXPECT_TRUE(Talk(kHello + Of({5, 3, 0, 3, 4}, "host", {0, 9})).request) << "names, too";
  EXPECT_TRUE(Talk(kHello + Of({5, 3, 0, 4}, std::string(16, 'a'), {0, 9})).request);
}

TEST(Socks5, Answers) {
  Endpoint relay{.port = 0x1234};
  relay.address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 2};
  EXPECT_EQ(SocksSession::Answer(SocksReply::kSucceeded, relay),
            (Bytes{5, 0, 0, 1, 127, 0, 0, 2, 0x12, 0x34}));
  EXPECT_EQ(SocksSession::Answer(SocksReply::kFailure), (Bytes{5, 1, 0, 1, 0, 0, 0, 0, 0, 0}));
  const auto ipv6 = SocksSession::Answer(SocksReply::kSucceeded, {.address = {0x20, 1}, .port = 1});
  EXPECT_EQ(ipv6.size(), 22u);
  EXPECT_EQ(ipv6[3], 4);
}

TEST(Socks5, WhatItDoesNot) {
  EXPECT_EQ(Talk(Of({4, 1, 0, 80})).out, Bytes{}) << "SOCKS 4";
  EXPECT_FALSE(Talk(Of({4, 1, 0, 80})).open);
  EXPECT_EQ(Talk(Of({5, 1, 2})).out, (Bytes{5, 0xff})) << "credentials only";
  const auto connect = Talk(kHello + Of({5, 1, 0, 1, 127, 0, 0, 1, 0, 80}));
  EXPECT_EQ(connect.out, (Bytes{5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0}));
  EXPECT_FALSE(connect.open);
  EXPECT_FALSE(connect.request);
  EXPECT_EQ(Talk(kHello + Of({5, 3, 0, 2, 0})).out[3], 8) << "address type";
  EXPECT_FALSE(Talk(kHello + kAssociate + Bytes{0}).open) << "nothing more is to be said";
}

TEST(Socks5, Credentials) {
  const SocksSession::Credentials wanted{.name = "fred", .secret = "open sesame"};
  const auto hello = Of({5, 2, 0, 2});
  const auto said = [](std::string_view name, std::string_view secret) {
    return Of({1, static_cast<int>(name.size())}, name, {static_cast<int>(secret.size())}) +
           Of({}, secret);
  };
  const auto right = Talk(hello + said("fred", "open sesame") + kAssociate, wanted);
  EXPECT_EQ(right.out, (Bytes{5, 2, 1, 0}));
  EXPECT_TRUE(right.request);
  for (const auto &[name, secret] : {std::pair("fred", "open sesam"),
                                     {"fred", "open sesame1"},
                                     {"fre", "open sesame"},
                                     {"", ""},
                                     {"fred", ""},
                                     {"fredfred", "open sesameopen sesame"}}) {
    const auto wrong = Talk(hello + said(name, secret) + kAssociate, wanted);
    EXPECT_EQ(wrong.out, (Bytes{5, 2, 1, 1})) << name << ":" << secret;
    EXPECT_FALSE(wrong.open);
    EXPECT_FALSE(wrong.request);
  }
  EXPECT_EQ(Talk(kHello + kAssociate, wanted).out, (Bytes{5, 0xff})) << "without any";
  EXPECT_FALSE(Talk(hello + kAssociate, wanted).request) << "nobody gets past them";
}

TEST(Socks5, Datagrams) {
  const auto ipv4 = Of({0, 0, 0, 1, 192, 0, 2, 1, 0, 53}, "query");
  const auto read = ReadSocksDatagram(ipv4);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->target, (Authority{.host = "192.0.2.1", .port = 53}));
  EXPECT_EQ(Bytes(read->payload.begin(), read->payload.end()), Of({}, "query"));

  const auto name = Of({0, 0, 0, 3, 12}, "Example.test", {1, 187});
  ASSERT_TRUE(ReadSocksDatagram(name));
  EXPECT_EQ(ReadSocksDatagram(name)->target, (Authority{.host = "example.test", .port = 443}));
  EXPECT_TRUE(ReadSocksDatagram(name)->payload.empty());

  Bytes ipv6{0, 0, 0, 4, 0x20, 1, 0xd, 0xb8};
  ipv6.resize(4 + 16);
  ipv6.insert(ipv6.end(), {0, 9});
  ASSERT_TRUE(ReadSocksDatagram(ipv6));
  EXPECT_EQ(ReadSocksDatagram(ipv6)->target, (Authority{.host = "2001:db8::", .port = 9}));
}

TEST(Socks5, DatagramsThatAreDropped) {
  const auto good = Of({0, 0, 0, 1, 192, 0, 2, 1, 0, 53});
  for (std::size_t i = 0; i < good.size(); ++i) {
    EXPECT_FALSE(ReadSocksDatagram(std::span(good).first(i))) << i;
  }
  EXPECT_FALSE(ReadSocksDatagram(Of({0, 0, 1, 1, 192, 0, 2, 1, 0, 53}))) << "FRAG";
  EXPECT_FALSE(ReadSocksDatagram(Of({0, 0, 0x80, 1, 192, 0, 2, 1, 0, 53}))) << "the last FRAG";
  EXPECT_FALSE(ReadSocksDatagram(Of({0, 0, 0, 2, 192, 0, 2, 1, 0, 53})));
  EXPECT_FALSE(ReadSocksDatagram(Of({0, 0, 0, 1, 192, 0, 2, 1, 0, 0}))) << "port 0";
  EXPECT_FALSE(ReadSocksDatagram(Of({0, 0, 0, 3, 0, 0, 53})));
  EXPECT_FALSE(ReadSocksDatagram(Of({0, 0, 0, 3, 3}, "a/b", {0, 53})));
  EXPECT_FALSE(ReadSocksDatagram(Of({0, 0, 0, 3, 3}, {"a\0b", 3}, {0, 53})));
  EXPECT_FALSE(ReadSocksDatagram(Of({0, 0, 0, 3, 5}, "[::1]", {0, 53})));
}

TEST(Socks5, HeadersAreWhatTheClientHasSaid) {
  for (const auto &header :
       {Of({0, 0, 0, 1, 192, 0, 2, 1, 0, 53}), Of({0, 0, 0, 3, 12}, "example.test", {1, 187}),
        Of({0, 0, 0, 4, 0x20, 1}, std::string(14, 'x'), {1, 187}),
        Of({0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, 0, 9})}) {
    const auto read = ReadSocksDatagram(header);
    ASSERT_TRUE(read);
    EXPECT_EQ(SocksHeader(read->target), header) << AuthorityText(read->target);
  }
}

} // namespace
} // namespace ngmasque::programs
