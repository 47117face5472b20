// Http3Client: connections, requests and their ends.

#include "quic_support.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

#include <unistd.h>

namespace quic_test {
namespace {

using ngmasque::CloseKind;
using ngmasque::HeaderField;
using ngmasque::Http3Client;
using ngmasque::QuicError;
using ngmasque::StreamEnd;

std::vector<HeaderField> Ok() { return {{.name = ":status", .value = "200"}}; }

TEST(QuicClient, HandshakeWithVerifiedCertificate) {
  Pair pair({}, {.ca_file = "own"});
  ASSERT_TRUE(pair.Connect());
  EXPECT_TRUE(pair.client->datagrams());
  EXPECT_EQ(pair.recorder.max_datagram, pair.client->max_datagram());
  pair.Settle();
  const ngmasque::PeerSettings both{.datagrams = true, .draft_datagrams = true};
  EXPECT_EQ(pair.client->peer_settings(), both);
  EXPECT_EQ(pair.recorder.settings, both);
  EXPECT_EQ(pair.server->client_settings, both);
  EXPECT_FALSE(pair.recorder.closed);
}

TEST(QuicClient, WrongCaIsRefusedInWords) {
  const Certificate other;
  Pair pair({}, {.ca_file = other.file()});
  ASSERT_TRUE(pair.RunUntil([&] { return pair.recorder.closed.has_value(); }));
  EXPECT_EQ(pair.recorder.closed->kind, CloseKind::kCertificate);
  EXPECT_NE(pair.recorder.closed->text.find("issuer is unknown"), std::string::npos)
    << pair.recorder.closed->text;
  EXPECT_FALSE(pair.recorder.max_datagram);
  // RFC 9001, section 4.8: the code is that of an alert.
  EXPECT_EQ(pair.server->close_code.value_or(0) >> 8, 1u);
}

TEST(QuicClient, WrongNameIsRefusedInWords) {
  Pair pair({}, {.server_name = "other.example", .ca_file = "own"});
  ASSERT_TRUE(pair.RunUntil([&] { return pair.recorder.closed.has_value(); }));
  EXPECT_EQ(pair.recorder.closed->kind, CloseKind::kCertificate);
  EXPECT_NE(pair.recorder.closed->text.find("name in the certificate does not match"),
            std::string::npos)
    << pair.recorder.closed->text;
}

TEST(QuicClient, BadOptions) {
  Pair no_ca({}, {.ca_file = "/nonexistent/ca.pem"});
  ASSERT_TRUE(no_ca.failure);
  EXPECT_EQ(no_ca.failure->code, QuicError::kTls);
  EXPECT_NE(no_ca.failure->text.find("/nonexistent/ca.pem"), std::string::npos);
  Pair no_qlog({}, {.qlog_dir = "/nonexistent"});
  ASSERT_TRUE(no_qlog.failure);
  EXPECT_EQ(no_qlog.failure->code, QuicError::kQlog);
  Pair no_keys({}, {.key_log_file = "/nonexistent/keys"});
  ASSERT_TRUE(no_keys.failure);
  EXPECT_EQ(no_keys.failure->code, QuicError::kQlog);
  Pair too_small({}, {.max_udp_payload = 1199});
  ASSERT_TRUE(too_small.failure);
  EXPECT_EQ(too_small.failure->code, QuicError::kArgument);
}

TEST(QuicClient, QlogAndKeyLog) {
  const auto dir = std::filesystem::temp_directory_path() /
                   ("ngmasque-quic-test-qlog-" + std::to_string(::getpid()));
  std::filesystem::create_directory(dir);
  std::string name;
  {
    Pair pair({}, {.qlog_dir = dir, .key_log_file = dir / "keys"});
    EXPECT_TRUE(pair.Connect());
    for (const auto byte : pair.recorder.local_ids.front().bytes()) {
      constexpr std::string_view kDigits = "0123456789abcdef";
      name += {kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  const auto read = [](const std::filesystem::path &path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  };
  EXPECT_NE(read(dir / (name + ".outer.sqlog")).find("packet_received"), std::string::npos);
  EXPECT_NE(read(dir / "keys").find("CLIENT_TRAFFIC_SECRET_0 "), std::string::npos);
  std::filesystem::remove_all(dir);
}

TEST(QuicClient, RequestAndResponse) {
  Pair pair;
  EXPECT_EQ(pair.client->SubmitRequest(Request()).error(), QuicError::kNotReady);
  ASSERT_TRUE(pair.Connect());
  const auto stream = pair.client->SubmitRequest(Request());
  ASSERT_TRUE(stream);
  pair.Settle();
  EXPECT_EQ(pair.server->requests[0], Request());
  EXPECT_TRUE(pair.recorder.responses.empty());

  pair.server->Respond(0, {{.name = ":status", .value = "103"}}, true);
  auto response = Ok();
  response.push_back({.name = "datagram-flow-id", .value = "0"});
  pair.server->Respond(0, response);
  pair.Settle();
  ASSERT_TRUE(pair.recorder.responses.contains(*stream));
  EXPECT_EQ(pair.recorder.responses[*stream], response) << "of the interim one something is left";
  EXPECT_TRUE(pair.recorder.ends.empty());
  EXPECT_TRUE(pair.server->closed.empty()) << "the stream is to stay open";

  pair.client->CloseStream(*stream);
  pair.Settle();
  EXPECT_EQ(pair.server->closed, (std::map<std::int64_t, std::uint64_t>{{0, 0x10c}}));
  EXPECT_EQ(pair.server->stopped, (std::map<std::int64_t, std::uint64_t>{{0, 0x10c}}));
  EXPECT_TRUE(pair.recorder.ends.empty()) << "told of what it did itself";
}

TEST(QuicClient, StreamsBlockedAndAvailable) {
  Pair pair({.max_streams = 1});
  ASSERT_TRUE(pair.Connect());
  const auto stream = pair.client->SubmitRequest(Request());
  ASSERT_TRUE(stream);
  EXPECT_EQ(pair.client->SubmitRequest(Request()).error(), QuicError::kStreamsBlocked);
  pair.Settle();
  const int before = pair.recorder.streams_available;
  pair.client->CloseStream(*stream);
  ASSERT_TRUE(pair.RunUntil([&] { return pair.recorder.streams_available > before; }));
  EXPECT_TRUE(pair.client->SubmitRequest(Request()));
}

class QuicClientEnd : public testing::Test {
protected:
  QuicClientEnd() {
    EXPECT_TRUE(pair_.Connect());
    stream_ = pair_.client->SubmitRequest(Request()).value();
    other_ = pair_.client->SubmitRequest(Request()).value();
    pair_.Settle();
  }

  // The other request is none the worse.
  void ExpectOtherLives() {
    pair_.server->Respond(static_cast<std::int64_t>(other_), Ok());
    pair_.Settle();
    EXPECT_EQ(pair_.recorder.responses[other_], Ok());
    EXPECT_FALSE(pair_.recorder.ends.contains(other_));
    EXPECT_FALSE(pair_.recorder.closed);
  }

  // A stream error of that type.
  void ExpectRefused(std::uint64_t code) {
    EXPECT_EQ(pair_.recorder.ends[stream_], std::pair(StreamEnd::kRefused, code));
    EXPECT_EQ(pair_.server->stopped[0], code);
    EXPECT_EQ(pair_.server->closed[0], code);
    EXPECT_EQ(pair_.client->SendData(stream_, {}, {}).error(), QuicError::kUnknownStream);
    ExpectOtherLives();
  }

  Pair pair_;
  ngmasque::StreamId stream_ = 0;
  ngmasque::StreamId other_ = 0;
};

TEST_F(QuicClientEnd, PeerEndsStream) {
  pair_.server->Respond(0, {{.name = ":status", .value = "403"}});
  pair_.server->SendBody(0, {'n', 'o', ' ', 'w', 'a', 'y'});
  pair_.server->EndBody(0);
  pair_.Settle();
  EXPECT_EQ(pair_.recorder.responses[stream_].front().value, "403");
  EXPECT_EQ(pair_.recorder.ends[stream_].first, StreamEnd::kFinished);
  EXPECT_TRUE(pair_.recorder.data.empty()) << "the text of an error taken for payloads";
  EXPECT_TRUE(pair_.server->closed.contains(0)) << "our half is left open";
  EXPECT_EQ(pair_.client->SendData(stream_, {}, {}).error(), QuicError::kUnknownStream);
  ExpectOtherLives();
}

TEST_F(QuicClientEnd, PeerResetsStream) {
  pair_.server->Reset(0, 0x10f);
  pair_.Settle();
  EXPECT_EQ(pair_.recorder.ends[stream_], std::pair(StreamEnd::kReset, std::uint64_t{0x10f}));
  EXPECT_TRUE(pair_.server->closed.contains(0));
  ExpectOtherLives();
}

TEST_F(QuicClientEnd, PeerStopsReading) {
  pair_.server->Respond(0, Ok());
  pair_.Settle();
  pair_.server->StopReading(0, 0x10b);
  pair_.Settle();
  EXPECT_EQ(pair_.recorder.ends[stream_], std::pair(StreamEnd::kReset, std::uint64_t{0x10b}));
  EXPECT_EQ(pair_.server->stopped[0], 0x10cu) << "the other half is left open";
  ExpectOtherLives();
}

// RFC 9114, section 4.1: with a refusal it may come before the response.
TEST_F(QuicClientEnd, PeerStopsReadingBeforeItsResponse) {
  pair_.server->StopReading(0, 0x100);
  pair_.Settle();
  EXPECT_FALSE(pair_.recorder.ends.contains(stream_));
  pair_.server->Respond(0, {{.name = ":status", .value = "403"}});
  pair_.server->EndBody(0);
  pair_.Settle();
  EXPECT_EQ(pair_.recorder.responses[stream_].front().value, "403");
  EXPECT_EQ(pair_.recorder.ends[stream_].first, StreamEnd::kFinished);
  ExpectOtherLives();
}

TEST_F(QuicClientEnd, OversizedResponseIsRefused) {
  auto fields = Ok();
  // With 32 bytes each it is one field too many, though the wire has less.
  const HeaderField filler{.name = "x", .value = std::string(479, 'a')};
  fields.resize(fields.size() + ngmasque::kMaxFieldBytes / 512, filler);
  pair_.server->Respond(0, fields);
  pair_.Settle();
  EXPECT_FALSE(pair_.recorder.responses.contains(stream_));
  ExpectRefused(ngmasque::kH3ExcessiveLoad);
}

TEST_F(QuicClientEnd, LargestResponseIsTaken) {
  auto fields = Ok();
  const HeaderField filler{.name = "x", .value = std::string(479, 'a')};
  fields.resize(ngmasque::kMaxFieldBytes / 512, filler);
  pair_.server->Respond(0, fields);
  pair_.Settle();
  EXPECT_EQ(pair_.recorder.responses[stream_], fields);
  ExpectOtherLives();
}

// RFC 9114, section 4.1.2: a stream error.
class QuicClientMalformed
  : public QuicClientEnd,
    public testing::WithParamInterface<std::pair<const char *, std::vector<HeaderField>>> {};

TEST_P(QuicClientMalformed, EndsItsRequestAlone) {
  pair_.server->Respond(0, GetParam().second);
  pair_.server->SendBody(0, {0, 1, 'x'});
  pair_.Settle();
  EXPECT_FALSE(pair_.recorder.responses.contains(stream_));
  EXPECT_TRUE(pair_.recorder.data.empty());
  ExpectRefused(ngmasque::kH3MessageError);
}

// The server's encoder writes names in lower case; test_proxy_malformed.py has the others.
std::vector<HeaderField> OkAnd(std::string name, std::string value) {
  auto fields = Ok();
  fields.push_back({.name = std::move(name), .value = std::move(value)});
  return fields;
}

INSTANTIATE_TEST_SUITE_P(
  Responses, QuicClientMalformed,
  testing::Values(
    std::pair("NoNumber", std::vector<HeaderField>{{.name = ":status", .value = "20x"}}),
    std::pair("NoStatus", std::vector<HeaderField>{{.name = "server", .value = "x"}}),
    std::pair("TwoStatuses", OkAnd(":status", "200")),
    std::pair("OtherPseudoHeader", OkAnd(":path", "/")),
    std::pair("LatePseudoHeader",
              std::vector<HeaderField>{{.name = "server", .value = "x"},
                                       {.name = ":status", .value = "200"}}),
    std::pair("Nul", OkAnd("client-connection-id", std::string("a\0b", 3))),
    std::pair("LineFeed", OkAnd("client-connection-id", "a\nb")),
    std::pair("Connection", OkAnd("upgrade", "x")),
    // draft-ietf-masque-connect-udp-00, section 3.
    std::pair("ContentLength", OkAnd("content-length", "1"))),
  [](const auto &one) { return one.param.first; });

// More than nghttp3 decodes.
TEST_F(QuicClientEnd, OversizedFieldIsRefused) {
  pair_.server->Respond(0, OkAnd("x", std::string(66'000, '\xff')));
  pair_.Settle();
  EXPECT_FALSE(pair_.recorder.responses.contains(stream_));
  ExpectRefused(ngmasque::kH3ExcessiveLoad);
}

// RFC 9114, section 4.4: a connection error, and so it stays.
TEST_F(QuicClientEnd, TwoFinalResponses) {
  constexpr std::uint64_t kFrameUnexpected = 0x105;
  pair_.server->Respond(0, Ok(), true);
  pair_.server->Respond(0, Ok());
  ASSERT_TRUE(pair_.RunUntil([&] { return pair_.recorder.closed.has_value(); }));
  EXPECT_EQ(pair_.recorder.closed->kind, CloseKind::kProtocol);
  EXPECT_TRUE(pair_.recorder.closed->application);
  EXPECT_EQ(pair_.recorder.closed->code, kFrameUnexpected);
  EXPECT_EQ(pair_.server->close_code, kFrameUnexpected);
}

TEST_F(QuicClientEnd, GoAway) {
  pair_.server->GoAway();
  pair_.Settle();
  EXPECT_EQ(pair_.recorder.go_away, 1);
  EXPECT_EQ(pair_.client->SubmitRequest(Request()).error(), QuicError::kGoingAway);
  ExpectOtherLives();
}

TEST_F(QuicClientEnd, ServerCloses) {
  pair_.server->Close(0x107, "too\nmuch");
  ASSERT_TRUE(pair_.RunUntil([&] { return pair_.recorder.closed.has_value(); }));
  EXPECT_EQ(pair_.recorder.closed->kind, CloseKind::kPeer);
  EXPECT_TRUE(pair_.recorder.closed->application);
  EXPECT_EQ(pair_.recorder.closed->code, 0x107u);
  EXPECT_EQ(pair_.recorder.closed->text, "closed by the peer with HTTP/3 error 0x107: too?much");
  EXPECT_EQ(pair_.client->Expiry(), ngmasque::kNever);
  EXPECT_EQ(pair_.client->SubmitRequest(Request()).error(), QuicError::kClosed);
  EXPECT_EQ(pair_.client->SendDatagram(0, {}, {}).error(), QuicError::kClosed);
}

TEST_F(QuicClientEnd, ClientCloses) {
  std::vector<Packet> packets;
  pair_.client->Close(ngmasque::kH3NoError, pair_.now, [&](const ngmasque::OutgoingBurst &burst) {
    packets.push_back({.path = {.local = burst.path.remote, .remote = burst.path.local},
                       .ecn = burst.ecn,
                       .bytes = Bytes(burst.data.begin(), burst.data.end())});
    return true;
  });
  ASSERT_EQ(packets.size(), 1u);
  pair_.server->Receive(packets.front(), pair_.now);
  EXPECT_EQ(pair_.server->close_code, ngmasque::kH3NoError);
  pair_.Settle();
  EXPECT_FALSE(pair_.recorder.closed) << "told of what it did itself";
}

TEST(QuicClient, HandshakeTimeout) {
  Recorder recorder;
  auto client = Http3Client::Create(
    {.server_name = "proxy.example", .handshake_timeout = std::chrono::seconds(3)},
    {.local = Local(1000), .remote = Local(443)}, recorder, 1);
  ASSERT_TRUE(client);
  ngmasque::Nanoseconds now = 1;
  const auto sink = [](const ngmasque::OutgoingBurst &) { return true; };
  for (int i = 0; i < 100; ++i) {
    (*client)->WritePackets(now, sink);
    if (recorder.closed) {
      break;
    }
    now = std::max(now, (*client)->Expiry());
    (*client)->HandleExpiry(now);
  }
  ASSERT_TRUE(recorder.closed);
  EXPECT_EQ(recorder.closed->kind, CloseKind::kHandshakeTimeout);
  EXPECT_EQ(now, 3'000'000'001u);
}

TEST(QuicClient, KeepAliveKeepsIdleConnection) {
  for (const bool keep_alive : {true, false}) {
    Pair pair({}, {.idle_timeout = std::chrono::seconds(6),
                   .keep_alive = keep_alive ? std::optional<std::chrono::nanoseconds>()
                                            : std::chrono::nanoseconds(0)});
    ASSERT_TRUE(pair.Connect());
    EXPECT_EQ(pair.RunUntil([&] { return pair.recorder.closed.has_value(); }), !keep_alive);
    if (!keep_alive) {
      EXPECT_EQ(pair.recorder.closed->kind, CloseKind::kIdleTimeout);
    }
  }
}

TEST(QuicClient, RefusedIdIsDrawnAgain) {
  Recorder recorder;
  recorder.refuse_ids = 3;
  auto client = Http3Client::Create({.server_name = "proxy.example"},
                                    {.local = Local(1000), .remote = Local(443)}, recorder, 1);
  ASSERT_TRUE(client);
  EXPECT_EQ(recorder.refused_ids.size(), 3u);
  ASSERT_EQ(recorder.local_ids.size(), 1u);
  EXPECT_FALSE(std::ranges::contains(recorder.refused_ids, recorder.local_ids.front()));
  recorder.refuse_ids = 1000;
  EXPECT_EQ(Http3Client::Create({}, {.local = Local(1000), .remote = Local(443)}, recorder, 1)
              .error()
              .code,
            QuicError::kInternal);
}

TEST(QuicClient, MigratesToAnotherLocalEndpoint) {
  Pair pair;
  ASSERT_TRUE(pair.Connect());
  EXPECT_EQ(pair.client->path().local, Local(1000));
  pair.Settle();
  const auto ids = pair.recorder.local_ids.size();
  EXPECT_GT(ids, 1u) << "none for the other path";
  ASSERT_TRUE(pair.client->Migrate(Local(2000), pair.now));
  ASSERT_TRUE(pair.RunUntil([&] { return !pair.recorder.paths.empty(); }));
  EXPECT_EQ(pair.recorder.paths.front().local, Local(2000));
  EXPECT_EQ(pair.client->path().local, Local(2000));

  const auto stream = pair.client->SubmitRequest(Request());
  ASSERT_TRUE(stream);
  pair.Settle();
  EXPECT_EQ(pair.server->path.remote, Local(2000));
  pair.server->Respond(0, Ok());
  pair.Settle();
  EXPECT_EQ(pair.recorder.responses[*stream], Ok());
  EXPECT_EQ(pair.recorder.paths.size(), 1u);
}

TEST(QuicClient, MigrationRefused) {
  Pair pair({.disable_migration = true});
  EXPECT_EQ(pair.client->Migrate(Local(2000), pair.now).error(), QuicError::kNotReady);
  ASSERT_TRUE(pair.Connect());
  pair.Settle();
  EXPECT_EQ(pair.client->Migrate(Local(2000), pair.now).error(), QuicError::kNotSupported);
}

TEST(QuicClient, EveryErrorHasAName) {
  for (int i = 0; i <= static_cast<int>(QuicError::kInternal); ++i) {
    EXPECT_NE(ErrorName(static_cast<QuicError::Code>(i)), "unknown error");
  }
}

} // namespace
} // namespace quic_test
