// Dialect rfc9298: payloads in datagrams and capsules, and streams that are cut into pieces or off
// (proxying.md, section 4; adversarial.md, classes 16 to 18).

#include "session_rfc9298_raw_proxy.h"

#include <algorithm>

namespace ngmasque {
namespace {

constexpr std::uint64_t kUnknownType = 0x1234567;

class Rfc9298Payloads : public testing::Test {
protected:
  Rfc9298Payloads() {
    EXPECT_EQ(client.Open(), 200u);
    client.Map(Register("client-0"));
    EXPECT_EQ(other.Open(), 200u);
    other.Map(Register("client-1"));
  }
  std::uint64_t Dropped(DropReason reason) const {
    return world.proxy.counters().dropped.at(static_cast<std::size_t>(reason));
  }
  // What of a datagram goes to a target.
  std::optional<std::string> Datagram(const Bytes &datagram) {
    const auto to = world.OnDatagram(kAlice, datagram, world.now);
    return to && to->tunnel ? std::optional(ToText(to->payload)) : std::nullopt;
  }
  ClientForm FormOf(std::string_view id) {
    return world.Receive(world.socket(), Short(std::string(id) + " x"))->form;
  }

  ProxyWorld world{{}, OpenPolicy()};
  RawClient client{world, kAlice, 0}, other{world, kAlice, 4};
};

TEST_F(Rfc9298Payloads, CapsulesByteByByte) {
  const auto bytes =
    Concat({InCapsule("one"), RawCapsule(kUnknownType, Bytes(300, 'x')), InCapsule(""),
            WriteCidCapsule(kNewestRevision, RegisterTarget("server-0")), InCapsule("three")});
  Texts payloads;
  for (const auto &byte : bytes) {
    for (auto &payload : client.Send(std::span(&byte, 1))) {
      payloads.push_back(payload);
    }
  }
  EXPECT_EQ(payloads, (Texts{"one", "", "three"}));
  EXPECT_EQ(RawClient::Describe(client.Heard()), Texts{"ACK_TARGET_CID server-0 16"});
  EXPECT_EQ(client.reset(), 0u);
}

//= RFC 9297, section 3.3
//# If the receive side of a stream carrying capsules is terminated cleanly (for example, in HTTP/3
//# this is defined as receiving a QUIC STREAM frame with the FIN bit set) and the last capsule on the
//# stream was truncated, this MUST be treated as if it were a malformed or incomplete message.
TEST_F(Rfc9298Payloads, CutOff) {
  const auto whole = Concat({RawCapsule(kUnknownType, Bytes(5, 'x')), InCapsule("payload")});
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    RawClient one(world, kAlice, 100 + 4 * length);
    ASSERT_EQ(one.Open(), 200u);
    (void)one.Send(std::span(whole).first(length));
    world.Do(world.proxy.OnStreamClosed(one.key(), world.now, true));
    const bool at_boundary = length == 0 || length == 10 || length == whole.size();
    EXPECT_EQ(one.reset(), at_boundary ? 0u : kH3MessageError) << length;
    EXPECT_EQ(world.ended.back().reason, at_boundary ? EndReason::kClosed : EndReason::kProtocol);
  }
  // A reset is none: whatever was under way is not to be there.
  (void)client.Send(std::span(whole).first(3));
  world.Close(kAlice, 0);
  EXPECT_EQ(client.reset(), 0u);
}

//= RFC 9297, section 3.2
//# Endpoints that receive a Capsule with an unknown Capsule Type MUST silently drop that Capsule and
//# skip over it to parse the next Capsule.
TEST_F(Rfc9298Payloads, UnknownCapsuleWithoutEnd) {
  const auto before = world.proxy.Find(kAlice)->client->waiting->bytes();
  (void)client.Send(RawCapsule(kUnknownType, {}, kVarintMax));
  const Bytes megabyte(1 << 20, 0);
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(client.Send(megabyte).empty());
    EXPECT_EQ(world.proxy.Find(kAlice)->client->waiting->bytes(), before);
  }
  EXPECT_EQ(client.reset(), 0u);
  world.Do(world.proxy.OnStreamClosed(client.key(), world.now, true));
  EXPECT_EQ(client.reset(), kH3MessageError);
}

// Refused as soon as it is known how long it is.
//
//= RFC 9297, section 3.3
//# When a receiver encounters an error processing the Capsule Protocol, the receiver MUST treat it
//# as if it had received a malformed or incomplete HTTP message.
TEST_F(Rfc9298Payloads, KnownCapsulesThatAreTooLong) {
  StreamId stream = 100;
  for (const auto &[type, length] :
       std::vector<std::pair<std::uint64_t, std::uint64_t>>{{kDatagramCapsule, 65'536},
                                                            {kDatagramCapsule, kVarintMax},
                                                            {0xffe800, kMaxCidCapsule + 1},
                                                            {0xffe700, kVarintMax},
                                                            {0xffe809, kVarintMax}}) {
    RawClient one(world, kAlice, stream += 4);
    one.Open();
    (void)one.Send(RawCapsule(type, {}, length));
    EXPECT_EQ(one.reset(), kH3MessageError) << type << ' ' << length;
  }
  EXPECT_EQ(client.reset(), 0u);
}

//= RFC 9297, section 3.3
//# A Capsule payload that contains additional bytes after the identified fields or a Capsule payload
//# that terminates before the end of the identified fields MUST be treated as it if were a malformed
//# or incomplete message.
TEST_F(Rfc9298Payloads, CapsulesThatAreMalformed) {
  StreamId stream = 100;
  for (const auto &[type, value] : std::vector<std::pair<std::uint64_t, Bytes>>{
         {0xffe800, {}},                             // No reason.
         {0xffe801, {0}},                            // No connection ID.
         {0xffe801, {0, 4, 'a', 'b', 'c'}},          // A part of it.
         {0xffe801, {0, 4, 'a', 'b', 'c', 'd'}},     // No token.
         {0xffe801, {0, 4, 'a', 'b', 'c', 'd', 0, 0}},
         {0xffe801, {0, 4, 'a', 'b', 'c', 'd', 15}}, // A token is 0 or 16 bytes.
         {0xffe801, {0, 0x41, 0x00, 'a'}},           // 256 bytes.
         {0xffe803, {4, 'a', 'b', 'c', 'd', 1}},
         {0xffe809, {}},
         {0xffe809, {3, 3}}}) {
    RawClient one(world, kAlice, stream += 4);
    one.Open();
    (void)one.Send(RawCapsule(type, value));
    EXPECT_EQ(one.reset(), kH3MessageError) << type << ' ' << value.size();

    RawProxy proxy;
    proxy.Open();
    const auto what = RawCapsule(type, value);
    EXPECT_EQ(proxy.Send(what).at(0), "close " + std::to_string(kH3MessageError));
  }
  EXPECT_EQ(client.reset(), 0u);
}

//= RFC 9298, section 5
//# An endpoint that receives an HTTP Datagram using Context ID zero whose UDP Proxying Payload field
//# is longer than 65527 MUST abort the corresponding stream.
TEST_F(Rfc9298Payloads, TooLong) {
  const std::string longest(65'527, 'x'), longer(65'528, 'x');
  EXPECT_EQ(Datagram(InDatagram(0, longest)), longest);
  EXPECT_EQ(client.Send(InCapsule(longest)), Texts{longest});
  EXPECT_EQ(Datagram(InDatagram(4, longer)), std::nullopt);
  EXPECT_EQ(other.reset(), kH3DatagramError);
  EXPECT_EQ(client.reset(), 0u) << "of the other tunnel alone";
  EXPECT_EQ(Datagram(InDatagram(0, "x")), "x");
  (void)client.Send(InCapsule(longer));
  EXPECT_EQ(client.reset(), kH3DatagramError);
  EXPECT_EQ(Dropped(DropReason::kBadDatagram), 1u);
  // For a stream that nobody has, it is nobody's error.
  EXPECT_EQ(world.OnDatagram(kAlice, InDatagram(8, longer), world.now).error(),
            DropReason::kBadDatagram);
}

TEST_F(Rfc9298Payloads, WithoutContextId) {
  EXPECT_EQ(Datagram({1}), std::nullopt);
  EXPECT_EQ(other.reset(), kH3DatagramError);
  EXPECT_EQ(Datagram({0, 0x40}), std::nullopt) << "half of one";
  EXPECT_EQ(client.reset(), kH3DatagramError);
  RawClient third(world, kAlice, 8);
  third.Open();
  (void)third.Send(RawCapsule(kDatagramCapsule, {}));
  EXPECT_EQ(third.reset(), kH3DatagramError);
}

//= RFC 9297, section 2.1
//# Receipt of an HTTP/3 Datagram that includes a larger value MUST be treated as an HTTP/3 connection
//# error of type H3_DATAGRAM_ERROR (0x33).
TEST_F(Rfc9298Payloads, WithoutQuarterStreamId) {
  for (const auto &datagram : {Bytes{}, Bytes{0x40}, Bytes{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
                               // One more than the last stream has.
                               Bytes{0xd0, 0, 0, 0, 0, 0, 0, 0, 0, 'x'}}) {
    EXPECT_EQ(world.OnDatagram(kAlice, datagram, world.now).error(), DropReason::kMalformed);
  }
  EXPECT_EQ(world.proxy.DatagramError(kAlice), kH3DatagramError);
  EXPECT_EQ(client.reset(), 0u);
}

//= RFC 9298, section 5
//# If an HTTP/3 Datagram that carries an unknown Context ID is received, the receiver SHALL either
//# drop that datagram silently or buffer it temporarily (on the order of a round trip) while awaiting
//# the registration of the corresponding Context ID.
TEST_F(Rfc9298Payloads, UnknownContexts) {
  for (const auto &context : {Bytes{1}, Bytes{2}, Bytes{0x40, 0x40}, Bytes(8, 0xff)}) {
    EXPECT_EQ(Datagram(Concat({{0}, context, ToBytes("payload")})), std::nullopt);
    EXPECT_TRUE(client.Send(RawCapsule(kDatagramCapsule, Concat({context, ToBytes("x")}))).empty());
    EXPECT_EQ(client.last_error, DropReason::kUnknownContext);
  }
  EXPECT_EQ(Dropped(DropReason::kUnknownContext), 8u);
  EXPECT_EQ(client.reset(), 0u);
  // 0, in however many bytes.
  EXPECT_EQ(Datagram({0, 0xc0, 0, 0, 0, 0, 0, 0, 0, 'x'}), "x");
}

TEST_F(Rfc9298Payloads, EmptyOnes) {
  EXPECT_EQ(Datagram({0, 0}), "");
  EXPECT_EQ(client.Send(InCapsule("")), Texts{""});
}

//= RFC 9298, section 5
//# If a UDP proxy receives an HTTP Datagram before it has received the corresponding request, it SHALL
//# either drop that HTTP Datagram silently or buffer it temporarily (on the order of a round trip)
//# while awaiting the corresponding request.
//
//= RFC 9297, section 2.1
//# If an HTTP/3 Datagram is received and its Quarter Stream ID field maps to a stream that has not
//# yet been created, the receiver SHALL either drop that datagram silently or buffer it temporarily
//# (on the order of a round trip) while awaiting the creation of the corresponding stream.
TEST(Rfc9298Early, DatagramsBeforeTheRequest) {
  ProxyWorld world({}, OpenPolicy());
  world.proxy.SetDatagrams(kAlice, true, true);
  for (int i = 0; i < 40; ++i) {
    const auto to = world.OnDatagram(kAlice, InDatagram(8, "payload " + std::to_string(i)),
                                     world.now);
    EXPECT_TRUE(!to || !to->tunnel);
  }
  RawClient client(world, kAlice, 8);
  EXPECT_EQ(client.Open(Offer(), false), 200u);
  ASSERT_EQ(world.sent.size(), 16u);
  EXPECT_EQ(world.sent[0].second, "payload 0");
  EXPECT_EQ(world.sent[15].second, "payload 15");
  // And what it has gets back comes in datagrams, too.
  EXPECT_EQ(world.Receive(world.socket(), Short("xyz"))->form, ClientForm::kDatagram);
}

//= draft-ietf-masque-quic-proxy, section 5
//# If the proxy rejects the client CID, the proxy MUST drop all packets until it has sent an
//# ACK_CLIENT_CID capsule
TEST(Rfc9298Early, NothingLeavesAfterARejection) {
  ProxyWorld world({}, OpenPolicy());
  RawClient bob(world, kBob), client(world);
  bob.Open();
  bob.Map(Register("client-0"));
  EXPECT_EQ(client.Open(), 200u);
  const auto send = [&](std::string_view payload) {
    return world.OnDatagram(kAlice, InDatagram(0, payload), world.now);
  };
  EXPECT_FALSE(send("before")->tunnel);
  EXPECT_EQ(client.Ask(Register("client-0")).at(0).kind, Kind::kRejectClientCid);
  EXPECT_EQ(send("meanwhile").error(), DropReason::kUnknownConnectionId);
  EXPECT_EQ(client.Ask(Register("client-1")).at(0).kind, Kind::kAckClientCid);
  EXPECT_TRUE(world.sent.empty());
  EXPECT_TRUE(send("afterwards")->tunnel);
  const auto way = world.proxy.counters().tunnels[Way::kTunnelledToTarget];
  EXPECT_EQ(way.passed.packets, 1u);
  EXPECT_EQ(way.dropped[static_cast<std::size_t>(DropReason::kUnknownConnectionId)], 2u);
}

// What is late is dropped, and what comes from a target has nowhere to go.
//
//= RFC 9297, section 2
//# HTTP Datagrams MUST only be sent with an association to an HTTP request that explicitly supports
//# them.
//
//= RFC 9297, section 2.1
//# HTTP/3 Datagrams MUST NOT be sent unless the corresponding stream's send side is open.
//
//= RFC 9297, section 2.1
//# If a datagram is received after the corresponding stream's receive side is closed, the received
//# datagrams MUST be silently dropped.
//
//= RFC 9298, section 3.1
//# The UDP proxy MUST keep the socket open while the request stream is open.
TEST_F(Rfc9298Payloads, AfterTheEndOfTheStream) {
  ASSERT_EQ(Datagram(InDatagram(4, "x")), "x");
  const auto socket = world.socket();
  EXPECT_TRUE(world.Receive(socket, Short("client-1 x")));
  EXPECT_TRUE(world.open.contains(socket));
  world.Close(kAlice, 4);
  EXPECT_EQ(world.OnDatagram(kAlice, InDatagram(4, "x"), world.now).error(),
            DropReason::kUnknownFlow);
  EXPECT_EQ(world.proxy.Find(kAlice)->client->waiting->bytes(), 0u) << "it is not kept";
  EXPECT_FALSE(world.Receive(socket, Short("client-1 x")));
  EXPECT_TRUE(world.open.contains(socket)) << "the other tunnel is there";
  world.Close(kAlice, 0);
  EXPECT_FALSE(world.open.contains(socket));
}

//= RFC 9298, section 5
//# Therefore, endpoints MUST NOT send HTTP Datagrams with a UDP Proxying Payload field longer than
//# 65527 using Context ID zero.
TEST(Rfc9298Prefixes, OfTheLargestPayload) {
  EXPECT_TRUE(rfc9298::CapsulePrefix(65'527));
  EXPECT_EQ(rfc9298::CapsulePrefix(65'528).error(), DropReason::kTooLarge);
}

// A client that has only ever sent capsules gets nothing else back, until its first datagram.
TEST_F(Rfc9298Payloads, WhatItSendsIsWhatItGets) {
  const auto bare = [&] { return FormOf("client-2"); };
  RawClient third(world, kAlice, 8);
  third.Open(ForwardingOffer{}, true);
  EXPECT_EQ(RawClient::Describe(third.Ask(Register("client-2"))).at(0), "ACK_CLIENT_CID client-2 0");
  EXPECT_EQ(bare(), ClientForm::kDatagram) << "nothing is known yet";
  EXPECT_EQ(third.Send(InCapsule("x")), Texts{"x"});
  EXPECT_EQ(bare(), ClientForm::kStream);
  EXPECT_EQ(Datagram(InDatagram(8, "x")), "x");
  EXPECT_EQ(bare(), ClientForm::kDatagram);
  EXPECT_EQ(third.Send(InCapsule("x")), Texts{"x"});
  EXPECT_EQ(bare(), ClientForm::kDatagram);
}

TEST_F(Rfc9298Payloads, WithoutQuicDatagrams) {
  world.proxy.SetDatagrams(kBob, false);
  RawClient bob(world, kBob);
  bob.Open();
  bob.Map(Register("client-b"));
  EXPECT_EQ(FormOf("client-b"), ClientForm::kForward);
  auto packet = Long("client-b");
  const auto to = world.proxy.FromTarget(world.proxy.Find(world.socket()), {.bytes = packet},
                                         world.now);
  ASSERT_TRUE(to);
  EXPECT_EQ(to->form, ClientForm::kStream);
  const auto prefix = world.proxy.StreamPrefix(*to);
  ASSERT_TRUE(prefix);
  const auto view = prefix->view();
  EXPECT_EQ(Concat({Bytes(view.begin(), view.end()), Bytes(to->packet.bytes.begin(),
                                                           to->packet.bytes.end())}),
            InCapsule(ToText(to->packet.bytes)));
}

// The client's side of the same.
TEST(Rfc9298ClientPayloads, Capsules) {
  RawProxy proxy;
  proxy.Open();
  const auto bytes =
    Concat({InCapsule("one"), RawCapsule(kUnknownType, Bytes(300, 'x')), InCapsule("")});
  for (const auto &byte : bytes) {
    EXPECT_TRUE(proxy.Send(std::span(&byte, 1)).empty());
  }
  EXPECT_EQ(proxy.payloads, (Texts{"one", ""}));
  EXPECT_TRUE(proxy.Send(RawCapsule(kDatagramCapsule, {5, 'x'})).empty());
  EXPECT_EQ(proxy.last_error, DropReason::kUnknownContext);
  EXPECT_EQ(proxy.Send(InCapsule(std::string(65'528, 'x'))).at(0),
            "close " + std::to_string(kH3DatagramError));
}

TEST(Rfc9298ClientPayloads, Datagrams) {
  RawProxy proxy;
  proxy.Open(); // Its stream is 4.
  const auto read = [&](const Bytes &datagram) { return proxy.dialect->OnDatagram(datagram); };
  const auto good = InDatagram(4, "x");
  ASSERT_TRUE(read(good));
  EXPECT_EQ(read(good)->tunnel, &proxy.tunnel);
  EXPECT_EQ(read(InDatagram(8, "x")).error().reason, DropReason::kUnknownFlow);
  EXPECT_EQ(read({1, 5, 'x'}).error().reason, DropReason::kUnknownContext);
  EXPECT_EQ(read({1, 5, 'x'}).error().tunnel, nullptr);
  EXPECT_EQ(read({1}).error().tunnel, &proxy.tunnel) << "an error of the tunnel's";
  EXPECT_EQ(read({}).error().close, kH3DatagramError) << "and of the connection's";
  EXPECT_EQ(proxy.Do(proxy.tunnel.OnBadDatagram()).at(0),
            "close " + std::to_string(kH3DatagramError));
  EXPECT_EQ(read(good).error().reason, DropReason::kUnknownFlow);
}

} // namespace
} // namespace ngmasque
