// Requests for UDP proxying and their responses as header fields (proxying.md, section 4;
// adversarial.md, class 14).

#include "ngmasque/session/udp_request.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

namespace ngmasque {
namespace {

using Fields = std::vector<HeaderField>;

UriTemplate Default() { return UriTemplate::Parse(kDefaultUdpPath).value(); }

Fields Good() {
  return UdpRequestFields({.target = {"target.example", 443}, .forwarding = {}}, Default(),
                          "proxy.example");
}

// With a field of another value, or without it.
Fields With(std::string_view name, std::string_view value) {
  auto fields = Good();
  const auto found = std::ranges::find(fields, name, &HeaderField::name);
  if (found != fields.end()) {
    found->value = value;
  } else {
    fields.push_back({std::string(name), std::string(value)});
  }
  return fields;
}
Fields Without(std::string_view name) {
  auto fields = Good();
  EXPECT_EQ(std::erase_if(fields, [&](const HeaderField &field) { return field.name == name; }),
            1u);
  return fields;
}
// Pseudo-header fields have to come first.
Fields WithAnother(std::string_view name, std::string_view value) {
  auto fields = Good();
  fields.insert(fields.begin(), {std::string(name), std::string(value)});
  return fields;
}

std::expected<UdpRequest, SessionError> Read(const Fields &fields) {
  return ParseUdpRequest(fields, Default());
}
SessionError ErrorOf(const Fields &fields) {
  const auto read = Read(fields);
  EXPECT_FALSE(read);
  return read ? SessionError{} : read.error();
}
std::expected<UdpRequest, SessionError> OfPath(std::string_view rest) {
  return Read(With(":path", "/.well-known/masque/udp/" + std::string(rest)));
}

//= RFC 9298, section 3.4
//# The ":method" pseudo-header field SHALL be "CONNECT".
//
//= RFC 9298, section 3.4
//# The ":protocol" pseudo-header field SHALL be "connect-udp".
//
//= RFC 9298, section 3.4
//# The ":path" and ":scheme" pseudo-header fields SHALL NOT be empty.
//
//= RFC 9298, section 3.4
//# The ":authority" pseudo-header field SHALL contain the authority of the UDP proxy.
//
//= RFC 9298, section 3.4
//# Their values SHALL contain the scheme and path from the URI Template after the URI Template
//# expansion process has been completed
//
//= RFC 9298, section 3
//# When sending its UDP proxying request, the client SHALL perform URI Template expansion to
//# determine the path and query of its request.
TEST(UdpRequest, AsItIsWritten) {
  const auto fields = Good();
  EXPECT_EQ(fields, (Fields{{":method", "CONNECT"},
                            {":protocol", "connect-udp"},
                            {":scheme", "https"},
                            {":authority", "proxy.example"},
                            {":path", "/.well-known/masque/udp/target.example/443/"},
                            {"capsule-protocol", "?1"}}));
  EXPECT_TRUE(IsUdpRequest(fields));
  const auto read = Read(fields);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->target, (Authority{"target.example", 443}));
  EXPECT_FALSE(read->forwarding);
  EXPECT_FALSE(read->port_sharing);
}

TEST(UdpRequest, IsReadAsItWasWritten) {
  const UdpRequest request{.target = {"2001:db8::1", 65535},
                           .forwarding = ForwardingOffer{.forwarding = true,
                                                         .transforms = {Transform::kScrambleDt},
                                                         .key = ScrambleKey{1}},
                           .port_sharing = true};
  const auto fields = UdpRequestFields(request, Default(), "proxy.example");
  const auto path = std::ranges::find(fields, ":path", &HeaderField::name);
  //= RFC 9298, section 3
  //# if "target_host" contains an IPv6 literal, the colons (":") MUST be percent-encoded.
  EXPECT_EQ(path->value, "/.well-known/masque/udp/2001%3Adb8%3A%3A1/65535/");
  EXPECT_EQ(Read(fields), request);
}

TEST(UdpRequest, PseudoHeaders) {
  using enum SessionError;
  for (const auto *name : {":method", ":protocol", ":scheme", ":authority", ":path"}) {
    EXPECT_EQ(ErrorOf(Without(name)), kPseudoHeader) << name;
    EXPECT_EQ(ErrorOf(WithAnother(name, "x")), kPseudoHeader) << name << " twice";
  }
  EXPECT_EQ(ErrorOf(With(":authority", "")), kPseudoHeader);
  EXPECT_EQ(ErrorOf(WithAnother(":status", "200")), kPseudoHeader);
  auto late = Good();
  std::ranges::rotate(late, late.begin() + 1);
  EXPECT_EQ(ErrorOf(late), kPseudoHeader) << "behind a field";

  for (const auto *method : {"GET", "POST", "connect", "CONNECT-UDP", ""}) {
    EXPECT_EQ(ErrorOf(With(":method", method)), kMethod) << method;
  }
  for (const auto *protocol : {"connect-ip", "websocket", "Connect-UDP", "connect-udp ", ""}) {
    EXPECT_EQ(ErrorOf(With(":protocol", protocol)), kMethod) << protocol;
    EXPECT_FALSE(IsUdpRequest(With(":protocol", protocol))) << protocol;
  }
  EXPECT_FALSE(IsUdpRequest(Without(":protocol"))) << "CONNECT of TCP";
  for (const auto *scheme : {"http", "masque", "HTTPS", ""}) {
    EXPECT_EQ(ErrorOf(With(":scheme", scheme)), kScheme) << scheme;
  }
}

TEST(UdpRequest, OtherPaths) {
  for (const auto *path : {"", "/", "*", "/.well-known/masque/udp", "/.well-known/masque/udp/",
                           "/.well-known/masque/udp/target.example/443",
                           "/.well-known/masque/udp/target.example/443/x",
                           "/.well-known/masque/udp/target.example/443//",
                           "/.well-known/masque/udp/a/b/443/",
                           "/.well-known/masque/ip/target.example/443/",
                           "/.well-known/masque/udp/target.example/443/?x",
                           "//.well-known/masque/udp/target.example/443/",
                           "https://proxy.example/.well-known/masque/udp/target.example/443/"}) {
    EXPECT_EQ(ErrorOf(With(":path", path)), SessionError::kPath) << path;
  }
  EXPECT_EQ(HttpStatus(SessionError::kPath), 404u);
}

//= RFC 9298, section 3
//# "target_port" MUST represent an integer between 1 and 65535 inclusive.
TEST(UdpRequest, Ports) {
  for (const auto *port : {"0", "65536", "99999", "+443", "-443", "443 ", "%20443", "0x1bb", "4e2",
                           "443443", "%D9%A4%D9%A4%D9%A3", "%EF%BC%94", "443%00", "%00443", "",
                           "44:3", "44%3A3", "443.0", "%2B443"}) {
    const auto read = OfPath("target.example/" + std::string(port) + "/");
    ASSERT_FALSE(read) << port;
    EXPECT_EQ(HttpStatus(read.error()) / 100, 4u) << port;
  }
  for (const auto &[text, port] :
       std::array<std::pair<std::string_view, std::uint16_t>, 4>{
         {{"1", 1}, {"65535", 65535}, {"%34%34%33", 443}, {"00443", 443}}}) {
    const auto read = OfPath("target.example/" + std::string(text) + "/");
    ASSERT_TRUE(read) << text;
    EXPECT_EQ(read->target.port, port);
  }
}

//= RFC 9298, section 3
//# Using the terms IPv6address, IPv4address, reg-name, and port from [URI], the "target_host" and
//# "target_port" variables MUST adhere to the format in Figure 2, using notation from [ABNF].
//
//= RFC 9298, section 3
//# both the "target_host" and "target_port" variables MUST NOT be empty.
TEST(UdpRequest, Hosts) {
  for (const auto *host : {"", "%2F", "a%2Fb", "..%2Fa", "a%00", "%00", "%253A", "2001%253Adb8",
                           "a%20b", "%0d%0a", "user%40host", "[2001:db8::1]",
                           "%5B2001%3Adb8%3A%3A1%5D", "fe80%3A%3A1%25eth0", "1%3A2", "x%5D%3A80",
                           "a%3A80", "a%2Cb", "%C3%A4.example", "a..b", ".", "%", "%4", "%GG",
                           "%23", "%3F", "*", "a;b"}) {
    const auto read = OfPath(std::string(host) + "/443/");
    ASSERT_FALSE(read) << host;
    EXPECT_EQ(HttpStatus(read.error()) / 100, 4u) << host;
  }
  EXPECT_FALSE(OfPath(std::string(kMaxHostLength + 1, 'a') + "/443/"));
  for (const auto &[text, host] : std::array<std::pair<std::string_view, std::string_view>, 6>{
         {{"Target.Example.", "target.example"},
          {"192.0.2.1", "192.0.2.1"},
          {"2001%3Adb8%3A0%3A0%3A%3A1", "2001:db8::1"},
          {"2001%3adb8%3a%3a1", "2001:db8::1"},
          {"%74arget", "target"},
          {"0x7f000001", "0x7f000001"}}}) {
    const auto read = OfPath(std::string(text) + "/443/");
    ASSERT_TRUE(read) << text;
    EXPECT_EQ(read->target.host, host);
  }
}

//= RFC 9297, section 3.2
//# The Capsule Protocol MUST NOT be used with messages that contain Content-Length, Content-Type, or
//# Transfer-Encoding header fields.
TEST(UdpRequest, Content) {
  for (const auto *name : {"content-length", "content-type", "transfer-encoding"}) {
    EXPECT_EQ(ErrorOf(With(name, "0")), SessionError::kRequestContent) << name;
  }
}

// It says nothing that `:protocol` has not said: whatever it is, it is no reason to refuse.
TEST(UdpRequest, CapsuleProtocol) {
  for (const auto *value : {"?0", "1", "", "?1, ?1", "junk"}) {
    EXPECT_TRUE(Read(With("capsule-protocol", value))) << value;
  }
  auto twice = Good();
  twice.push_back({"capsule-protocol", "?1"});
  EXPECT_TRUE(Read(twice));
  EXPECT_TRUE(Read(Without("capsule-protocol")));
}

TEST(UdpRequest, ByAnotherTemplate) {
  const auto path = UriTemplate::Parse("/p{?target_port,target_host}").value();
  auto fields = With(":path", "/p?target_port=443&target_host=a.example");
  EXPECT_EQ(ParseUdpRequest(fields, path)->target, (Authority{"a.example", 443}));
  EXPECT_EQ(ParseUdpRequest(Good(), path).error(), SessionError::kPath);
}

Fields Response(std::string_view status, Fields more = {}) {
  more.insert(more.begin(), {":status", std::string(status)});
  return more;
}

//= RFC 9297, section 3.4
//# The Capsule-Protocol header field MUST NOT be used on HTTP responses with a status code that is
//# both different from 101 (Switching Protocols) and outside the 2xx (Successful) range.
TEST(UdpResponse, AsItIsWritten) {
  UdpResponse response{.status = 200,
                       .forwarding = ForwardingAnswer{.forwarding = true,
                                                      .transform = "identity",
                                                      .key = {}},
                       .port_sharing = true,
                       .capsule_protocol = true,
                       .proxy_status = "ngmasque;next-hop=\"192.0.2.9\""};
  const auto fields = UdpResponseFields(response);
  EXPECT_EQ(fields, (Fields{{":status", "200"},
                            {"capsule-protocol", "?1"},
                            {"proxy-quic-forwarding", "?1;transform=\"identity\""},
                            {"proxy-quic-port-sharing", "?1"},
                            {"proxy-status", response.proxy_status}}));
  EXPECT_EQ(ParseUdpResponse(fields), response);
  EXPECT_EQ(UdpResponseFields({.status = 404, .forwarding = {}, .proxy_status = {}}),
            (Fields{{":status", "404"}}));
}

// Whoever knows the extension says so, and that it has no part of it.
TEST(UdpResponse, WithoutForwardingAndPortSharing) {
  EXPECT_EQ(UdpResponseFields({.status = 200,
                               .forwarding = ForwardingAnswer{},
                               .capsule_protocol = true,
                               .proxy_status = {}}),
            (Fields{{":status", "200"},
                    {"capsule-protocol", "?1"},
                    {"proxy-quic-forwarding", "?0"},
                    {"proxy-quic-port-sharing", "?0"}}));
}

//= RFC 9298, section 3.5
//# If any of these requirements are not met, the client MUST treat this proxying attempt as failed
//# and abort the request.
//
//= RFC 9297, section 3.2
//# Additionally, HTTP status codes 204 (No Content), 205 (Reset Content), and 206 (Partial Content)
//# MUST NOT be sent on responses that use the Capsule Protocol.
//
//= RFC 9297, section 3.2
//# A receiver that observes a violation of these requirements MUST treat the HTTP message as
//# malformed.
TEST(UdpResponse, Malformed) {
  using enum SessionError;
  for (const auto *status : {"", "20", "2000", "2x0", "100", "101", "199", "600", " 200"}) {
    const auto read = ParseUdpResponse(Response(status));
    ASSERT_FALSE(read) << status;
    EXPECT_EQ(read.error(), kStatus) << status;
  }
  EXPECT_FALSE(ParseUdpResponse(Fields{}));
  EXPECT_FALSE(ParseUdpResponse(Response("200", {{":status", "200"}})));
  for (const auto *status : {"204", "205", "206"}) {
    const auto read = ParseUdpResponse(Response(status));
    ASSERT_FALSE(read) << status;
    EXPECT_EQ(read.error(), kResponseContent) << status;
  }
  for (const auto *name : {"content-length", "content-type", "transfer-encoding"}) {
    const auto read = ParseUdpResponse(Response("200", {{name, "0"}}));
    ASSERT_FALSE(read) << name;
    EXPECT_EQ(read.error(), kResponseContent) << name;
    EXPECT_TRUE(ParseUdpResponse(Response("403", {{name, "0"}}))) << "a refusal may have content";
  }
}

// A refusal says no more than why.
TEST(UdpResponse, Refusals) {
  const auto read = ParseUdpResponse(Response("403", {{"capsule-protocol", "?1"},
                                                      {"proxy-quic-forwarding", "?0"},
                                                      {"proxy-quic-port-sharing", "?1"},
                                                      {"proxy-status", "a"},
                                                      {"proxy-status", "b"}}));
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, (UdpResponse{.status = 403, .forwarding = {}, .proxy_status = "a, b"}));
}

//= RFC 9297, section 3.4
//# Its value MUST be a Boolean; any other value type MUST be handled as if the field were not present
//# by recipients (for example, if this field is included multiple times, its type will become a List
//# and the field will be ignored).
TEST(UdpResponse, CapsuleProtocol) {
  for (const auto *value : {"?0", "1", "true", "\"?1\"", "", "?1, ?1"}) {
    EXPECT_FALSE(ParseUdpResponse(Response("200", {{"capsule-protocol", value}}))->capsule_protocol)
      << value;
  }
  EXPECT_TRUE(ParseUdpResponse(Response("200", {{"capsule-protocol", "?1"}}))->capsule_protocol);
  EXPECT_TRUE(ParseUdpResponse(Response("200", {{"capsule-protocol", "?1;a=b"}}))->capsule_protocol);
  EXPECT_FALSE(ParseUdpResponse(Response("200", {{"capsule-protocol", "?1"},
                                                 {"capsule-protocol", "?1"}}))
                 ->capsule_protocol);
}

} // namespace
} // namespace ngmasque
