// The addresses of this machine.
#pragma once

#include "ngmasque/session/target_policy.h"

#include <vector>

namespace ngmasque {

/// Those of its interfaces, now, for TargetPolicy::Options::local.  Empty if the system does not say.
[[nodiscard]] std::vector<AddressBlock> LocalAddresses();

} // namespace ngmasque
