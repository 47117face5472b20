// Who may use a proxy: asked of the program for each request, before any look-up or socket.
#pragma once

#include "ngmasque/routing/types.h"
#include "ngmasque/session/error.h"
#include "ngmasque/session/target_policy.h"

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque {

/// What is known of whoever makes a request.  Views into the request and the connection: what is to
/// be kept of them has to be copied, and secrets need not be.
struct AccessRequest {
  Endpoint client; ///< Where its packets come from.
  /// The name in the client's certificate, which has been verified; empty if there is none.
  std::string_view certificate;
  /// The value of proxy-authorization (RFC 9110, section 11.7.2), as it came.
  std::optional<std::string_view> proxy_authorization;
  /// The value of authorization (section 11.6.2): by RFC 9298's URI template the proxy is an origin.
  std::optional<std::string_view> authorization;
};

/// The request may go on.
struct Admission {
  /// Who makes it, 1 to ClientKey::kMaxCredentials bytes.  Empty: nobody in particular.  All requests
  /// of a connection are the same one's: those of another one are refused with kOtherUser.
  ///
  /// From the first request on that is admitted, the connection counts for the user
  /// (ClientKey::FromCredentials) and not for where it comes from, in all that is bounded per client:
  /// connections (kTooManyClientConnections), tunnels, requests, look-ups, rate and what waits.
  std::string user;
  /// Which targets the user may have; null: those of the proxy's own policy.  That one says as well what
  /// is the proxy's own, which is nobody's target.
  std::shared_ptr<const TargetPolicy> policy = nullptr;
  /// ProxyOptions::max_bytes_per_second_per_client for this user, 0 for no bound.  It counts from the
  /// first of the user's connections on, until there is none.
  std::optional<std::uint64_t> max_bytes_per_second = std::nullopt;
  /// What the program wants to know of it again: Admitted::grant.
  std::uint64_t grant = 0;
};

/// It may not.
struct AccessRefusal {
  /// kUnauthenticated, kTooManyFailures or kNotAllowed, but any other one that a request can be
  /// answered with will do (HttpStatus).
  SessionError error = SessionError::kUnauthenticated;
  /// With kUnauthenticated: the challenges that the client is sent, one a line, such as
  /// `Basic realm="proxy"`.  With none the answer is 403.
  std::vector<std::string> challenges = {};
  /// With kTooManyFailures: seconds after which the client may try again, for retry-after; otherwise
  /// as RetryAfter says.
  std::optional<unsigned> retry_after = std::nullopt;
};

using AccessDecision = std::expected<Admission, AccessRefusal>;

/// Decides about a request.  Nothing of the proxy may be called from within.
using AccessFunction = std::function<AccessDecision(const AccessRequest &)>;

/// A connection's first request that was admitted.
struct Admitted {
  std::string_view user;   ///< Admission::user
  std::uint64_t grant = 0; ///< Admission::grant
};

/// Decides again, see Proxy::Review: how it would be admitted now, of which the rate counts; nothing if
/// it would not be.  Nothing of the proxy may be called from within.
using ReviewFunction = std::function<std::optional<Admission>(const Admitted &)>;

} // namespace ngmasque
