// What RFC 9298 wants of the packets that a proxy sends to its targets.

#include "../../plugin/io/tunnelled_batch.h"

#include "io_support.h"

#include <gtest/gtest.h>

#include <array>
#include <string_view>
#include <vector>

#include <netinet/in.h>

namespace ngmasque {
namespace {

int Option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof(value);
  EXPECT_EQ(::getsockopt(fd, level, name, &value, &size), 0);
  return value;
}

//= RFC 9298, section 3.1
//# UDP proxies MUST NOT introduce fragmentation at the IP layer when forwarding HTTP Datagrams onto
//# a UDP socket; overly large datagrams are silently dropped.
//
//= RFC 9298, section 3.1
//# In IPv4, the Don't Fragment (DF) bit MUST be set, if possible, to prevent fragmentation on the
//# path.
TEST(UdpRules, NoFragments) {
  for (const std::string_view address : {"::ffff:127.0.0.1", "::1"}) {
    const Bound target(At(address));
    if (!target.endpoint) {
      continue; // Without IPv6.
    }
    const auto socket = UdpSocket::Connect(*target.endpoint);
    ASSERT_TRUE(socket);
    if (Option(socket->fd(), SOL_SOCKET, SO_DOMAIN) == AF_INET) {
      EXPECT_EQ(Option(socket->fd(), IPPROTO_IP, IP_MTU_DISCOVER), IP_PMTUDISC_PROBE);
    } else {
      EXPECT_EQ(Option(socket->fd(), IPPROTO_IPV6, IPV6_MTU_DISCOVER), IPV6_PMTUDISC_PROBE);
    }
  }
}

//= RFC 9298, section 6.2
//# A UDP proxy MUST ignore ECN bits in the IP header of UDP packets received from the target, and
//# it MUST set the ECN bits to Not-ECT on UDP packets it sends to the target.
TEST(UdpRules, TunnelledPacketsAreNotMarked) {
  const Bound target(At("::ffff:127.0.0.1"));
  ASSERT_TRUE(target.endpoint);
  const auto socket = UdpSocket::Connect(*target.endpoint);
  ASSERT_TRUE(socket);
  const std::vector<std::uint8_t> bytes(1000);
  const std::span all(bytes);
  const std::array entries{TunnelledBatch::Entry{.payload = all.first(300)},
                           TunnelledBatch::Entry{.payload = all.subspan(300, 300)},
                           TunnelledBatch::Entry{.payload = {}},
                           TunnelledBatch::Entry{.payload = all.subspan(600, 400)}};
  BurstPlan plan;
  plan.Make(entries, *socket);
  ASSERT_GE(plan.size(), 3u);
  for (std::size_t i = 0; i < plan.size(); ++i) {
    EXPECT_EQ(plan[i].ecn, 0u) << i;
  }
  plan.KeepLast(0, all.first(300));
  EXPECT_EQ(plan[0].ecn, 0u);
}

} // namespace
} // namespace ngmasque
