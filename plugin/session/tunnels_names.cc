// Reasons, and their names.

#include "ngmasque/session/tunnels.h"

namespace ngmasque {

std::string_view ReasonName(NotPassed reason) {
  switch (reason) {
  case NotPassed::kLongHeader: return "long header";
  case NotPassed::kReserved: return "connection ID of the proxy";
  case NotPassed::kUnknownTuple: return "unknown 4-tuple";
  case NotPassed::kUnknownConnectionId: return "unknown connection ID";
  case NotPassed::kUnknownFlow: return "unknown flow";
  case NotPassed::kUnknownSocket: return "unknown socket";
  case NotPassed::kMalformed: return "malformed packet";
  case NotPassed::kKept: return "kept until its flow is there";
  case NotPassed::kTooLong: return "payload is too long";
  case NotPassed::kRateLimited: return "above the client's rate";
  case NotPassed::kWrongSource: return "not from the target";
  case NotPassed::kIncomplete: return "payload is not complete yet";
  case NotPassed::kClientQueue: return "queue to the client is full";
  case NotPassed::kTooLarge: return "packet is too large";
  case NotPassed::kBlocked: return "socket is blocked";
  case NotPassed::kUnreachable: return "there is no way to it";
  case NotPassed::kSendError: return "packet could not be sent";
  }
  return "unknown reason";
}

std::string_view ReasonName(EndReason reason) {
  switch (reason) {
  case EndReason::kRefused: return "refused";
  case EndReason::kClosed: return "closed by the client";
  case EndReason::kConnectionClosed: return "connection to the client is gone";
  case EndReason::kUnreachable: return "target is unreachable";
  case EndReason::kConflict: return "connection IDs belong to another client";
  }
  return "unknown reason";
}

void TunnelStatistics::Add(const TunnelStatistics &other) {
  for (std::size_t way = 0; way < kWays; ++way) {
    ways[way].passed += other.ways[way].passed;
    for (std::size_t reason = 0; reason < kTunnelDrops; ++reason) {
      ways[way].dropped[reason] += other.ways[way].dropped[reason];
    }
  }
  on_stream += other.on_stream;
}

bool IsForQuic(NotPassed reason) { return reason <= NotPassed::kUnknownConnectionId; }

} // namespace ngmasque
