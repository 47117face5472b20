// The statuses of refusals, of all dialects.
#pragma once

#include "ngmasque/session/dialect.h"

#include <string_view>

namespace ngmasque {

// `details` is printable ASCII.
Verdict BadRequest(std::string_view details);
Verdict TooMany(std::string_view details); // Bounds of one client.
Verdict Exhausted();                       // Bounds of all.
Verdict WithError(unsigned status, std::string_view error);
// Why there is no mapping; `shared`: on a socket that others use, too.
Verdict ToVerdict(RefusalReason reason, Direction direction, bool shared);

} // namespace ngmasque
