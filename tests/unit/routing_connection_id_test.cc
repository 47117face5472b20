// ConnectionId and the hash.

#include "ngmasque/routing/connection_id.h"

#include "routing_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace ngmasque {
namespace {

TEST(RoutingConnectionId, HoldsZeroTo255Bytes) {
  for (std::size_t size = 0; size <= 255; ++size) {
    Bytes bytes(size);
    std::iota(bytes.begin(), bytes.end(), std::uint8_t{1});
    const auto id = ConnectionId::From(bytes);
    ASSERT_TRUE(id) << size;
    EXPECT_EQ(id->size(), size);
    EXPECT_EQ(id->empty(), size == 0);
    EXPECT_TRUE(std::ranges::equal(id->bytes(), bytes)) << size;
  }
  EXPECT_FALSE(ConnectionId::From(Bytes(256)));
  EXPECT_FALSE(ConnectionId::From(Bytes(65536 + 8)));
  EXPECT_EQ(ConnectionId(), Id(""));
}

TEST(RoutingConnectionId, CopiesAreIndependentAndMovedFromIsEmpty) {
  for (const auto size : {0, 1, 20, 21, 255}) {
    const auto original = Id(Bytes(size, 'x'));
    auto copy = original;
    auto assigned = Id("something else that is longer than 20");
    assigned = copy;
    EXPECT_EQ(assigned, original);
    assigned = *&assigned;
    EXPECT_EQ(assigned, original);

    const auto moved = std::move(copy);
    EXPECT_EQ(moved, original);
    EXPECT_EQ(copy, ConnectionId()); // NOLINT: that is what is promised.
    assigned = std::move(copy);
    EXPECT_TRUE(assigned.empty());
    EXPECT_EQ(moved, original);
  }
}

//= draft-00, section 2.4
//# Two Connection IDs conflict if and only if one Connection ID is equal to or a prefix of another.
//# For example, a zero-length Connection ID conflicts with all connection IDs.
TEST(RoutingConnectionId, RelationsBothWaysRound) {
  const Bytes longest(255, 'x');
  const struct {
    Bytes a, b;
    Relation relation;
  } cases[] = {
    {{}, {}, Relation::kEqual},
    {{}, ToBytes("a"), Relation::kFirstIsPrefix},
    {{}, longest, Relation::kFirstIsPrefix},
    {ToBytes("abc"), ToBytes("abc"), Relation::kEqual},
    {ToBytes("abc"), ToBytes("abd"), Relation::kUnrelated},
    {ToBytes("abc"), ToBytes("abcd"), Relation::kFirstIsPrefix},
    {ToBytes("bc"), ToBytes("abcd"), Relation::kUnrelated},
    {{0}, {0, 0}, Relation::kFirstIsPrefix},
    {{0x80}, {0x7f, 0}, Relation::kUnrelated},
    {Bytes(20, 'x'), Bytes(21, 'x'), Relation::kFirstIsPrefix},
    {Bytes(254, 'x'), longest, Relation::kFirstIsPrefix},
    {longest, longest, Relation::kEqual},
  };
  for (const auto &[a, b, relation] : cases) {
    SCOPED_TRACE(testing::PrintToString(a) + " and " + testing::PrintToString(b));
    EXPECT_EQ(Compare(a, b), relation);
    EXPECT_EQ(Compare(b, a),
              relation == Relation::kFirstIsPrefix ? Relation::kSecondIsPrefix : relation);
    EXPECT_EQ(Id(a).IsPrefixOf(Id(b)), relation != Relation::kUnrelated);
    EXPECT_EQ(Id(b).IsPrefixOf(Id(a)), relation == Relation::kEqual);
    EXPECT_EQ(Id(a) == Id(b), relation == Relation::kEqual);
    EXPECT_EQ(Id(a) <=> Id(b),
              std::lexicographical_compare_three_way(a.begin(), a.end(), b.begin(), b.end()));
    EXPECT_EQ(Id(b) <=> Id(a),
              std::lexicographical_compare_three_way(b.begin(), b.end(), a.begin(), a.end()));
  }
}

// SipHash: a Fast Short-Input PRF, appendix A, and the table of test vectors of its authors.
TEST(RoutingSipHash, PublishedVectors) {
  Bytes input(15);
  std::iota(input.begin(), input.end(), std::uint8_t{0});
  const auto hash = [&](std::size_t size) {
    return SipHash<2, 4>(kTestKey, std::span(input).first(size));
  };
  EXPECT_EQ(hash(15), 0xa129ca6149be45e5u);
  EXPECT_EQ(hash(0), 0x726fdb47dd0e0e31u);
  EXPECT_EQ(hash(1), 0x74f839c593dc67fdu);
}

// The values of an independent implementation: CPython's hash() of bytes, without a seed.
TEST(RoutingSipHash, OneThree) {
  Bytes input(255);
  std::iota(input.begin(), input.end(), std::uint8_t{0});
  const struct {
    std::size_t size;
    std::uint64_t hash;
  } cases[] = {
    {1, 0x68a914128e01e473},  {7, 0x2f098ab0c751325a},   {8, 0xead411e67ebe2eea},
    {9, 0x75927f9d95124362},  {15, 0xf30eb725bb91c9ea},  {16, 0x8972188433a5c5b7},
    {20, 0x639e355ae68c0100}, {255, 0x5dc1f93ea135eb43},
  };
  for (const auto &[size, hash] : cases) {
    EXPECT_EQ((SipHash<1, 3>({}, std::span(input).first(size))), hash) << size;
  }
}

TEST(RoutingSipHash, DependsOnBothHalvesOfTheKey) {
  const auto input = ToBytes("connection");
  EXPECT_NE((SipHash<1, 3>({.k0 = 1}, input)), (SipHash<1, 3>({}, input)));
  EXPECT_NE((SipHash<1, 3>({.k1 = 1}, input)), (SipHash<1, 3>({}, input)));
  EXPECT_NE((SipHash<1, 3>({.k0 = 1}, input)), (SipHash<1, 3>({.k1 = 1}, input)));
}

// Each member of a 4-tuple makes it another one.
TEST(RoutingFourTuple, EveryMemberCounts) {
  const auto tuple = Tuple(1000);
  std::vector<FourTuple> others(6, tuple);
  others[0].local.address[15] ^= 1;
  others[1].local.port ^= 1;
  others[2].remote.address[0] ^= 1;
  others[3].remote.port ^= 0x100;
  others[4].remote.scope ^= 0x1000000;
  std::swap(others[5].local, others[5].remote);
  const FourTupleHash hash(kTestKey);
  EXPECT_EQ(hash(tuple), hash(Tuple(1000)));
  EXPECT_NE(hash(tuple), FourTupleHash({})(tuple));
  for (const auto &other : others) {
    EXPECT_NE(other, tuple);
    EXPECT_NE(hash(other), hash(tuple));
  }
}

} // namespace
} // namespace ngmasque
