// Http3Server: what its handlers are told when a client moves, and when a NAT does.

#include "quic_server_network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace quic_test {
namespace {

using ngmasque::FourTuple;
using ngmasque::StreamId;

constexpr ngmasque::Nanoseconds kSecond = 1'000'000'000;

class Http3ServerMoves : public testing::Test {
protected:
  Http3ServerMoves() { network.Run(kSecond); }

  StreamId Open() {
    const auto stream = client->SubmitRequest(Request()).value();
    EXPECT_TRUE(network.RunUntil([&] { return client.recorder.responses.contains(stream); }));
    return stream;
  }
  void Say(StreamId stream) { EXPECT_TRUE(client->SendData(stream, {}, Bytes{1})); }
  bool Heard(StreamId stream) {
    return network.RunUntil([&] { return record.data.contains(stream); });
  }

  // From here on a NAT stands between the two.
  void Nat(std::uint16_t port) {
    network.lose = [this, port](const Network::Wire &wire) {
      if (wire.to_server) {
        network.Inject(port, wire.bytes);
      } else if (wire.path.remote == Local(port)) {
        client->Receive({.local = Local(client.port), .remote = wire.path.local}, wire.ecn,
                        wire.bytes, network.now);
      }
      return true;
    };
  }

  Network network;
  Network::Client &client = network.Connect();
  ServerRecord &record = network.At(client);
  std::vector<StreamId> streams{Open(), Open(), Open()};
};

// With the first packet that shows it, before what is in it: the client may speak of its move.
TEST_F(Http3ServerMoves, AClientThatMovesIsToldOfBeforeWhatItSays) {
  Say(streams[0]);
  ASSERT_TRUE(Heard(streams[0]));
  std::uint16_t port = 0;
  network.lose = [&](const Network::Wire &wire) {
    // Its first packets that are no probes, so that those with the data are.
    return wire.to_server && wire.path.remote.port == port && !client.recorder.paths.empty();
  };
  port = network.Move(client);
  ASSERT_TRUE(network.RunUntil([&] { return !client.recorder.paths.empty(); }));
  EXPECT_TRUE(record.migrations.empty()) << "that it probes is no move";
  Say(streams[1]);
  network.lose = nullptr;
  ASSERT_TRUE(Heard(streams[1]));
  EXPECT_EQ(record.migrations, std::vector<std::size_t>{1});
  EXPECT_TRUE(record.paths.empty()) << "it is not validated yet";

  ASSERT_TRUE(network.RunUntil([&] { return !record.paths.empty(); }));
  Say(streams[2]);
  ASSERT_TRUE(Heard(streams[2]));
  network.Run(kSecond);
  EXPECT_EQ(record.migrations.size(), 1u);
  EXPECT_EQ(record.paths, (std::vector<FourTuple>{{.local = Local(443), .remote = Local(port)}}));
}

TEST_F(Http3ServerMoves, ANatThatChangesIsNone) {
  Nat(9000);
  Say(streams[0]);
  ASSERT_TRUE(network.RunUntil([&] { return record.paths.size() == 1; }));
  network.Run(kSecond);
  Nat(9001);
  Say(streams[1]);
  ASSERT_TRUE(network.RunUntil([&] { return record.paths.size() == 2; }));
  network.Run(kSecond);
  EXPECT_EQ(record.paths.back().remote, Local(9001));
  EXPECT_TRUE(record.migrations.empty());
}

TEST_F(Http3ServerMoves, WhatIsLateIsNoMoveBack) {
  std::vector<Network::Wire> late;
  network.lose = [&](const Network::Wire &wire) {
    const bool keep = wire.to_server && wire.path.remote.port == client.port;
    if (keep) {
      late.push_back(wire);
    }
    return keep;
  };
  Say(streams[0]);
  network.Run(kSecond / 100);
  ASSERT_FALSE(late.empty());
  network.lose = nullptr;
  const auto port = network.Move(client);
  ASSERT_TRUE(network.RunUntil([&] { return !record.paths.empty(); }));
  ASSERT_EQ(record.migrations.size(), 1u);
  for (const auto &wire : late) {
    network.Inject(client.port, wire.bytes);
  }
  network.Run(kSecond);
  EXPECT_EQ(record.migrations.size(), 1u);
  EXPECT_EQ(record.connection->path().remote, Local(port));
}

TEST_F(Http3ServerMoves, EachMoveIsTold) {
  for (std::size_t i = 1; i <= 5; ++i) {
    (void)network.Move(client);
    ASSERT_TRUE(network.RunUntil([&] { return record.paths.size() == i; }));
    network.Run(kSecond);
    EXPECT_EQ(record.migrations.size(), i);
  }
}

} // namespace
} // namespace quic_test
