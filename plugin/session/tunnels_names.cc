// Reasons, and their names.

#include "ngmasque/session/tunnels.h"

#include <utility>

namespace ngmasque {

RefusalReason ToReason(RoutingError error) {
  switch (error) {
  case RoutingError::kEqual: return RefusalReason::kEqual;
  case RoutingError::kExistingIsPrefix: return RefusalReason::kExistingIsPrefix;
  case RoutingError::kNewIsPrefix: return RefusalReason::kNewIsPrefix;
  case RoutingError::kTooManyIds: return RefusalReason::kTooManyIds;
  case RoutingError::kTooManyLengths: return RefusalReason::kTooManyLengths;
  }
  std::unreachable();
}

bool IsConflict(RefusalReason reason) { return reason <= RefusalReason::kNewIsPrefix; }

std::string_view ReasonName(RefusalReason reason) {
  switch (reason) {
  case RefusalReason::kTooShort: return "connection ID is too short";
  case RefusalReason::kEqual: return "connection ID is in use";
  case RefusalReason::kExistingIsPrefix: return "connection ID begins with one that is in use";
  case RefusalReason::kNewIsPrefix: return "connection ID is a prefix of one that is in use";
  case RefusalReason::kTooManyConnections: return "too many connections";
  case RefusalReason::kTooManyClientConnections: return "too many connections of the client";
  case RefusalReason::kTooManySockets: return "too many server-facing sockets";
  case RefusalReason::kTooManyFlows: return "too many flows of the client";
  case RefusalReason::kTooManyStreams: return "too many requests of the client";
  case RefusalReason::kTooManyReserved: return "too many reserved connection IDs";
  case RefusalReason::kTooManyFlowsOnSocket: return "too many flows on the socket";
  case RefusalReason::kTooManyIds: return "too many connection IDs";
  case RefusalReason::kTooManyLengths: return "too many lengths of connection IDs";
  case RefusalReason::kFlowInUse: return "flow is in use";
  case RefusalReason::kSocketNotShared: return "socket is not shared";
  case RefusalReason::kConnectionInUse: return "connection is known already";
  }
  return "unknown reason";
}

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
