// Http3Server: requests of extended CONNECT, good ones and malformed ones, and how clients end them.

#include "quic_http3_requests.h"
#include "quic_server_network.h"
#include "quic_tls_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace {

using ngmasque::HeaderField;
using ngmasque::kH3MessageError;
using ngmasque::kH3NoError;
using ngmasque::kH3RequestCancelled;
using ngmasque::QuicError;
using ngmasque::StreamEnd;
using ngmasque::StreamId;
using quic_test::Bytes;
using quic_test::ExtendedConnect;
using quic_test::HeadersFrame;
using quic_test::Network;
using quic_test::RawClient;
using quic_test::ServerRecord;

using Fields = std::vector<HeaderField>;

constexpr std::uint16_t kPort = 9000;

const Bytes kOkFrame{0x01, 3, 0, 0, 0xd9};   // The table of QPACK has :status 200 as a byte.
const Fields kOk{{.name = ":status", .value = "200"}};
const Fields kNotImplemented{{.name = ":status", .value = "501"}};

class Http3ServerConnect : public testing::Test {
protected:
  explicit Http3ServerConnect(ngmasque::Http3Server::Options options = {})
    : network(std::move(options)) {
    network.Talk(client, kPort);
    EXPECT_TRUE(client.completed());
  }

  ServerRecord &record() { return *network.app.From(kPort); }

  // On a stream of its own: 0, 4, 8 ...
  void Send(Bytes bytes, bool fin = false) {
    client.Send(std::move(bytes), fin);
    network.Talk(client, kPort);
  }
  void SendMore(StreamId stream, Bytes bytes, bool fin) {
    client.SendMore(stream, std::move(bytes), fin);
    network.Talk(client, kPort);
  }

  void ExpectEnded(StreamId stream) {
    ASSERT_TRUE(record().ends.contains(stream));
    EXPECT_EQ(record().ends.at(stream), std::pair(StreamEnd::kFinished, kH3NoError));
  }

  // The whole answer, and then FIN.
  void ExpectFinished(std::int64_t stream, const Bytes &bytes) {
    EXPECT_EQ(client.streams[stream], bytes);
    EXPECT_TRUE(client.finished.contains(stream));
    EXPECT_FALSE(client.reset.contains(stream));
    EXPECT_EQ(client.streams_left(), 100u) << "it is over for both";
  }

  Network network;
  RawClient client{"h3"};
};

TEST_F(Http3ServerConnect, RequestsComeWithTheirProtocol) {
  Send(HeadersFrame(ExtendedConnect()));
  const auto same = [](const HeaderField &a, const HeaderField &b) {
    return a.name == b.name && a.value == b.value;
  };
  ASSERT_TRUE(record().requests.contains(0));
  EXPECT_TRUE(std::ranges::equal(record().requests.at(0), ExtendedConnect(), same));
  EXPECT_EQ(client.streams[0], kOkFrame);
}

// It is no tunnel that a proxy for UDP makes, and what to answer is up to it.
TEST_F(Http3ServerConnect, WithoutProtocolItIsPlainConnect) {
  network.app.on_headers = [](ServerRecord &record, StreamId stream) {
    EXPECT_TRUE(record.connection->Respond(stream, kNotImplemented, true));
  };
  Send(HeadersFrame({{.name = ":method", .value = "CONNECT"},
                     {.name = ":authority", .value = "target.example:443"}}));
  ASSERT_TRUE(record().requests.contains(0));
  EXPECT_EQ(record().requests.at(0).size(), 2u);
  EXPECT_TRUE(client.finished.contains(0));
}

Fields Without(std::string_view name) {
  auto fields = ExtendedConnect();
  EXPECT_EQ(std::erase_if(fields, [name](const auto &field) { return field.name == name; }), 1u);
  return fields;
}

Fields Twice(std::string_view name) {
  auto fields = ExtendedConnect();
  const auto found = std::ranges::find(fields, name, &HeaderField::name);
  fields.insert(found, HeaderField(*found));
  return fields;
}

Fields With(std::string_view name, std::string_view value) {
  auto fields = ExtendedConnect();
  std::ranges::find(fields, name, &HeaderField::name)->value = value;
  return fields;
}

//= RFC 8441, section 4
//# On requests that contain the :protocol pseudo-header field, the :scheme and :path pseudo-header
//# fields of the target URI (see Section 5) MUST also be included.
//
//= RFC 9114, section 4.1.2
//# Malformed requests or responses that are detected MUST be treated as a stream error of type
//# H3_MESSAGE_ERROR.
TEST_F(Http3ServerConnect, MalformedOnesAreErrorsOfTheStream) {
  auto late = ExtendedConnect();
  std::ranges::rotate(late, late.end() - 1); // A field before those that begin with a colon.
  auto with_host = Without(":authority");
  with_host.push_back({.name = "host", .value = "proxy.example"});
  auto plain_with_path = Without(":protocol");
  const std::pair<const char *, Fields> cases[]{
    {"no :method", Without(":method")},
    {"GET", With(":method", "GET")},
    {"CONNECT-UDP", With(":method", "CONNECT-UDP")},
    {"no :scheme", Without(":scheme")},
    {"no :path", Without(":path")},
    {"no :authority", Without(":authority")},
    {"host for :authority", with_host},
    {"empty :path", With(":path", "")},
    {":path that is none", With(":path", "x")},
    {":method twice", Twice(":method")},
    {":protocol twice", Twice(":protocol")},
    {":scheme twice", Twice(":scheme")},
    {":authority twice", Twice(":authority")},
    {":path twice", Twice(":path")},
    {"plain CONNECT with :scheme and :path", plain_with_path},
    {"late pseudo-header fields", late},
  };
  std::int64_t stream = 0;
  for (const auto &[what, fields] : cases) {
    SCOPED_TRACE(what);
    Send(HeadersFrame(fields));
    EXPECT_EQ(client.reset[stream], kH3MessageError);
    EXPECT_EQ(client.stopped[stream], kH3MessageError);
    EXPECT_TRUE(client.streams[stream].empty());
    stream += 4;
  }
  EXPECT_TRUE(record().requests.empty());
  EXPECT_FALSE(record().closed);
  Send(HeadersFrame(ExtendedConnect()));
  EXPECT_TRUE(record().requests.contains(static_cast<StreamId>(stream))) << "all others go on";
}

class Http3ServerWithoutConnect : public Http3ServerConnect {
protected:
  Http3ServerWithoutConnect() : Http3ServerConnect({.features = {.connect_protocol = false}}) {}
};

TEST_F(Http3ServerWithoutConnect, ProtocolIsMalformed) {
  Send(HeadersFrame(ExtendedConnect()));
  EXPECT_EQ(client.reset[0], kH3MessageError);
  EXPECT_TRUE(record().requests.empty());
}

// How clients end their requests.

TEST_F(Http3ServerConnect, WhatWasAcceptedIsEndedOnBothSides) {
  Send(HeadersFrame(ExtendedConnect()));
  ASSERT_TRUE(record().connection->answered(0));
  ASSERT_TRUE(record().connection->SendData(0, {}, Bytes{7, 8}));
  SendMore(0, {0x00, 1, 9}, true);
  EXPECT_EQ(record().data.at(0), Bytes{9});
  ExpectEnded(0);
  auto bytes = kOkFrame;
  bytes.insert(bytes.end(), {0x00, 2, 7, 8});
  ExpectFinished(0, bytes);
  EXPECT_EQ(record().connection->SendData(0, {}, Bytes{1}).error(), QuicError::kUnknownStream);
  EXPECT_FALSE(record().connection->answered(0)) << "it is not there any more";
}

// All at once, in one packet.
TEST_F(Http3ServerConnect, RequestThatIsEndedAtOnceHasItsAnswer) {
  Send(HeadersFrame(ExtendedConnect()), true);
  ExpectEnded(0);
  ExpectFinished(0, kOkFrame);
}

TEST_F(Http3ServerConnect, AnswerMayComeAfterTheEnd) {
  network.app.on_headers = [](ServerRecord &, StreamId) {};
  for (const auto end : {false, true}) {
    const StreamId stream = end ? 4 : 0;
    Send(HeadersFrame(ExtendedConnect()), true);
    ExpectEnded(stream);
    EXPECT_FALSE(record().connection->answered(stream));
    EXPECT_TRUE(client.streams[static_cast<std::int64_t>(stream)].empty());
    EXPECT_FALSE(client.reset.contains(static_cast<std::int64_t>(stream)));
    ASSERT_TRUE(record().connection->Respond(stream, kOk, end));
    network.Talk(client, kPort);
    ExpectFinished(static_cast<std::int64_t>(stream), kOkFrame);
  }
}

TEST_F(Http3ServerConnect, EndMayBeAnsweredWithAReset) {
  network.app.on_headers = [](ServerRecord &, StreamId) {};
  Send(HeadersFrame(ExtendedConnect()), true);
  record().connection->CloseStream(0, kH3RequestCancelled);
  network.Talk(client, kPort);
  EXPECT_EQ(client.reset[0], kH3RequestCancelled);
  EXPECT_EQ(client.streams_left(), 100u);
}

// As with a capsule that was cut off.
TEST_F(Http3ServerConnect, HandlerMayResetWithinTheCall) {
  network.app.on_closed = [](ServerRecord &record, StreamId stream) {
    record.connection->CloseStream(stream, kH3MessageError);
  };
  Send(HeadersFrame(ExtendedConnect()));
  SendMore(0, {0x00, 2, 0, 40}, true);
  ExpectEnded(0);
  EXPECT_EQ(client.reset[0], kH3MessageError);
  EXPECT_FALSE(client.finished.contains(0));
  EXPECT_EQ(client.streams_left(), 100u);
  EXPECT_FALSE(record().closed);
}

TEST_F(Http3ServerConnect, HandlerMaySayALastWordWithinTheCall) {
  network.app.on_closed = [](ServerRecord &record, StreamId stream) {
    EXPECT_TRUE(record.connection->SendMessage(stream, Bytes{5}));
  };
  Send(HeadersFrame(ExtendedConnect()));
  SendMore(0, {}, true);
  auto bytes = kOkFrame;
  bytes.insert(bytes.end(), {0x00, 1, 5});
  ExpectFinished(0, bytes);
}

TEST_F(Http3ServerConnect, ResetIsNoCleanEnd) {
  Send(HeadersFrame(ExtendedConnect()));
  client.Reset(0, 0x10f);
  network.Talk(client, kPort);
  EXPECT_EQ(record().ends.at(0), std::pair(StreamEnd::kReset, std::uint64_t{0x10f}));
  EXPECT_EQ(client.reset[0], kH3RequestCancelled);
}

} // namespace
