// What is left of connections that are over.

#include "../../plugin/quic/closed_connections.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace {

using ngmasque::ClosedConnections;
using ngmasque::ConnectionId;
using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t kPacket = 100;

ConnectionId Id(unsigned number) {
  const std::array<std::uint8_t, 8> bytes{1, 2, 3, 4, 5, 6, static_cast<std::uint8_t>(number >> 8),
                                          static_cast<std::uint8_t>(number)};
  return *ConnectionId::From(bytes);
}

// Whether a packet for `id` is answered with `close`.
bool Answers(ClosedConnections &closed, const ConnectionId &id, const Bytes &close,
             std::size_t size = kPacket) {
  const auto answer = closed.OnPacket(id, size);
  EXPECT_TRUE(answer.has_value());
  EXPECT_TRUE(!answer || answer->empty() || std::ranges::equal(*answer, close));
  return answer && !answer->empty();
}

TEST(ClosedConnections, AnswersLessAndLess) {
  ClosedConnections closed;
  const Bytes close(50, 7);
  closed.Add(std::array{Id(1), Id(2)}, close, 10);
  std::vector<int> answered;
  for (int packet = 1; packet <= 40; ++packet) {
    // By whichever ID it comes.
    if (Answers(closed, Id(1 + packet % 2), close)) {
      answered.push_back(packet);
    }
  }
  EXPECT_EQ(answered, (std::vector{1, 2, 4, 8, 16, 32}));
}

TEST(ClosedConnections, AnswersNoMoreThanThreeTimesWhatComes) {
  ClosedConnections closed;
  const Bytes close(1000, 7);
  closed.Add(std::array{Id(1)}, close, 10);
  std::size_t received = 0;
  std::size_t sent = 0;
  for (int packet = 0; packet < 5000; ++packet) {
    received += 30;
    sent += Answers(closed, Id(1), close, 30) ? close.size() : 0;
    ASSERT_LE(sent, 3 * received);
  }
  EXPECT_GT(sent, 0u);
}

TEST(ClosedConnections, DrainingIsSilent) {
  ClosedConnections closed;
  closed.Add(std::array{Id(1)}, {}, 10);
  for (int packet = 0; packet < 10; ++packet) {
    EXPECT_FALSE(Answers(closed, Id(1), {}));
  }
  EXPECT_EQ(closed.OnPacket(Id(2), kPacket), std::nullopt) << "that is none of them";
}

TEST(ClosedConnections, EachHasItsTime) {
  ClosedConnections closed;
  const Bytes close(50, 7);
  EXPECT_EQ(closed.NextExpiry(), ngmasque::kNever);
  closed.Add(std::array{Id(1)}, close, 30);
  closed.Add(std::array{Id(2)}, close, 20);
  EXPECT_EQ(closed.NextExpiry(), 20u);
  closed.Expire(19);
  EXPECT_EQ(closed.size(), 2u);
  closed.Expire(20);
  EXPECT_EQ(closed.OnPacket(Id(2), kPacket), std::nullopt);
  EXPECT_TRUE(Answers(closed, Id(1), close));
  EXPECT_EQ(closed.NextExpiry(), 30u);
  closed.Expire(30);
  EXPECT_EQ(closed.OnPacket(Id(1), kPacket), std::nullopt);
  EXPECT_EQ(closed.NextExpiry(), ngmasque::kNever);
}

TEST(ClosedConnections, TheOldestGoes) {
  ClosedConnections closed;
  const Bytes close(50, 7);
  for (unsigned i = 0; i < ClosedConnections::kMaxConnections; ++i) {
    // What is added first is what expires last.
    closed.Add(std::array{Id(i)}, close, 100'000 - i);
  }
  EXPECT_TRUE(closed.OnPacket(Id(0), kPacket).has_value());
  for (unsigned i = 0; i < 10; ++i) {
    closed.Add(std::array{Id(5000 + i)}, close, 200'000);
    EXPECT_EQ(closed.size(), ClosedConnections::kMaxConnections);
    EXPECT_EQ(closed.OnPacket(Id(i), kPacket), std::nullopt);
    EXPECT_TRUE(closed.OnPacket(Id(i + 1), kPacket).has_value());
    EXPECT_TRUE(closed.OnPacket(Id(5000 + i), kPacket).has_value());
  }
  closed.Expire(100'000);
  EXPECT_EQ(closed.size(), 10u);
}

TEST(ClosedConnections, IdsAndPacketsAreBounded) {
  ClosedConnections closed;
  std::vector<ConnectionId> ids;
  for (unsigned i = 0; i <= ClosedConnections::kMaxIds; ++i) {
    ids.push_back(Id(i));
  }
  const Bytes longest(ClosedConnections::kMaxClosePacket, 7);
  closed.Add(ids, longest, 10);
  EXPECT_TRUE(Answers(closed, Id(0), longest, 1200));
  EXPECT_TRUE(closed.OnPacket(Id(ClosedConnections::kMaxIds - 1), kPacket).has_value());
  EXPECT_EQ(closed.OnPacket(Id(ClosedConnections::kMaxIds), kPacket), std::nullopt);

  const Bytes longer(ClosedConnections::kMaxClosePacket + 1, 7);
  closed.Add(std::array{Id(100)}, longer, 10);
  EXPECT_FALSE(Answers(closed, Id(100), longer, 1200));
}

TEST(ClosedConnections, AnIdOfTwoIsTheLaterOnes) {
  ClosedConnections closed;
  const Bytes first(50, 1);
  const Bytes second(60, 2);
  closed.Add(std::array{Id(1), Id(2)}, first, 10);
  closed.Add(std::array{Id(1)}, second, 20);
  EXPECT_TRUE(Answers(closed, Id(1), second));
  EXPECT_TRUE(Answers(closed, Id(2), first));
  closed.Expire(10);
  EXPECT_EQ(closed.OnPacket(Id(2), kPacket), std::nullopt);
  EXPECT_TRUE(Answers(closed, Id(1), second));
  closed.Expire(20);
  EXPECT_EQ(closed.OnPacket(Id(1), kPacket), std::nullopt);
}

} // namespace
