// What went to and came from one target.
#pragma once

#include <ngmasque/io/proxy_tunnel.h>

#include <cstdint>

namespace ngmasque::programs {

struct TargetStatistics {
  ProxyTunnelStatistics traffic{};
  std::uint64_t tunnels = 0; ///< That were opened.
  std::uint64_t open = 0;    ///< Those that are there now.
  /// Local peers whose packets cannot be forwarded: no QUIC, or connection IDs that the proxy does
  /// not take.
  std::uint64_t plain = 0;
  /// Packets of local peers that got no further than here: no connection to the proxy, or it has
  /// refused the target a moment ago, or too many waited.
  std::uint64_t not_sent = 0;
  /// InnerIds: tunnelled because their connection IDs cannot be learned.
  std::uint64_t unseen_to_target = 0;
  std::uint64_t unseen_to_client = 0;

  TargetStatistics &operator+=(const TargetStatistics &other) {
    traffic += other.traffic;
    tunnels += other.tunnels;
    open += other.open;
    plain += other.plain;
    not_sent += other.not_sent;
    unseen_to_target += other.unseen_to_target;
    unseen_to_client += other.unseen_to_client;
    return *this;
  }
};

} // namespace ngmasque::programs
