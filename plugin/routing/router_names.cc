// Reasons, and their names.

#include "ngmasque/routing/router.h"

#include "router_state.h"

#include <utility>

namespace ngmasque {

RefusalReason ToReason(InsertError error) {
  switch (error) {
  case InsertError::kEqual: return RefusalReason::kEqual;
  case InsertError::kExistingIsPrefix: return RefusalReason::kExistingIsPrefix;
  case InsertError::kNewIsPrefix: return RefusalReason::kNewIsPrefix;
  case InsertError::kTooManyIds: return RefusalReason::kTooManyIds;
  case InsertError::kTooManyLengths: return RefusalReason::kTooManyLengths;
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
  case RefusalReason::kTooManySockets: return "too many server-facing sockets";
  case RefusalReason::kTooManyFlows: return "too many flows on the connection";
  case RefusalReason::kTooManyStreams: return "too many requests on the connection";
  case RefusalReason::kTooManyReserved: return "too many reserved connection IDs";
  case RefusalReason::kTooManyFlowsOnSocket: return "too many flows on the socket";
  case RefusalReason::kTooManyIds: return "too many connection IDs";
  case RefusalReason::kTooManyLengths: return "too many lengths of connection IDs";
  case RefusalReason::kFlowOnOtherSocket: return "flow has another socket";
  case RefusalReason::kFlowInUse: return "flow is in use";
  case RefusalReason::kSocketNotShared: return "socket is not shared";
  case RefusalReason::kUnknownConnection: return "unknown connection";
  case RefusalReason::kConnectionInUse: return "connection is known already";
  case RefusalReason::kStreamInUse: return "stream is known already";
  }
  return "unknown reason";
}

std::string_view ReasonName(NotRouted reason) {
  switch (reason) {
  case NotRouted::kLongHeader: return "long header";
  case NotRouted::kReserved: return "connection ID of the proxy";
  case NotRouted::kUnknownTuple: return "unknown 4-tuple";
  case NotRouted::kUnknownConnectionId: return "unknown connection ID";
  case NotRouted::kUnknownFlow: return "unknown flow";
  case NotRouted::kUnknownSocket: return "unknown socket";
  case NotRouted::kMalformed: return "malformed packet";
  }
  return "unknown reason";
}

} // namespace ngmasque
