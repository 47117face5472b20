// Http3Client: connection IDs that the server is not told of yet, and the size of its packets.

#include "quic_support.h"

#include <algorithm>

namespace quic_test {
namespace {

const ngmasque::Http3Client::Options kHolds{.hold_local_ids = true};

class HeldIds : public testing::Test {
protected:
  HeldIds() {
    EXPECT_TRUE(pair.client->remote_ids().empty());
    EXPECT_TRUE(pair.Connect());
    pair.Settle();
  }
  // A server that has no connection ID for the new path cannot answer there.
  bool Moves(std::uint16_t port) {
    EXPECT_TRUE(pair.client->Migrate(Local(port), pair.now));
    return pair.RunUntil([&] { return !pair.recorder.paths.empty(); });
  }

  Pair pair{{}, kHolds};
  const std::vector<ngmasque::ConnectionId> &ids = pair.recorder.local_ids;
};

TEST_F(HeldIds, StayUnknown) {
  EXPECT_GT(ids.size(), 1u);
  EXPECT_FALSE(Moves(2000));
}

TEST_F(HeldIds, AreReleased) {
  for (const auto &id : ids) { // The first one is not held back, and ignored.
    pair.client->ReleaseLocalId(id);
  }
  pair.Settle();
  EXPECT_TRUE(Moves(2000));
}

TEST_F(HeldIds, AreDiscarded) {
  const auto before = ids;
  pair.client->DiscardLocalId(before[1]);
  EXPECT_EQ(pair.recorder.retired_ids, std::vector{before[1]});
  pair.client->ReleaseLocalId(before[1]); // It is not there any more.
  ASSERT_TRUE(pair.client->SubmitRequest(Request()));
  pair.Settle();
  ASSERT_EQ(ids.size(), before.size() + 1) << "one takes its place";
  EXPECT_FALSE(std::ranges::contains(before, ids.back()));
  EXPECT_FALSE(Moves(2000));
}

TEST_F(HeldIds, AfterTheEnd) {
  pair.client->Close(ngmasque::kH3NoError, pair.now,
                     [](const ngmasque::OutgoingBurst &) { return true; });
  pair.client->ReleaseLocalId(ids[1]);
  pair.client->DiscardLocalId(ids[2]);
  EXPECT_TRUE(pair.recorder.retired_ids.empty());
  EXPECT_TRUE(pair.client->remote_ids().empty());
}

TEST(ClientIds, OfTheServer) {
  Pair pair;
  ASSERT_TRUE(pair.Connect());
  pair.Settle();
  const auto before = pair.client->remote_ids();
  ASSERT_EQ(before.size(), 1u);
  EXPECT_FALSE(before.front().id.empty());
  EXPECT_EQ(before.front().remote, pair.client->path().remote);
  ASSERT_TRUE(pair.client->Migrate(Local(2000), pair.now));
  ASSERT_TRUE(pair.RunUntil([&] { return !pair.recorder.paths.empty(); }));
  const auto after = pair.client->remote_ids();
  ASSERT_FALSE(after.empty());
  EXPECT_NE(after.front().id, before.front().id);
  EXPECT_TRUE(after.front().token) << "it came with a frame, and the token in it";
}

// The server of this test sends packets of 1350 bytes otherwise.
TEST(ClientIds, PacketsThatAServerMaySend) {
  for (const std::size_t limit : {std::size_t{0}, std::size_t{1230}}) {
    Pair pair({}, {.max_received_payload = limit});
    ASSERT_TRUE(pair.Connect());
    pair.Settle();
    pair.server->SendDatagram(Bytes(1250, 1));
    pair.Settle();
    EXPECT_EQ(pair.recorder.datagrams.size(), limit == 0 ? 1u : 0u);
  }
}

} // namespace
} // namespace quic_test
