// CONNECT-UDP requests and responses of dialect draft-00: fields <-> values.

#include "ngmasque/session/message.h"

#include "ngmasque/wire/structured_field.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace ngmasque {

namespace {

constexpr std::string_view kMethod = "CONNECT-UDP";
constexpr std::string_view kClientIdField = "client-connection-id";
constexpr std::string_view kServerIdField = "server-connection-id";
constexpr std::string_view kFlowField = "datagram-flow-id";
constexpr std::string_view kProxyStatusField = "proxy-status";

// The lines of one field.
struct Lines {
  const std::string *first = nullptr; // Null if there is none.
  bool several = false;               // Not an Item, whatever they say.
};

Lines Find(std::span<const HeaderField> fields, std::string_view name) {
  Lines lines;
  for (const auto &field : fields) {
    if (field.name != name) {
      continue;
    }
    if (lines.first) {
      lines.several = true;
      break;
    }
    lines.first = &field.value;
  }
  return lines;
}

//= draft-00, section 3
//# Both "Client-Connection-Id" and "Server-Connection-Id" are Item Structured Headers [STRUCT].
//# Their value MUST be a Byte Sequence.  The byte sequence MAY be zero-length.  The byte sequence
//# length MUST NOT exceed 255 bytes.
std::optional<ConnectionId> ReadId(const Lines &lines) {
  if (!lines.first || lines.several) {
    return std::nullopt;
  }
  const auto item = sf::ParseItem(*lines.first);
  const auto *const bytes = item ? std::get_if<sf::ByteSequence>(&item->value) : nullptr;
  return bytes ? ConnectionId::From(*bytes) : std::nullopt;
}

std::optional<FlowId> ReadFlow(const Lines &lines) {
  if (!lines.first || lines.several) {
    return std::nullopt;
  }
  const auto item = sf::ParseItem(*lines.first);
  const auto *const number = item ? std::get_if<sf::Integer>(&item->value) : nullptr;
  return number && *number >= 0 ? std::optional(static_cast<FlowId>(*number)) : std::nullopt;
}

// The pseudo-header fields of a request; null if absent.
struct PseudoHeaders {
  const std::string *method = nullptr;
  const std::string *authority = nullptr;
  const std::string *scheme = nullptr;
  const std::string *path = nullptr;
};

// Nothing if one is unknown, doubled, or comes after another field.
std::optional<PseudoHeaders> ReadPseudoHeaders(std::span<const HeaderField> fields) {
  PseudoHeaders headers;
  bool others = false;
  for (const auto &[name, value] : fields) {
    if (!name.starts_with(':')) {
      others = true;
      continue;
    }
    const auto place = name == ":method"      ? &headers.method
                       : name == ":authority" ? &headers.authority
                       : name == ":scheme"    ? &headers.scheme
                       : name == ":path"      ? &headers.path
                                              : nullptr;
    if (!place || *place || others) {
      return std::nullopt;
    }
    *place = &value;
  }
  return headers;
}

// CONNECT-UDP-00 leaves both out, as CONNECT does; its next revisions have both.
bool SchemeAndPathFit(const PseudoHeaders &headers) {
  if (!headers.scheme && !headers.path) {
    return true;
  }
  return headers.scheme && headers.path &&
         (*headers.scheme == "masque" || *headers.scheme == "https") && *headers.path == "/";
}

// Fields that frame a content, which this method has none of.
bool HasContent(std::span<const HeaderField> fields) {
  return std::ranges::any_of(fields, [](const HeaderField &field) {
    return field.name == "content-length" || field.name == "transfer-encoding";
  });
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

// 200 to 599; nothing if there is no status, or anything that a response must not have with it.
std::optional<unsigned> ReadStatus(std::span<const HeaderField> fields) {
  std::optional<unsigned> status;
  bool others = false;
  for (const auto &[name, value] : fields) {
    if (!name.starts_with(':')) {
      others = true;
      continue;
    }
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (name != ":status" || status || others || value.size() != 3 ||
        !std::ranges::all_of(value, is_digit)) {
      return std::nullopt;
    }
    status = static_cast<unsigned>((value[0] - '0') * 100 + (value[1] - '0') * 10 + value[2] - '0');
  }
  return status && *status >= 200 && *status <= 599 ? status : std::nullopt;
}

// All lines, as one list (RFC 9110, section 5.3), cut off at its bound.
std::string ReadProxyStatus(std::span<const HeaderField> fields) {
  std::string text;
  for (const auto &[name, value] : fields) {
    if (name == kProxyStatusField && text.size() < kMaxProxyStatus) {
      text += text.empty() ? "" : ", ";
      text += std::string_view(value).substr(0, kMaxProxyStatus);
    }
  }
  text.resize(std::min(text.size(), kMaxProxyStatus));
  return text;
}

} // namespace

bool IsConnectUdp(std::span<const HeaderField> fields) {
  const auto method = Find(fields, ":method");
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
  if (!headers || !headers->method || !headers->authority ||
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

  const auto client = Find(fields, kClientIdField);
  const auto server = Find(fields, kServerIdField);
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

  if (const auto flow = Find(fields, kFlowField); flow.first) {
    request.flow = ReadFlow(flow);
    if (!request.flow) {
      return std::unexpected(SessionError::kFlowId);
    }
  } else if (request.id_header != IdHeader::kNone) {
    return std::unexpected(SessionError::kNoFlowId);
  }
  return request;
}

std::vector<HeaderField> RequestFields(const ConnectUdpRequest &request) {
  std::vector<HeaderField> fields{
    {.name = ":method", .value = std::string(kMethod)},
    {.name = ":authority", .value = AuthorityText(request.authority)},
  };
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
                              .flow = ReadFlow(Find(fields, kFlowField)),
                              .proxy_status = ReadProxyStatus(fields)};
  if (response.success() && HasContent(fields)) {
    return std::unexpected(SessionError::kResponseContent);
  }
  const auto client = Find(fields, kClientIdField);
  const auto server = Find(fields, kServerIdField);
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
