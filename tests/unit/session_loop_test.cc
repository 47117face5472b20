// Loops of forwarded packets in draft-00, where they leave as they have come: what goes round between
// proxies ends (adversarial.md, class 24).

#include "ngmasque/session/loop_watch.h"

#include "session_proxy_support.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <random>

namespace ngmasque {
namespace {

// As no two packets of QUIC are the same.
Bytes Numbered(std::uint64_t number) {
  auto packet = Short("server-0");
  for (int shift = 0; shift < 64; shift += 8) {
    packet.push_back(static_cast<std::uint8_t>(number >> shift));
  }
  return packet;
}

constexpr std::uint64_t kMaxTimes = LoopWatch::kMaxTimes, kShortest = LoopWatch::kShortest;

TEST(LoopWatch, PacketsThatAreNotTheSame) {
  LoopWatch watch;
  auto packet = Numbered(0);
  // Until the longest patience is over.
  for (std::uint32_t i = 0; i < 2 * LoopWatch::kLongest + 1000; ++i) {
    std::memcpy(packet.data() + packet.size() - sizeof(i), &i, sizeof(i));
    ASSERT_FALSE(watch.Drops(packet)) << i;
  }
}

// A network that doubles all packets, the second of each after some others, loses none of them.
TEST(LoopWatch, PacketsThatComeTwice) {
  for (const std::uint64_t later : {0, 1, 10, 1000}) {
    LoopWatch watch;
    for (std::uint64_t i = 0; i < 20'000; ++i) {
      ASSERT_FALSE(watch.Drops(Numbered(i))) << later;
      if (i >= later) {
        ASSERT_FALSE(watch.Drops(Numbered(i - later))) << later;
      }
    }
  }
}

TEST(LoopWatch, OnePacket) {
  LoopWatch watch;
  const Bytes shortest{0x40}, longer{0x40, 0};
  for (const auto &packet : {shortest, longer, Numbered(1)}) {
    std::uint64_t passed = 0;
    while (passed < 1000 && !watch.Drops(packet)) {
      ++passed;
    }
    EXPECT_EQ(passed, kMaxTimes);
  }
}

// `before`: packets that were in no loop.  In the loop there are always `together`, of which each goes
// on until it is dropped; new ones come now and then.
void GoRound(std::uint64_t before, std::uint64_t together, std::uint64_t seed) {
  LoopWatch watch;
  std::uint64_t number = 0, passed = 0;
  while (number < before) {
    ASSERT_FALSE(watch.Drops(Numbered(number++)));
  }
  std::deque<Bytes> loop;
  std::mt19937_64 random(seed);
  std::uint64_t in_loop = 0;
  while (in_loop < together || !loop.empty()) {
    if (in_loop < together && (loop.empty() || random() % 4 == 0)) {
      loop.push_back(Numbered(number++));
      ++in_loop;
    }
    const auto packet = loop.front();
    loop.pop_front();
    if (!watch.Drops(packet)) {
      loop.push_back(packet);
      ++passed;
    }
    ASSERT_LE(passed, (kMaxTimes + 4) * together + 2 * before + 2 * kShortest);
  }
}

TEST(LoopWatch, LoopsEnd) {
  for (const std::uint64_t before : {0, 1, 63, 64, 65, 1000, 50'000}) {
    for (const std::uint64_t together : {1, 2, 63, 64, 65, 500, 3'000}) {
      GoRound(before, together, before + together);
      ASSERT_FALSE(HasFailure()) << before << ' ' << together;
    }
  }
}

// One of two proxies.  To it, what the other one sends is a client's.
struct Party {
  Party() {
    world.Request(kAlice, 0, RequestFields(WithClientId("192.0.2.9:443", 0, "client-0")));
    world.Request(kAlice, 4, RequestFields(WithServerId("192.0.2.9:443", 0, "server-0")));
    EXPECT_EQ(world.Status(kAlice, 4), 200u);
  }
  std::optional<DropReason> Forward(Bytes &packet) {
    const auto to = world.proxy.FromClient(world.proxy.FindPath(Tuple(1)), {.bytes = packet},
                                           world.now);
    return to ? std::nullopt : std::optional(to.error());
  }
  std::optional<DropReason> ToClient(Bytes &packet) {
    const auto to = world.proxy.FromTarget(world.proxy.Find(world.socket()), {.bytes = packet},
                                           world.now);
    EXPECT_TRUE(!to || to->form == ClientForm::kForward);
    return to ? std::nullopt : std::optional(to.error());
  }

  ProxyWorld world{{}, [] {
    TargetPolicy::Options options;
    options.allow = {ParseAddressBlock("192.0.2.0/24").value()};
    return TargetPolicy(options);
  }()};
};

// Both have the same connection ID mapped: what is sent there goes round, whichever way.
TEST(Draft00Loop, Ends) {
  for (const bool to_target : {true, false}) {
    std::array<Party, 2> parties;
    for (auto &party : parties) {
      auto first = Numbered(0);
      ASSERT_FALSE(party.Forward(first)) << "section 4.4: nothing is forwarded to the client before";
    }
    auto packet = to_target ? Numbered(1) : Short("client-0 1");
    std::uint64_t hops = 0;
    std::optional<DropReason> end;
    for (; hops < 1000 && !end; ++hops) {
      auto &party = parties[hops % 2];
      end = to_target ? party.Forward(packet) : party.ToClient(packet);
    }
    EXPECT_EQ(end, DropReason::kLoop);
    const auto way = to_target ? Way::kForwardedToTarget : Way::kForwardedToClient;
    std::uint64_t passed = 0, dropped = 0;
    for (const auto &party : parties) {
      auto tunnels = party.world.proxy.counters().tunnels;
      passed += tunnels[way].passed.packets;
      dropped += tunnels.Dropped(way, DropReason::kLoop);
    }
    EXPECT_EQ(dropped, 1u);
    EXPECT_LE(passed, 2 + 2 * (kShortest + kMaxTimes + 1));
  }
}

} // namespace
} // namespace ngmasque
