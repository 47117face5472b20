#include "ngmasque/session/error.h"

#include "ngmasque/wire/structured_field.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>

// inet_ntop, which only turns bytes into text.
#include <arpa/inet.h>

namespace ngmasque {

namespace {

struct Row {
  SessionError error;
  std::string_view words;
  unsigned status;
  std::string_view type;    // The parameter `error` of proxy-status.
  std::string_view details; // The client is told of them, too.
};

constexpr Row Conflict(SessionError error, std::string_view words) {
  return {error, words, 409, "http_request_error", "connection ID conflict"};
}
constexpr Row BadRequest(SessionError error, std::string_view words) {
  return {error, words, 400, "http_request_error", words};
}
// Bounds of one client, and those of all.
constexpr Row TooMany(SessionError error, std::string_view words) {
  return {error, words, 429, "http_request_error", words};
}
constexpr Row Exhausted(SessionError error, std::string_view words) {
  return {error, words, 503, "connection_limit_reached", ""};
}
constexpr Row Prohibited(SessionError error, std::string_view words) {
  return {error, words, 403, "destination_ip_prohibited", ""};
}
// Nothing that a client can bring about.
constexpr Row Internal(SessionError error, std::string_view words) {
  return {error, words, 500, "proxy_internal_error", ""};
}
constexpr Row Response(SessionError error, std::string_view words) {
  return {error, words, 0, "", ""};
}

using enum SessionError;

constexpr auto kTable = std::to_array<Row>({
  Conflict(kEqual, ErrorName(RoutingError::kEqual)),
  Conflict(kExistingIsPrefix, ErrorName(RoutingError::kExistingIsPrefix)),
  Conflict(kNewIsPrefix, ErrorName(RoutingError::kNewIsPrefix)),
  TooMany(kTooManyIds, ErrorName(RoutingError::kTooManyIds)),
  TooMany(kTooManyLengths, ErrorName(RoutingError::kTooManyLengths)),
  Conflict(kTooShort, "connection ID is too short"),
  Exhausted(kTooManyConnections, "too many connections"),
  TooMany(kTooManyClientConnections, "too many connections of the client"),
  Exhausted(kTooManySockets, "too many server-facing sockets"),
  TooMany(kTooManyFlows, "too many flows of the client"),
  TooMany(kTooManyStreams, "too many requests of the client"),
  Internal(kTooManyReserved, "too many reserved connection IDs"),
  Internal(kTooManyFlowsOnSocket, "too many flows on the socket"),
  BadRequest(kFlowInUse, "flow is in use"),
  Internal(kSocketNotShared, "socket is not shared"),
  Internal(kConnectionInUse, "connection is known already"),
  Internal(kAddressBlock, "not an address, or not a block of addresses"),
  Internal(kPorts, "not ports and ranges of ports"),
  Internal(kNameSuffix, "not the end of a name"),

  // A proxy has nothing else: RFC 9110, section 15.6.2.
  {kMethod, "not a CONNECT-UDP request", 501, "http_request_denied", ""},
  BadRequest(kPseudoHeader, "pseudo-header fields are not those of CONNECT-UDP"),
  BadRequest(kAuthority, "authority is not a host and a port"),
  BadRequest(kFlowId, "datagram-flow-id is not an Integer of 0 or more"),
  BadRequest(kNoFlowId, "connection ID without datagram-flow-id"),
  BadRequest(kConnectionId, "connection ID is not a Byte Sequence of up to 255 bytes"),
  BadRequest(kTwoIds, "client-connection-id together with server-connection-id"),
  BadRequest(kRequestContent, "content-length or transfer-encoding in a request"),
  BadRequest(kScheme, "scheme is not https"),
  {kPath, "path is not that of the proxy", 404, "http_request_error", "no such path"},
  BadRequest(kTarget, "target is not a host and a port"),
  BadRequest(kCapsule, "capsule or datagram that makes no sense"),
  BadRequest(kOddFlow, "flow id is odd"),
  BadRequest(kOtherAuthority, "flow has another authority"),
  BadRequest(kFlowUsedUp, "flow id is used up"),
  BadRequest(kNoClientId, "flow begins without client-connection-id"),
  {kForwardingOff, "forwarding is switched off", 403, "http_request_denied", ""},
  BadRequest(kOtherDialect, "connection has tunnels of another dialect"),
  Exhausted(kSocketFull, "too many connection IDs on the shared socket"),

  // Whoever asks without credentials is told what for, and of wrong ones not what is wrong.
  {kUnauthenticated, "no valid credentials", 407, "http_request_denied", ""},
  {kTooManyFailures, "too many wrong credentials", 429, "http_request_denied", ""},
  {kNotAllowed, "the user is not allowed", 403, "http_request_denied", ""},
  BadRequest(kCredentialFields, "credentials are doubled"),
  {kOtherUser, "connection is another user's", 403, "http_request_denied",
   "connection is another user's"},
  Internal(kUserName, "user name is too long"),

  Response(kStatus, "no status of a final response"),
  Response(kResponseContent, "content-length or transfer-encoding in a 2xx response"),

  {kTargetPort, "port that is not allowed", 403, "http_request_denied", ""},
  {kTargetName, "name that is not allowed", 403, "http_request_denied", ""},
  Prohibited(kOwnAddress, "the proxy itself"),
  Prohibited(kUnspecifiedAddress, "unspecified address"),
  Prohibited(kLoopbackAddress, "loopback address"),
  Prohibited(kPrivateAddress, "private address"),
  Prohibited(kSharedAddress, "shared address"),
  Prohibited(kLinkLocalAddress, "link-local address"),
  Prohibited(kMulticastAddress, "multicast address"),
  Prohibited(kBroadcastAddress, "broadcast address"),
  Prohibited(kDocumentationAddress, "address for documentation"),
  Prohibited(kBenchmarkingAddress, "address for benchmarking"),
  Prohibited(kReservedAddress, "reserved address"),
  Prohibited(kDeniedAddress, "address that the operator denies"),
  {kNoName, "there is no such name", 502, "dns_error", ""},
  {kNoAddress, "name does not resolve", 502, "dns_error", ""},
  {kLookupTimeout, "no name server has answered", 504, "dns_timeout", ""},
  TooMany(kTooManyClientLookups, "too many look-ups of the client"),
  Exhausted(kTooManyLookups, "too many look-ups"),
  {kUnroutable, "target cannot be connected to", 502, "destination_ip_unroutable", ""},
  Exhausted(kNoSocket, "no socket is left"),
});

// Each error is at its place.
static_assert(std::ranges::all_of(kTable, [](const Row &row) {
  return &row == &kTable[std::to_underlying(row.error)];
}));
static_assert(kTable.back().error == kNoSocket);

constexpr Row kUnknown = Internal({}, "unknown error");

const Row &Find(SessionError error) {
  const auto at = std::to_underlying(error);
  return at < kTable.size() ? kTable[at] : kUnknown;
}

} // namespace

std::string_view ErrorName(SessionError error) { return Find(error).words; }

unsigned HttpStatus(SessionError error) { return Find(error).status; }

std::optional<unsigned> RetryAfter(SessionError error) {
  // What there is too much of is the client's own, and it ends when the client wants: so long that
  // asking again costs next to nothing.
  constexpr unsigned kSeconds = 10;
  return HttpStatus(error) == 429 ? std::optional(kSeconds) : std::nullopt;
}

std::string ProxyStatus(SessionError error) {
  const auto &row = Find(error);
  sf::Item item{.value = sf::Token{"ngmasque"},
                .parameters = {{.key = "error", .value = sf::Token{std::string(row.type)}}}};
  if (!row.details.empty()) {
    item.parameters.push_back({.key = "details", .value = sf::String(row.details)});
  }
  return sf::SerializeItem(item).value_or(std::string());
}

// Of the address alone: the port is the client's.
std::string ProxyStatus(const Endpoint &target) {
  char text[INET6_ADDRSTRLEN];
  const auto &bytes = target.address;
  constexpr std::array<std::uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  const bool is_v4 = std::ranges::equal(std::span(bytes).first(kMapped.size()), kMapped);
  const auto *shown = is_v4 ? inet_ntop(AF_INET, &bytes[kMapped.size()], text, sizeof text)
                            : inet_ntop(AF_INET6, bytes.data(), text, sizeof text);
  const sf::Item item{
    .value = sf::Token{"ngmasque"},
    .parameters = {{.key = "next-hop", .value = sf::String(shown ? shown : "")}}};
  return sf::SerializeItem(item).value_or(std::string());
}

} // namespace ngmasque
