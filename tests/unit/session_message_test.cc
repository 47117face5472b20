// CONNECT-UDP requests and responses as header fields.

#include "ngmasque/session/message.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace ngmasque {
namespace {

using Fields = std::vector<HeaderField>;

ConnectionId Id(std::string_view text) {
  return ConnectionId::From({reinterpret_cast<const std::uint8_t *>(text.data()), text.size()})
    .value();
}

// The request of the draft's example (section 6).
Fields Example() {
  return {{":method", "CONNECT-UDP"},
          {":authority", "target.example.com:443"},
          {"client-connection-id", ":MTIzNA==:"},
          {"datagram-flow-id", "2"}};
}

// The fields with `name` set to `value`, or added at the end.
Fields With(Fields fields, std::string_view name, std::string_view value) {
  const auto found = std::ranges::find(fields, name, &HeaderField::name);
  if (found != fields.end()) {
    found->value = value;
  } else {
    fields.push_back({std::string(name), std::string(value)});
  }
  return fields;
}

Fields Without(Fields fields, std::string_view name) {
  std::erase_if(fields, [name](const HeaderField &field) { return field.name == name; });
  return fields;
}

Fields Plus(Fields fields, std::string_view name, std::string_view value) {
  fields.push_back({std::string(name), std::string(value)});
  return fields;
}

// A field in front of the others: a pseudo-header must not follow those that are none.
Fields Before(std::string_view name, std::string_view value, Fields fields) {
  fields.insert(fields.begin(), {std::string(name), std::string(value)});
  return fields;
}

std::optional<SessionError> ErrorOf(const Fields &fields) {
  const auto request = ParseRequest(fields);
  return request ? std::nullopt : std::optional(request.error());
}

TEST(SessionMessage, ReadsTheExample) {
  EXPECT_TRUE(IsConnectUdp(Example()));
  EXPECT_EQ(ParseRequest(Example()), (ConnectUdpRequest{.authority = {"target.example.com", 443},
                                                        .flow = 2,
                                                        .id_header = IdHeader::kClient,
                                                        .id = Id("1234")}));
  const Fields second{{":method", "CONNECT-UDP"},
                      {":authority", "target.example.com:443"},
                      {"server-connection-id", ":YWJjZA==:"},
                      {"datagram-flow-id", "2"}};
  EXPECT_EQ(ParseRequest(second), (ConnectUdpRequest{.authority = {"target.example.com", 443},
                                                     .flow = 2,
                                                     .id_header = IdHeader::kServer,
                                                     .id = Id("abcd")}));
}

TEST(SessionMessage, WritesTheExample) {
  EXPECT_EQ(RequestFields(*ParseRequest(Example())), Example());
}

TEST(SessionMessage, WritesSchemeAndPath) {
  const Fields uri{{":method", "CONNECT-UDP"},
                   {":authority", "target.example.com:443"},
                   {":scheme", "masque"},
                   {":path", "/"},
                   {"client-connection-id", ":MTIzNA==:"},
                   {"datagram-flow-id", "2"}};
  EXPECT_EQ(RequestFields(*ParseRequest(Example()), TargetForm::kUri), uri);
  EXPECT_EQ(ParseRequest(uri), ParseRequest(Example()));
}

// What is written is read as the same.
TEST(SessionMessage, RoundTrips) {
  for (const auto &host : {"a", "127.0.0.1", "2001:db8::1", "x_y-z.example"}) {
    for (const auto header : {IdHeader::kNone, IdHeader::kClient, IdHeader::kServer}) {
      for (const FlowId flow : {FlowId{0}, FlowId{2}, FlowId{999'999'999'999'999}}) {
        for (const std::size_t size : {0, 1, 8, 20, 21, 255}) {
          const ConnectUdpRequest request{
            .authority = {host, 65535},
            .flow = flow,
            .id_header = header,
            .id = header == IdHeader::kNone ? ConnectionId{} : Id(std::string(size, '\xff'))};
          const auto fields = RequestFields(request);
          EXPECT_EQ(ParseRequest(fields), request) << testing::PrintToString(fields.size());
          const auto response = ParseResponse(ResponseFields(request, 200));
          ASSERT_TRUE(response);
          EXPECT_EQ(response->id_header, header);
          EXPECT_EQ(response->id, request.id);
          EXPECT_EQ(response->flow, flow);
        }
      }
    }
  }
}

TEST(SessionMessage, FlowIdTooLargeForAnInteger) {
  const ConnectUdpRequest request{
    .authority = {"a", 1}, .flow = 1'000'000'000'000'000, .id_header = IdHeader::kClient, .id = {}};
  EXPECT_EQ(ErrorOf(RequestFields(request)), SessionError::kFlowId);
  const auto largest = std::uint64_t{1} << 63;
  EXPECT_EQ(ErrorOf(RequestFields({.authority = {"a", 1}, .flow = largest, .id = {}})),
            SessionError::kFlowId);
}

TEST(SessionMessage, IsConnectUdp) {
  EXPECT_FALSE(IsConnectUdp({}));
  EXPECT_FALSE(IsConnectUdp(With(Example(), ":method", "CONNECT")));
  EXPECT_FALSE(IsConnectUdp(With(Example(), ":method", "connect-udp")));
  EXPECT_FALSE(IsConnectUdp(Fields{{"method", "CONNECT-UDP"}}));
  EXPECT_TRUE(IsConnectUdp(Fields{{":method", "CONNECT-UDP"}})) << "bad ones as well";
}

TEST(SessionMessage, PseudoHeaders) {
  const auto example = Example();
  const auto wrong = SessionError::kPseudoHeader;
  EXPECT_EQ(ErrorOf({}), wrong);
  EXPECT_EQ(ErrorOf(With(example, ":method", "CONNECT")), SessionError::kMethod);
  EXPECT_EQ(ErrorOf(Without(example, ":method")), wrong);
  EXPECT_EQ(ErrorOf(Without(example, ":authority")), wrong);
  EXPECT_EQ(ErrorOf(Before(":method", "CONNECT-UDP", example)), wrong) << "doubled";
  EXPECT_EQ(ErrorOf(Before(":authority", "target.example.com:443", example)), wrong) << "doubled";
  EXPECT_EQ(ErrorOf(Before(":protocol", "connect-udp", example)), wrong) << "unknown";
  EXPECT_EQ(ErrorOf(Before(":status", "200", example)), wrong) << "of responses";
  EXPECT_EQ(ErrorOf(Before(":", "", example)), wrong);
  EXPECT_EQ(ErrorOf(Before("accept", "*", example)), wrong) << "after another field";
}

TEST(SessionMessage, SchemeAndPath) {
  const auto with = [](std::string_view scheme, std::string_view path) {
    return ErrorOf(Before(":scheme", scheme, Before(":path", path, Example())));
  };
  EXPECT_EQ(with("masque", "/"), std::nullopt);
  EXPECT_EQ(with("https", "/"), std::nullopt);
  const auto wrong = SessionError::kPseudoHeader;
  EXPECT_EQ(with("http", "/"), wrong);
  EXPECT_EQ(with("", "/"), wrong);
  EXPECT_EQ(with("https", ""), wrong);
  EXPECT_EQ(with("https", "/x"), wrong);
  EXPECT_EQ(ErrorOf(Before(":scheme", "https", Example())), wrong) << "path is missing";
  EXPECT_EQ(ErrorOf(Before(":path", "/", Example())), wrong) << "scheme is missing";
}

TEST(SessionMessage, OtherFieldsAreIgnored) {
  EXPECT_EQ(ParseRequest(Plus(Plus(Example(), "user-agent", "x"), "user-agent", "y")),
            ParseRequest(Example()));
}

TEST(SessionMessage, NoContent) {
  EXPECT_EQ(ErrorOf(Plus(Example(), "content-length", "0")), SessionError::kRequestContent);
  EXPECT_EQ(ErrorOf(Plus(Example(), "transfer-encoding", "chunked")),
            SessionError::kRequestContent);
}

TEST(SessionMessage, FlowId) {
  const auto flow = [](std::string_view value) {
    const auto request = ParseRequest(With(Example(), "datagram-flow-id", value));
    return request ? request->flow : std::nullopt;
  };
  EXPECT_EQ(flow("0"), 0u);
  EXPECT_EQ(flow("7"), 7u) << "whose it is, is not seen here";
  EXPECT_EQ(flow(" 2;x=\"y\";z "), 2u) << "parameters are ignored";
  EXPECT_EQ(flow("999999999999999"), 999'999'999'999'999u);
  for (const auto *const bad : {"", "-1", "1000000000000000", "2.0", "\"2\"", ":Ag==:", "x", "2, 4",
                                "2 4", "(2)", "?1", "@2", "+2"}) {
    EXPECT_EQ(ErrorOf(With(Example(), "datagram-flow-id", bad)), SessionError::kFlowId) << bad;
  }
  EXPECT_EQ(ErrorOf(Plus(Example(), "datagram-flow-id", "2")), SessionError::kFlowId) << "doubled";
  EXPECT_EQ(ErrorOf(Without(Example(), "datagram-flow-id")), SessionError::kNoFlowId);
}

//= draft-00, section 3
//# Their value MUST be a Byte Sequence.  The byte sequence MAY be zero-length.  The byte sequence
//# length MUST NOT exceed 255 bytes.
TEST(SessionMessage, ConnectionIds) {
  for (const auto *const name : {"client-connection-id", "server-connection-id"}) {
    const auto base = Without(Example(), "client-connection-id");
    const auto id = [&](std::string_view value) {
      const auto request = ParseRequest(Plus(base, name, value));
      return request ? std::optional(request->id) : std::nullopt;
    };
    EXPECT_EQ(id("::"), ConnectionId{});
    EXPECT_EQ(id(":MTIzNA==:;a=1;b"), Id("1234")) << "parameters are ignored";
    EXPECT_EQ(id(":" + std::string(340, 'A') + ":"), Id(std::string(255, '\0')));
    for (const std::string &bad :
         {std::string(), std::string("MTIzNA=="), std::string("1234"), std::string("\"1234\""),
          std::string(":MTIzNA==:, :MTIzNA==:"), std::string(":MTIzNA"), std::string(":M*:"),
          std::string("?0"), ":" + std::string(344, 'A') + ":", std::string(70'000, ':')}) {
      EXPECT_EQ(ErrorOf(Plus(base, name, bad)), SessionError::kConnectionId) << bad.substr(0, 99);
    }
    EXPECT_EQ(ErrorOf(Plus(Plus(base, name, ":MTIzNA==:"), name, ":MTIzNA==:")),
              SessionError::kConnectionId)
      << "doubled";
  }
}

//= draft-00, section 5
//# The proxy MUST validate that the request only contains one of either the Client-Connection-Id or
//# the Server-Connection-Id header, along with a Datagram-Flow-Id header and an authority
//# pseudo-header.
TEST(SessionMessage, OneConnectionIdWithFlowIdAndAuthority) {
  EXPECT_EQ(ErrorOf(Example()), std::nullopt);
  EXPECT_EQ(ErrorOf(Plus(Example(), "server-connection-id", ":YWJjZA==:")), SessionError::kTwoIds);
  EXPECT_EQ(ErrorOf(Plus(Example(), "server-connection-id", "garbage")), SessionError::kTwoIds);
  EXPECT_EQ(ErrorOf(Without(Example(), "datagram-flow-id")), SessionError::kNoFlowId);
  EXPECT_EQ(ErrorOf(Without(Example(), ":authority")), SessionError::kPseudoHeader);
}

TEST(SessionMessage, PlainConnectUdp) {
  const auto with_flow = Without(Example(), "client-connection-id");
  EXPECT_EQ(ParseRequest(with_flow),
            (ConnectUdpRequest{.authority = {"target.example.com", 443}, .flow = 2, .id = {}}));
  const auto on_stream = Without(with_flow, "datagram-flow-id");
  EXPECT_EQ(ParseRequest(on_stream),
            (ConnectUdpRequest{.authority = {"target.example.com", 443}, .flow = {}, .id = {}}));
  EXPECT_EQ(RequestFields(*ParseRequest(on_stream)), on_stream);
}

TEST(SessionMessage, Authority) {
  const auto read = [](std::string_view text) {
    return ParseAuthority(text).value_or(Authority{});
  };
  EXPECT_EQ(read("example.com:443"), (Authority{"example.com", 443}));
  EXPECT_EQ(read("Example.COM.:00443"), (Authority{"example.com", 443}));
  EXPECT_EQ(read("_a-b.9:1"), (Authority{"_a-b.9", 1}));
  EXPECT_EQ(read("192.0.2.1:65535"), (Authority{"192.0.2.1", 65535}));
  EXPECT_EQ(read("[2001:DB8:0:0:0::1]:443"), (Authority{"2001:db8::1", 443}));
  EXPECT_EQ(read("[::]:1"), (Authority{"::", 1}));
  EXPECT_EQ(read("[::FFFF:192.0.2.1]:1"), (Authority{"::ffff:192.0.2.1", 1}));
  EXPECT_EQ(read("127.1:80"), (Authority{"127.1", 80})) << "a name";
  EXPECT_EQ(read(std::string(255, 'a') + ":1"), (Authority{std::string(255, 'a'), 1}));

  for (const std::string_view bad :
       {"", ":", ":443", "a", "a:", "a:0", "a:65536", "a:99999", "a:000443", "a:+443", "a:-1",
        "a: 443", "a:443 ", "a:4x3", "a:0x1", "a:443/", "a:443:443", "u@a:443", "u:p@a:443",
        "%61:443", "a%00:443", "a%2Fb:443", "a b:443", " a:443", "a/b:443", "a\n:443", "a\x7f:443",
        "\xc3\xa4:443", "a:\xd9\xa1", ".:443", "a..:443", "a..b:443", ".a:443", "*:443", "[]:443",
        "[:443", "]:443", "[a:443", "[a]:443", "[192.0.2.1]:443", "[::1]", "[::1]443", "[::1]x:443",
        "[::1%lo]:443", "[::1%25lo]:443", "[::1::]:443", "[1:2:3:4:5:6:7:8:9]:443", "::1:443",
        "[v1.a]:443", "[[::1]]:443",
        "[2001:0db8:0000:0000:0000:0000:0000:0001:0000:0000:0000]:443"}) {
    EXPECT_FALSE(ParseAuthority(bad)) << bad;
    EXPECT_EQ(ErrorOf(With(Example(), ":authority", bad)), SessionError::kAuthority) << bad;
  }
  EXPECT_FALSE(ParseAuthority(std::string(256, 'a') + ":1"));
  EXPECT_FALSE(ParseAuthority(std::string(1'000'000, 'a') + ":1"));
  EXPECT_FALSE(ParseAuthority({"a\0b:1", 5}));
  EXPECT_FALSE(ParseAuthority({"[::1\0]:1", 8})) << "the address ends with its bracket";
}

TEST(SessionMessage, AuthorityText) {
  for (const auto *const text : {"example.com:443", "192.0.2.1:1", "[2001:db8::1]:65535"}) {
    EXPECT_EQ(AuthorityText(ParseAuthority(text).value()), text);
  }
}

TEST(SessionMessage, Response) {
  const Fields fields{{":status", "200"},
                      {"client-connection-id", ":MTIzNA==:;p"},
                      {"datagram-flow-id", "2"},
                      {"proxy-status", "x;next-hop=y"},
                      {"server", "z"}};
  EXPECT_EQ(ParseResponse(fields), (ConnectUdpResponse{.status = 200,
                                                       .id_header = IdHeader::kClient,
                                                       .id = Id("1234"),
                                                       .flow = 2,
                                                       .proxy_status = "x;next-hop=y"}));
}

TEST(SessionMessage, ResponseStatus) {
  for (const unsigned status : {200u, 204u, 299u, 300u, 409u, 599u}) {
    const auto response = ParseResponse(Fields{{":status", std::to_string(status)}});
    ASSERT_TRUE(response) << status;
    EXPECT_EQ(response->status, status);
    EXPECT_EQ(response->success(), status < 300);
  }
  for (const auto *const bad :
       {"", "0", "100", "103", "199", "600", "999", "20", "2000", "2x0", "+20", " 200", "200 "}) {
    EXPECT_EQ(ParseResponse(Fields{{":status", bad}}).error(), SessionError::kStatus) << bad;
  }
  for (const auto &bad :
       {Fields{}, Fields{{"status", "200"}}, Fields{{":status", "200"}, {":status", "200"}},
        Fields{{":status", "200"}, {":path", "/"}}, Fields{{"server", "x"}, {":status", "200"}}}) {
    EXPECT_EQ(ParseResponse(bad).error(), SessionError::kStatus);
  }
}

TEST(SessionMessage, ResponseWithContent) {
  for (const auto *const name : {"content-length", "transfer-encoding"}) {
    EXPECT_EQ(ParseResponse(Fields{{":status", "200"}, {name, "0"}}).error(),
              SessionError::kResponseContent);
    EXPECT_TRUE(ParseResponse(Fields{{":status", "403"}, {name, "0"}})) << "it explains itself";
  }
}

// What cannot be read is not an echo.
TEST(SessionMessage, ResponseThatDoesNotEcho) {
  const ConnectUdpResponse nothing{.status = 200, .id = {}, .flow = {}, .proxy_status = {}};
  for (const auto &fields : {Fields{}, Fields{{"client-connection-id", "1234"}},
                             Fields{{"client-connection-id", ":MTIzNA==:, :MTIzNA==:"}},
                             Fields{{"client-connection-id", "::"}, {"client-connection-id", "::"}},
                             Fields{{"client-connection-id", "::"}, {"server-connection-id", "::"}},
                             Fields{{"client-connection-id", "::"}, {"server-connection-id", "x"}},
                             Fields{{"datagram-flow-id", "-2"}},
                             Fields{{"datagram-flow-id", "2"}, {"datagram-flow-id", "2"}}}) {
    EXPECT_EQ(ParseResponse(Before(":status", "200", fields)), nothing);
  }
}

TEST(SessionMessage, ProxyStatusIsBounded) {
  Fields fields{{":status", "502"}, {"proxy-status", "a"}, {"proxy-status", "b"}};
  EXPECT_EQ(ParseResponse(fields)->proxy_status, "a, b");
  fields.push_back({"proxy-status", std::string(1'000'000, 'c')});
  const auto text = ParseResponse(fields)->proxy_status;
  EXPECT_EQ(text.size(), kMaxProxyStatus);
  EXPECT_EQ(text.substr(0, 8), "a, b, cc");
}

//= draft-00, section 5
//# Any successful (2xx) response MUST also echo any Client-Connection-Id, Server-Connection-Id, and
//# Datagram-Flow-Id headers included in the request.
TEST(SessionMessage, EchoesInSuccessAlone) {
  auto request = ParseRequest(Example()).value();
  EXPECT_EQ(ResponseFields(request, 200), (Fields{{":status", "200"},
                                                  {"client-connection-id", ":MTIzNA==:"},
                                                  {"datagram-flow-id", "2"}}));
  EXPECT_EQ(ResponseFields(request, 409), (Fields{{":status", "409"}}));
  EXPECT_EQ(ResponseFields(request, 403, "p;error=destination_ip_prohibited"),
            (Fields{{":status", "403"}, {"proxy-status", "p;error=destination_ip_prohibited"}}));
  request.id_header = IdHeader::kServer;
  request.id = {};
  EXPECT_EQ(
    ResponseFields(request, 200),
    (Fields{{":status", "200"}, {"server-connection-id", "::"}, {"datagram-flow-id", "2"}}));
  request.id_header = IdHeader::kNone;
  EXPECT_EQ(ResponseFields(request, 200), (Fields{{":status", "200"}, {"datagram-flow-id", "2"}}));
}

TEST(SessionMessage, ErrorNames) {
  std::set<std::string_view> names;
  const auto last = static_cast<int>(SessionError::kNoSocket);
  for (int i = 0; i <= last; ++i) {
    names.insert(ErrorName(SessionError(i)));
  }
  EXPECT_EQ(names.size(), last + 1u);
  EXPECT_FALSE(names.contains("unknown error"));
  EXPECT_EQ(ErrorName(SessionError(200)), "unknown error");
}

TEST(SessionMessage, WhatClientsAreToldOfErrors) {
  EXPECT_EQ(HttpStatus(SessionError::kFlowId), 400u);
  EXPECT_EQ(ProxyStatus(SessionError::kTwoIds),
            "ngmasque;error=http_request_error;"
            "details=\"client-connection-id together with server-connection-id\"");
  for (const auto conflict :
       {RoutingError::kEqual, RoutingError::kExistingIsPrefix, RoutingError::kNewIsPrefix}) {
    EXPECT_EQ(HttpStatus(ToSessionError(conflict)), 409u);
    EXPECT_EQ(ProxyStatus(ToSessionError(conflict)),
              "ngmasque;error=http_request_error;details=\"connection ID conflict\"");
  }
  EXPECT_EQ(HttpStatus(SessionError::kPrivateAddress), 403u);
  EXPECT_EQ(ProxyStatus(SessionError::kPrivateAddress), "ngmasque;error=destination_ip_prohibited");
  EXPECT_EQ(HttpStatus(SessionError::kStatus), 0u) << "nobody is answered";
}

} // namespace
} // namespace ngmasque
