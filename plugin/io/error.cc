#include "ngmasque/io/error.h"

#include <cstring>

namespace ngmasque {

std::string_view ErrorName(IoError::Code code) {
  switch (code) {
  case IoError::kResolve: return "proxy has no address";
  case IoError::kSocket: return "socket";
  case IoError::kTooManyTunnels: return "too many tunnels";
  case IoError::kIdConflict: return "connection ID conflicts with one in use";
  default: return ErrorName(QuicError::Code(code));
  }
}

std::string ErrorText(const IoError &error) {
  std::string text(ErrorName(error.code));
  if (error.system != 0) {
    text += std::string(": ") + std::strerror(error.system);
  }
  return error.text.empty() ? text : text + ": " + error.text;
}

} // namespace ngmasque
