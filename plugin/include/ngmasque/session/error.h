// Why session/ does not do what it is asked for, and what a client is told of that.
#pragma once

#include "ngmasque/routing/error.h"
#include "ngmasque/routing/types.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace ngmasque {

/// The errors of all calls in session/ that can fail; each function says which of them it has.
/// What a request is answered with that fails because of one is in a table, in error.cc.
enum class SessionError : std::uint8_t {
  // A connection ID is not taken; the first five are RoutingError.
  kEqual = std::to_underlying(RoutingError::kEqual),
  kExistingIsPrefix = std::to_underlying(RoutingError::kExistingIsPrefix),
  kNewIsPrefix = std::to_underlying(RoutingError::kNewIsPrefix),
  kTooManyIds = std::to_underlying(RoutingError::kTooManyIds),
  kTooManyLengths = std::to_underlying(RoutingError::kTooManyLengths),
  kTooShort, ///< Shorter than RoutingLimits::min_connection_id.
  // Bounds: RoutingLimits.
  kTooManyConnections,
  kTooManyClientConnections,
  kTooManySockets,
  kTooManyFlows,
  kTooManyStreams,
  kTooManyReserved,
  kTooManyFlowsOnSocket,
  // The tunnel and the socket do not go together, or the caller has made an error.
  kFlowInUse,       ///< A plain tunnel has no connection IDs.
  kSocketNotShared, ///< The socket belongs to another tunnel for itself.
  kConnectionInUse, ///< The connection is known already.
  // What an operator has written makes no sense.
  kAddressBlock, ///< Not as ParseAddressBlock wants it.
  kPorts,        ///< Not as ParsePorts wants it.
  kNameSuffix,   ///< Not as ParseNameSuffix wants it.

  // A request makes no sense.
  kMethod,         ///< It is not CONNECT-UDP, but nothing else is wrong with pseudo-headers.
  kPseudoHeader,   ///< One is missing, doubled, unknown or after another field, or `:scheme` and
                   ///< `:path` do not fit: both are absent, or they are masque or https, and "/".
  kAuthority,      ///< Not as ParseAuthority wants it.
  kFlowId,         ///< datagram-flow-id is no Item with an Integer of 0 or more, or is doubled.
  kNoFlowId,       ///< A connection ID header without datagram-flow-id.
  kConnectionId,   ///< No Item with a Byte Sequence of 0 to 255 bytes, or doubled.
  kTwoIds,         ///< Both connection ID headers.
  kRequestContent, ///< content-length or transfer-encoding.
  kScheme,         ///< `:scheme` is not https.
  kPath,           ///< `:path` is not as the proxy's URI template says.
  kTarget,         ///< What the path says of its target is not a host and a port.
  kCapsule,        ///< A capsule, or a datagram, that breaks the rules, before the answer.
  // It makes none there and then.
  kOddFlow,        ///< Odd flow ids are the server's, which has none.
  kOtherAuthority, ///< Its flow has another authority.
  kFlowUsedUp,     ///< The flow id was used before, or may have been.
  kNoClientId,     ///< A flow begins without client-connection-id.
  kForwardingOff,  ///< server-connection-id, without ProxyOptions::forwarding.
  kOtherDialect,   ///< Other tunnels of the connection have another dialect.
  kSocketFull,     ///< Other clients' connection IDs leave no room on the shared socket.

  // Whoever makes a request may not: AccessFunction.
  kUnauthenticated,  ///< No credentials, or wrong ones.
  kTooManyFailures,  ///< Too many wrong ones have come from there.
  kNotAllowed,       ///< The user may not use the proxy.
  kCredentialFields, ///< proxy-authorization or authorization is doubled.
  kOtherUser,        ///< The connection is another user's.
  kUserName,         ///< The program has named a user by more than ClientKey::kMaxCredentials bytes.

  // A response is malformed: the request is to be reset with H3_MESSAGE_ERROR.
  kStatus,          ///< No `:status`, not one of 200 to 599, or another pseudo-header.
  kResponseContent, ///< A 2xx with content-length or transfer-encoding.

  // A target is not allowed.
  kTargetPort,           ///< A port that is not allowed, such as 0.
  kTargetName,           ///< A name that is not allowed, or an address where only names are.
  kOwnAddress,           ///< The proxy itself.
  kUnspecifiedAddress,   ///< 0.0.0.0/8, ::
  kLoopbackAddress,      ///< 127.0.0.0/8, ::1
  kPrivateAddress,       ///< RFC 1918, unique local addresses, site-local ones
  kSharedAddress,        ///< 100.64.0.0/10
  kLinkLocalAddress,     ///< 169.254.0.0/16, fe80::/10
  kMulticastAddress,     ///< 224.0.0.0/4, ff00::/8
  kBroadcastAddress,     ///< 255.255.255.255
  kDocumentationAddress, ///< 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24, 2001:db8::/32,
                         ///< 3fff::/20
  kBenchmarkingAddress,  ///< 198.18.0.0/15, 2001:2::/48
  kReservedAddress,      ///< Whatever else is not global unicast.
  kDeniedAddress,        ///< TargetPolicy::Options::deny
  // It is not found.
  kNoName,               ///< Name servers say that there is none such, or that it has no address.
  kNoAddress,            ///< The name does not resolve, for another reason.
  kLookupTimeout,        ///< No name server has answered.
  kTooManyClientLookups, ///< ProxyOptions::max_lookups_per_client
  kTooManyLookups,       ///< ProxyOptions::max_lookups
  // Its socket is not opened.
  kUnroutable, ///< The address cannot be connected to.
  kNoSocket,   ///< No descriptor, memory or port is left.
};

/// What a table does not take.
[[nodiscard]] constexpr SessionError ToSessionError(RoutingError error) {
  return SessionError(std::to_underlying(error));
}

/// The error in words, for logs.
[[nodiscard]] std::string_view ErrorName(SessionError error);

/// What a request is answered with: 400 to 599, and 409 for conflicts of connection IDs.  0 for
/// errors of responses.
[[nodiscard]] unsigned HttpStatus(SessionError error);

/// Seconds after which it is worth trying again, the value of retry-after in the answer (RFC 9110,
/// section 10.2.3); nothing if HttpStatus is not 429.
[[nodiscard]] std::optional<unsigned> RetryAfter(SessionError error);

/// The value of proxy-status in the answer (RFC 9209).  The client learns no more than it needs: for
/// example not what others have registered, nor into which private network a name leads (section 4).
[[nodiscard]] std::string ProxyStatus(SessionError error);

/// The same of one that has been accepted: `next-hop`, the address of its target.
[[nodiscard]] std::string ProxyStatus(const Endpoint &target);

} // namespace ngmasque
