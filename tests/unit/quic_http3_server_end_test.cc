// Http3Server: how connections end, and what is left of them.

#include "quic_server_network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>

namespace {

using ngmasque::CloseKind;
using ngmasque::kH3NoError;
using ngmasque::kNever;
using quic_test::Bytes;
using quic_test::Network;
using quic_test::Request;

constexpr ngmasque::Nanoseconds kSecond = 1'000'000'000;

// Whether the first byte is that of a short header.
bool Short(const Bytes &packet) { return (packet[0] & 0x80) == 0; }

TEST(Http3ServerEnd, TheClientCloses) {
  Network network;
  auto &client = network.Connect();
  auto &record = network.At(client);
  const auto ids = record.local_ids;
  network.Close(client, 0x10f);
  ASSERT_TRUE(network.RunUntil([&] { return record.closed.has_value(); }));
  EXPECT_EQ(record.closed->kind, CloseKind::kPeer);
  EXPECT_TRUE(record.closed->application);
  EXPECT_EQ(record.closed->code, 0x10fu);
  EXPECT_EQ(network.server->connections(), 0u);

  // It drains: packets get no answer, not even a reset.
  EXPECT_NE(network.server->Expiry(), kNever);
  const auto resets = network.server->statistics().resets;
  Bytes late(100, 0xee);
  late[0] = 0x40;
  std::ranges::copy(ids.back().bytes(), late.begin() + 1);
  network.Inject(9000, late);
  network.Run(kSecond / 50);
  EXPECT_TRUE(network.strays.empty());
  EXPECT_EQ(network.server->statistics().resets, resets);

  EXPECT_TRUE(network.RunOut());
  network.Inject(9000, late);
  EXPECT_EQ(network.server->statistics().resets, resets + 1) << "nobody knows it any more";
}

TEST(Http3ServerEnd, TheServerClosesOne) {
  Network network;
  auto &client = network.Connect();
  auto &other = network.Connect();
  auto &record = network.At(client);
  record.connection->CloseSoon(0x107);
  EXPECT_FALSE(record.closed) << "not at once";
  EXPECT_TRUE(network.server->wants_write());
  ASSERT_TRUE(network.RunUntil([&] { return client.recorder.closed.has_value(); }));
  EXPECT_EQ(client.recorder.closed->kind, CloseKind::kPeer);
  EXPECT_EQ(client.recorder.closed->code, 0x107u);
  ASSERT_TRUE(record.closed);
  EXPECT_EQ(record.closed->kind, CloseKind::kLocal);
  EXPECT_EQ(record.closed->code, 0x107u);
  EXPECT_EQ(network.server->connections(), 1u);
  EXPECT_FALSE(network.At(other).closed);
  network.Close(other);
  EXPECT_TRUE(network.RunOut());
}

TEST(Http3ServerEnd, TheServerClosesAll) {
  Network network;
  for (int i = 0; i < 3; ++i) {
    (void)network.Connect();
  }
  // One is in its handshake.
  network.lose = [&](const auto &wire) {
    return wire.to_server && wire.path.remote.port == network.clients.back().port &&
           network.server->statistics().accepted == 4;
  };
  auto &late = network.Add();
  ASSERT_TRUE(network.RunUntil([&] { return network.server->connections() == 4; }));
  ASSERT_FALSE(late.ready() && network.app.From(late.port));
  network.CloseServer(kH3NoError);
  EXPECT_EQ(network.server->connections(), 0u);
  network.lose = nullptr;
  EXPECT_TRUE(network.RunUntil([&] {
    return std::ranges::all_of(network.clients,
                               [](auto &client) { return client.recorder.closed.has_value(); });
  }));
  EXPECT_EQ(network.app.records.size(), 3u);
  for (const auto &record : network.app.records) {
    EXPECT_EQ(record.closed->kind, CloseKind::kLocal);
  }
  EXPECT_TRUE(network.RunOut());
  (void)network.Connect();
}

TEST(Http3ServerEnd, WhatIsLateGetsTheCloseAgain) {
  Network network;
  auto &client = network.Connect();
  network.Run(kSecond);
  int lost = 0;
  network.lose = [&](const auto &wire) { return !wire.to_server && ++lost <= 2; };
  network.At(client).connection->CloseSoon(kH3NoError);
  network.Run(kSecond / 100);
  ASSERT_EQ(lost, 1) << "the CONNECTION_CLOSE";
  ASSERT_EQ(network.server->connections(), 0u);

  ASSERT_TRUE(client->SubmitRequest(Request()));
  ASSERT_TRUE(network.RunUntil([&] { return client.recorder.closed.has_value(); }));
  EXPECT_EQ(lost, 3) << "two were lost, the third has come";
  EXPECT_EQ(client.recorder.closed->kind, CloseKind::kPeer);
  EXPECT_EQ(network.server->statistics().resets, 0u);
  EXPECT_TRUE(network.RunOut());
}

TEST(Http3ServerEnd, WhoIsForgottenGetsAReset) {
  Network network({.idle_timeout = std::chrono::seconds(5)});
  auto &client = network.Connect({.keep_alive = std::chrono::seconds(0)});
  auto &record = network.At(client);
  // What it sends then is lost: it takes the connection for alive for longer than the server.
  network.Run(4 * kSecond);
  network.lose = [](const auto &wire) { return wire.to_server; };
  ASSERT_TRUE(client->SubmitRequest(Request()));
  ASSERT_TRUE(network.RunUntil([&] { return record.closed.has_value(); }));
  EXPECT_EQ(record.closed->kind, CloseKind::kIdleTimeout);
  EXPECT_EQ(network.server->Expiry(), kNever) << "nobody is told: there is nothing to wait for";
  EXPECT_FALSE(client.recorder.closed);

  network.lose = nullptr;
  EXPECT_TRUE(network.RunUntil([&] { return client.recorder.closed.has_value(); }));
  EXPECT_EQ(client.recorder.closed->kind, CloseKind::kStatelessReset);
  EXPECT_GE(network.server->statistics().resets, 1u);
  EXPECT_TRUE(network.RunOut());
}

TEST(Http3ServerEnd, TheIdleTimerCanBeRestarted) {
  Network network({.idle_timeout = std::chrono::seconds(10)});
  auto &client = network.Connect({.keep_alive = std::chrono::seconds(0)});
  auto &record = network.At(client);
  // The client's own timer has ended by then, silently.
  for (int i = 0; i < 5; ++i) {
    network.Run(6 * kSecond);
    ASSERT_FALSE(record.closed);
    record.connection->RestartIdleTimer(network.now);
  }
  ASSERT_TRUE(network.RunUntil([&] { return record.closed.has_value(); }));
  EXPECT_EQ(record.closed->kind, CloseKind::kIdleTimeout);
  EXPECT_TRUE(network.RunOut());
}

TEST(Http3ServerEnd, AHandshakeHasItsTime) {
  Network network({.handshake_timeout = std::chrono::seconds(3)});
  network.lose = [&](const auto &wire) {
    return wire.to_server && network.server->connections() != 0;
  };
  auto &client = network.Add();
  ASSERT_TRUE(network.RunUntil([&] { return network.server->connections() == 1; }));
  EXPECT_TRUE(network.RunUntil([&] { return network.server->connections() == 0; }));
  network.Vanish(client);
  EXPECT_TRUE(network.RunOut());
  EXPECT_TRUE(network.app.records.empty()) << "nobody has heard of it";
  EXPECT_EQ(network.server->statistics().handshakes, 0u);
}

TEST(Http3ServerEnd, WhoIsNotWantedIsClosed) {
  Network network;
  network.app.take = false;
  auto &client = network.Add();
  ASSERT_TRUE(network.RunUntil([&] { return client.recorder.closed.has_value(); }));
  EXPECT_EQ(client.recorder.closed->kind, CloseKind::kPeer);
  EXPECT_EQ(client.recorder.closed->code, ngmasque::kH3ExcessiveLoad);
  EXPECT_TRUE(network.RunOut());
}

TEST(Http3ServerEnd, AMalformedDatagramClosesTheConnection) {
  // With the code that the handler says.
  for (const auto code : {ngmasque::kH3GeneralProtocolError, ngmasque::kH3DatagramError}) {
    Network network;
    auto &client = network.Connect();
    auto &record = network.At(client);
    record.datagram_error = code;
    ASSERT_TRUE(client->SendDatagram(1, {}, Bytes{1}));
    ASSERT_TRUE(network.RunUntil([&] { return client.recorder.closed.has_value(); }));
    EXPECT_EQ(client.recorder.closed->code, code);
    EXPECT_TRUE(client.recorder.closed->application);
    EXPECT_EQ(record.closed->kind, CloseKind::kProtocol);
    EXPECT_EQ(record.closed->code, code);
    EXPECT_TRUE(network.RunOut());
  }
}

TEST(Http3ServerEnd, AServerThatGoesTellsNobody) {
  Network network;
  for (int i = 0; i < 3; ++i) {
    auto &client = network.Connect();
    ASSERT_TRUE(client->SubmitRequest(Request()));
  }
  network.Run(kSecond);
  network.server.reset();
  EXPECT_TRUE(std::ranges::none_of(network.app.records,
                                   [](auto &record) { return record.closed.has_value(); }));
}

// What the client's socket gets of a reset is smaller than what it has sent, so that two ends that
// know nothing of each other come to an end.
TEST(Http3ServerEnd, ResetsAreShorterThanWhatTheyAnswer) {
  Network network({.idle_timeout = std::chrono::seconds(5)});
  auto &client = network.Connect({.keep_alive = std::chrono::seconds(0)});
  const auto id = network.At(client).local_ids.back();
  network.Vanish(client);
  ASSERT_TRUE(network.RunOut());
  for (const std::size_t size : {0, 1, 18, 21, 22, 30, 43, 44, 1200}) {
    Bytes packet(size, 0xee);
    if (size != 0) {
      packet[0] = 0x40;
    }
    std::ranges::copy(id.bytes().first(std::min(id.size(), size - std::min<std::size_t>(size, 1))),
                      packet.begin() + (size != 0));
    network.strays.clear();
    network.Inject(9000, packet);
    network.Run(kSecond / 50);
    ASSERT_EQ(network.strays.size(), size > 21 ? 1u : 0u) << size;
    if (size > 21) {
      EXPECT_LT(network.strays[0].bytes.size(), size);
      EXPECT_TRUE(Short(network.strays[0].bytes));
    }
  }
}

} // namespace
