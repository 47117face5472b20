// Http3Server: who gets in, and what becomes of packets that are of no connection.

#include "quic_server_network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace {

using ngmasque::CloseKind;
using quic_test::Bytes;
using quic_test::CertificateFiles;
using quic_test::Local;
using quic_test::Network;
using quic_test::RawClient;
using quic_test::Request;

constexpr ngmasque::Nanoseconds kSecond = 1'000'000'000;

// What begins a connection, by its looks: nobody can decrypt it.
Bytes ForgedInitial(std::uint8_t number, std::uint32_t version = 1, std::size_t size = 1200) {
  Bytes bytes{0xc0,
              static_cast<std::uint8_t>(version >> 24),
              static_cast<std::uint8_t>(version >> 16),
              static_cast<std::uint8_t>(version >> 8),
              static_cast<std::uint8_t>(version),
              8};
  bytes.insert(bytes.end(), 8, number);
  bytes.insert(bytes.end(), {4, 1, 2, 3, 4, 0});
  const auto rest = size - bytes.size() - 2;
  bytes.push_back(static_cast<std::uint8_t>(0x40 | rest >> 8));
  bytes.push_back(static_cast<std::uint8_t>(rest));
  bytes.resize(size, 0xee);
  return bytes;
}

TEST(Http3ServerAccept, FromManyHandshakesOnClientsShowTheirAddress) {
  Network network({.retry_from = 3});
  for (std::uint16_t i = 0; i < 3; ++i) {
    network.Inject(9000 + i, network.FirstPacket());
  }
  EXPECT_EQ(network.server->connections(), 3u);
  EXPECT_EQ(network.server->statistics().retries, 0u);

  auto &client = network.Connect({.ca_file = network.files.file()});
  EXPECT_EQ(network.server->statistics().retries, 1u);
  EXPECT_EQ(network.server->statistics().accepted, 4u);
  // Its handshake is over: the next one is as the fourth, too.
  (void)network.Connect();
  EXPECT_EQ(network.server->statistics().retries, 2u);
  ASSERT_TRUE(client->SubmitRequest(Request()));
  EXPECT_TRUE(network.RunUntil([&] { return client.recorder.responses.contains(0); }));

  // The three are forgotten, and nobody has to any more.
  network.Run(15 * kSecond);
  EXPECT_EQ(network.server->connections(), 2u);
  (void)network.Connect();
  EXPECT_EQ(network.server->statistics().retries, 2u);
}

TEST(Http3ServerAccept, ATokenOfAnEarlierConnectionShowsIt) {
  Network network({.retry_from = 0});
  RawClient first("h3");
  network.Talk(first, 9000);
  ASSERT_TRUE(first.completed());
  ASSERT_FALSE(first.token.empty());
  EXPECT_EQ(network.server->statistics().retries, 1u);

  RawClient second("h3", first.token);
  network.Talk(second, 9000);
  EXPECT_TRUE(second.completed());
  EXPECT_EQ(network.server->statistics().retries, 1u);
  RawClient port("h3", first.token);
  network.Talk(port, 9005);
  EXPECT_TRUE(port.completed());
  EXPECT_EQ(network.server->statistics().retries, 1u) << "the address is the same";

  Network other({.retry_from = 0});
  RawClient third("h3", first.token);
  other.Talk(third, 9000);
  EXPECT_TRUE(third.completed());
  EXPECT_EQ(other.server->statistics().retries, 1u) << "it is not the other server's token";
}

TEST(Http3ServerAccept, UnknownVersionsAreNegotiated) {
  Network network;
  network.Inject(9000, ForgedInitial(7, 0x1a2a3a4a));
  network.Run(kSecond / 50);
  ASSERT_EQ(network.strays.size(), 1u);
  const auto &bytes = network.strays[0].bytes;
  ASSERT_EQ(bytes.size(), 1u + 4 + 1 + 4 + 1 + 8 + 3 * 4);
  EXPECT_NE(bytes[0] & 0x80, 0);
  // Version 0; the IDs the other way round.
  const Bytes ids{0, 0, 0, 0, 4, 1, 2, 3, 4, 8, 7, 7, 7, 7, 7, 7, 7, 7};
  EXPECT_TRUE(std::ranges::equal(std::span(bytes).subspan(1, ids.size()), ids));
  EXPECT_TRUE(std::ranges::contains_subrange(bytes, Bytes{0, 0, 0, 1}));
  EXPECT_TRUE(std::ranges::contains_subrange(bytes, Bytes{0x6b, 0x33, 0x43, 0xcf}));
  EXPECT_EQ(network.server->statistics().negotiations, 1u);
  EXPECT_EQ(network.server->connections(), 0u);
}

TEST(Http3ServerAccept, VersionTwoIsSpoken) {
  Network network({.retry_from = 0});
  RawClient client("h3", {}, NGTCP2_PROTO_VER_V2);
  network.Talk(client, 9000);
  EXPECT_TRUE(client.completed());
  EXPECT_EQ(network.server->statistics().handshakes, 1u);
  EXPECT_EQ(network.server->statistics().negotiations, 0u);
  EXPECT_EQ(network.server->statistics().retries, 1u);
}

// Real Initials, each with another source: what they cost is bounded, and what they bring is not
// more than they are.
TEST(Http3ServerAccept, AFloodOfInitialsCostsLittle) {
  Network network({.max_handshakes = 20, .retry_from = 10});
  std::map<std::uint16_t, std::pair<std::size_t, std::size_t>> bytes; // There and back.
  network.lose = [&](const Network::Wire &wire) {
    if (!wire.to_server) {
      bytes[wire.path.remote.port].second += wire.bytes.size();
    }
    return false;
  };
  for (std::uint16_t i = 0; i < 60; ++i) {
    const auto packet = network.FirstPacket();
    const auto port = static_cast<std::uint16_t>(9000 + i);
    bytes[port].first += packet.size();
    network.Inject(port, packet);
    ASSERT_LE(network.server->connections(), 10u);
    // What answers at once.
    ASSERT_LE(bytes[port].second, packet.size());
  }
  EXPECT_EQ(network.server->connections(), 10u);
  EXPECT_EQ(network.server->statistics().retries, 50u);
  network.Run(5 * kSecond);
  for (const auto &[port, there_and_back] : bytes) {
    // RFC 9000, section 8.1.
    EXPECT_LE(there_and_back.second, 3 * there_and_back.first) << port;
  }
  // Clients get in all the while.
  (void)network.Connect();
  network.lose = nullptr;
  network.Run(10 * kSecond);
  EXPECT_EQ(network.server->connections(), 1u);
}

TEST(Http3ServerAccept, GarbageLeavesNothing) {
  Network network;
  for (std::uint8_t i = 0; i < 100; ++i) {
    network.Inject(9000 + i, ForgedInitial(i));
    EXPECT_EQ(network.server->connections(), 0u) << "not even until something is written";
  }
  network.Inject(9000, {});
  network.Inject(9000, {0x40});
  network.Inject(9000, {0xc0, 0, 0, 0, 1, 255});
  network.Inject(9000, ForgedInitial(1, 1, 1199));
  network.Run(kSecond);
  EXPECT_TRUE(network.strays.empty());
  EXPECT_EQ(network.server->statistics().dropped, 4u);
  EXPECT_EQ(network.server->Expiry(), ngmasque::kNever);
  EXPECT_FALSE(network.server->wants_write());
}

TEST(Http3ServerAccept, TooManyHandshakesAreRefused) {
  Network network({.max_handshakes = 2});
  for (std::uint16_t i = 0; i < 2; ++i) {
    network.Inject(9000 + i, network.FirstPacket());
  }
  auto &client = network.Add();
  ASSERT_TRUE(network.RunUntil([&] { return client.recorder.closed.has_value(); }));
  EXPECT_EQ(client.recorder.closed->kind, CloseKind::kPeer);
  EXPECT_FALSE(client.recorder.closed->application);
  EXPECT_EQ(client.recorder.closed->code, std::uint64_t{NGTCP2_CONNECTION_REFUSED});
  EXPECT_EQ(network.server->statistics().refused, 1u);
}

TEST(Http3ServerAccept, TooManyConnectionsAreRefused) {
  Network network({.max_connections = 2});
  auto &first = network.Connect();
  auto &second = network.Connect();
  auto &third = network.Add();
  ASSERT_TRUE(network.RunUntil([&] { return third.recorder.closed.has_value(); }));
  EXPECT_EQ(third.recorder.closed->code, std::uint64_t{NGTCP2_CONNECTION_REFUSED});
  EXPECT_EQ(network.server->statistics().refused, 1u);
  EXPECT_EQ(network.server->connections(), 2u);

  // The others go on, and when one goes there is room.
  ASSERT_TRUE(first->SubmitRequest(Request()));
  ASSERT_TRUE(second->SubmitRequest(Request()));
  EXPECT_TRUE(network.RunUntil([&] {
    return first.recorder.responses.contains(0) && second.recorder.responses.contains(0);
  }));
  network.Close(first);
  network.Run(kSecond / 50);
  (void)network.Connect();
}

// An empty request: HEADERS with a QPACK section that needs no dynamic table.
Bytes EarlyRequest() {
  const std::string authority = "target.example:443";
  Bytes section{0, 0, 0xc0 | 15, 0x50, static_cast<std::uint8_t>(authority.size())};
  section.insert(section.end(), authority.begin(), authority.end());
  Bytes frame{0x01, static_cast<std::uint8_t>(section.size())};
  frame.insert(frame.end(), section.begin(), section.end());
  return frame;
}

// RFC 8470, section 5.2.
TEST(Http3ServerAccept, ARequestInEarlyDataIsTooEarly) {
  Network network;
  RawClient first("h3");
  network.Talk(first, 9000);
  ASSERT_TRUE(first.completed());
  ASSERT_FALSE(first.ticket.empty());

  RawClient second("h3");
  second.Resume(first);
  second.frame = EarlyRequest();
  network.Talk(second, 9001);
  ASSERT_TRUE(second.completed());
  ASSERT_NE(network.app.From(9001), nullptr);
  EXPECT_TRUE(network.app.From(9001)->requests.empty());
  // HEADERS with entry 70 of the static table of QPACK: ":status 425".
  EXPECT_EQ(second.streams[0], (Bytes{0x01, 4, 0, 0, 0xff, 70 - 63}));
}

// What it has given its clients is good with the secret, and with no other one.
TEST(Http3ServerAccept, AServerThatIsStartedAgainKnowsItsClients) {
  std::array<std::uint8_t, 32> secret{1};
  Network network({.retry_from = 1, .secret = secret});
  const auto start_again = [&network](const std::array<std::uint8_t, 32> &with) {
    network.server = ngmasque::Http3Server::Create({.certificate_file = network.files.file(),
                                                    .key_file = network.files.key,
                                                    .retry_from = 0,
                                                    .secret = with},
                                                   network.app)
                       .value();
  };
  auto &client = network.Connect();
  RawClient first("h3");
  network.Talk(first, 9000);
  ASSERT_FALSE(first.ticket.empty() || first.token.empty());

  for (const bool same : {true, false}) {
    secret[1] = same ? 0 : 1;
    start_again(secret);
    RawClient second("h3", first.token);
    second.Resume(first);
    network.Talk(second, 9000);
    EXPECT_TRUE(second.completed());
    EXPECT_EQ(second.resumed(), same);
    EXPECT_EQ(network.server->statistics().retries, same ? 0u : 1u);
  }

  // A connection of before is reset at once, if that is its server.
  secret[1] = 1;
  for (const bool same : {false, true}) {
    start_again(secret);
    ASSERT_TRUE(client->SubmitRequest(Request()));
    network.Run(kSecond / 10);
    EXPECT_EQ(client.recorder.closed.has_value(), same);
    secret[1] = 0;
  }
  EXPECT_EQ(client.recorder.closed->kind, CloseKind::kStatelessReset);
}

} // namespace
