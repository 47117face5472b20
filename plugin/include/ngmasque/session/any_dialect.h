// A connection of which it is not known yet which dialect its client speaks.
#pragma once

#include "ngmasque/session/dialect.h"

#include <memory>

namespace ngmasque {

/// The proxy's side, for one connection: draft-00 or rfc9298, whichever the first request is that has a
/// tunnel.  Requests of the other one are refused from then on, with kOtherDialect: the numbers that
/// datagrams begin with mean something else there.
[[nodiscard]] std::unique_ptr<Dialect> MakeAnyDialect(const ProxyOptions &options,
                                                      const HashKey &key);

} // namespace ngmasque
