// The records of Tunnels: names and sums.

#include "ngmasque/session/tunnels.h"

namespace ngmasque {

static_assert(kEndReasons == static_cast<std::size_t>(EndReason::kRevoked) + 1);

std::string_view ReasonName(EndReason reason) {
  switch (reason) {
  case EndReason::kRefused: return "refused";
  case EndReason::kClosed: return "closed by the client";
  case EndReason::kConnectionClosed: return "connection to the client is gone";
  case EndReason::kUnreachable: return "target is unreachable";
  case EndReason::kConflict: return "connection IDs belong to another client";
  case EndReason::kProtocol: return "the client has broken the rules";
  case EndReason::kRevoked: return "its user may not use the proxy any more";
  }
  return "unknown reason";
}

void TunnelStatistics::Add(const TunnelStatistics &other) {
  for (std::size_t way = 0; way < kWays; ++way) {
    ways[way].passed += other.ways[way].passed;
    for (std::size_t reason = 0; reason < kDropReasons; ++reason) {
      ways[way].dropped[reason] += other.ways[way].dropped[reason];
    }
  }
  on_stream += other.on_stream;
}

} // namespace ngmasque
