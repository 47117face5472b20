// What a server does with packets that begin a connection, or should.

#include "quic_acceptor_support.h"

#include <vector>

namespace quic_test {
namespace {

TEST_F(AcceptorTest, AcceptsAClientsFirstPacket) {
  Client client(now);
  const auto packet = client.Write(now);
  const auto result = On(packet);
  const auto *accept = Accepted(result);
  ASSERT_NE(accept, nullptr);
  EXPECT_EQ(accept->header.version, NGTCP2_PROTO_VER_V1);
  EXPECT_EQ(accept->token_type, NGTCP2_TOKEN_TYPE_UNKNOWN);
  EXPECT_FALSE(accept->original_dcid);
  EXPECT_EQ(accept->packet_size, packet.size());
  EXPECT_EQ(acceptor->accepted(), 1u);
  EXPECT_NE(Accepted(On(Initial({}, 1200, NGTCP2_PROTO_VER_V2))), nullptr);
}

TEST_F(AcceptorTest, DropsWhatBeginsNoConnection) {
  EXPECT_EQ(Dropped(On({})), Reason::kMalformed);
  EXPECT_EQ(Dropped(On(Initial({}, 1199))), Reason::kTooShort);
  EXPECT_EQ(Dropped(On(Initial({}, 1199, kUnknownVersion))), Reason::kTooShort);
  EXPECT_EQ(Dropped(On(Initial({}, 1200, 0))), Reason::kNotInitial) << "Version Negotiation";
  EXPECT_EQ(Dropped(On(Initial({}, 1200, 1, 7))), Reason::kMalformed) << "ID of 7 bytes";
  EXPECT_EQ(Dropped(On(Initial(Bytes(30, 0x36), 1200, 1, 7))), Reason::kMalformed);
  EXPECT_EQ(Dropped(On(Initial({}, 1200, 1, 21))), Reason::kMalformed);
  for (const std::uint8_t type : {0xd0, 0xe0, 0xf0}) {
    auto packet = Initial();
    packet[0] = type;
    EXPECT_EQ(Dropped(On(packet)), Reason::kNotInitial);
  }
  // A token that ends behind the packet.
  auto packet = Initial();
  packet[1 + 4 + 1 + 18 + 1 + 5] = 0x7f;
  EXPECT_EQ(Dropped(On(packet)), Reason::kMalformed);

  EXPECT_EQ(acceptor->dropped(Reason::kTooShort), 2u);
  EXPECT_EQ(acceptor->dropped(Reason::kNotInitial), 4u);
  EXPECT_EQ(acceptor->dropped(Reason::kMalformed), 5u);
  EXPECT_EQ(acceptor->accepted(), 0u);
}

TEST_F(AcceptorTest, NegotiatesTheVersion) {
  const auto answer = AnswerBytes(On(Initial({}, 1200, kUnknownVersion, 255)));
  ngtcp2_version_cid parsed;
  ASSERT_EQ(ngtcp2_pkt_decode_version_cid(&parsed, answer.data(), answer.size(), 0), 0);
  EXPECT_EQ(parsed.version, 0u);
  EXPECT_EQ(Bytes(parsed.dcid, parsed.dcid + parsed.dcidlen), Bytes(5, 0x51));
  EXPECT_EQ(Bytes(parsed.scid, parsed.scid + parsed.scidlen), Bytes(255, 0xd1));
  std::vector<std::uint32_t> versions;
  for (auto at = static_cast<std::size_t>(parsed.scid + parsed.scidlen - answer.data());
       at + 4 <= answer.size(); at += 4) {
    versions.push_back(std::uint32_t{answer[at]} << 24 | std::uint32_t{answer[at + 1]} << 16 |
                       std::uint32_t{answer[at + 2]} << 8 | answer[at + 3]);
  }
  ASSERT_EQ(versions.size(), 3u);
  EXPECT_EQ(versions[0] & 0x0f0f0f0f, 0x0a0a0a0au);
  EXPECT_EQ(versions[1], NGTCP2_PROTO_VER_V1);
  EXPECT_EQ(versions[2], NGTCP2_PROTO_VER_V2);
  EXPECT_EQ(acceptor->answered(Kind::kVersionNegotiation), 1u);
}

TEST_F(AcceptorTest, AReservedVersionOfTheClientIsNotOffered) {
  acceptor.emplace(Acceptor::Options{}, ids, Secret(3), [](std::span<std::uint8_t> out) {
    std::ranges::fill(out, 0x5a);
    return true;
  });
  const auto answer = AnswerBytes(On(Initial({}, 1200, 0x5a5a5a5a)));
  EXPECT_EQ(std::ranges::search(answer, Bytes(4, 0x5a)).begin(), answer.end());
}

TEST_F(AcceptorTest, ManyHandshakesMakeARetry) {
  Make({.retry_from = 10});
  EXPECT_NE(Accepted(On(Initial(), 9)), nullptr);
  EXPECT_EQ(Answered(On(Initial(), 10)), Kind::kRetry);
  Make({.always_retry = true});
  EXPECT_EQ(Answered(On(Initial(), 0)), Kind::kRetry);
  EXPECT_EQ(acceptor->answered(Kind::kRetry), 1u);
}

TEST_F(AcceptorTest, AClientAnswersARetry) {
  Make({.always_retry = true});
  Client client(now);
  const auto first = client.Write(now);
  client.client->Receive(Client::kPath, 0, AnswerBytes(On(first)), now);
  now += kSecond;
  const auto second = client.Write(now);
  const auto result = On(second);
  const auto *accept = Accepted(result);
  ASSERT_NE(accept, nullptr);
  EXPECT_EQ(accept->token_type, NGTCP2_TOKEN_TYPE_RETRY);
  EXPECT_GT(accept->header.tokenlen, 0u);
  ngtcp2_pkt_hd original;
  ASSERT_EQ(ngtcp2_accept(&original, first.data(), first.size()), 0);
  ASSERT_TRUE(accept->original_dcid);
  EXPECT_TRUE(ngtcp2_cid_eq(&*accept->original_dcid, &original.dcid));
  EXPECT_EQ(ids.WorkerOf({accept->header.dcid.data, accept->header.dcid.datalen}), kWorker)
    << "the Retry's ID leads to who has sent it";

  // The same from another address, another port, too late, and to a server with another secret.
  for (const auto &path : {Path(1000, 2), Path(1001)}) {
    EXPECT_EQ(Answered(On(second, 0, path)), Kind::kInvalidToken);
  }
  EXPECT_NE(Accepted(On(second)), nullptr);
  now += Acceptor::kRetryTokenLifetime;
  EXPECT_EQ(Answered(On(second)), Kind::kInvalidToken);
  now -= Acceptor::kRetryTokenLifetime;
  acceptor.emplace(Acceptor::Options{}, ids, Secret(5), Random);
  EXPECT_EQ(Answered(On(second)), Kind::kInvalidToken);
}

TEST_F(AcceptorTest, AClientIsToldThatItsTokenIsInvalid) {
  Make({.always_retry = true});
  Client client(now);
  client.client->Receive(Client::kPath, 0, AnswerBytes(On(client.Write(now))), now);
  const auto second = client.Write(now);
  now += Acceptor::kRetryTokenLifetime;
  client.Receive(AnswerBytes(On(second)), now);
  ASSERT_TRUE(client.recorder.closed);
  EXPECT_EQ(client.recorder.closed->kind, ngmasque::CloseKind::kPeer);
  EXPECT_EQ(client.recorder.closed->code, std::uint64_t{NGTCP2_INVALID_TOKEN});
  EXPECT_EQ(acceptor->answered(Kind::kInvalidToken), 1u);
}

TEST_F(AcceptorTest, ForgedTokensValidateNothing) {
  Make({.retry_from = 10});
  EXPECT_EQ(Answered(On(Initial(Bytes(90, NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2)))),
            Kind::kInvalidToken);
  EXPECT_EQ(Answered(On(Initial({NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2}))), Kind::kInvalidToken);
  // Others are as none: every bit of a good one counts.
  const auto good = *acceptor->NewToken(Path().remote, now);
  for (std::size_t at = 0; at < good.size(); ++at) {
    auto bad = good;
    bad[at] ^= 1;
    const auto packet = Initial(bad);
    EXPECT_EQ(Answered(On(packet, 10)), Kind::kRetry) << at;
    const auto result = On(packet);
    const auto *accept = Accepted(result);
    ASSERT_NE(accept, nullptr);
    EXPECT_EQ(accept->token_type, NGTCP2_TOKEN_TYPE_UNKNOWN);
    EXPECT_EQ(accept->header.tokenlen, 0u) << "ngtcp2 would take it for valid";
  }
  EXPECT_EQ(Answered(On(Initial(Bytes(1000, 0x36)), 10)), Kind::kRetry);
}

TEST_F(AcceptorTest, ANewTokenSparesTheRetry) {
  Make({.always_retry = true});
  const auto token = *acceptor->NewToken(Path().remote, now);
  const auto packet = Initial(token);
  now += Acceptor::kNewTokenLifetime - 1;
  // From another port, too: a client has another one with each connection.
  for (const auto &path : {Path(), Path(1001)}) {
    const auto result = On(packet, 0, path);
    const auto *accept = Accepted(result);
    ASSERT_NE(accept, nullptr);
    EXPECT_EQ(accept->token_type, NGTCP2_TOKEN_TYPE_NEW_TOKEN);
    EXPECT_EQ(accept->header.tokenlen, token.size());
    EXPECT_FALSE(accept->original_dcid);
  }
  EXPECT_EQ(Answered(On(packet, 0, Path(1000, 2))), Kind::kRetry) << "another address";
  now += 1;
  EXPECT_EQ(Answered(On(packet)), Kind::kRetry) << "too old";
}

TEST_F(AcceptorTest, TooManyHandshakesAreRefused) {
  Make({.retry_from = 5, .max_handshakes = 10});
  Client client(now);
  const auto first = client.Write(now);
  EXPECT_EQ(Answered(On(first, 9)), Kind::kRetry);
  EXPECT_EQ(Answered(On(Initial(*acceptor->NewToken(Path().remote, now)), 10)), Kind::kRefused);
  client.Receive(AnswerBytes(On(first, 10)), now);
  ASSERT_TRUE(client.recorder.closed);
  EXPECT_EQ(client.recorder.closed->kind, ngmasque::CloseKind::kPeer);
  EXPECT_EQ(client.recorder.closed->code, std::uint64_t{NGTCP2_CONNECTION_REFUSED});
  EXPECT_EQ(acceptor->answered(Kind::kRefused), 2u);
}

} // namespace
} // namespace quic_test
