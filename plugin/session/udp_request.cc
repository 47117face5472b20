#include "ngmasque/session/udp_request.h"

#include "fields.h"

#include <utility>

namespace ngmasque {

namespace {

constexpr std::string_view kProtocol = "connect-udp";

// The path says host and port apart; an IPv6 address is without brackets there.
std::expected<Authority, SessionError> ReadTarget(const UdpTarget &target) {
  const auto host = target.host.contains(':') ? "[" + target.host + "]" : target.host;
  return ParseAuthority(host + ":" + target.port).transform_error([](SessionError) {
    return SessionError::kTarget;
  });
}

bool CannotHaveCapsules(std::span<const HeaderField> fields) {
  return HasContent(fields) || FindField(fields, "content-type").first;
}

} // namespace

bool IsUdpRequest(std::span<const HeaderField> fields) {
  const auto protocol = FindField(fields, ":protocol");
  return protocol.first && *protocol.first == kProtocol;
}

//= RFC 9298, section 3.4
//# The ":method" pseudo-header field SHALL be "CONNECT".
//
//= RFC 9298, section 3.4
//# The ":protocol" pseudo-header field SHALL be "connect-udp".
//
//= RFC 9298, section 3.4
//# A UDP proxying request that does not conform to these restrictions is malformed
//
// What has got as far as this is answered, so that people see why.
std::expected<UdpRequest, SessionError> ParseUdpRequest(std::span<const HeaderField> fields,
                                                        const UriTemplate &path_template) {
  const auto headers = ReadPseudoHeaders(fields);
  //= RFC 9298, section 3.4
  //# The ":path" and ":scheme" pseudo-header fields SHALL NOT be empty.
  if (!headers || !headers->method || !headers->protocol || !headers->authority ||
      headers->authority->empty() || !headers->scheme || !headers->path) {
    return std::unexpected(SessionError::kPseudoHeader);
  }
  if (*headers->method != "CONNECT" || *headers->protocol != kProtocol) {
    return std::unexpected(SessionError::kMethod);
  }
  if (*headers->scheme != "https") {
    return std::unexpected(SessionError::kScheme);
  }
  if (CannotHaveCapsules(fields)) {
    return std::unexpected(SessionError::kRequestContent);
  }
  const auto target = path_template.Match(*headers->path);
  if (!target) {
    return std::unexpected(SessionError::kPath);
  }
  //= RFC 9298, section 3
  //# Using the terms IPv6address, IPv4address, reg-name, and port from [URI], the "target_host" and
  //# "target_port" variables MUST adhere to the format in Figure 2, using notation from [ABNF].
  //
  //= RFC 9298, section 3
  //# both the "target_host" and "target_port" variables MUST NOT be empty.
  //
  //= RFC 9298, section 3
  //# "target_port" MUST represent an integer between 1 and 65535 inclusive.
  auto authority = ReadTarget(*target);
  if (!authority) {
    return std::unexpected(authority.error());
  }
  return UdpRequest{.target = *std::move(authority),
                    .forwarding = ReadOffer(fields),
                    .port_sharing = ReadPortSharing(fields)};
}

std::vector<HeaderField> UdpRequestFields(const UdpRequest &request,
                                          const UriTemplate &path_template,
                                          std::string_view authority) {
  std::vector<HeaderField> fields{
    {.name = ":method", .value = "CONNECT"},
    {.name = ":protocol", .value = std::string(kProtocol)},
    {.name = ":scheme", .value = "https"},
    //= RFC 9298, section 3.4
    //# The ":authority" pseudo-header field SHALL contain the authority of the UDP proxy.
    {.name = ":authority", .value = std::string(authority)},
    {.name = ":path",
     //= RFC 9298, section 3
     //# When sending its UDP proxying request, the client SHALL perform URI Template expansion to
     //# determine the path and query of its request.
     //
     //= RFC 9298, section 3.4
     //# Their values SHALL contain the scheme and path from the URI Template after the URI Template
     //# expansion process has been completed
     .value = path_template.Expand(request.target.host, std::to_string(request.target.port))},
    CapsuleProtocolField()};
  if (request.forwarding) {
    fields.push_back(OfferField(*request.forwarding));
  }
  if (request.port_sharing) {
    fields.push_back(PortSharingField(true));
  }
  return fields;
}

std::expected<UdpResponse, SessionError> ParseUdpResponse(std::span<const HeaderField> fields) {
  const auto status = ReadStatus(fields);
  if (!status) {
    return std::unexpected(SessionError::kStatus);
  }
  UdpResponse response{.status = *status, .forwarding = {}, .proxy_status = ReadProxyStatus(fields)};
  if (!response.success()) {
    return response;
  }
  //= RFC 9297, section 3.2
  //# The Capsule Protocol MUST NOT be used with messages that contain Content-Length, Content-Type, or
  //# Transfer-Encoding header fields.  Additionally, HTTP status codes 204 (No Content), 205 (Reset
  //# Content), and 206 (Partial Content) MUST NOT be sent on responses that use the Capsule Protocol.
  //# A receiver that observes a violation of these requirements MUST treat the HTTP message as
  //# malformed.
  if (CannotHaveCapsules(fields) || (*status >= 204 && *status <= 206)) {
    return std::unexpected(SessionError::kResponseContent);
  }
  response.capsule_protocol = ReadCapsuleProtocol(fields);
  response.forwarding = ReadAnswer(fields);
  response.port_sharing = ReadPortSharing(fields);
  return response;
}

std::vector<HeaderField> UdpResponseFields(const UdpResponse &response) {
  std::vector<HeaderField> fields{{.name = ":status", .value = std::to_string(response.status)}};
  //= RFC 9297, section 3.4
  //# The Capsule-Protocol header field MUST NOT be used on HTTP responses with a status code that
  //# is both different from 101 (Switching Protocols) and outside the 2xx (Successful) range.
  if (response.capsule_protocol) {
    fields.push_back(CapsuleProtocolField());
  }
  if (response.forwarding) {
    fields.push_back(AnswerField(*response.forwarding));
  }
  //= draft-ietf-masque-quic-proxy, section 4
  //# A proxy that does not support port sharing, SHOULD send "Proxy-QUIC-Port-Sharing" with a value of
  //# "?0".
  if (response.port_sharing || response.forwarding) {
    fields.push_back(PortSharingField(response.port_sharing));
  }
  if (!response.proxy_status.empty()) {
    fields.push_back({.name = std::string(kProxyStatusField), .value = response.proxy_status});
  }
  return fields;
}

} // namespace ngmasque
