// URI templates of UDP proxies.

#include "ngmasque/wire/uri_template.h"

#include "wire_support.h"

#include <gtest/gtest.h>

#include <array>

using namespace ngmasque;
using namespace wire_test;

namespace {

UriTemplate Template(std::string_view text) { return UriTemplate::Parse(text).value(); }

std::string Absolute(std::string_view path) { return "https://proxy.example" + std::string(path); }

std::string Expand(std::string_view path, std::string_view host, std::string_view port) {
  return Template(Absolute(path)).Expand(host, port);
}

/// As a client's, and as a proxy's if it begins with the path.
void ExpectRefused(std::string_view text) {
  const auto result = UriTemplate::Parse(text);
  ASSERT_FALSE(result) << text;
  EXPECT_EQ(result.error(), WireError::kTemplate) << text;
}

using Target = std::optional<UdpTarget>;

} // namespace

// The examples of RFC 9298, section 2.
TEST(WireUriTemplate, Examples) {
  const auto known =
    Template("https://example.org/.well-known/masque/udp/{target_host}/{target_port}/");
  EXPECT_EQ(known.authority(), "example.org");
  EXPECT_EQ(known.Expand("192.0.2.6", "443"), "/.well-known/masque/udp/192.0.2.6/443/");
  EXPECT_EQ(known.Match("/.well-known/masque/udp/192.0.2.6/443/"),
            (UdpTarget{.host = "192.0.2.6", .port = "443"}));

  const auto values =
    Template("https://proxy.example.org:4443/masque?h={target_host}&p={target_port}");
  EXPECT_EQ(values.authority(), "proxy.example.org:4443");
  EXPECT_EQ(values.Expand("target.example", "443"), "/masque?h=target.example&p=443");
  EXPECT_EQ(values.Match("/masque?h=target.example&p=443"),
            (UdpTarget{.host = "target.example", .port = "443"}));

  const auto form = Template("https://proxy.example.org:4443/masque{?target_host,target_port}");
  EXPECT_EQ(form.Expand("target.example", "443"),
            "/masque?target_host=target.example&target_port=443");
  EXPECT_EQ(form.Match("/masque?target_host=target.example&target_port=443"),
            (UdpTarget{.host = "target.example", .port = "443"}));
}

TEST(WireUriTemplate, DefaultIsAProxys) {
  const auto proxy = Template(kDefaultUdpPath);
  EXPECT_EQ(proxy.authority(), "");
  EXPECT_EQ(proxy.Expand("a", "1"), "/.well-known/masque/udp/a/1/");
  EXPECT_EQ(proxy.Match("/.well-known/masque/udp/a/1/"), (UdpTarget{.host = "a", .port = "1"}));
}

//= RFC 9298, section 3
//# if "target_host" contains an IPv6 literal, the colons (":") MUST be
//# percent-encoded.  For example, if the target host is
//# "2001:db8::42", it will be encoded in the URI as
//# "2001%3Adb8%3A%3A42".
TEST(WireUriTemplate, Ipv6) {
  const auto proxy = Template(kDefaultUdpPath);
  const std::string path = "/.well-known/masque/udp/2001%3Adb8%3A%3A42/443/";
  const UdpTarget target{.host = "2001:db8::42", .port = "443"};
  EXPECT_EQ(proxy.Expand(target.host, target.port), path);
  EXPECT_EQ(proxy.Match(path), target);
  EXPECT_EQ(proxy.Match("/.well-known/masque/udp/2001%3adb8%3a%3a42/443/"), target);
  EXPECT_EQ(proxy.Match("/.well-known/masque/udp/2001:db8::42/443/"), Target{});
}

TEST(WireUriTemplate, ExpressionsOfAllKinds) {
  EXPECT_EQ(Expand("/{target_host}/{target_port}", "a", "1"), "/a/1");
  EXPECT_EQ(Expand("/{target_port}/{target_host}", "a", "1"), "/1/a");
  EXPECT_EQ(Expand("/{target_host,target_port}", "a", "1"), "/a,1");
  EXPECT_EQ(Expand("/{?target_port,target_host}", "a", "1"), "/?target_port=1&target_host=a");
  EXPECT_EQ(Expand("/?x{&target_host}{&target_port}", "a", "1"), "/?x&target_host=a&target_port=1");
  EXPECT_EQ(Expand("/{target_host}{?target_port}", "a", "1"), "/a?target_port=1");
  EXPECT_EQ(Expand("/~a-B._!$&()*+,;=:@[]%7e{target_host}/{target_port}", "", ""),
            "/~a-B._!$&()*+,;=:@[]%7e/");
}

TEST(WireUriTemplate, OtherVariablesAreUndefined) {
  EXPECT_EQ(Expand("/{x}{target_host}/{y}/{target_port}{z}", "a", "1"), "/a//1");
  EXPECT_EQ(Expand("/{x,target_host,y,target_port,z}", "a", "1"), "/a,1");
  EXPECT_EQ(Expand("/{?x,target_host,y,target_port}{&z}", "a", "1"),
            "/?target_host=a&target_port=1");
  EXPECT_EQ(Expand("/{?x}{&y,target_host,target_port}", "a", "1"), "/&target_host=a&target_port=1");
  EXPECT_EQ(Expand("/{a_1.b.%20c}{target_hosts}{Target_host}{target_host}/{target_port}", "a", "1"),
            "/a/1");
  EXPECT_EQ(Template("/{x}{target_host}/{target_port}").Match("/a/1"),
            (UdpTarget{.host = "a", .port = "1"}));
}

TEST(WireUriTemplate, VariablesThatComeTwiceHaveOneValue) {
  const auto proxy = Template("/{target_host}/{target_port}/{target_host}");
  EXPECT_EQ(proxy.Expand("a", "1"), "/a/1/a");
  EXPECT_EQ(proxy.Match("/a/1/a"), (UdpTarget{.host = "a", .port = "1"}));
  EXPECT_EQ(proxy.Match("/a/1/%61"), (UdpTarget{.host = "a", .port = "1"}));
  EXPECT_EQ(proxy.Match("/a/1/b"), Target{});
  EXPECT_EQ(proxy.Match("/a/1/"), Target{});
}

TEST(WireUriTemplate, ValuesAreEncodedOnce) {
  constexpr std::string_view path = "/{target_host}/{target_port}";
  EXPECT_EQ(Expand(path, "AZaz09-._~", "1"), "/AZaz09-._~/1") << "unreserved";
  EXPECT_EQ(Expand(path, ":/?#[]@!$&'()*+,;=", "1"),
            "/%3A%2F%3F%23%5B%5D%40%21%24%26%27%28%29%2A%2B%2C%3B%3D/1");
  EXPECT_EQ(Expand(path, "%3A", "%"), "/%253A/%25");
  EXPECT_EQ(Expand(path, "\xc3\xa4", std::string_view("\0 \x7f", 3)), "/%C3%A4/%00%20%7F");
}

TEST(WireUriTemplate, ValuesAreDecodedOnce) {
  const auto proxy = Template("/{target_host}/{target_port}");
  const auto host = [&](std::string_view value) {
    const auto target = proxy.Match("/" + std::string(value) + "/443");
    return target ? std::optional(target->host) : std::nullopt;
  };
  EXPECT_EQ(host("%253A"), "%3A");
  EXPECT_EQ(host("%252525"), "%2525");
  EXPECT_EQ(host("a%2Fb"), "a/b");
  EXPECT_EQ(host("a%00b"), std::string("a\0b", 3));
  EXPECT_EQ(host("%ff%C3%a4"), "\xff\xc3\xa4");
  EXPECT_EQ(host("%61%2e%2D"), "a.-") << "need not be encoded";
  // Not percent-encoded, cut off, and not hexadecimal digits.
  for (const auto *value :
       {"%", "a%", "%3", "%3/", "%g0", "%0g", "%%41", "% 1", "%+1", "%0x", "a%2"}) {
    EXPECT_EQ(host(value), std::nullopt) << value;
  }
  EXPECT_EQ(proxy.Match("/a/%"), Target{});
  EXPECT_EQ(proxy.Match("/a/%4"), Target{});
}

// What no expansion leaves as it is.
TEST(WireUriTemplate, ValuesHaveNoReservedCharacters) {
  const auto proxy = Template("/{target_host}/{target_port}");
  for (const auto c : std::string_view(":?#[]@!$&'()*+,;= \"<>\\^`{|}\x7f\x80\xff\0", 31)) {
    EXPECT_EQ(proxy.Match("/a" + std::string(1, c) + "b/443"), Target{}) << c;
    EXPECT_EQ(proxy.Match("/a/4" + std::string(1, c)), Target{}) << c;
  }
}

TEST(WireUriTemplate, EmptyValuesAreTheCallersToRefuse) {
  const auto proxy = Template("/udp/{target_host}/{target_port}/");
  EXPECT_EQ(proxy.Match("/udp//0/"), (UdpTarget{.host = "", .port = "0"}));
  EXPECT_EQ(proxy.Match("/udp///"), (UdpTarget{.host = "", .port = ""}));
  EXPECT_EQ(proxy.Match("/udp/a/+443/"), Target{});
  EXPECT_EQ(proxy.Match("/udp/a/%2B443/"), (UdpTarget{.host = "a", .port = "+443"}));
}

TEST(WireUriTemplate, PathsOfAnotherShape) {
  const auto proxy = Template("/udp/{target_host}/{target_port}/");
  for (const auto *path : {"",
                           "/",
                           "/udp",
                           "/udp/",
                           "/udp/a/",
                           "/udp/a/1",
                           "/udp/a/1//",
                           "/udp/a/1/x",
                           "/udp/a/b/1/",
                           "udp/a/1/",
                           "/UDP/a/1/",
                           "//udp/a/1/",
                           "/udp//a/1/",
                           "/udp/a/1/?",
                           "/udp/a/1/?x=y",
                           "/udp/a/1/#",
                           "https://x/udp/a/1/",
                           "*",
                           "/udp%2Fa/1/",
                           "/udp/a%2F1/"}) {
    EXPECT_EQ(proxy.Match(path), Target{}) << path;
  }
  const auto query = Template("/{?target_host,target_port}");
  for (const auto *path :
       {"/?target_host=a", "/?target_port=1&target_host=a", "/?target_host=a&target_port=1&x=y",
        "/?target_host=a%26target_port=1"}) {
    EXPECT_EQ(query.Match(path), Target{}) << path;
  }
}

// RFC 3986, section 6.2.2: what means the same is the same.
TEST(WireUriTemplate, LiteralsInAnotherEncoding) {
  const auto proxy = Template("/%7Eudp/a%2fb%3F/{target_host}/{target_port}");
  const UdpTarget target{.host = "h", .port = "1"};
  EXPECT_EQ(proxy.Match("/~udp/a%2Fb%3f/h/1"), target);
  EXPECT_EQ(proxy.Match("/%7e%75d%70/%61%2fb%3F/h/1"), target);
  for (const auto *path : {"/~udp/a/b%3F/h/1", "/~udp/a%2Fb?/h/1", "%2F~udp/a%2Fb%3F/h/1",
                           "/~udp/a%252Fb%3F/h/1", "/~udp/a%2Fb%3F/h%2F1", "/~udp/a%2"}) {
    EXPECT_EQ(proxy.Match(path), Target{}) << path;
  }
  EXPECT_EQ(proxy.Expand("h", "1"), "/%7Eudp/a%2fb%3F/h/1") << "as it was written";
}

//= RFC 9298, section 2
//# The URI Template MUST be in absolute form and MUST include non-empty
//# scheme, authority, and path components.
TEST(WireUriTemplate, NotAbsolute) {
  constexpr std::string_view path = "/{target_host}/{target_port}";
  for (const auto *before : {"http://x", "ftp://x", "https:/x", "https:", "https:///x", "://x", "x",
                             "https//x", "https://", " https://x", "https ://x", "httpss://x"}) {
    ExpectRefused(before + std::string(path));
  }
  for (const auto *text :
       {"", "https://x", "https://x?{target_host}{target_port}",
        "https://x{?target_host,target_port}", "https://x#/{target_host}/{target_port}"}) {
    ExpectRefused(text);
  }
  EXPECT_TRUE(UriTemplate::Parse("HTTPS://x" + std::string(path)));
}

TEST(WireUriTemplate, Authorities) {
  constexpr std::string_view path = "/{target_host}/{target_port}";
  for (const std::string_view authority :
       {"a", "A-b.example", "192.0.2.1", "192.0.2.1:443", "[2001:db8::1]", "[::]:65535", "a:1"}) {
    EXPECT_EQ(Template("https://" + std::string(authority) + std::string(path)).authority(),
              authority);
  }
  for (const auto *authority : {":443",
                                "a:",
                                "a:x",
                                "a:4 3",
                                "a:123456",
                                "a:1:2",
                                "u@a",
                                "u:p@a:1",
                                "[::1",
                                "[]",
                                "[::1]x",
                                "[::1]:",
                                "[fe80::1%25eth0]",
                                "::1",
                                "a b",
                                "a%",
                                "a%4",
                                "[a",
                                "a]",
                                "a[b]",
                                "a\\b",
                                "\xc3\xa4"}) {
    ExpectRefused("https://" + std::string(authority) + std::string(path));
  }
}

//= RFC 9298, section 2
//# The path component of the URI Template MUST start with a slash ("/").
TEST(WireUriTemplate, PathsThatDoNotBeginWithASlash) {
  for (const auto *text : {"{target_host}/{target_port}", "https://x{target_host}/{target_port}",
                           "?{target_host}/{target_port}", "a/{target_host}/{target_port}",
                           "{x}/{target_host}/{target_port}", "%2F{target_host}/{target_port}"}) {
    ExpectRefused(text);
  }
}

//= RFC 9298, section 2
//# All template variables MUST be within the path or query components of
//# the URI.
TEST(WireUriTemplate, VariablesElsewhere) {
  for (const auto *text :
       {"{x}://a/{target_host}/{target_port}", "https{x}://a/{target_host}/{target_port}",
        "https://{x}/{target_host}/{target_port}", "https://a.{x}/{target_host}/{target_port}",
        "https://a:{x}/{target_host}/{target_port}", "https://{target_host}/{target_port}",
        "https://a/{target_host}/{target_port}#{x}", "https://a/{target_host}/#{target_port}",
        // There is none in the absolute form.
        "https://a/{target_host}/{target_port}#x", "/{target_host}/{target_port}#"}) {
    ExpectRefused(text);
  }
}

//= RFC 9298, section 2
//# The URI Template MUST contain the two variables "target_host" and
//# "target_port" and MAY contain other variables.
TEST(WireUriTemplate, MissingVariables) {
  for (const auto *path :
       {"/", "/x", "/{target_host}", "/{target_port}", "/{target_host}/{target_host}",
        "/{target_host}/{port}", "/target_host/{target_port}", "/{x}",
        "/{Target_Host}/{target_port}", "/{target_host}/{target%5Fport}"}) {
    ExpectRefused(path);
    ExpectRefused(Absolute(path));
  }
}

//= RFC 9298, section 2
//# The URI Template MUST NOT contain any non-ASCII Unicode characters
//# and MUST only contain ASCII characters in the range 0x21-0x7E
//# inclusive (note that percent-encoding is allowed; see Section 2.1 of
//# [URI]).
TEST(WireUriTemplate, CharactersThatAreNotAllowed) {
  for (int c = 0; c < 256; ++c) {
    const auto text = "/" + std::string(1, static_cast<char>(c)) + "{target_host}/{target_port}";
    const bool good =
      c > 0x20 && c < 0x7f &&
      std::string_view("\"#%'<>\\^`{|}").find(static_cast<char>(c)) == std::string_view::npos;
    EXPECT_EQ(UriTemplate::Parse(Absolute(text)).has_value(), good) << c;
  }
  for (const auto *path : {"/%{target_host}/{target_port}", "/%4{target_host}/{target_port}",
                           "/%zz{target_host}/{target_port}", "/{target_host}/{target_port}%"}) {
    ExpectRefused(Absolute(path));
  }
}

//= RFC 9298, section 2
//# The URI Template MUST NOT use Reserved Expansion ("+" operator),
//# Fragment Expansion ("#" operator), Label Expansion with Dot-Prefix,
//# Path Segment Expansion with Slash-Prefix, nor Path-Style Parameter
//# Expansion with Semicolon-Prefix.
TEST(WireUriTemplate, OperatorsThatAreNotAllowed) {
  // The last six have no meaning yet: RFC 6570, section 2.2.
  for (const auto c : std::string_view("+#./;=,!@|$")) {
    const auto operation = std::string(1, c);
    ExpectRefused(Absolute("/{" + operation + "target_host}/{target_port}"));
    ExpectRefused(Absolute("/{target_host}/{target_port}{" + operation + "x}"));
  }
}

//= RFC 9298, section 2
//# The URI Template MUST be a level 3 template or lower.
TEST(WireUriTemplate, ModifiersAreLevelFour) {
  for (const auto *variable : {"target_host*", "target_host:3", "x*", "?x*", "?x:1", "&x,y*"}) {
    ExpectRefused(Absolute("/{" + std::string(variable) + "}{target_host}/{target_port}"));
  }
}

//= RFC 9298, section 2
//# If a client detects that any of the requirements above are not met by a URI Template, the client
//# MUST reject its configuration and abort the request without sending it to the UDP proxy.
TEST(WireUriTemplate, BracesAndNames) {
  for (const auto *path :
       {"/{target_host/{target_port}", "/{target_host}/{target_port",
        "/{{target_host}}/{target_port}", "/}{target_host}/{target_port}",
        "/{}{target_host}/{target_port}", "/{?}{target_host}/{target_port}",
        "/{,target_host}/{target_port}", "/{target_host,}/{target_port}",
        "/{target_host,,target_port}", "/{ target_host}/{target_port}",
        "/{target_host}/{target_port}{.x}", "/{target_host}/{target_port}{x.}",
        "/{target_host}/{target_port}{x..y}", "/{target_host}/{target_port}{x-y}",
        "/{target_host}/{target_port}{%4}"}) {
    ExpectRefused(Absolute(path));
  }
}

// No path of these says where the first value ends.  A client makes paths of them, which is all
// that it has to do.
TEST(WireUriTemplate, TemplatesThatOnlyAClientCanUse) {
  for (const auto *path : {"/{target_host}{target_port}", "/{target_host}x{target_port}",
                           "/{target_host}.{target_port}/", "/{target_host}%2F{target_port}",
                           "/{target_host}%41{target_port}", "/{target_host}{x}{target_port}",
                           "/{target_host}/{target_port}x", "/{target_host}/{target_port}%20"}) {
    ExpectRefused(path);
    const auto client = UriTemplate::Parse(Absolute(path));
    ASSERT_TRUE(client) << path;
    EXPECT_EQ(client->Match(client->Expand("a", "1")), Target{}) << path;
  }
  EXPECT_EQ(Expand("/{target_host}.{target_port}/", "a", "1"), "/a.1/");
}

TEST(WireUriTemplate, Lengths) {
  const std::string variables = "{target_host}/{target_port}";
  const auto longest = "/" + std::string(kMaxTemplateLength - 28, 'a') + variables;
  ASSERT_EQ(longest.size(), kMaxTemplateLength);
  EXPECT_TRUE(UriTemplate::Parse(longest));
  EXPECT_EQ(UriTemplate::Parse(longest + "/").error(), WireError::kTooLong);

  const auto proxy = Template("/" + variables);
  const std::string host(kMaxTemplateLength - 3, 'a');
  EXPECT_EQ(proxy.Match("/" + host + "/1"), (UdpTarget{.host = host, .port = "1"}));
  EXPECT_EQ(proxy.Match("/" + host + "/12"), Target{});
}

TEST(WireUriTemplate, RandomTargetsComeBack) {
  Random random{51};
  SCOPED_TRACE(random);
  const std::array templates{Template(kDefaultUdpPath), Template("/{target_port,target_host}"),
                             Template("/x{?target_host,target_port}"),
                             Template("/?{target_host}&%20{target_host};{target_port}")};
  for (int i = 0; i < 2000; ++i) {
    const auto host = random.Some(random.Below(40)), port = random.Some(random.Below(8));
    const UdpTarget target{.host = {host.begin(), host.end()}, .port = {port.begin(), port.end()}};
    for (const auto &proxy : templates) {
      const auto path = proxy.Expand(target.host, target.port);
      ASSERT_EQ(proxy.Match(path), target) << path;
    }
  }
}
