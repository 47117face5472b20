// Dialect rfc9298: what client and proxy agree on (proxying.md, section 4; adversarial.md, classes 14
// and 23).

#include "session_rfc9298_raw_proxy.h"

#include <algorithm>

namespace ngmasque {
namespace {

using Options = ProxyOptions;

// What a proxy says to an offer, and whether what it shares.
struct Agreement {
  std::string forwarding, port_sharing;
  bool knows_capsules = false;
  bool shared = false;
  bool operator==(const Agreement &) const = default;
};

std::ostream &operator<<(std::ostream &out, const Agreement &agreement) {
  return out << agreement.forwarding << " / " << agreement.port_sharing << " / "
             << agreement.knows_capsules << " / " << agreement.shared;
}

Agreement Agree(const std::vector<HeaderField> &more, const Options &options = {}) {
  ProxyWorld world(options, OpenPolicy());
  RawClient client(world);
  auto fields = RawClient::Fields();
  std::erase_if(fields, [](const HeaderField &field) { return field.name.starts_with("proxy-quic"); });
  fields.insert(fields.end(), more.begin(), more.end());
  EXPECT_EQ(world.Request(kAlice, 0, fields), 200u);
  EXPECT_EQ(world.Field(kAlice, 0, "capsule-protocol"), "?1");
  Agreement agreement{.forwarding = world.Field(kAlice, 0, "proxy-quic-forwarding"),
                      .port_sharing = world.Field(kAlice, 0, "proxy-quic-port-sharing")};
  agreement.knows_capsules = !client.Ask(Register("client-0")).empty();
  agreement.shared = world.proxy.Find(world.socket())->shared;
  return agreement;
}

const HeaderField kSharing{"proxy-quic-port-sharing", "?1"};
const std::string kKey = ";scramble-key=:" + std::string(42, 'A') + "A=:";

HeaderField Forwarding(const std::string &value) { return {"proxy-quic-forwarding", value}; }

//= RFC 9298, section 3.5
//# the HTTP status code on the response SHALL be in the 2xx (Successful) range.
//
//= RFC 9298, section 3.5
//# the response SHALL meet the requirements of HTTP responses that start the Capsule Protocol
TEST(Rfc9298Negotiation, Both) {
  EXPECT_EQ(Agree({Forwarding("?1;accept-transform=\"identity\""), kSharing}),
            (Agreement{"?1;transform=\"identity\"", "?1", true, true}));
  const auto scrambled =
    Agree({Forwarding("?1;accept-transform=\"scramble-dt,identity\"" + kKey), kSharing});
  EXPECT_TRUE(scrambled.forwarding.starts_with("?1;transform=\"scramble-dt\";scramble-key=:"));
}

//= draft-ietf-masque-quic-proxy, section 5.10
//# If forwarded mode is not supported, the proxy MUST NOT send a client VCID by setting the length
//# to zero.
//
//= draft-ietf-masque-quic-proxy, section 5.10
//# If forwarded mode is not supported, the proxy MUST NOT send a target VCID by setting the length
//# to zero.
TEST(Rfc9298Negotiation, OneOfThem) {
  EXPECT_EQ(Agree({Forwarding("?1;accept-transform=\"identity\"")}),
            (Agreement{"?1;transform=\"identity\"", "?0", true, false}));
  EXPECT_EQ(Agree({Forwarding("?0"), kSharing}), (Agreement{"?0", "?1", true, true}));
  EXPECT_EQ(Agree({Forwarding("?1;accept-transform=\"identity\""),
                   {"proxy-quic-port-sharing", "?0"}}),
            (Agreement{"?1;transform=\"identity\"", "?0", true, false}));
  EXPECT_EQ(Agree({Forwarding("?0")}), (Agreement{"?0", "?0", false, false}));
}

//= draft-ietf-masque-quic-proxy, section 3
//# If this header is not included, the client MUST NOT send any connection ID capsules.
//
// Then it must not share a socket, where nothing would come back.
TEST(Rfc9298Negotiation, PortSharingAlone) {
  EXPECT_EQ(Agree({kSharing}), Agreement{});
  //= draft-ietf-masque-quic-proxy, section 5.10
  //# Proxy-to-target 4-tuples MUST NOT be reused across QUIC and non-QUIC UDP proxy requests, since
  //# it might not be possible to correctly demultiplex or direct the traffic.
  EXPECT_EQ(Agree({}), Agreement{});
}

//= draft-ietf-masque-quic-proxy, section 3
//# If the proxy receives a "Proxy-QUIC-Forwarding" header with a value of "?1" and without the
//# "accept-transform" parameter, it MUST ignore the header and respond as if the client had not sent
//# the "Proxy-QUIC-Forwarding" header.
TEST(Rfc9298Negotiation, WithoutAcceptTransform) {
  EXPECT_EQ(Agree({Forwarding("?1"), kSharing}), Agreement{});
  EXPECT_EQ(Agree({Forwarding("?1;transform=\"identity\""), kSharing}), Agreement{})
    << "that is the proxy's word";
  EXPECT_EQ(Agree({Forwarding("?1;accept-transform=identity")}), Agreement{}) << "no String";
  EXPECT_EQ(Agree({Forwarding("1;accept-transform=\"identity\"")}), Agreement{}) << "no Boolean";
  EXPECT_EQ(Agree({Forwarding("?1;accept-transform=\"identity\""),
                   Forwarding("?1;accept-transform=\"identity\"")}),
            Agreement{})
    << "a List";
}

//= draft-ietf-masque-quic-proxy, section 3
//# If the proxy does not recognize or accept any of the transforms offered by the client, it MUST omit
//# this parameter and set the header field value to "?0", or omit the header entirely.
TEST(Rfc9298Negotiation, UnknownTransforms) {
  EXPECT_EQ(Agree({Forwarding("?1;accept-transform=\"rot13\""), kSharing}),
            (Agreement{"?0", "?1", true, true}));
  EXPECT_EQ(Agree({Forwarding("?1;accept-transform=\"\"")}), (Agreement{"?0", "?0", false, false}));
  EXPECT_EQ(Agree({Forwarding("?1;accept-transform=\"rot13, identity\"")}),
            (Agreement{"?1;transform=\"identity\"", "?0", true, false}));
  EXPECT_EQ(Agree({Forwarding("?1;accept-transform=\"identity\"")},
                  {.transforms = {Transform::kScrambleDt}}),
            (Agreement{"?0", "?0", false, false}));
}

//= draft-ietf-masque-quic-proxy, section 6.3.2
//# If either side receives a `scramble` transform without the "scramble-key" parameter, forwarded mode
//# MUST be disabled.
TEST(Rfc9298Negotiation, ScrambleWithoutKey) {
  for (const auto *key : {"", ";scramble-key=:AAAA:", ";scramble-key=\"AAAA\"", ";scramble-key=?1"}) {
    EXPECT_EQ(Agree({Forwarding("?1;accept-transform=\"scramble-dt\"" + std::string(key)), kSharing}),
              (Agreement{"?0", "?1", true, true}))
      << key;
  }
  // A key that nobody needs does no harm.
  EXPECT_EQ(Agree({Forwarding("?1;accept-transform=\"identity\"" + kKey)}).forwarding,
            "?1;transform=\"identity\"");
}

TEST(Rfc9298Negotiation, ByTheProxysOptions) {
  const std::vector<HeaderField> all{Forwarding("?1;accept-transform=\"identity\""), kSharing};
  EXPECT_EQ(Agree(all, {.forwarding = false}), (Agreement{"?0", "?1", true, true}));
  EXPECT_EQ(Agree(all, {.port_sharing = false}),
            (Agreement{"?1;transform=\"identity\"", "?0", true, false}));
  EXPECT_EQ(Agree(all, {.forwarding = false, .port_sharing = false}), Agreement{});
  EXPECT_EQ(Agree(all, {.connection_ids = false}), Agreement{});
}

// The client's side.

TEST(Rfc9298ClientNegotiation, WhatIsOffered) {
  const auto offer = [](std::vector<Transform> transforms, bool port_sharing, bool forward = true) {
    RawProxy proxy(kNewestRevision, std::move(transforms), port_sharing, forward);
    const auto said = proxy.Start();
    Texts fields;
    for (const auto &field : proxy.request) {
      if (field.name.starts_with("proxy-quic")) {
        fields.push_back(field.value.substr(0, field.value.find(";scramble-key")));
      }
    }
    fields.push_back(said.size() > 1 ? "capsules" : "none");
    return fields;
  };
  using enum Transform;
  EXPECT_EQ(offer({kScrambleDt, kIdentity}, true),
            (Texts{"?1;accept-transform=\"scramble-dt,identity\"", "?1", "capsules"}));
  EXPECT_EQ(offer({kIdentity}, false), (Texts{"?1;accept-transform=\"identity\"", "capsules"}));
  EXPECT_EQ(offer({}, true), (Texts{"?0", "?1", "capsules"}));
  EXPECT_EQ(offer({kIdentity}, true, false), (Texts{"?0", "?1", "capsules"}));
  //= draft-ietf-masque-quic-proxy, section 2.3
  //# If neither header is supplied with a value of "?1", none of the functionality in this document
  //# can be used and handling reduces to normal connect-udp.
  EXPECT_EQ(offer({kIdentity}, false, false), Texts{"none"});
}

//= draft-ietf-masque-quic-proxy, section 3
//# If the client receives a transform that it did not advertise support for, it MUST abort the
//# request.
TEST(Rfc9298ClientNegotiation, TransformThatWasNotOffered) {
  for (const auto *transform : {"scramble-dt", "scramble", "", "Identity"}) {
    RawProxy proxy(kNewestRevision, {Transform::kIdentity});
    proxy.Start();
    EXPECT_EQ(proxy.Respond(RawProxy::Accepting(transform)).at(0),
              "close " + std::to_string(kH3RequestCancelled))
      << transform;
  }
  RawProxy none(kNewestRevision, {Transform::kIdentity}, true, false);
  none.Start();
  EXPECT_EQ(none.Respond(RawProxy::Accepting()),
            (Texts{"close " + std::to_string(kH3RequestCancelled), "failed 0"}));
}

//= draft-ietf-masque-quic-proxy, section 6.3.2
//# If either side receives a `scramble` transform without the "scramble-key" parameter, forwarded mode
//# MUST be disabled.
TEST(Rfc9298ClientNegotiation, ScrambleWithoutKey) {
  RawProxy proxy(kNewestRevision, {Transform::kScrambleDt});
  proxy.Start();
  auto answer = RawProxy::Accepting("scramble-dt");
  answer.forwarding->key.reset();
  EXPECT_EQ(proxy.Respond(answer), (Texts{"opened", "fell back: proxy refuses to forward"}));
  EXPECT_TRUE(proxy.Do(proxy.tunnel.AddServerId(Id("server-0"))).empty());
}

//= draft-ietf-masque-quic-proxy, section 3
//# If the client does not receive this header in responses, the client SHALL assume that the proxy
//# does not support this extension.
TEST(Rfc9298ClientNegotiation, PlainAnswers) {
  auto without = RawProxy::Accepting();
  without.forwarding.reset();
  auto neither = RawProxy::Accepting("identity", false);
  neither.forwarding->forwarding = false;
  auto no_capsules = RawProxy::Accepting();
  no_capsules.capsule_protocol = false;
  for (const auto &answer : {without, neither, no_capsules}) {
    RawProxy proxy;
    proxy.Start();
    EXPECT_EQ(proxy.Respond(answer), (Texts{"opened", "fell back: proxy knows no connection IDs"}));
    EXPECT_EQ(proxy.Do(proxy.tunnel.AddClientId(Id("client-1"))), Texts{"release client-1"});
    EXPECT_TRUE(proxy.Say(Ack(Kind::kAckClientCid, "client-0", Id("virtual0"))).empty())
      << "it knows no capsules, either";
  }
}

//= RFC 9298, section 3.5
//# If any of these requirements are not met, the client MUST treat this proxying attempt as failed
//# and abort the request.
//
//= RFC 9298, section 3.1
//# Any response other than a successful response indicates that the request has failed; thus, the
//# client MUST abort the request.
TEST(Rfc9298ClientNegotiation, Refusals) {
  RawProxy refused;
  refused.Start();
  EXPECT_EQ(refused.Respond({.status = 403, .forwarding = {}, .proxy_status = "x"}),
            (Texts{"close " + std::to_string(kH3RequestCancelled), "failed 403"}));
  RawProxy malformed;
  malformed.Start();
  const std::vector<HeaderField> fields{{":status", "204"}};
  EXPECT_EQ(malformed.Do(malformed.tunnel.OnResponse(0, fields)),
            (Texts{"close " + std::to_string(kH3MessageError), "failed 0"}));
}

// Two requests on one stream: the second one is none.
TEST(Rfc9298Requests, TwoOnAStream) {
  ProxyWorld world({}, OpenPolicy());
  RawClient client(world);
  EXPECT_EQ(client.Open(), 200u);
  world.Do(world.proxy.OnRequest(client.key(), RawClient::Fields(), world.now));
  EXPECT_EQ(world.proxy.counters().requests, 1u);
  EXPECT_EQ(world.proxy.Find(kAlice)->tunnels.size(), 1u);
}

TEST(Rfc9298Requests, RefusedOnes) {
  ProxyWorld world({}, OpenPolicy());
  StreamId stream = 0;
  const auto status = [&](std::string_view name, std::string_view value) {
    auto fields = RawClient::Fields();
    const auto found = std::ranges::find(fields, name, &HeaderField::name);
    if (found == fields.end()) {
      fields.push_back({std::string(name), std::string(value)});
    } else {
      found->value = value;
    }
    return world.Request(kAlice, stream += 4, fields);
  };
  const std::string path = "/.well-known/masque/udp/";
  EXPECT_EQ(status(":path", path + "/0/"), 400u);
  EXPECT_EQ(status(":path", path + "192.0.2.9/0/"), 400u);
  EXPECT_EQ(status(":path", path + "192.0.2.9/65536/"), 400u);
  EXPECT_EQ(status(":path", path + "192.0.2.9/+443/"), 404u) << "'+' is in no value of a template";
  EXPECT_EQ(status(":path", path + "2001%253Adb8/443/"), 400u);
  EXPECT_EQ(status(":path", path + "a%2Fb/443/"), 400u);
  EXPECT_EQ(status(":path", path + "a%00/443/"), 400u);
  EXPECT_EQ(status(":path", "/elsewhere"), 404u);
  EXPECT_EQ(status(":path", path + "10.0.0.1/443/"), 403u);
  EXPECT_NE(world.Field(kAlice, stream, "proxy-status").find("destination_ip_prohibited"),
            std::string::npos);
  EXPECT_EQ(status(":path", path + "192.0.2.9/25/"), 403u) << "a port that is not allowed";
  EXPECT_EQ(status(":scheme", "http"), 400u);
  EXPECT_EQ(status(":protocol", "connect-ip"), 501u);
  EXPECT_EQ(status("content-length", "0"), 400u);
  EXPECT_EQ(status("content-type", "text/plain"), 400u);
  EXPECT_EQ(world.opened, 0);
  EXPECT_EQ(world.proxy.Find(kAlice)->client->requests, 0u);
  EXPECT_EQ(world.proxy.Find(kAlice)->client->tunnels, 0u);
  // None of them has decided anything.
  EXPECT_EQ(status("x-other", "1"), 200u);
}

} // namespace
} // namespace ngmasque
