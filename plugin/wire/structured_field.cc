#include "ngmasque/wire/structured_field.h"

#include <algorithm>

namespace ngmasque::sf {

const BareItem *FindParameter(const Parameters &parameters, std::string_view key) {
  const auto found = std::ranges::find(parameters, key, &Parameter::key);
  return found == parameters.end() ? nullptr : &found->value;
}

} // namespace ngmasque::sf
