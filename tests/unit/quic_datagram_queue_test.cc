// DatagramQueue: turns, bounds, and who drops.

#include "ngmasque/quic/datagram_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

namespace ngmasque {
namespace {

constexpr std::size_t kLarge = 1000;

// A datagram that says whose it is, and which.
std::vector<std::uint8_t> Datagram(std::uint8_t tunnel, std::uint8_t number, std::size_t size) {
  std::vector<std::uint8_t> bytes(size, number);
  bytes[0] = tunnel;
  return bytes;
}

constexpr auto kIgnore = [](DatagramQueue::Key, std::span<const std::uint8_t>) {};

bool Push(DatagramQueue &queue, std::uint8_t tunnel, std::uint8_t number, std::size_t size) {
  const auto bytes = Datagram(tunnel, number, size);
  return queue.Push(tunnel, std::span(bytes).first(1), std::span(bytes).subspan(1));
}

struct Taken {
  std::uint8_t tunnel;
  std::uint8_t number;
  std::size_t size;
};

Taken Take(DatagramQueue &queue) {
  const auto front = queue.Front();
  const Taken taken{.tunnel = front[0], .number = front[1], .size = front.size()};
  const auto next = queue.size() > 1 ? queue.NextSize() : 0;
  queue.Pop();
  EXPECT_EQ(queue.empty() ? 0 : queue.Front().size(), next);
  return taken;
}

TEST(DatagramQueue, KeepsTheOrderOfATunnel) {
  DatagramQueue queue(1 << 20, kIgnore);
  for (std::uint8_t i = 0; i < 5; ++i) {
    ASSERT_TRUE(Push(queue, 1, i, kLarge));
  }
  for (std::uint8_t i = 0; i < 5; ++i) {
    const auto taken = Take(queue);
    EXPECT_EQ(taken.number, i);
    EXPECT_EQ(taken.size, kLarge);
  }
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.bytes(), 0U);
}

TEST(DatagramQueue, CarriesEmptyDatagrams) {
  DatagramQueue queue(1 << 20, kIgnore);
  ASSERT_TRUE(queue.Push(1, {}, {}));
  EXPECT_FALSE(queue.empty());
  EXPECT_TRUE(queue.Front().empty());
  queue.Pop();
  EXPECT_TRUE(queue.empty());
}

TEST(DatagramQueue, BulkDelaysOthersByATurn) {
  DatagramQueue queue(1 << 20, kIgnore);
  for (std::uint8_t i = 0; i < 200; ++i) {
    ASSERT_TRUE(Push(queue, 1, i, kLarge));
    ASSERT_TRUE(Push(queue, 2, i, kLarge));
  }
  ASSERT_TRUE(Push(queue, 3, 0, 100));
  int before = 0;
  while (Take(queue).tunnel != 3) {
    ++before;
  }
  // The rest of the turn that had begun, and one of the others.
  EXPECT_LE(before, 4);
}

TEST(DatagramQueue, TurnsAreOfBytes) {
  DatagramQueue queue(1 << 20, kIgnore);
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(Push(queue, 1, 0, 1200));
    ASSERT_TRUE(Push(queue, 2, 0, 150));
  }
  std::map<int, std::size_t> bytes;
  for (int i = 0; i < 500; ++i) {
    const auto taken = Take(queue);
    bytes[taken.tunnel] += taken.size + DatagramQueue::kOverhead;
  }
  EXPECT_LT(std::max(bytes[1], bytes[2]) - std::min(bytes[1], bytes[2]), 2 * DatagramQueue::kTurn);
}

TEST(DatagramQueue, DatagramLargerThanATurn) {
  DatagramQueue queue(1 << 20, kIgnore);
  ASSERT_TRUE(Push(queue, 1, 0, 10 * DatagramQueue::kTurn));
  ASSERT_TRUE(Push(queue, 2, 0, kLarge));
  EXPECT_EQ(queue.front_tunnel(), 1u);
  EXPECT_EQ(Take(queue).tunnel, 1);
  EXPECT_EQ(queue.front_tunnel(), 2u);
  EXPECT_EQ(Take(queue).tunnel, 2);
  EXPECT_TRUE(queue.empty());
}

TEST(DatagramQueue, WhoHasMostDrops) {
  constexpr auto each = kLarge + DatagramQueue::kOverhead;
  std::vector<std::vector<std::uint8_t>> dropped;
  DatagramQueue queue(10 * each,
                      [&](DatagramQueue::Key tunnel, std::span<const std::uint8_t> datagram) {
                        EXPECT_EQ(tunnel, 1u);
                        dropped.emplace_back(datagram.begin(), datagram.end());
                      });
  for (std::uint8_t i = 0; i < 10; ++i) {
    ASSERT_TRUE(Push(queue, 1, i, kLarge));
  }
  EXPECT_FALSE(Push(queue, 1, 10, kLarge));
  EXPECT_TRUE(dropped.empty());

  for (std::uint8_t i = 0; i < 5; ++i) {
    ASSERT_TRUE(Push(queue, 2, i, kLarge));
    ASSERT_EQ(dropped.size(), i + 1u);
    EXPECT_EQ(dropped.back(), Datagram(1, static_cast<std::uint8_t>(9 - i), kLarge));
  }
  // Now both have their share.
  EXPECT_FALSE(Push(queue, 1, 11, kLarge));
  EXPECT_FALSE(Push(queue, 2, 5, kLarge));
  EXPECT_EQ(queue.bytes(), 10 * each);

  // The newest ones had to go.
  std::map<int, std::vector<int>> numbers;
  while (!queue.empty()) {
    const auto taken = Take(queue);
    numbers[taken.tunnel].push_back(taken.number);
  }
  EXPECT_EQ(numbers[1], (std::vector{0, 1, 2, 3, 4}));
  EXPECT_EQ(numbers[2], (std::vector{0, 1, 2, 3, 4}));
}

TEST(DatagramQueue, DatagramLargerThanTheQueue) {
  DatagramQueue queue(kLarge, kIgnore);
  ASSERT_TRUE(Push(queue, 1, 0, 100));
  EXPECT_FALSE(Push(queue, 2, 0, kLarge));
  EXPECT_EQ(Take(queue).tunnel, 1);
}

// What others have waiting counts, too.
TEST(DatagramQueue, SharesABudget) {
  constexpr auto each = kLarge + DatagramQueue::kOverhead;
  const auto all = std::make_shared<ByteBudget>(6 * each);
  const auto mine = std::make_shared<ByteBudget>(4 * each, all);
  DatagramQueue other(100 * each, kIgnore);
  other.ShareWith(std::make_shared<ByteBudget>(100 * each, all));
  {
    int dropped = 0;
    DatagramQueue one(100 * each, kIgnore),
      two(3 * each, [&](DatagramQueue::Key, std::span<const std::uint8_t>) { ++dropped; });
    one.ShareWith(mine);
    two.ShareWith(mine);
    for (std::uint8_t i = 0; i < 3; ++i) {
      ASSERT_TRUE(Push(two, 1, i, kLarge));
    }
    EXPECT_FALSE(Push(two, 1, 3, kLarge)) << "its own bound";
    ASSERT_TRUE(Push(one, 1, 0, kLarge));
    EXPECT_FALSE(Push(one, 1, 1, kLarge)) << "the client's";
    EXPECT_EQ(mine->bytes(), 4 * each);
    // Within a queue, whoever has more than its share makes room.
    const auto bytes = Datagram(2, 0, kLarge);
    EXPECT_TRUE(two.Push(2, bytes, {}));
    EXPECT_EQ(dropped, 1);
    EXPECT_EQ(mine->bytes(), 4 * each);

    ASSERT_TRUE(Push(other, 1, 0, kLarge));
    ASSERT_TRUE(Push(other, 1, 1, kLarge));
    EXPECT_FALSE(Push(other, 1, 2, kLarge)) << "that of all";
    two.Pop();
    EXPECT_EQ(all->bytes(), 5 * each);
    EXPECT_TRUE(Push(other, 1, 2, kLarge));
    EXPECT_FALSE(Push(one, 1, 1, kLarge)) << "that of all";
  }
  EXPECT_EQ(mine->bytes(), 0U);
  EXPECT_EQ(all->bytes(), 3 * each);
}

// Whatever is done: the bound holds, nothing is lost but what it says, and a tunnel's order stays.
TEST(DatagramQueue, Random) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto draw = [&](unsigned below) { return random() % below; };
    const std::size_t bound = 2000 + draw(30'000);
    std::size_t dropped = 0;
    DatagramQueue queue(bound, [&](DatagramQueue::Key, std::span<const std::uint8_t>) { ++dropped; });
    // Of which others take now and then.
    const auto budget = std::make_shared<ByteBudget>(2000 + draw(30'000));
    std::size_t others = 0;
    queue.ShareWith(budget);
    std::map<int, int> next, last;
    std::size_t waiting = 0;
    for (int i = 0; i < 1000; ++i) {
      if (draw(3) != 0) {
        const auto tunnel = static_cast<std::uint8_t>(draw(6));
        const auto number = static_cast<std::uint8_t>(next[tunnel]);
        const auto bytes = Datagram(tunnel, number, 2 + draw(3000));
        dropped = 0;
        if (queue.Push(tunnel, bytes, {})) {
          next[tunnel] = (next[tunnel] + 1) % 256;
          ASSERT_LE(dropped, waiting);
          waiting = waiting - dropped + 1;
        } else {
          ASSERT_EQ(dropped, 0u);
        }
      } else if (!queue.empty()) {
        const auto taken = Take(queue);
        --waiting;
        // Dropped ones are missing; none comes before an older one.
        const auto ahead = static_cast<std::uint8_t>(taken.number - last[taken.tunnel]);
        ASSERT_LT(ahead, 128);
        last[taken.tunnel] = taken.number;
      }
      if (draw(10) == 0) {
        budget->Give(others);
        others = std::min<std::size_t>(draw(10'000), budget->room());
        budget->Take(others);
      }
      ASSERT_LE(queue.bytes(), bound);
      ASSERT_EQ(queue.bytes() + others, budget->bytes());
      ASSERT_EQ(queue.empty(), waiting == 0);
    }
    while (!queue.empty()) {
      queue.Pop();
      ASSERT_GT(waiting--, 0U);
    }
    EXPECT_EQ(waiting, 0U);
    EXPECT_EQ(queue.bytes(), 0U);
  }
}

TEST(DatagramQueue, SaysWhatWaits) {
  DatagramQueue queue(3 * (kLarge + DatagramQueue::kOverhead), kIgnore);
  EXPECT_EQ(queue.waiting(1).datagrams, 0u);
  for (std::uint8_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(Push(queue, 1, i, kLarge));
  }
  ASSERT_TRUE(Push(queue, 2, 0, kLarge)) << "another one is dropped for it";
  EXPECT_EQ(queue.size(), 3u);
  EXPECT_EQ(queue.waiting(1).datagrams, 2u);
  EXPECT_EQ(queue.waiting(1).bytes, 2 * (kLarge + DatagramQueue::kOverhead));
  EXPECT_EQ(queue.waiting(2).datagrams, 1u);
  while (!queue.empty()) {
    queue.Pop();
  }
  EXPECT_EQ(queue.size(), 0u);
  EXPECT_EQ(queue.waiting(1).bytes, 0u);
}

} // namespace
} // namespace ngmasque
