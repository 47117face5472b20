// Http3Client: the server moves.

#include "quic_support.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace quic_test {
namespace {

using ngmasque::Endpoint;
using ngmasque::FourTuple;

class QuicServerMoves : public testing::Test {
protected:
  explicit QuicServerMoves(Server::Options options = {})
    : pair(options, {.server_migration = true}) {
    pair.recorder.sockets = {{443, Local(1000)}, {444, Local(1001)}, {445, Local(1002)}};
  }

  void SetUp() override {
    ASSERT_TRUE(pair.Connect());
    pair.Settle();
  }

  // The server is at that port now, and the client where it goes there from.
  void ExpectAt(std::uint16_t port) {
    const FourTuple path{.local = pair.recorder.sockets.at(port), .remote = Local(port)};
    EXPECT_EQ(pair.client->path(), path);
    EXPECT_EQ(pair.server->used(), (FourTuple{.local = path.remote, .remote = path.local}));
    ASSERT_FALSE(pair.recorder.paths.empty());
    EXPECT_EQ(pair.recorder.paths.back(), path);
  }

  // Another request is answered.
  void ExpectAlive() {
    const auto stream = pair.client->SubmitRequest(Request()).value();
    ASSERT_TRUE(pair.RunUntil([&] { return pair.server->requests.contains(stream); }));
    pair.server->Respond(stream, {{.name = ":status", .value = "200"}});
    EXPECT_TRUE(pair.RunUntil([&] { return pair.recorder.responses.contains(stream); }));
  }

  Pair pair;
};

TEST_F(QuicServerMoves, TheClientGoesWhereTheServerSays) {
  ASSERT_EQ(pair.server->Announce(Local(444)), 0);
  ASSERT_TRUE(pair.RunUntil([this] { return pair.server->used().local == Local(444); }));
  pair.Settle();
  ExpectAt(444);
  EXPECT_EQ(pair.recorder.addresses, std::vector{Local(444)});
  EXPECT_EQ(pair.recorder.paths.size(), 1u);
  ExpectAlive();
}

TEST_F(QuicServerMoves, BackAndForthEachMoveIsTold) {
  std::vector<std::uint16_t> ports{444, 445, 443, 444, 443, 445};
  for (std::size_t i = 0; i < ports.size(); ++i) {
    ASSERT_EQ(pair.server->Announce(Local(ports[i])), 0);
    ASSERT_TRUE(pair.RunUntil([&] { return pair.recorder.paths.size() > i; })) << i;
    pair.Settle();
    ExpectAt(ports[i]);
    EXPECT_EQ(pair.recorder.paths.size(), i + 1);
  }
  ExpectAlive();
}

TEST_F(QuicServerMoves, AClientThatDoesNotWantToStays) {
  ASSERT_EQ(pair.server->Announce(Local(500)), 0);
  ASSERT_TRUE(pair.RunUntil([this] { return !pair.recorder.addresses.empty(); }));
  pair.Settle();
  EXPECT_TRUE(pair.recorder.paths.empty());
  EXPECT_EQ(pair.client->path().remote, Local(443));
  ASSERT_EQ(pair.server->Announce(Local(444)), 0);
  ASSERT_TRUE(pair.RunUntil([this] { return !pair.recorder.paths.empty(); }));
  pair.Settle();
  ExpectAt(444);
}

TEST_F(QuicServerMoves, AnAddressThatDoesNotAnswerIsNotGoneTo) {
  pair.dead = {444};
  ASSERT_EQ(pair.server->Announce(Local(444)), 0);
  ASSERT_TRUE(pair.RunUntil([this] { return !pair.recorder.addresses.empty(); }));
  ExpectAlive();
  EXPECT_FALSE(pair.RunUntil([this] { return !pair.recorder.paths.empty(); }));
  EXPECT_EQ(pair.client->path().remote, Local(443));
  ASSERT_EQ(pair.server->Announce(Local(445)), 0);
  ASSERT_TRUE(pair.RunUntil([this] { return !pair.recorder.paths.empty(); }));
  pair.Settle();
  ExpectAt(445);
}

// It would be gone to at once, as it was validated before.
TEST_F(QuicServerMoves, AKnownAddressThatIsDeadIsNotGoneTo) {
  ASSERT_EQ(pair.server->Announce(Local(444)), 0);
  ASSERT_TRUE(pair.RunUntil([this] { return !pair.recorder.paths.empty(); }));
  pair.Settle();
  pair.dead = {443};
  ASSERT_EQ(pair.server->Announce(Local(443)), 0);
  ExpectAlive();
  pair.Settle();
  EXPECT_EQ(pair.recorder.addresses.back(), Local(443));
  ASSERT_EQ(pair.recorder.paths.size(), 1u);
  ExpectAt(444);
}

TEST_F(QuicServerMoves, TheClientMovesWhereTheServerHasMovedTo) {
  ASSERT_EQ(pair.server->Announce(Local(444)), 0);
  ASSERT_TRUE(pair.RunUntil([this] { return !pair.recorder.paths.empty(); }));
  pair.Settle();
  ASSERT_TRUE(pair.client->Migrate(Local(2000), pair.now));
  ASSERT_TRUE(pair.RunUntil([this] { return pair.recorder.paths.size() == 2; }));
  const FourTuple path{.local = Local(2000), .remote = Local(444)};
  EXPECT_EQ(pair.recorder.paths.back(), path);
  ExpectAlive();
}

TEST(QuicServerStays, UnlessTheClientAllowsIt) {
  Pair pair({.preferred = Local(444)});
  ASSERT_TRUE(pair.Connect());
  pair.Settle();
  EXPECT_NE(pair.server->Announce(Local(444)), 0);
  pair.Settle();
  EXPECT_TRUE(pair.recorder.addresses.empty());
  EXPECT_TRUE(pair.recorder.paths.empty());
}

TEST(QuicServerPrefers, AnAddressOfItsTransportParameters) {
  Pair pair({.preferred = Local(444)}, {.server_migration = true});
  pair.recorder.sockets = {{444, Local(1001)}};
  ASSERT_TRUE(pair.RunUntil([&] { return !pair.recorder.paths.empty(); }));
  const FourTuple path{.local = Local(1001), .remote = Local(444)};
  EXPECT_EQ(pair.recorder.paths, std::vector{path});
  EXPECT_EQ(pair.recorder.addresses, std::vector{Local(444)});
}

} // namespace
} // namespace quic_test
