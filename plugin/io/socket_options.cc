#include "socket_options.h"

#include <algorithm>
#include <climits>

#include <linux/udp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#ifndef SOL_UDP
#  define SOL_UDP IPPROTO_UDP
#endif

namespace ngmasque {

void SetOption(int fd, int level, int name, int value) {
  (void)::setsockopt(fd, level, name, &value, sizeof(value));
}

void PrepareUdp(int fd, bool ipv4) {
  // PROBE sets DF as DO does, but lets no ICMP message lower the path's MTU.
  if (ipv4) {
    //= RFC 9298, section 3.1
    //# UDP proxies MUST NOT introduce fragmentation at the IP layer when forwarding HTTP Datagrams
    //# onto a UDP socket; overly large datagrams are silently dropped.
    //
    //= RFC 9298, section 3.1
    //# In IPv4, the Don't Fragment (DF) bit MUST be set, if possible, to prevent fragmentation on
    //# the path.
    SetOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    SetOption(fd, IPPROTO_IP, IP_RECVTOS, 1);
  } else {
    SetOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
    SetOption(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
  }
  SetOption(fd, SOL_UDP, UDP_GRO, 1);
}

void GrowBuffer(int fd, int option, int force, std::size_t bytes) {
  int before = 0;
  socklen_t size = sizeof(before);
  const auto wanted = static_cast<int>(std::min(bytes, std::size_t{INT_MAX / 2}));
  // Linux shows twice of what was set.
  if (::getsockopt(fd, SOL_SOCKET, option, &before, &size) == 0 && wanted > before / 2 &&
      ::setsockopt(fd, SOL_SOCKET, force, &wanted, sizeof(wanted)) != 0) {
    SetOption(fd, SOL_SOCKET, option, wanted); // Only up to net.core.rmem_max or wmem_max.
  }
}

} // namespace ngmasque
