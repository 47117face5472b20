// Http3Server: no client takes what is there for the handshakes of all.

#include "quic_server_network.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace {

using ngmasque::CloseKind;
using ngmasque::Endpoint;
using ngmasque::FourTuple;
using quic_test::Local;
using quic_test::Network;

constexpr ngmasque::Nanoseconds kSecond = 1'000'000'000;
constexpr std::uint64_t kConnectionRefused = 2;

// 192.0.2.`host`, whose handshakes come no further.
FourTuple From(std::uint8_t host, std::uint16_t port) {
  Endpoint remote = Local(port);
  remote.address[12] = 192;
  remote.address[13] = 0;
  remote.address[14] = 2;
  remote.address[15] = host;
  return {.local = Local(443), .remote = remote};
}

// A client that is never heard of again begins, wherever it says that it is.
void Begin(Network &network, const FourTuple &path) {
  const auto first = network.FirstPacket();
  network.server->Receive(path, 0, first, network.now, [](const auto &) { return true; });
}

TEST(Http3ServerClients, OneThatIsFloodedInTheNameOfGetsIn) {
  Network network({.max_handshakes = 100, .retry_from = 90, .retry_from_per_client = 5});
  // As if from where the clients of `network` are.
  for (std::uint16_t i = 0; i < 50; ++i) {
    Begin(network, {.local = Local(443), .remote = Local(9000 + i)});
  }
  EXPECT_EQ(network.server->connections(), 5u);
  EXPECT_EQ(network.server->statistics().retries, 45u);
  (void)network.Connect();
  EXPECT_EQ(network.server->statistics().retries, 46u);
  // Of others nothing is wanted, until there are too many of all.
  for (std::uint8_t host = 1; host <= 85; ++host) {
    Begin(network, From(host, 9000));
  }
  EXPECT_EQ(network.server->statistics().retries, 46u);
  EXPECT_EQ(network.server->connections(), 5u + 1 + 85);
  EXPECT_EQ(network.server->statistics().refused, 0u);
}

TEST(Http3ServerClients, OneThatIsThereHasItsBound) {
  Network network({.max_handshakes_per_client = 3, .retry_from_per_client = 0});
  // They have shown their address, and get no further.
  network.lose = [](const auto &wire) {
    return !wire.to_server && (wire.bytes[0] & 0xf0) != 0xf0; // But for Retry.
  };
  for (int i = 0; i < 3; ++i) {
    network.Add();
  }
  ASSERT_TRUE(network.RunUntil([&] { return network.server->statistics().accepted == 3; }));
  network.lose = nullptr;
  auto &fourth = network.Add();
  ASSERT_TRUE(network.RunUntil([&] { return fourth.recorder.closed.has_value(); }, kSecond / 20));
  EXPECT_EQ(fourth.recorder.closed->kind, CloseKind::kPeer);
  EXPECT_EQ(fourth.recorder.closed->code, kConnectionRefused);
  EXPECT_EQ(network.server->statistics().refused, 1u);
  Begin(network, From(1, 9000));
  EXPECT_EQ(network.server->statistics().refused, 1u) << "another client may";

  // Those that were completed do not count any more, nor those that were given up.
  ASSERT_TRUE(network.RunUntil([&] { return network.server->statistics().handshakes == 3; }));
  for (int i = 0; i < 10; ++i) {
    (void)network.Connect();
  }
  network.Run(15 * kSecond);
  EXPECT_EQ(network.server->connections(), 13u);
  EXPECT_EQ(network.server->statistics().refused, 1u);
}

} // namespace
