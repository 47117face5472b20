#include "socket_error.h"

#include <cerrno>

namespace ngmasque {

SessionError ToSessionError(int error) {
  switch (error) {
  case EMFILE:
  case ENFILE:
  case ENOBUFS:
  case ENOMEM:
  case EAGAIN: // No port is left.
  case EADDRNOTAVAIL: return SessionError::kNoSocket;
  default: return SessionError::kUnroutable;
  }
}

DropReason ToDropReason(int error) {
  switch (error) {
  case 0:
  case EAGAIN:
  case ENOBUFS:
  case ENOMEM: return DropReason::kBlocked;
  case EMSGSIZE: return DropReason::kTooLarge;
  // What the system makes of ICMP: no port, no such protocol, no way there, a firewall's refusal.
  case ECONNREFUSED:
  case ENOPROTOOPT:
  case EHOSTUNREACH:
  case ENETDOWN:
  case ENETUNREACH:
  case EACCES: return DropReason::kUnreachable;
  default: return DropReason::kSendError;
  }
}

} // namespace ngmasque
