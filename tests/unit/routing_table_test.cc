// ConnectionIdTable: each rule by itself, and all of them against a list that is searched from
// end to end.

#include "ngmasque/routing/connection_id_table.h"

#include "routing_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <set>

namespace ngmasque {
namespace {

using Table = ConnectionIdTable<int>;
using Answer = std::expected<void, RoutingError>;

std::optional<int> Found(const int *value) { return value ? std::optional(*value) : std::nullopt; }

TEST(RoutingTable, ConflictsAndWhichOne) {
  Table table(kTestKey, {});
  ASSERT_TRUE(table.Insert(Id("abcd"), 1));
  EXPECT_EQ(table.Insert(Id("abcd"), 2).error(), RoutingError::kEqual);
  EXPECT_EQ(table.Insert(Id("abcde"), 2).error(), RoutingError::kExistingIsPrefix);
  EXPECT_EQ(table.Insert(Id("abc"), 2).error(), RoutingError::kNewIsPrefix);
  EXPECT_EQ(table.Insert(Id(""), 2).error(), RoutingError::kNewIsPrefix);
  EXPECT_EQ(table.size(), 1u);
  EXPECT_EQ(Found(table.Find(ToBytes("abcdef"))), 1);
  EXPECT_TRUE(table.Insert(Id("abce"), 2));
  EXPECT_TRUE(table.Insert(Id("ab\xff"), 3));
  EXPECT_TRUE(table.Insert(Id("abb"), 4));
}

// The longer one need not be the next one that was registered, nor of a length known before.
TEST(RoutingTable, ConflictsAmongMany) {
  Table table(kTestKey, {});
  for (int i = 0; i < 256; ++i) {
    const auto byte = static_cast<std::uint8_t>(i);
    ASSERT_TRUE(table.Insert(Id(Bytes{byte, 1, 2, 3, 4, 5, 6, byte}), i));
  }
  for (int i = 0; i < 256; ++i) {
    const auto byte = static_cast<std::uint8_t>(i);
    EXPECT_EQ(table.Insert(Id(Bytes{byte, 1, 2}), i).error(), RoutingError::kNewIsPrefix);
    EXPECT_EQ(table.Insert(Id(Bytes{byte}), i).error(), RoutingError::kNewIsPrefix);
    EXPECT_EQ(table.Insert(Id(Bytes{byte, 1, 2, 3, 4, 5, 6, byte, 0, 0}), i).error(),
              RoutingError::kExistingIsPrefix);
    EXPECT_TRUE(table.Check(Id(Bytes{byte, 1, 2, 4})));
    EXPECT_TRUE(table.Check(Id(Bytes{byte, 1, 2, 3, 4, 5, 6, static_cast<std::uint8_t>(~i), 0})));
  }
}

TEST(RoutingTable, ZeroLengthTakesEverything) {
  Table table(kTestKey, {});
  ASSERT_TRUE(table.Insert(Id(""), 7));
  EXPECT_EQ(Found(table.Find({})), 7);
  EXPECT_EQ(Found(table.Find(ToBytes("anything"))), 7);
  EXPECT_EQ(Found(table.FindExact({})), 7);
  EXPECT_EQ(Found(table.FindExact(ToBytes("anything"))), std::nullopt);
  EXPECT_EQ(table.Insert(Id(""), 8).error(), RoutingError::kEqual);
  EXPECT_EQ(table.Insert(Id("x"), 8).error(), RoutingError::kExistingIsPrefix);
  EXPECT_EQ(table.Insert(Id(Bytes(255, 'x')), 8).error(), RoutingError::kExistingIsPrefix);
  EXPECT_TRUE(table.Erase(Id("")));
  EXPECT_EQ(table.Find(ToBytes("anything")), nullptr);
}

TEST(RoutingTable, LongestPossible) {
  Table table(kTestKey, {});
  auto other = Bytes(255, 'x');
  other.back() = 'y';
  ASSERT_TRUE(table.Insert(Id(Bytes(255, 'x')), 1));
  ASSERT_TRUE(table.Insert(Id(other), 2));
  EXPECT_EQ(table.Insert(Id(Bytes(254, 'x')), 3).error(), RoutingError::kNewIsPrefix);
  EXPECT_EQ(Found(table.Find(Bytes(1400, 'x'))), 1);
  EXPECT_EQ(Found(table.Find(other)), 2);
  EXPECT_EQ(table.Find(Bytes(254, 'x')), nullptr);
}

TEST(RoutingTable, ShortAndExactLookUps) {
  Table table(kTestKey, {});
  ASSERT_TRUE(table.Insert(Id("abcd"), 1));
  ASSERT_TRUE(table.Insert(Id("xyz"), 2));
  EXPECT_EQ(Found(table.Find(ToBytes("abcdxyz"))), 1);
  EXPECT_EQ(Found(table.Find(ToBytes("xyzabcd"))), 2);
  EXPECT_EQ(Found(table.Find(ToBytes("xyz"))), 2);
  EXPECT_EQ(table.Find(ToBytes("abc")), nullptr) << "cut off";
  EXPECT_EQ(table.Find({}), nullptr);
  EXPECT_EQ(Found(table.FindExact(ToBytes("abcd"))), 1);
  EXPECT_EQ(table.FindExact(ToBytes("abcdxyz")), nullptr);
  EXPECT_EQ(table.FindExact(ToBytes("abc")), nullptr);
}

TEST(RoutingTable, EraseFreesTheIdItsRelativesAndItsLength) {
  Table table(kTestKey, {});
  EXPECT_FALSE(table.Erase(Id("abcd")));
  ASSERT_TRUE(table.Insert(Id("abcd"), 1));
  ASSERT_TRUE(table.Insert(Id("wxyz"), 2));
  EXPECT_FALSE(table.Erase(Id("abc")));
  EXPECT_TRUE(table.Erase(Id("abcd")));
  EXPECT_FALSE(table.Erase(Id("abcd")));
  EXPECT_EQ(table.Find(ToBytes("abcd")), nullptr);
  EXPECT_EQ(table.lengths(), 1u);
  EXPECT_TRUE(table.Insert(Id("abc"), 3));
  EXPECT_EQ(table.lengths(), 2u);
  EXPECT_EQ(Found(table.Find(ToBytes("abcd"))), 3);
  EXPECT_EQ(Found(table.Find(ToBytes("wxyz"))), 2);
}

TEST(RoutingTable, Bounds) {
  Table table(kTestKey, {.max_ids = 3, .max_lengths = 2});
  ASSERT_TRUE(table.Insert(Id("aaaa"), 1));
  ASSERT_TRUE(table.Insert(Id("bbbbb"), 2));
  EXPECT_EQ(table.Insert(Id("cc"), 3).error(), RoutingError::kTooManyLengths);
  ASSERT_TRUE(table.Insert(Id("cccc"), 3));
  EXPECT_EQ(table.Insert(Id("dddd"), 4).error(), RoutingError::kTooManyIds);
  EXPECT_EQ(table.Insert(Id("aaaa"), 4).error(), RoutingError::kEqual) << "a conflict comes first";
  EXPECT_EQ(Found(table.Find(ToBytes("aaaa"))), 1);
  ASSERT_TRUE(table.Erase(Id("bbbbb")));
  EXPECT_TRUE(table.Insert(Id("dd"), 4));
}

TEST(RoutingTable, OneProbeForEachLengthAndNoMore) {
  Table table(kTestKey, {});
  for (const auto *id : {"1234", "abcd", "12355678", "1236567890", "12375678901234567890"}) {
    ASSERT_TRUE(table.Insert(Id(id), 0));
  }
  ASSERT_EQ(table.lengths(), 4u);
  const auto probes = [&](std::string_view bytes, bool found) {
    std::uint64_t count = 0;
    EXPECT_EQ(table.Find(ToBytes(bytes), &count) != nullptr, found) << bytes;
    return count;
  };
  EXPECT_EQ(probes("unknown and long enough", false), 4u);
  EXPECT_EQ(probes("1234 and more of it, and more", true), 1u);
  EXPECT_EQ(probes("12355678 and more of it, and", true), 2u);
  EXPECT_EQ(probes("12375678901234567890", true), 4u);
  EXPECT_EQ(probes("1237567890123456789", false), 3u) << "too short for the longest";
  EXPECT_EQ(probes("abc", false), 0u);

  std::uint64_t count = 0;
  EXPECT_NE(table.FindExact(ToBytes("12355678"), &count), nullptr);
  EXPECT_EQ(count, 1u);
  EXPECT_EQ(table.FindExact(ToBytes("12345"), &count), nullptr);
  EXPECT_EQ(count, 1u) << "no ID has this length";

  // Many IDs make no more probes.
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_TRUE(table.Insert(Id("n" + std::to_string(1'000'000 + i)), i)) << i;
  }
  EXPECT_EQ(probes("unknown and long enough", false), 4u);
}

// 16 bits of keys in a table that grows and shrinks: what goes out of the way when something is
// removed is still found.
TEST(RoutingTable, GrowsAndShrinks) {
  HashIndex<const int> index;
  std::vector<int> values(5'000);
  const auto hash = [](int i) { return static_cast<std::uint64_t>(i) * 7 % 64; };
  const auto found = [&](int i) {
    return index.Find(hash(i), [&](const int &value) { return &value == &values[i]; });
  };
  for (int i = 0; i < 200; ++i) {
    index.Reserve();
    index.Insert(hash(i), values[i]);
  }
  for (int i = 0; i < 200; i += 3) {
    index.Erase(hash(i), values[i]);
  }
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(found(i) != nullptr, i % 3 != 0) << i;
  }
  EXPECT_LE(index.size() * 2, index.capacity());
  const auto full = index.capacity();
  for (int i = 0; i < 200; ++i) {
    if (i % 3 != 0) {
      index.Erase(hash(i), values[i]);
    }
  }
  EXPECT_EQ(index.size(), 0u);
  EXPECT_LT(index.capacity(), full);
}

// The model: a list.
class Model {
public:
  explicit Model(const ConnectionIdTableLimits &limits) : limits_(limits) {}

  Answer Insert(const Bytes &id, int value) {
    for (const auto &[other, ignored] : ids_) {
      if (other == id) {
        return std::unexpected(RoutingError::kEqual);
      }
      if (Begins(id, other)) {
        return std::unexpected(RoutingError::kExistingIsPrefix);
      }
      if (Begins(other, id)) {
        return std::unexpected(RoutingError::kNewIsPrefix);
      }
    }
    if (ids_.size() >= limits_.max_ids) {
      return std::unexpected(RoutingError::kTooManyIds);
    }
    auto lengths = Lengths();
    if (lengths.insert(id.size()).second && lengths.size() > limits_.max_lengths) {
      return std::unexpected(RoutingError::kTooManyLengths);
    }
    ids_.emplace_back(id, value);
    return {};
  }

  bool Erase(const Bytes &id) {
    return std::erase_if(ids_, [&](const auto &entry) { return entry.first == id; }) != 0;
  }

  // All that a packet could belong to.
  std::vector<int> Owners(const Bytes &bytes) const {
    std::vector<int> owners;
    for (const auto &[id, value] : ids_) {
      if (Begins(bytes, id)) {
        owners.push_back(value);
      }
    }
    return owners;
  }

  std::set<std::size_t> Lengths() const {
    std::set<std::size_t> lengths;
    for (const auto &[id, value] : ids_) {
      lengths.insert(id.size());
    }
    return lengths;
  }

  const std::vector<std::pair<Bytes, int>> &ids() const { return ids_; }

private:
  static bool Begins(const Bytes &bytes, const Bytes &prefix) {
    return bytes.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), bytes.begin());
  }

  ConnectionIdTableLimits limits_;
  std::vector<std::pair<Bytes, int>> ids_;
};

void RunTable(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  IdSource source(random);
  const ConnectionIdTableLimits limits{.max_ids = 2 + source.Below(60),
                                       .max_lengths = 1 + source.Below(12)};
  Table table({.k0 = random(), .k1 = random()}, limits);
  Model model(limits);

  for (int step = 0; step < 300; ++step) {
    if (source.Below(3) != 0) {
      const auto id = source.Draw();
      ASSERT_EQ(table.Insert(Id(id), step), model.Insert(id, step)) << testing::PrintToString(id);
    } else {
      const auto id = source.Below(2) == 0 || model.ids().empty()
                        ? source.Draw()
                        : model.ids()[source.Below(model.ids().size())].first;
      ASSERT_EQ(table.Erase(Id(id)), model.Erase(id));
    }
    ASSERT_EQ(table.size(), model.ids().size());
    ASSERT_EQ(table.lengths(), model.Lengths().size());

    const auto packet = source.Packet();
    const auto owners = model.Owners(packet);
    ASSERT_LE(owners.size(), 1u);
    std::uint64_t probes = 0;
    ASSERT_EQ(Found(table.Find(packet, &probes)),
              owners.empty() ? std::nullopt : std::optional(owners[0]));
    const auto lengths = model.Lengths();
    const auto fit = static_cast<std::uint64_t>(
      std::ranges::count_if(lengths, [&](auto length) { return length <= packet.size(); }));
    ASSERT_LE(probes, fit);
    ASSERT_TRUE(!owners.empty() || probes == fit);
    // What the table says of the whole packet as an ID of a long header.
    const auto exact = std::ranges::find(model.ids(), packet, &std::pair<Bytes, int>::first);
    ASSERT_EQ(Found(packet.size() > 255 ? nullptr : table.FindExact(packet)),
              exact == model.ids().end() ? std::nullopt : std::optional(exact->second));
  }
  for (const auto &[id, value] : model.ids()) {
    ASSERT_EQ(Found(table.Find(id)), value);
    ASSERT_TRUE(table.Erase(Id(id)));
  }
  ASSERT_EQ(table.size(), 0u);
  ASSERT_EQ(table.lengths(), 0u);
}

TEST(RoutingTable, RandomIdsAgainstAList) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    RunTable(seed);
    ASSERT_FALSE(testing::Test::HasFatalFailure()) << "seed " << seed;
  }
}

} // namespace
} // namespace ngmasque
