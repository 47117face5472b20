#include "ngmasque/wire/error.h"

namespace ngmasque {

std::string_view ErrorName(WireError error) {
  switch (error) {
  case WireError::kEmpty: return "nothing is there";
  case WireError::kTruncated: return "input is cut off";
  case WireError::kTooLarge: return "integer is too large";
  case WireError::kTooLong: return "value is too long";
  case WireError::kNoSpace: return "no space for the output";
  case WireError::kWrongForm: return "packet has the other header form";
  case WireError::kNotRequestStream: return "stream is not that of a request";
  case WireError::kIncomplete: return "payload is not complete yet";
  case WireError::kUnknownType: return "not an Item";
  case WireError::kNumber: return "bad Integer or Decimal";
  case WireError::kString: return "bad String";
  case WireError::kToken: return "bad Token";
  case WireError::kByteSequence: return "bad Byte Sequence";
  case WireError::kBoolean: return "bad Boolean";
  case WireError::kDate: return "bad Date";
  case WireError::kDisplayString: return "bad Display String";
  case WireError::kKey: return "bad name of a parameter";
  case WireError::kTooManyParameters: return "too many parameters";
  case WireError::kTrailing: return "something after the value";
  case WireError::kResetToken: return "bad length of a stateless reset token";
  case WireError::kTemplate: return "bad URI template";
  }
  return "unknown error";
}

} // namespace ngmasque
