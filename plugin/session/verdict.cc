// The statuses of refusals, and what proxy-status says of them (RFC 9209).

#include "verdict.h"

#include "ngmasque/wire/structured_field.h"

namespace ngmasque {

namespace {

// The client learns no more than it needs: for example not what others have registered, nor into
// which private network a name leads (RFC 9209, section 4).
std::string ProxyStatus(std::string_view error, std::string_view details = {}) {
  sf::Item item{.value = sf::Token{"ngmasque"},
                .parameters = {{.key = "error", .value = sf::Token{std::string(error)}}}};
  if (!details.empty()) {
    item.parameters.push_back({.key = "details", .value = sf::String(details)});
  }
  return sf::SerializeItem(item).value_or(std::string());
}

} // namespace

Verdict WithError(unsigned status, std::string_view error) {
  return {.status = status, .proxy_status = ProxyStatus(error)};
}

Verdict BadRequest(std::string_view details) {
  return {.status = 400, .proxy_status = ProxyStatus("http_request_error", details)};
}

Verdict TooMany(std::string_view details) {
  return {.status = 429, .proxy_status = ProxyStatus("http_request_error", details)};
}

Verdict Exhausted() { return WithError(503, "connection_limit_reached"); }

Verdict ToVerdict(RefusalReason reason, Direction direction, bool shared) {
  if (IsConflict(reason)) {
    return {.status = 409,
            .proxy_status = ProxyStatus("http_request_error", "connection ID conflict")};
  }
  switch (reason) {
  case RefusalReason::kTooManyIds:
  case RefusalReason::kTooManyLengths:
    // On a 4-tuple they are the client's own, on a shared socket those of all of its clients.
    return direction == Direction::kToClient && shared ? Exhausted() : TooMany(ReasonName(reason));
  case RefusalReason::kFlowInUse: return BadRequest(ReasonName(reason));
  default: return WithError(500, "proxy_internal_error"); // Nothing that a client can bring about.
  }
}

} // namespace ngmasque
