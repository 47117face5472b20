#include "ngmasque/wire/structured_field.h"

#include <algorithm>

namespace ngmasque::sf {

std::string_view ErrorName(Error error) {
  switch (error) {
  case Error::kTooLong:
    return "field value is too long";
  case Error::kEmpty:
    return "value is missing";
  case Error::kUnknownType:
    return "not an Item";
  case Error::kNumber:
    return "bad Integer or Decimal";
  case Error::kString:
    return "bad String";
  case Error::kToken:
    return "bad Token";
  case Error::kByteSequence:
    return "bad Byte Sequence";
  case Error::kBoolean:
    return "bad Boolean";
  case Error::kDate:
    return "bad Date";
  case Error::kDisplayString:
    return "bad Display String";
  case Error::kKey:
    return "bad name of a parameter";
  case Error::kTooManyParameters:
    return "too many parameters";
  case Error::kTrailing:
    return "more than one Item";
  }
  return "unknown error";
}

const BareItem *FindParameter(const Parameters &parameters, std::string_view key) {
  const auto found = std::ranges::find(parameters, key, &Parameter::key);
  return found == parameters.end() ? nullptr : &found->value;
}

} // namespace ngmasque::sf
