// Requests for UDP proxying of RFC 9298 and their responses as header fields, with those of
// draft-ietf-masque-quic-proxy.
#pragma once

#include "ngmasque/session/authority.h"
#include "ngmasque/session/error.h"
#include "ngmasque/session/forwarding_fields.h"
#include "ngmasque/wire/uri_template.h"

#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque {

/// A request, as the proxy sees it.
struct UdpRequest {
  Authority target;
  std::optional<ForwardingOffer> forwarding;
  bool port_sharing = false;
  [[nodiscard]] bool operator==(const UdpRequest &) const = default;
};

/// Whether the fields are those of an extended CONNECT for UDP proxying: `:protocol` says so.
[[nodiscard]] bool IsUdpRequest(std::span<const HeaderField> fields);

/// Reads a request, at the proxy.  Errors: kMethod, kPseudoHeader, kScheme, kPath, kTarget,
/// kRequestContent.
[[nodiscard]] std::expected<UdpRequest, SessionError>
ParseUdpRequest(std::span<const HeaderField> fields, const UriTemplate &path_template);

/// Writes a request, at the client; `authority` is the proxy's.
[[nodiscard]] std::vector<HeaderField> UdpRequestFields(const UdpRequest &request,
                                                        const UriTemplate &path_template,
                                                        std::string_view authority);

/// A final response, as the client sees it.
struct UdpResponse {
  unsigned status = 0;                        ///< 200 to 599.
  std::optional<ForwardingAnswer> forwarding; ///< Of these three, what a 2xx says.
  bool port_sharing = false;
  bool capsule_protocol = false;
  std::string proxy_status; ///< proxy-status as it came, lines joined by ", "; for logs.
  [[nodiscard]] bool operator==(const UdpResponse &) const = default;
  [[nodiscard]] bool success() const { return status / 100 == 2; }
};

/// Reads a final response, at the client.  Errors, after which the request is to be reset with
/// H3_MESSAGE_ERROR: kStatus, kResponseContent.
[[nodiscard]] std::expected<UdpResponse, SessionError>
ParseUdpResponse(std::span<const HeaderField> fields);

/// Writes a response, at the proxy; fields with nothing in them are left out.
[[nodiscard]] std::vector<HeaderField> UdpResponseFields(const UdpResponse &response);

} // namespace ngmasque
