#include "ngmasque/quic/error.h"

namespace ngmasque {

std::string_view ErrorName(QuicError::Code code) {
  switch (code) {
  case QuicError::kTls: return "TLS configuration";
  case QuicError::kQlog: return "log file cannot be opened";
  case QuicError::kArgument: return "option out of range";
  case QuicError::kClosed: return "connection is closed";
  case QuicError::kNotReady: return "connection is not ready";
  case QuicError::kStreamsBlocked: return "no more streams are allowed";
  case QuicError::kGoingAway: return "peer is going away";
  case QuicError::kUnknownStream: return "unknown stream";
  case QuicError::kNoDatagrams: return "peer takes no datagrams";
  case QuicError::kTooLarge: return "too large";
  case QuicError::kFull: return "queue is full";
  case QuicError::kNotSupported: return "peer does not support it";
  case QuicError::kInternal: return "internal error";
  }
  return "unknown error";
}

std::string ErrorText(const QuicError &error) {
  auto text = std::string(ErrorName(error.code));
  return error.text.empty() ? text : text + ": " + error.text;
}

} // namespace ngmasque
