// CONNECT-UDP requests and responses of dialect draft-00: fields <-> values.

#include "ngmasque/session/message.h"

#include "fields.h"

#include "ngmasque/wire/structured_field.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace ngmasque {

namespace {

constexpr std::string_view kMethod = "CONNECT-UDP";
constexpr std::string_view kScheme = "masque";
constexpr std::string_view kPath = "/";
constexpr std::string_view kClientIdField = "client-connection-id";
constexpr std::string_view kServerIdField = "server-connection-id";
constexpr std::string_view kFlowField = "datagram-flow-id";

//= draft-00, section 3
//# Both "Client-Connection-Id" and "Server-Connection-Id" are Item Structured Headers [STRUCT].
//# Their value MUST be a Byte Sequence.  The byte sequence MAY be zero-length.  The byte sequence
//# length MUST NOT exceed 255 bytes.
std::optional<ConnectionId> ReadId(const FieldLines &lines) {
  if (!lines.first || lines.several) {
    return std::nullopt;
  }
  const auto item = sf::ParseItem(*lines.first);
  const auto *const bytes = item ? std::get_if<sf::ByteSequence>(&item->value) : nullptr;
  return bytes ? ConnectionId::From(*bytes) : std::nullopt;
}

std::optional<FlowId> ReadFlow(const FieldLines &lines) {
  if (!lines.first || lines.several) {
    return std::nullopt;
  }
  const auto item = sf::ParseItem(*lines.first);
  const auto *const number = item ? std::get_if<sf::Integer>(&item->value) : nullptr;
  return number && *number >= 0 ? std::optional(static_cast<FlowId>(*number)) : std::nullopt;
}

// CONNECT-UDP-00 leaves both out, as CONNECT does; its next revisions have both.
bool SchemeAndPathFit(const PseudoHeaders &headers) {
  if (!headers.scheme && !headers.path) {
    return true;
  }
  return headers.scheme && headers.path &&
         (*headers.scheme == kScheme || *headers.scheme == "https") && *headers.path == kPath;
}

// A value that is none, a flow id above sf::kMaxInteger, becomes an empty one: no peer takes that
// for another.
std::string ItemText(sf::BareItem value) {
  auto text = sf::SerializeItem({.value = std::move(value), .parameters = {}});
  return text ? *std::move(text) : std::string{};
}

void AppendIds(std::vector<HeaderField> &fields, const ConnectUdpRequest &request) {
  if (request.id_header != IdHeader::kNone) {
    const auto bytes = request.id.bytes();
    fields.push_back({.name = std::string(request.id_header == IdHeader::kClient ? kClientIdField
                                                                                 : kServerIdField),
                      .value = ItemText(sf::ByteSequence(bytes.begin(), bytes.end()))});
  }
  if (request.flow) {
    fields.push_back({.name = std::string(kFlowField),
                      .value = *request.flow <= FlowId{sf::kMaxInteger}
                                 ? ItemText(static_cast<sf::Integer>(*request.flow))
                                 : std::string{}});
  }
}

} // namespace

bool IsConnectUdp(std::span<const HeaderField> fields) {
  const auto method = FindField(fields, ":method");
  return method.first && *method.first == kMethod;
}

//= draft-00, section 5
//# The proxy MUST validate that the request only contains one of either the Client-Connection-Id or
//# the Server-Connection-Id header, along with a Datagram-Flow-Id header and an authority
//# pseudo-header.
std::expected<ConnectUdpRequest, SessionError> ParseRequest(std::span<const HeaderField> fields) {
  const auto headers = ReadPseudoHeaders(fields);
  if (headers && headers->method && *headers->method != kMethod) {
    return std::unexpected(SessionError::kMethod);
  }
  if (!headers || !headers->method || !headers->authority || headers->protocol ||
      !SchemeAndPathFit(*headers)) {
    return std::unexpected(SessionError::kPseudoHeader);
  }
  if (HasContent(fields)) {
    return std::unexpected(SessionError::kRequestContent);
  }
  auto authority = ParseAuthority(*headers->authority);
  if (!authority) {
    return std::unexpected(authority.error());
  }
  ConnectUdpRequest request{.authority = *std::move(authority), .flow = {}, .id = {}};

  const auto client = FindField(fields, kClientIdField);
  const auto server = FindField(fields, kServerIdField);
  if (client.first && server.first) {
    return std::unexpected(SessionError::kTwoIds);
  }
  if (client.first || server.first) {
    auto id = ReadId(client.first ? client : server);
    if (!id) {
      return std::unexpected(SessionError::kConnectionId);
    }
    request.id_header = client.first ? IdHeader::kClient : IdHeader::kServer;
    request.id = *std::move(id);
  }

  if (const auto flow = FindField(fields, kFlowField); flow.first) {
    request.flow = ReadFlow(flow);
    if (!request.flow) {
      return std::unexpected(SessionError::kFlowId);
    }
  } else if (request.id_header != IdHeader::kNone) {
    return std::unexpected(SessionError::kNoFlowId);
  }
  return request;
}

std::vector<HeaderField> RequestFields(const ConnectUdpRequest &request, TargetForm form) {
  std::vector<HeaderField> fields{
    {.name = ":method", .value = std::string(kMethod)},
    {.name = ":authority", .value = AuthorityText(request.authority)},
  };
  if (form == TargetForm::kUri) {
    fields.push_back({.name = ":scheme", .value = std::string(kScheme)});
    fields.push_back({.name = ":path", .value = std::string(kPath)});
  }
  AppendIds(fields, request);
  return fields;
}

std::expected<ConnectUdpResponse, SessionError> ParseResponse(std::span<const HeaderField> fields) {
  const auto status = ReadStatus(fields);
  if (!status) {
    return std::unexpected(SessionError::kStatus);
  }
  ConnectUdpResponse response{.status = *status,
                              .id = {},
                              .flow = ReadFlow(FindField(fields, kFlowField)),
                              .proxy_status = ReadProxyStatus(fields)};
  if (response.success() && HasContent(fields)) {
    return std::unexpected(SessionError::kResponseContent);
  }
  const auto client = FindField(fields, kClientIdField);
  const auto server = FindField(fields, kServerIdField);
  // With both of them nobody knows which one was meant.
  if (!client.first != !server.first) {
    if (auto id = ReadId(client.first ? client : server)) {
      response.id_header = client.first ? IdHeader::kClient : IdHeader::kServer;
      response.id = *std::move(id);
    }
  }
  return response;
}

std::vector<HeaderField> ResponseFields(const ConnectUdpRequest &request, unsigned status,
                                        std::string_view proxy_status) {
  std::vector<HeaderField> fields{{.name = ":status", .value = std::to_string(status)}};
  //= draft-00, section 5
  //# Any successful (2xx) response MUST also echo any Client-Connection-Id, Server-Connection-Id,
  //# and Datagram-Flow-Id headers included in the request.
  if (status / 100 == 2) {
    AppendIds(fields, request);
  }
  if (!proxy_status.empty()) {
    fields.push_back({.name = std::string(kProxyStatusField), .value = std::string(proxy_status)});
  }
  return fields;
}

} // namespace ngmasque
