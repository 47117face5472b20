// Two proxies that forward to each other: a client that has a tunnel through each to the other one
// cannot make a packet go round (adversarial.md, class 24).

#include "session_rfc9298_raw.h"

#include <algorithm>

namespace ngmasque {
namespace {

constexpr int kRounds = 20;

// One of the two.  To it, what the other one sends is a client's.
struct Party {
  explicit Party(std::uint64_t key)
    : world({}, OpenPolicy()), client(world), keyed{.k0 = key, .k1 = key} {
    // Each has secrets of its own.
    world.proxy = Proxy(keyed, {}, OpenPolicy());
    EXPECT_TRUE(world.proxy.AddConnection(kAlice, Tuple(1)));
  }

  ProxyWorld world;
  RawClient client;
  HashKey keyed;
};

// Where a packet ends up that the first proxy gets on the client's 4-tuple: through it to the second
// one, which takes what comes from there for the client's own, and back.  How often it was sent on.
int Hops(Party &first, Party &second, Bytes packet, int at_most) {
  auto *here = &first, *there = &second;
  int hops = 0;
  for (; hops < at_most; ++hops) {
    const auto to = here->world.proxy.FromClient(here->world.proxy.FindPath(Tuple(1)),
                                                 {.bytes = packet}, here->world.now);
    if (!to || !to->mapping) {
      break;
    }
    packet = Bytes(to->packet.bytes.begin(), to->packet.bytes.end());
    std::swap(here, there);
  }
  return hops;
}

// Each mapping leads to what was known when it was made, and is named by what nobody knew then.  So
// the client can make a packet visit its mappings one after the other, newest first, and no more.
//
//= draft-ietf-masque-quic-proxy, section 5.10
//# Proxies MUST choose unpredictable client and target VCIDs to avoid forwarding loop attacks.
TEST(Rfc9298Loop, VirtualIdsLeadBackInTime) {
  Party first(1), second(2);
  ASSERT_EQ(first.client.Open(), 200u);
  ASSERT_EQ(second.client.Open(), 200u);
  first.client.Map(Register("client-0"));
  second.client.Map(Register("client-0"));
  std::vector<ConnectionId> names{Id("an unmapped one.")};
  for (int i = 0; i < kRounds; ++i) {
    auto &client = (i % 2 == 0 ? first : second).client;
    names.push_back(client.Map({.kind = Kind::kRegisterTargetCid,
                                .id = names.back(),
                                .virtual_id = {},
                                .token = {}}));
  }
  // Closing the circle is to register, for the oldest, the name of the newest: it gets a new name.
  (void)first.client.Ask({.kind = Kind::kRegisterTargetCid, .id = names.back(), .virtual_id = {},
                          .token = {}});
  for (std::size_t i = 1; i < names.size(); ++i) {
    auto packet = Short(names[i].bytes());
    packet.resize(100);
    auto &starts = i % 2 == 1 ? first : second;
    auto &other = i % 2 == 1 ? second : first;
    EXPECT_EQ(Hops(starts, other, packet, 10 * kRounds), static_cast<int>(i)) << i;
  }
}

// The same to the client: what stands for its connection ID is drawn after that was chosen.
TEST(Rfc9298Loop, TowardsTheClient) {
  Party first(1), second(2);
  ASSERT_EQ(first.client.Open(), 200u);
  ASSERT_EQ(second.client.Open(), 200u);
  const auto start = Id("client-0");
  auto next = start;
  for (int i = 0; i < kRounds; ++i) {
    next = (i % 2 == 0 ? first : second)
             .client.Map({.kind = Kind::kRegisterClientCid, .id = next, .virtual_id = {}, .token = {}});
  }
  // It goes from the first one on, each time to the other proxy, until one does not know it.
  auto packet = Short(start.bytes());
  packet.resize(100);
  int hops = 0;
  for (; hops < 10 * kRounds; ++hops) {
    auto &world = (hops % 2 == 0 ? first : second).world;
    const auto to = world.proxy.FromTarget(world.proxy.Find(world.socket()), {.bytes = packet},
                                           world.now);
    if (!to || to->form != ClientForm::kForward) {
      break;
    }
    packet = Bytes(to->packet.bytes.begin(), to->packet.bytes.end());
  }
  EXPECT_EQ(hops, kRounds);
}

} // namespace
} // namespace ngmasque
