// CONNECT-UDP requests and responses of dialect draft-00 as header fields.
// draft-pauly-masque-quic-proxy-00, section 3, and draft-ietf-masque-connect-udp-00, section 3.
#pragma once

#include "ngmasque/routing/connection_id.h"
#include "ngmasque/session/authority.h"
#include "ngmasque/session/error.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque {

/// A datagram flow id of an outer connection, 0 to 2^62-1; the client's choice.
using FlowId = std::uint64_t;

/// Which connection ID header a request has.
enum class IdHeader : std::uint8_t {
  kNone,   ///< Plain CONNECT-UDP.
  kClient, ///< client-connection-id
  kServer, ///< server-connection-id
};

/// A CONNECT-UDP request.
struct ConnectUdpRequest {
  Authority authority;
  std::optional<FlowId> flow; ///< datagram-flow-id; without it, payloads are on the stream.
  IdHeader id_header = IdHeader::kNone;
  ConnectionId id; ///< Empty for kNone.
  [[nodiscard]] bool operator==(const ConnectUdpRequest &) const = default;
};

/// How a request names its target, beside `:authority`.
enum class TargetForm : std::uint8_t {
  kAuthority, ///< By nothing else: draft-ietf-masque-connect-udp-00, section 3.
  kUri,       ///< By `:scheme` masque and `:path` /: section 3 of its revisions 01 to 03.
};

/// Whether the fields are those of a CONNECT-UDP request: the first `:method` says so.
[[nodiscard]] bool IsConnectUdp(std::span<const HeaderField> fields);

/// Reads a request, at the proxy.  Parameters of Items and fields that are not named here are
/// ignored.  Cost: linear in the fields; nothing is kept of them but what ConnectUdpRequest holds.
/// Errors, all answered with 400: kPseudoHeader, kRequestContent, kAuthority, kTwoIds, kConnectionId,
/// kFlowId, kNoFlowId.
[[nodiscard]] std::expected<ConnectUdpRequest, SessionError>
ParseRequest(std::span<const HeaderField> fields);

/// Writes a request, at the client; `flow` is at most sf::kMaxInteger.
[[nodiscard]] std::vector<HeaderField> RequestFields(const ConnectUdpRequest &request,
                                                     TargetForm form = TargetForm::kAuthority);

/// The longest proxy-status that is kept, in bytes; the rest is cut off.
inline constexpr std::size_t kMaxProxyStatus = 1024;

/// A final response, as the client sees it.
struct ConnectUdpResponse {
  unsigned status = 0; ///< 200 to 599.
  IdHeader id_header = IdHeader::kNone;
  ConnectionId id; ///< Empty for kNone.
  std::optional<FlowId> flow;
  std::string proxy_status; ///< proxy-status as it came, lines joined by ", "; for logs.
  [[nodiscard]] bool operator==(const ConnectUdpResponse &) const = default;
  [[nodiscard]] bool success() const { return status / 100 == 2; }
};

/// Reads a final response, at the client.  A connection ID header or datagram-flow-id that cannot
/// be read counts as not echoed, as do two connection ID headers.
/// Errors, after which the request is to be reset with H3_MESSAGE_ERROR: kStatus, kResponseContent.
[[nodiscard]] std::expected<ConnectUdpResponse, SessionError>
ParseResponse(std::span<const HeaderField> fields);

/// Writes the response with `status` to `request`, at the proxy.  With a 2xx the connection ID
/// header and datagram-flow-id are echoed (section 5); never content-length (CU, section 3).
/// `proxy_status` is left out if empty.
[[nodiscard]] std::vector<HeaderField> ResponseFields(const ConnectUdpRequest &request,
                                                      unsigned status,
                                                      std::string_view proxy_status = {});

} // namespace ngmasque
