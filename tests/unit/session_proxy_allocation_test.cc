// Proxy: packets of flows that are there cost no allocation.

#include "allocation_count.h"
#include "session_proxy_support.h"

namespace ngmasque {
namespace {

TEST(ProxyAllocation, NoneForPackets) {
  constexpr std::string_view target = "5.6.7.8:443";
  ProxyWorld world({.max_bytes_per_second_per_client = 1'000'000, .burst_bytes_per_client = 300});
  ASSERT_EQ(world.Request(kAlice, 0, WithClientId(target, 0, "client-1")), 200u);
  ASSERT_EQ(world.Request(kAlice, 4, WithServerId(target, 0, "server-1")), 200u);
  ASSERT_EQ(world.Request(kBob, 0, Plain(target)), 200u);
  const auto datagram = Datagram(0, "payload"), on_stream = OnStream("payload");
  auto from_client = Short("server-1..."), from_target = Short("client-1..."),
             unknown = Short("unknown..."), is_long = Long("client-1");
  const auto *shared = world.proxy.Find(SocketId{0}), *own = world.proxy.Find(SocketId{1});
  const auto *path = world.proxy.FindPath(Tuple(1));
  ProxyActions actions;
  // The first byte on a stream makes its parser.
  std::span<const std::uint8_t> input(on_stream);
  ASSERT_TRUE(world.proxy.OnStreamData({kBob, 0}, input, 1, actions));

  const auto before = allocations.load();
  int passed = 0, limited = 0;
  const auto count = [&](const auto &result) {
    passed += result.has_value();
    limited += !result && result.error() == DropReason::kRateLimited;
  };
  for (int i = 0; i < 10; ++i) {
    input = on_stream;
    count(world.OnDatagram(kAlice, datagram, 1));
    count(world.proxy.OnStreamData({kBob, 0}, input, 1, actions));
    count(world.proxy.FromClient(path, {.bytes = from_client}, 1));
    count(world.proxy.FromClient(path, {.bytes = unknown}, 1));
    count(world.proxy.FromTarget(shared, {.bytes = from_target}, 1));
    count(world.proxy.FromTarget(shared, {.bytes = is_long}, 1));
    count(world.proxy.FromTarget(shared, {.bytes = unknown}, 1));
    count(world.proxy.FromTarget(own, {.bytes = unknown}, 1));
  }
  EXPECT_EQ(allocations.load(), before);
  EXPECT_GT(passed, 20);
  EXPECT_GT(limited, 5);
}

} // namespace
} // namespace ngmasque
