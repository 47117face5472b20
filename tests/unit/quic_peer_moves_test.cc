// Which packets show that a client moves by itself.

#include "ngmasque/quic/peer_moves.h"

#include "quic_support.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace ngmasque {
namespace {

using quic_test::Bytes;
using quic_test::Local;

ConnectionId Number(std::uint8_t number) { return *ConnectionId::From(Bytes(17, number)); }

FourTuple From(std::uint16_t port) { return {.local = Local(443), .remote = Local(port)}; }

// The client begins on port 1 with connection ID 0.  What it says of moves is noted as 'm' or '-'.
class PeerMovesTest : public testing::Test {
protected:
  PeerMovesTest() { EXPECT_EQ(Packet(1, 0), '-'); }

  // A packet from `port` to connection ID `id`; ngtcp2 goes to that path when it is done with it.
  char Packet(std::uint16_t port, std::uint8_t id, bool goes = true) {
    const auto result = Frame(port, id);
    current = goes ? port : current;
    return result;
  }

  char Frame(std::uint16_t port, std::uint8_t id) {
    const auto connection_id = Number(id);
    if (moves.Knows(From(port), connection_id.bytes())) {
      return '-';
    }
    return moves.OnFrame(From(port), connection_id, From(current)) ? 'm' : '-';
  }

  std::uint16_t current = 1;
  PeerMoves moves;
};

TEST_F(PeerMovesTest, ANatKeepsTheConnectionId) {
  EXPECT_EQ(Packet(1, 0), '-');
  EXPECT_EQ(Packet(2, 0), '-');
  EXPECT_EQ(Packet(2, 0), '-');
  EXPECT_EQ(Packet(3, 0), '-');
  // Packets that the NAT's change has overtaken.
  EXPECT_EQ(Packet(2, 0, false), '-');
  EXPECT_EQ(Packet(3, 0), '-');
}

// With the handshake, which had nothing but long headers on that path.
TEST_F(PeerMovesTest, WhatIsOvertakenByAMoveIsNone) {
  EXPECT_EQ(Packet(2, 1), 'm');
  EXPECT_EQ(Packet(1, 0, false), '-') << "through a slow balancer";
  EXPECT_EQ(Packet(2, 1), '-');
}

TEST_F(PeerMovesTest, WhatIsOvertakenBeforeTheMoveIsFollowedIsNone) {
  EXPECT_EQ(Packet(2, 1, false), 'm');
  EXPECT_EQ(Packet(1, 0), '-') << "ngtcp2 is there still";
  EXPECT_EQ(Packet(2, 1), '-');
  // Back, and back again: with other packets before and after.
  EXPECT_EQ(Packet(1, 0), '-');
  EXPECT_EQ(Packet(1, 0), 'm');
}

// What the client says on the new path may come with an old packet that fills the gap before it.
TEST_F(PeerMovesTest, TheServersOtherAddressIsAMoveWithoutAFrame) {
  const FourTuple before = From(1), after{.local = Local(444), .remote = Local(2)};
  EXPECT_TRUE(moves.OnFrame(before, Number(0), after)) << "ngtcp2 has gone there meanwhile";
  EXPECT_FALSE(moves.OnFrame(before, Number(0), after));
  EXPECT_FALSE(moves.OnFrame(after, Number(1), after));
  EXPECT_TRUE(moves.OnFrame(after, Number(1), before)) << "back again";
}

TEST_F(PeerMovesTest, AClientTakesAnother) {
  EXPECT_EQ(Frame(2, 1), 'm') << "of the first frame of the first packet";
  EXPECT_EQ(Frame(2, 1), '-');
  EXPECT_EQ(Packet(2, 1), '-');
  EXPECT_EQ(Packet(2, 1), '-');
  moves.OnRetired(Number(0));
  EXPECT_EQ(Packet(3, 2), 'm');
  EXPECT_EQ(Packet(3, 2), '-');
}

TEST_F(PeerMovesTest, AnotherOneOnTheSamePathIsNoMove) {
  EXPECT_EQ(Packet(1, 1), '-');
  EXPECT_EQ(Packet(1, 0), '-') << "overtaken by the other";
  EXPECT_EQ(Packet(1, 2), '-');
  EXPECT_EQ(Packet(2, 2), '-') << "a NAT, then";
  EXPECT_EQ(Packet(2, 2), '-');
  EXPECT_EQ(Packet(2, 3), '-');
}

TEST_F(PeerMovesTest, WhatTheMoveHasOvertakenIsNone) {
  EXPECT_EQ(Packet(2, 1), 'm');
  EXPECT_EQ(Packet(1, 0, false), '-');
  EXPECT_EQ(Packet(2, 1), '-');
  EXPECT_EQ(Packet(3, 3), 'm');
  EXPECT_EQ(Packet(1, 0, false), '-');
  EXPECT_EQ(Packet(2, 1, false), '-');
  EXPECT_EQ(Packet(3, 3), '-');
}

// ngtcp2 has no connection ID of the client's for the new path, for instance.
TEST_F(PeerMovesTest, AMoveThatIsNotFollowedIsToldOnce) {
  EXPECT_EQ(Packet(2, 1, false), 'm');
  EXPECT_EQ(Packet(2, 1, false), '-');
  EXPECT_EQ(Packet(2, 1), '-');
  EXPECT_EQ(Packet(2, 1), '-');
}

// ... which may have kept the connection ID of that path.  It could have been overtaken, so that the
// next packet tells.
TEST_F(PeerMovesTest, BackToThePathBefore) {
  EXPECT_EQ(Packet(2, 1), 'm');
  EXPECT_EQ(Packet(2, 1), '-');
  EXPECT_EQ(Packet(1, 0), '-');
  EXPECT_EQ(Packet(1, 0), 'm');
  EXPECT_EQ(Packet(1, 0), '-');
}

TEST_F(PeerMovesTest, ConnectionIdsInAnyOrder) {
  EXPECT_EQ(Packet(1, 3), '-');
  EXPECT_EQ(Packet(2, 1), 'm');
  moves.OnRetired(Number(1));
  EXPECT_EQ(Packet(3, 2), 'm');
}

} // namespace
} // namespace ngmasque
