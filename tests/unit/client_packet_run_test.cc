// Packets that go together, as far as they can.

#include "ngmasque-client/packet_run.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include <ev.h>

namespace ngmasque::programs {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes Packet(std::size_t size, std::uint8_t byte = 1) { return Bytes(size, byte); }

TEST(PacketRun, OneSizeButForTheLast) {
  PacketRun run;
  EXPECT_TRUE(run.empty());
  EXPECT_TRUE(run.Add(Packet(100, 1), 2));
  EXPECT_TRUE(run.Add(Packet(100, 2), 2));
  EXPECT_FALSE(run.Add(Packet(101), 2)) << "longer";
  EXPECT_TRUE(run.Add(Packet(7, 3), 2));
  EXPECT_FALSE(run.Add(Packet(7), 2)) << "behind a shorter one";
  EXPECT_FALSE(run.Add(Packet(100), 2)) << "behind a shorter one";
  const auto burst = run.burst();
  EXPECT_EQ(burst.segment, 100u);
  EXPECT_EQ(burst.ecn, 2u);
  ASSERT_EQ(burst.data.size(), 207u);
  EXPECT_EQ(burst.data[99], 1u);
  EXPECT_EQ(burst.data[100], 2u);
  EXPECT_EQ(burst.data[200], 3u);
  run.Clear();
  EXPECT_TRUE(run.empty());
  EXPECT_TRUE(run.Add(Packet(7), 0));
  EXPECT_EQ(run.burst().segment, 7u);
}

TEST(PacketRun, WhatDoesNotGoWithIt) {
  PacketRun run;
  EXPECT_FALSE(run.Add({}, 0)) << "empty";
  EXPECT_TRUE(run.Add(Packet(10), 1));
  EXPECT_FALSE(run.Add(Packet(10), 0)) << "other ECN bits";
  EXPECT_FALSE(run.Add({}, 1)) << "empty";
  EXPECT_EQ(run.burst().data.size(), 10u);
}

TEST(PacketRun, Bounds) {
  PacketRun run;
  for (std::size_t i = 0; i < PacketRun::kMaxPackets; ++i) {
    EXPECT_TRUE(run.Add(Packet(1), 0)) << i;
  }
  EXPECT_FALSE(run.Add(Packet(1), 0));
  run.Clear();
  const auto half = Packet(PacketRun::kMaxBytes / 2);
  EXPECT_TRUE(run.Add(half, 0));
  EXPECT_TRUE(run.Add(half, 0));
  EXPECT_FALSE(run.Add(Packet(1), 0));
  run.Clear();
  EXPECT_FALSE(run.Add(Packet(PacketRun::kMaxBytes + 1), 0));
}

TEST(PacketRun, Head) {
  PacketRun run;
  const auto head = Packet(10, 9);
  EXPECT_TRUE(run.Add(Packet(5), 0, head));
  EXPECT_TRUE(run.Add(Packet(5), 0, head));
  EXPECT_FALSE(run.Add(Packet(16), 0));
  EXPECT_TRUE(run.Add({}, 0, head));
  const auto burst = run.burst();
  EXPECT_EQ(burst.segment, 15u);
  ASSERT_EQ(burst.data.size(), 40u);
  EXPECT_EQ(burst.data[14], 1u);
  EXPECT_EQ(burst.data[15], 9u);
}

// Both ends of a run.
class SendRunTest : public testing::Test, private UdpListener::Handler {
protected:
  void SetUp() override {
    UdpListener::Options options;
    options.addresses = {kAnyPort, kAnyPort};
    auto made = UdpListener::Create(loop_, options, *this);
    ASSERT_TRUE(made);
    listener_ = *std::move(made);
  }
  ~SendRunTest() override {
    listener_.reset();
    ev_loop_destroy(loop_);
  }

  static constexpr Endpoint kAnyPort{
    .address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1}, .port = 0};

  struct ev_loop *loop_ = ev_loop_new(EVFLAG_AUTO);
  std::unique_ptr<UdpListener> listener_;
  std::vector<Bytes> got_;

private:
  void OnPacket(const FourTuple &, unsigned, std::span<std::uint8_t> packet, Nanoseconds) override {
    got_.emplace_back(packet.begin(), packet.end());
  }
  void OnBatchEnd(Nanoseconds) override {}
  void OnWritable() override {}
};

TEST_F(SendRunTest, ArrivesInOrder) {
  const auto ends = listener_->addresses();
  const FourTuple path{.local = ends[0], .remote = ends[1]};
  PacketRun run;
  SendRun(*listener_, path, run);
  EXPECT_EQ(listener_->statistics().sent.calls, 0u) << "there was nothing";
  std::vector<Bytes> sent;
  for (std::uint8_t i = 0; i < 10; ++i) {
    sent.push_back(Packet(i == 9 ? 30 : 1000, i));
    ASSERT_TRUE(run.Add(sent.back(), 0));
  }
  SendRun(*listener_, path, run);
  EXPECT_TRUE(run.empty());
  EXPECT_EQ(listener_->statistics().sent.packets, 10u);
  while (got_.size() < sent.size()) {
    ev_run(loop_, EVRUN_ONCE);
  }
  EXPECT_EQ(got_, sent);
}

} // namespace
} // namespace ngmasque::programs
