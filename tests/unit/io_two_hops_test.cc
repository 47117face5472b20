// A ProxyClient behind another ProxyClient: what the second proxy forwards is forwarded by the
// first one.

#include "io_two_hops_support.h"

namespace ngmasque::two_hops_test {
namespace {

class TwoHopsForward : public TwoHops {};

TEST_P(TwoHopsForward, BothForward) {
  Start();
  ASSERT_TRUE(Forwards());
  ASSERT_TRUE(ForwardsTwice());
  EXPECT_EQ(target.last, Short(kServerId));
  EXPECT_EQ(recorder.packets.back(), Short(kClientId));
  EXPECT_TRUE(via_watcher.ready && watcher.ready);
  EXPECT_EQ(second->connections(), 1u);
  EXPECT_EQ(client->ChangeLocalAddress().error(), IoError::kNotSupported);
  EXPECT_FALSE(via->via_statistics());
}

//= draft-ietf-masque-quic-proxy, section 7.2
//# Proxies SHOULD preserve ECN markings on forwarded packets in both directions, to allow ECN to
//# function end-to-end.
TEST_P(TwoHopsForward, EcnPassesBoth) {
  Start();
  ASSERT_TRUE(ForwardsTwice());
  for (const int ecn : {1, 2, 3, 0}) {
    target.ecn = 3 - ecn;
    ASSERT_TRUE(RunUntil([&] {
      std::ignore = tunnel->Send(Short(kServerId), static_cast<unsigned>(ecn));
      return target.last_ecn == ecn && recorder.last_ecn == static_cast<unsigned>(3 - ecn);
    })) << ecn;
  }
}

// Further connection IDs are told to the target when both proxies know them.
TEST_P(TwoHopsForward, FurtherConnectionIds) {
  Start();
  ASSERT_TRUE(Forwards());
  tunnel->AddClientId(Id(0x61));
  ASSERT_TRUE(RunUntil([&] { return !recorder.released.empty(); }));
  EXPECT_EQ(recorder.released, std::vector{Id(0x61)});
  tunnel->AddServerId(Id(0x56));
  tunnel->RemoveServerId(Id(kServerId));
  const auto sent = [this] { return tunnel->statistics().forwarded_tx.packets; };
  const auto before = sent();
  ASSERT_TRUE(RunUntil([&] {
    std::ignore = tunnel->Send(Short(0x56), 0);
    return sent() > before;
  }));
  // Another tunnel of the second one has the first one to itself no less.
  quic_test::TunnelRecorder other;
  const auto one =
    client->Open({.host = "127.0.0.1", .port = target.at.port}, Id(0x70), other).value();
  one->AddServerId(Id(0x57));
  ASSERT_TRUE(RunUntil([&] {
    std::ignore = one->Send(Short(0x57), 0);
    return one->statistics().forwarded_tx.packets > 10;
  }));
}

TEST_P(TwoHopsForward, PacketsOfEverySize) {
  Start();
  ASSERT_TRUE(RunUntil([&] { return recorder.opened == 1; }));
  for (const std::size_t size : {20u, 1200u, 1300u, 1400u}) {
    ASSERT_TRUE(RunUntil([&] {
      std::ignore = tunnel->Send(Long(size), 0);
      return target.last == Long(size);
    })) << size;
  }
  EXPECT_GE(tunnel->max_payload(), 1200u);
}

TEST_P(TwoHopsForward, TheFirstOneMoves) {
  Start();
  ASSERT_TRUE(ForwardsTwice());
  ASSERT_TRUE(RunUntil([&] { return via->ChangeLocalAddress().has_value(); }));
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(ForwardsTwice());
  }
  EXPECT_TRUE(recorder.ended.empty());
}

// Through a tunnel of the first one to each address that the second one has.
TEST_P(TwoHopsForward, TheSecondOneMoves) {
  Start();
  ASSERT_TRUE(ForwardsTwice());
  for (std::uint64_t moves = 1; moves <= 4; ++moves) {
    ASSERT_TRUE(second->Move(second->addresses()[moves % 2]));
    ASSERT_TRUE(RunUntil([&] {
      std::ignore = tunnel->Send(Short(kServerId), 0);
      return client->statistics().server_migrations == moves &&
             second->server_statistics().moves == moves;
    })) << moves;
    ASSERT_TRUE(ForwardsTwice()) << moves;
  }
  EXPECT_EQ(via->tunnels(), 2u);
  EXPECT_EQ(via->statistics().server_migrations, 0u);
  EXPECT_TRUE(recorder.ended.empty());
  client.reset();
  EXPECT_EQ(via->tunnels(), 0u);
}

TEST_P(TwoHopsForward, TheSecondOneIsNotFollowed) {
  follows = false;
  Start();
  ASSERT_TRUE(ForwardsTwice());
  ASSERT_TRUE(second->Move(second->addresses()[1]));
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(ForwardsTwice());
  }
  EXPECT_EQ(client->statistics().server_migrations, 0u);
  EXPECT_EQ(via->tunnels(), 1u);
}

// With its other tunnel, which is not to be opened again.
TEST_P(TwoHopsForward, TheFirstOneEndsAfterAMove) {
  Start();
  ASSERT_TRUE(ForwardsTwice());
  ASSERT_TRUE(second->Move(second->addresses()[1]));
  ASSERT_TRUE(RunUntil([&] { return client->statistics().server_migrations == 1; }));
  via.reset();
  std::ignore = tunnel->Send(Short(kServerId), 0);
  ASSERT_TRUE(RunUntil([&] { return !watcher.closed.empty(); }));
  EXPECT_EQ(recorder.ended.size(), 1u);
}

// What the first one does not take is tunnelled there, or both ways.
TEST_P(TwoHopsForward, TheFirstOneTakesNoConnectionIds) {
  via_tunnel.limits.max_mappings = 1; // That of the connection to the second one.
  Start();
  ASSERT_TRUE(RunUntil([&] { return recorder.opened == 1; }));
  if (GetParam().second == ProxyDialect::kRfc9298) {
    // The virtual one cannot be used, and what it stands for has no other one.
    ASSERT_TRUE(RunUntil([&] { return !recorder.ended.empty(); }));
    EXPECT_TRUE(recorder.ended.front().retry);
    OpenTunnel();
  }
  const auto before = recorder.packets.size();
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(RunUntil([&] {
      std::ignore = tunnel->Send(Short(kServerId), 0);
      return recorder.packets.size() > before + static_cast<std::size_t>(i);
    }));
  }
  EXPECT_EQ(tunnel->statistics().forwarded_tx.packets, 0u);
  EXPECT_EQ(tunnel->statistics().forwarded_rx.packets, 0u);
  EXPECT_EQ(recorder.ended.size(), GetParam().second == ProxyDialect::kRfc9298 ? 1u : 0u);
}

INSTANTIATE_TEST_SUITE_P(Dialects, TwoHopsForward, kDialects, NameOf);

} // namespace
} // namespace ngmasque::two_hops_test
