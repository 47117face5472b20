// The input are header fields, one a line: `name=value`.  They are read as a request and as a
// response; what could be read is written, and read again as the same.

#include "ngmasque/session/message.h"

#include "ngmasque/wire/structured_field.h"

#include "check.h"

#include <algorithm>

using namespace ngmasque;

namespace {

using Fields = std::vector<HeaderField>;

Fields Split(std::string_view text) {
  Fields fields;
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const auto equals = std::min(line.find('='), line.size());
    fields.push_back({.name = std::string(line.substr(0, equals)),
                      .value = std::string(line.substr(std::min(line.size(), equals + 1)))});
  }
  return fields;
}

bool HasContent(const Fields &fields) {
  return std::ranges::any_of(fields, [](const HeaderField &field) {
    return field.name == "content-length" || field.name == "transfer-encoding";
  });
}

void CheckAuthority(const Authority &authority) {
  CHECK(authority.port != 0);
  CHECK(!authority.host.empty() && authority.host.size() <= kMaxHostLength);
  CHECK(std::ranges::all_of(authority.host, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           std::string_view("-_.:").find(c) != std::string_view::npos;
  }));
  CHECK(ParseAuthority(AuthorityText(authority)) == authority);
}

void Request(const Fields &fields) {
  const auto request = ParseRequest(fields);
  if (!request) {
    CHECK(ErrorName(request.error()) != "unknown error");
    return;
  }
  CHECK(IsConnectUdp(fields) && !HasContent(fields));
  CheckAuthority(request->authority);
  CHECK(!request->flow || *request->flow <= FlowId{sf::kMaxInteger});
  CHECK(request->id_header == IdHeader::kNone ? request->id.empty() : request->flow.has_value());
  CHECK(ParseRequest(RequestFields(*request)) == *request);

  const auto response = ParseResponse(ResponseFields(*request, 200, "p"));
  CHECK(response && response->success() && response->proxy_status == "p");
  CHECK(response->id_header == request->id_header && response->id == request->id);
  CHECK(response->flow == request->flow);
  CHECK(ResponseFields(*request, 409).size() == 1);
}

void Response(const Fields &fields) {
  const auto response = ParseResponse(fields);
  if (!response) {
    CHECK(ErrorName(response.error()) != "unknown error");
    return;
  }
  CHECK(response->status >= 200 && response->status <= 599);
  CHECK(!response->success() || !HasContent(fields));
  CHECK(response->proxy_status.size() <= kMaxProxyStatus);
  CHECK(response->id_header != IdHeader::kNone || response->id.empty());
  // As the proxy would have written it.
  const ConnectUdpRequest request{.authority = {.host = "a", .port = 1},
                                  .flow = response->flow,
                                  .id_header = response->id_header,
                                  .id = response->id};
  const auto again =
    ParseResponse(ResponseFields(request, response->status, response->proxy_status));
  CHECK(again && again->status == response->status);
  CHECK(again->proxy_status == response->proxy_status);
  CHECK(!response->success() || *again == *response);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char *>(data), size};
  const auto fields = Split(text);
  Request(fields);
  Response(fields);
  if (const auto authority = ParseAuthority(text)) {
    CheckAuthority(*authority);
  }
  return 0;
}
