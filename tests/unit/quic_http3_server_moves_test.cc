// Http3Server moves, and Http3Clients with it.

#include "quic_server_network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

using ngmasque::Endpoint;
using ngmasque::FourTuple;
using ngmasque::StreamId;
using quic_test::Bytes;
using quic_test::Local;
using quic_test::Network;
using quic_test::Request;

constexpr ngmasque::Nanoseconds kSecond = 1'000'000'000;

class Http3ServerAnnounces : public testing::Test {
protected:
  // The client goes to ports 444 and 445 of the server, too, from ports of its own.
  Network::Client &Connect(Network &network) {
    auto &client = network.Connect({.server_migration = true});
    Follow(network, client);
    return client;
  }

  void Follow(Network &network, Network::Client &client) {
    client.recorder.sockets = {{443, Local(client.port)}};
    for (const std::uint16_t port : {444, 445}) {
      const auto from = static_cast<std::uint16_t>(client.port + 1000 * (port - 443));
      client.recorder.sockets.emplace(port, Local(from));
      network.Route(from, client);
    }
  }

  static StreamId Open(Network &network, Network::Client &client) {
    const auto stream = client->SubmitRequest(Request()).value();
    EXPECT_TRUE(network.RunUntil([&] { return client.recorder.responses.contains(stream); },
                                 60 * kSecond));
    return stream;
  }

  static bool IsAt(Network &network, Network::Client &client, std::uint16_t port) {
    const FourTuple path{.local = client.recorder.sockets.at(port), .remote = Local(port)};
    return client->path() == path && !network.At(client).paths.empty() &&
           network.At(client).paths.back() ==
             FourTuple{.local = path.remote, .remote = path.local};
  }
};

TEST_F(Http3ServerAnnounces, ConnectionsGoOnAtAnotherAddress) {
  Network network;
  auto &client = Connect(network);
  const auto stream = Open(network, client);
  network.server->Move(Local(444));
  ASSERT_TRUE(network.RunUntil([&] { return IsAt(network, client, 444); }));
  EXPECT_EQ(client.recorder.addresses, std::vector{Local(444)});
  ASSERT_TRUE(network.At(client).connection->SendData(stream, {}, Bytes(50'000)));
  ASSERT_TRUE(client->SendData(stream, {}, Bytes(50'000)));
  // Nothing goes to where it was, once both know.
  network.Run(kSecond);
  EXPECT_EQ(client.recorder.data.size(), 50'000u);
  EXPECT_EQ(network.At(client).data[stream].size(), 50'000u);
  bool old = false;
  network.lose = [&](const auto &wire) {
    old = old || wire.path.local == Local(443);
    return false;
  };
  (void)Open(network, client);
  EXPECT_FALSE(old);
  EXPECT_EQ(network.server->statistics().announced, 1u);
  EXPECT_EQ(network.server->statistics().moves, 1u);
}

TEST_F(Http3ServerAnnounces, BackAndForthOnABadNetwork) {
  for (const std::uint64_t seed : {1, 2, 3, 4}) {
    SCOPED_TRACE(seed);
    Network network({.same_path = seed % 2 == 0},
                    {.seed = seed, .loss = 50, .jitter = 3'000'000});
    auto &client = Connect(network);
    const auto stream = Open(network, client);
    std::size_t sent = 0;
    for (const std::uint16_t port : {444, 443, 445, 444, 443}) {
      network.server->Move(Local(port));
      // There is always something on its way.
      EXPECT_TRUE(network.RunUntil(
        [&] {
          if (network.At(client).connection->SendData(stream, {}, Bytes(1000))) {
            sent += 1000;
          }
          return IsAt(network, client, port);
        },
        60 * kSecond))
        << port;
    }
    EXPECT_TRUE(network.RunUntil([&] { return client.recorder.data.size() == sent; }, 60 * kSecond));
    EXPECT_GE(network.server->statistics().moves, 5u);
    EXPECT_FALSE(client.recorder.closed);
  }
}

TEST_F(Http3ServerAnnounces, TheLastAddressCounts) {
  Network network;
  auto &client = Connect(network);
  for (int i = 0; i < 50; ++i) {
    network.server->Move(Local(i % 2 == 0 ? 444 : 443));
  }
  network.server->Move(Local(445));
  EXPECT_TRUE(network.RunUntil([&] { return IsAt(network, client, 445); }));
  EXPECT_EQ(client.recorder.addresses, std::vector{Local(445)});
}

// Each costs a connection ID, and the client has only so many.
TEST_F(Http3ServerAnnounces, MoreMovesThanConnectionIds) {
  Network network;
  auto &client = Connect(network);
  (void)Open(network, client);
  network.Run(kSecond);
  // The client cannot say that it is done with any of them.
  network.lose = [](const auto &wire) { return wire.to_server; };
  for (int i = 0; i < 100; ++i) {
    network.server->Move(Local(i % 2 == 0 ? 444 : 445));
    network.Run(kSecond / 1000);
  }
  EXPECT_FALSE(client.recorder.closed);
  network.lose = nullptr;
  EXPECT_TRUE(network.RunUntil([&] { return IsAt(network, client, 445); }, 60 * kSecond));
  EXPECT_LT(network.server->statistics().announced, 100u);
  (void)Open(network, client);
}

TEST_F(Http3ServerAnnounces, AClientThatMayNotBeToldStays) {
  Network network;
  auto &stays = network.Connect();
  auto &goes = Connect(network);
  network.server->Move(Local(444));
  ASSERT_TRUE(network.RunUntil([&] { return IsAt(network, goes, 444); }));
  (void)Open(network, stays);
  EXPECT_TRUE(stays.recorder.addresses.empty());
  EXPECT_TRUE(network.At(stays).paths.empty());
  EXPECT_EQ(network.server->statistics().announced, 1u);
}

TEST_F(Http3ServerAnnounces, AClientThatDoesNotWantToStays) {
  Network network;
  auto &client = Connect(network);
  network.server->Move(Local(500));
  ASSERT_TRUE(network.RunUntil([&] { return !client.recorder.addresses.empty(); }));
  (void)Open(network, client);
  EXPECT_TRUE(client.recorder.paths.empty());
  network.server->Move(Local(444));
  EXPECT_TRUE(network.RunUntil([&] { return IsAt(network, client, 444); }));
}

TEST_F(Http3ServerAnnounces, WhereItIsAlreadyItIsNotTold) {
  Network network;
  auto &client = Connect(network);
  network.server->Move(Local(443));
  (void)Open(network, client);
  EXPECT_EQ(network.server->statistics().announced, 0u);
  EXPECT_TRUE(client.recorder.addresses.empty());
}

TEST_F(Http3ServerAnnounces, EachNewConnectionFromTheEndOfItsHandshakeOn) {
  Network network({}, {.loss = 50, .jitter = 3'000'000});
  auto &before = Connect(network);
  network.server->MoveOnHandshake(Local(444));
  for (int i = 0; i < 10; ++i) {
    Follow(network, network.Add({.server_migration = true}));
  }
  const auto moved = [&] {
    return std::ranges::all_of(network.clients, [&](auto &client) {
      return &client == &before ||
             (network.app.From(client.port) && IsAt(network, client, 444));
    });
  };
  EXPECT_TRUE(network.RunUntil(moved, 60 * kSecond));
  EXPECT_TRUE(network.At(before).paths.empty());
  network.server->MoveOnHandshake({});
  auto &after = Connect(network);
  (void)Open(network, after);
  EXPECT_TRUE(network.At(after).paths.empty());
}

// Of the connections that are to end, those with requests move all the same.
TEST_F(Http3ServerAnnounces, WhileItDrains) {
  Network network;
  auto &client = Connect(network);
  const auto stream = Open(network, client);
  network.server->Drain(network.now);
  network.server->Move(Local(444));
  ASSERT_TRUE(network.RunUntil([&] { return IsAt(network, client, 444); }));
  EXPECT_TRUE(client->SendData(stream, {}, Bytes(100)));
  EXPECT_TRUE(network.RunUntil([&] { return network.At(client).data.contains(stream); }));
}

} // namespace
