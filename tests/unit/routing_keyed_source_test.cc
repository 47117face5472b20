// What is drawn from a key: it does not come again, and says whose it is to those who have the key.

#include "ngmasque/routing/keyed_source.h"

#include "routing_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace ngmasque {
namespace {

constexpr HashKey kOther{.k0 = 1, .k1 = 2};

TEST(KeyedSource, Lengths) {
  KeyedSource source(kTestKey);
  for (std::size_t length = 1; length <= kMaxConnectionIdLength; ++length) {
    EXPECT_EQ(source.DrawId(length).size(), length);
  }
}

TEST(KeyedSource, NothingComesTwice) {
  KeyedSource source(kTestKey, 7), neighbour(kTestKey, 8), stranger(kOther, 7);
  std::set<ConnectionId> ids;
  std::set<ScrambleKey> keys;
  for (int i = 0; i < 1000; ++i) {
    for (auto *of : {&source, &neighbour, &stranger}) {
      EXPECT_TRUE(ids.insert(of->DrawId(KeyedSource::kRoutedLength)).second);
      EXPECT_TRUE(keys.insert(of->DrawKey()).second);
    }
  }
}

// Longer ones neither: they go on where those of one block end.
TEST(KeyedSource, LongOnes) {
  KeyedSource source(kTestKey);
  std::set<Bytes> blocks;
  for (int i = 0; i < 100; ++i) {
    const auto id = source.DrawId(64);
    for (std::size_t at = 0; at < 64; at += 16) {
      const auto block = id.bytes().subspan(at, 16);
      EXPECT_TRUE(blocks.emplace(block.begin(), block.end()).second);
    }
  }
}

TEST(KeyedSource, OneKeyOneSequence) {
  KeyedSource first(kTestKey, 3), second(kTestKey, 3);
  EXPECT_EQ(first.DrawId(20), second.DrawId(20));
  EXPECT_EQ(first.DrawKey(), second.DrawKey());
  KeyedSource moved(std::move(second));
  EXPECT_EQ(first.DrawId(16), moved.DrawId(16));
}

// Each bit is set about half of the time.
//
//= draft-ietf-masque-quic-proxy, section 2.2
//# the client VCID MUST be constructed such that it is unpredictable to the client or to guarantee
//# no conflicts among all proxies sharing an IP address and port.
TEST(KeyedSource, LooksRandom) {
  KeyedSource source(kTestKey);
  std::array<int, 128> set{};
  constexpr int kDraws = 4096;
  for (int i = 0; i < kDraws; ++i) {
    const auto id = source.DrawId(16);
    for (std::size_t bit = 0; bit < set.size(); ++bit) {
      set[bit] += id.bytes()[bit / 8] >> (bit % 8) & 1;
    }
  }
  for (std::size_t bit = 0; bit < set.size(); ++bit) {
    // Six standard deviations of 32; the key is always the same.
    EXPECT_NEAR(set[bit], kDraws / 2, 192) << bit;
  }
}

TEST(KeyedSource, Workers) {
  for (const std::uint16_t worker : {0, 1, 255, 256, 65535}) {
    KeyedSource source(kTestKey, worker);
    const KeyedSource reader(kTestKey, 12345);
    for (std::size_t length = KeyedSource::kRoutedLength; length <= 40; ++length) {
      const auto id = source.DrawId(length);
      EXPECT_EQ(reader.WorkerOf(id.bytes()), worker);
      auto packet = Bytes(id.bytes().begin(), id.bytes().end());
      packet.resize(length + 100, 0x55);
      EXPECT_EQ(reader.WorkerOf(packet), worker) << "more follows";
    }
  }
}

TEST(KeyedSource, NobodysIds) {
  KeyedSource source(kTestKey, 5);
  const KeyedSource stranger(kOther, 5);
  const auto id = source.DrawId(16);
  EXPECT_FALSE(stranger.WorkerOf(id.bytes()));
  EXPECT_FALSE(source.WorkerOf(id.bytes().first(15)));
  EXPECT_FALSE(source.WorkerOf({}));
  EXPECT_FALSE(source.WorkerOf(source.DrawId(15).bytes()));
  for (std::size_t bit = 0; bit < 128; ++bit) {
    auto changed = Bytes(id.bytes().begin(), id.bytes().end());
    changed[bit / 8] ^= static_cast<std::uint8_t>(1 << (bit % 8));
    EXPECT_FALSE(source.WorkerOf(changed)) << bit;
  }
  // Keys are none, either, nor what goes on behind the first block.
  const auto key = source.DrawKey();
  EXPECT_FALSE(source.WorkerOf(key));
  EXPECT_FALSE(source.WorkerOf(source.DrawId(32).bytes().subspan(16)));
}

} // namespace
} // namespace ngmasque
