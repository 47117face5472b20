#include "ngmasque/session/drop_reason.h"

namespace ngmasque {

std::string_view ReasonName(DropReason reason) {
  switch (reason) {
  case DropReason::kUnknownConnectionId: return "unknown connection ID";
  case DropReason::kUnknownFlow: return "unknown flow";
  case DropReason::kUnknownContext: return "unknown context";
  case DropReason::kUnknownSocket: return "unknown socket";
  case DropReason::kMalformed: return "malformed packet";
  case DropReason::kBadDatagram: return "bad datagram of its tunnel";
  case DropReason::kWrongSource: return "not from the target";
  case DropReason::kNoTunnel: return "no tunnel";
  case DropReason::kTooLong: return "payload is too long";
  case DropReason::kRateLimited: return "above the client's rate";
  case DropReason::kLoop: return "it goes round between proxies";
  case DropReason::kQueueFull: return "queue is full";
  case DropReason::kTooLarge: return "packet is too large";
  case DropReason::kBlocked: return "socket is blocked";
  case DropReason::kUnreachable: return "there is no way to it";
  case DropReason::kSendError: return "packet could not be sent";
  }
  return "unknown reason";
}

} // namespace ngmasque
