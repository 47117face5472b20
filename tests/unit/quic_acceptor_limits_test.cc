// Stateless resets, and how much a server answers at all.

#include "quic_acceptor_support.h"

namespace quic_test {
namespace {

TEST_F(AcceptorTest, ResetsAreShorterThanWhatTheyAnswer) {
  for (const std::size_t size : {22, 23, 42, 43, 44, 1200}) {
    const auto packet = Short(size);
    const auto answer = AnswerBytes(On(packet));
    EXPECT_EQ(answer.size(), std::min<std::size_t>(size - 1, 43));
    EXPECT_EQ(answer[0] & 0xc0, 0x40) << "as a short header";
    const auto token = *ids.ResetToken(std::span(packet).subspan(1, ids.length()));
    EXPECT_TRUE(std::ranges::equal(std::span(answer).last(sizeof(token.data)), token.data));
  }
  for (const std::size_t size : {18, 21}) {
    EXPECT_EQ(Dropped(On(Short(size))), Reason::kNoReset);
  }
  EXPECT_EQ(Dropped(On({0x40})), Reason::kNoReset);
  EXPECT_EQ(acceptor->answered(Kind::kReset), 6u);
}

TEST_F(AcceptorTest, ResetsAnsweringEachOtherEnd) {
  auto packet = Short(1200);
  int resets = 0;
  for (;;) {
    const auto result = On(packet);
    if (Dropped(result)) {
      EXPECT_EQ(Dropped(result), Reason::kNoReset);
      break;
    }
    ++resets;
    // As if it came back with an ID of ours.
    packet = Short(AnswerBytes(result).size());
  }
  EXPECT_LE(resets, 30);
}

TEST_F(AcceptorTest, ConnectionsOfOtherWorkersAreNotReset) {
  EXPECT_EQ(Dropped(On(Short(100, kWorker + 1))), Reason::kOtherWorker);
  EXPECT_EQ(acceptor->dropped(Reason::kOtherWorker), 1u);
}

// Connection IDs of others that the server has given tokens for: those have the answer of what they
// begin with, whichever worker's they would be if they were its own.
TEST_F(AcceptorTest, ForeignIdsThatAreOver) {
  Bytes over(40, 0x77);
  Make({.answers_per_second = 4, .is_foreign = [&](std::span<const std::uint8_t> id) {
          return std::ranges::equal(id.first(Acceptor::kForeignLength),
                                    std::span(over).first(Acceptor::kForeignLength));
        }});
  for (const std::size_t behind : {5, 6, 30}) {
    Bytes packet{0x40};
    packet.insert(packet.end(), over.begin(), over.begin() + Acceptor::kForeignLength);
    packet.resize(packet.size() + behind, 0xee);
    const auto answer = AnswerBytes(On(packet));
    const auto token = *acceptor->ForeignResetToken(over);
    EXPECT_TRUE(std::ranges::equal(std::span(answer).last(sizeof(token.data)), token.data));
  }
  EXPECT_EQ(Dropped(On(Bytes(21, 0x77))), Reason::kNoReset);
  const auto own = Short(100);
  const auto answer = AnswerBytes(On(own));
  const auto token = *ids.ResetToken(std::span(own).subspan(1, ids.length()));
  EXPECT_TRUE(std::ranges::equal(std::span(answer).last(sizeof(token.data)), token.data));
  EXPECT_EQ(Dropped(On(Short(100, kWorker + 1))), Reason::kOtherWorker);
  EXPECT_EQ(Dropped(On(Bytes(100, 0x77))), Reason::kBudget) << "one for both";
}

TEST_F(AcceptorTest, AnswersHaveOneBudget) {
  Make({.retry_from = 5, .max_handshakes = 10, .answers_per_second = 4});
  EXPECT_EQ(Answered(On(Short(100))), Kind::kReset);
  EXPECT_EQ(Answered(On(Initial({}, 1200, kUnknownVersion))), Kind::kVersionNegotiation);
  EXPECT_EQ(Answered(On(Initial(), 10)), Kind::kRefused);
  EXPECT_EQ(Answered(On(Initial({NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2}))), Kind::kInvalidToken);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Dropped(On(Short(100))), Reason::kBudget);
    EXPECT_EQ(Dropped(On(Initial({}, 1200, kUnknownVersion))), Reason::kBudget);
    EXPECT_EQ(Dropped(On(Initial(), 10)), Reason::kBudget);
    EXPECT_EQ(Dropped(On(Initial({NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2}))), Reason::kBudget);
  }
  EXPECT_EQ(acceptor->dropped(Reason::kBudget), 12u);
  // It is not what clients need to get in.
  EXPECT_EQ(Answered(On(Initial(), 5)), Kind::kRetry);
  EXPECT_NE(Accepted(On(Initial())), nullptr);
  now += kSecond / 4;
  EXPECT_EQ(Answered(On(Short(100))), Kind::kReset);
  EXPECT_EQ(Dropped(On(Short(100))), Reason::kBudget);
}

TEST_F(AcceptorTest, RetryHasItsOwn) {
  Make({.always_retry = true, .retries_per_second = 2});
  EXPECT_EQ(Answered(On(Initial())), Kind::kRetry);
  EXPECT_EQ(Answered(On(Initial())), Kind::kRetry);
  EXPECT_EQ(Dropped(On(Initial())), Reason::kBudget);
  EXPECT_EQ(Answered(On(Short(100))), Kind::kReset);
  now += kSecond / 2;
  EXPECT_EQ(Answered(On(Initial())), Kind::kRetry);
}

TEST_F(AcceptorTest, AFloodBringsMoreBytesThanItGets) {
  Make({.retry_from = 0, .answers_per_second = 0, .retries_per_second = 0});
  std::size_t sent = 0;
  std::size_t received = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto path = Path(static_cast<std::uint16_t>(1 + i), static_cast<std::uint8_t>(i));
    for (const auto &packet : {Initial(), Initial({}, 1200, kUnknownVersion, 255), Short(22),
                               Initial(Bytes(90, NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2))}) {
      received += packet.size();
      sent += AnswerBytes(On(packet, 0, path)).size();
    }
  }
  EXPECT_LT(sent, received);
  EXPECT_EQ(acceptor->accepted(), 0u) << "nothing of it is remembered";
}

TEST_F(AcceptorTest, WithoutRandomBytesThereIsNoAnswer) {
  const auto none = [](std::span<std::uint8_t>) { return false; };
  const LocalIds no_ids{17, {.worker = {.k0 = 1, .k1 = 2}, .reset = Secret(4)}, none};
  const auto packet = Short(100);
  acceptor.emplace(Acceptor::Options{.worker = kWorker, .always_retry = true}, no_ids, Secret(3),
                   none);
  EXPECT_EQ(Dropped(On(packet)), Reason::kInternal);
  EXPECT_EQ(Dropped(On(Initial())), Reason::kInternal);
  EXPECT_EQ(Dropped(On(Initial({}, 1200, kUnknownVersion))), Reason::kInternal);
  EXPECT_EQ(acceptor->dropped(Reason::kInternal), 3u);
}

} // namespace
} // namespace quic_test
