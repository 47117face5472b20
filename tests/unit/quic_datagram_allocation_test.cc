// The tunnelled path in steady state, from a target's packet to the queue of its client's connection
// and out of it, and from a client's datagram to the payload for a target: no allocation.

#include "ngmasque/quic/datagram_queue.h"

#include "allocation_count.h"
#include "session_proxy_support.h"

#include <array>
#include <random>

namespace ngmasque {
namespace {

constexpr auto kIgnore = [](DatagramQueue::Key, std::span<const std::uint8_t>) {};
constexpr std::size_t kBound = 1 << 18;

// Takes all that waits, and says how many bytes.
std::size_t Drain(DatagramQueue &queue) {
  std::size_t bytes = 0;
  while (!queue.empty()) {
    bytes += queue.Front().size();
    queue.Pop();
  }
  return bytes;
}

TEST(DatagramAllocation, NoneThroughSessionAndQueue) {
  constexpr std::string_view target = "5.6.7.8:443";
  ProxyWorld world;
  ASSERT_EQ(world.Request(kAlice, 0, WithClientId(target, 0, "client-1")), 200u);
  const auto *socket = world.proxy.Find(SocketId{0});
  world.proxy.SetDatagrams(kAlice, true);
  const auto datagram = Datagram(0, "payload");
  auto packet = Short("client-1, and the rest of the packet");
  DatagramQueue queue(kBound, kIgnore);

  constexpr int kBurst = 50;
  ProxyActions none;
  const auto burst = [&] {
    int passed = 0;
    for (int i = 0; i < kBurst; ++i) {
      passed += world.proxy.OnDatagram(kAlice, datagram, 1, none).has_value();
      const auto way = world.proxy.FromTarget(socket, {.bytes = packet}, 1);
      passed += way && way->form == ClientForm::kDatagram &&
                queue.Push(way->tunnel->number, way->prefix, way->packet.bytes);
    }
    return passed;
  };
  // The first burst takes memory, which the others use again.
  ASSERT_EQ(burst(), 2 * kBurst);
  const auto bytes = Drain(queue);
  ASSERT_GT(bytes, kBurst * packet.size());
  const auto before = allocations.load();
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(burst(), 2 * kBurst);
    EXPECT_EQ(Drain(queue), bytes);
  }
  EXPECT_EQ(allocations.load(), before);
}

// Tunnels come and go, of several connections, and sizes differ.
TEST(DatagramAllocation, NoneInQueues) {
  std::array<std::uint8_t, 1500> bytes{};
  const auto burst = [&](unsigned seed) {
    DatagramQueue one(kBound, kIgnore), two(kBound, kIgnore);
    std::mt19937 random(seed);
    for (int i = 0; i < 300; ++i) {
      auto &queue = random() % 2 ? one : two;
      EXPECT_TRUE(queue.Push(random() % 8, {}, std::span(bytes).first(random() % bytes.size())));
      if (random() % 3 == 0 && !queue.empty()) {
        queue.Pop();
      }
    }
    (void)Drain(one);
    (void)Drain(two);
  };
  burst(1);
  const auto before = allocations.load();
  burst(1);
  EXPECT_EQ(allocations.load(), before);
}

// Nor where others are dropped for it: what they had is used again.
TEST(DatagramAllocation, NoneWhereTheQueueIsFull) {
  constexpr std::size_t kSize = 1200;
  std::array<std::uint8_t, kSize> bytes{};
  int dropped = 0;
  DatagramQueue queue(40 * (kSize + DatagramQueue::kOverhead),
                      [&](DatagramQueue::Key, std::span<const std::uint8_t>) { ++dropped; });
  const auto fill = [&] {
    for (const DatagramQueue::Key tunnel : {1, 2}) {
      while (queue.Push(tunnel, {}, bytes)) {
      }
    }
    (void)Drain(queue);
  };
  fill();
  ASSERT_EQ(dropped, 20);
  const auto before = allocations.load();
  fill();
  EXPECT_EQ(dropped, 40);
  EXPECT_EQ(allocations.load(), before);
}

} // namespace
} // namespace ngmasque
