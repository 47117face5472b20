// What a proxy has done for somebody, or has refused to do: a line of an access log.
#pragma once

#include "ngmasque/routing/types.h"
#include "ngmasque/session/authority.h"
#include "ngmasque/session/error.h"
#include "ngmasque/session/tunnel.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ngmasque {

/// A tunnel that has ended, or a request that was refused.  No header field is in it but the target.
struct TunnelRecord {
  OuterConnection connection{};
  Endpoint client;  ///< Where its packets came from at the end.
  std::string user; ///< Admission::user; empty if it is nobody in particular, or not known.
  /// Which dialect the request was of, by the name that the client's side of it has: kDraft00Name or
  /// kRfc9298Name.  Empty if it was of none.
  std::string_view dialect;
  std::optional<Authority> authority; ///< What was asked for; nothing if that could not be read.
  std::optional<Endpoint> target;     ///< What was used; nothing if it never had a socket.
  /// How the request was answered; that of a tunnel which has several, the first one that counts.  0 if
  /// its client has given it up before.
  unsigned status = 0;
  std::optional<SessionError> error; ///< Why it was refused.

  // Of a tunnel.
  std::uint64_t number = 0; ///< Tunnel::number
  EndReason reason = EndReason::kRefused;
  Timestamp duration = 0; ///< In nanoseconds, from its first request on.
  TunnelStatistics statistics{};
};

} // namespace ngmasque
