// Http3Client: datagrams, and payloads on streams.

#include "quic_support.h"

#include "ngmasque/wire/datagram.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

namespace quic_test {
namespace {

using ngmasque::QuicError;

Bytes Filled(std::size_t size, std::uint8_t byte) { return Bytes(size, byte); }

const std::array<std::uint8_t, 1> kFlow{0};

std::vector<ngmasque::HeaderField> Ok() { return {{.name = ":status", .value = "200"}}; }

TEST(QuicDatagram, BothWays) {
  Pair pair;
  EXPECT_EQ(pair.client->SendDatagram(0, kFlow, {}).error(), QuicError::kNotReady);
  ASSERT_TRUE(pair.Connect());
  ASSERT_TRUE(pair.client->SendDatagram(0, kFlow, Filled(3, 7)));
  pair.server->SendDatagram({2, 1});
  pair.Settle();
  EXPECT_EQ(pair.server->datagrams, (std::vector<Bytes>{{0, 7, 7, 7}}));
  EXPECT_EQ(pair.recorder.datagrams, (std::vector<Bytes>{{2, 1}}));
  EXPECT_EQ(pair.client->statistics().datagrams_sent, 1u);
  EXPECT_EQ(pair.client->statistics().datagrams_received, 1u);
}

// Section 7 of the issue: the first flight of a QUIC connection has 1,200 bytes.
TEST(QuicDatagram, InnerInitialFits) {
  Pair pair;
  ASSERT_TRUE(pair.Connect());
  EXPECT_GE(pair.client->max_datagram(), 1281u);
  ASSERT_TRUE(pair.client->SendDatagram(0, kFlow, Filled(1200, 1)));
  pair.Settle();
  ASSERT_EQ(pair.server->datagrams.size(), 1u);
  EXPECT_EQ(pair.server->datagrams.front().size(), 1201u);
  EXPECT_LE(pair.largest_packet, 1350u);
}

// It begins with what every path takes, and with the largest size that was acknowledged it goes on.
TEST(QuicDatagram, ProbesThePath) {
  constexpr std::array<std::pair<std::size_t, std::size_t>, 4> kFound{
    {{1350, 1350}, {1349, 1300}, {1250, 1250}, {1249, 1200}}};
  for (const auto [limit, found] : kFound) {
    Pair pair({}, {.probe_path = true});
    pair.path_limit = limit;
    ASSERT_TRUE(pair.Connect());
    EXPECT_EQ(pair.largest_packet, 1200u);
    EXPECT_EQ(pair.client->SendDatagram(0, kFlow, Filled(1200, 1)).error(), QuicError::kTooLarge);
    // Until nothing happens any more.
    (void)pair.RunUntil([] { return false; });
    EXPECT_GT(pair.client->max_datagram(), found - 50);
    EXPECT_LT(pair.client->max_datagram(), found);
    EXPECT_GT(pair.largest_packet, 1200u);
    const auto sent = pair.client->SendDatagram(0, kFlow, Filled(1200, 1));
    EXPECT_EQ(sent.has_value(), limit >= 1250);
    pair.Settle();
    EXPECT_EQ(pair.server->datagrams.size(), sent ? 1u : 0u);
  }
}

// Each size up to the largest one goes through, and the next one is refused without harm.
TEST(QuicDatagram, OversizedIsDroppedAndTheNextOnesAreNot) {
  for (const std::uint64_t udp : {1200u, 1350u, 1472u}) {
    Pair pair({}, {.max_udp_payload = udp});
    ASSERT_TRUE(pair.Connect());
    const auto max = pair.client->max_datagram();
    ASSERT_GT(max, udp - 50);
    ASSERT_TRUE(pair.client->SendDatagram(0, {}, Filled(max, 1)));
    EXPECT_EQ(pair.client->SendDatagram(0, {}, Filled(max + 1, 2)).error(), QuicError::kTooLarge);
    EXPECT_EQ(pair.client->SendDatagram(0, kFlow, Filled(max, 2)).error(), QuicError::kTooLarge);
    ASSERT_TRUE(pair.client->SendDatagram(0, {}, Filled(max, 3)));
    ASSERT_TRUE(pair.client->SendDatagram(0, {}, Filled(1, 4)));
    pair.Settle();
    EXPECT_EQ(pair.server->datagrams,
              (std::vector<Bytes>{Filled(max, 1), Filled(max, 3), Filled(1, 4)}));
    EXPECT_TRUE(pair.recorder.dropped.empty()) << "the caller knows";
    EXPECT_LE(pair.largest_packet, udp);
  }
}

TEST(QuicDatagram, PeersLimits) {
  // Of the frame: a byte of type, one of length, and the rest.
  Pair frame({.max_datagram_frame = 60});
  ASSERT_TRUE(frame.Connect());
  EXPECT_EQ(frame.client->max_datagram(), 58u);
  ASSERT_TRUE(frame.client->SendDatagram(0, {}, Filled(58, 1)));
  EXPECT_EQ(frame.client->SendDatagram(0, {}, Filled(59, 1)).error(), QuicError::kTooLarge);
  frame.Settle();
  EXPECT_EQ(frame.server->datagrams, (std::vector<Bytes>{Filled(58, 1)}));
}

TEST(QuicDatagram, PeerWithout) {
  Pair pair({.max_datagram_frame = 0, .settings = kNoDatagrams});
  ASSERT_TRUE(pair.Connect());
  EXPECT_FALSE(pair.client->datagrams());
  EXPECT_EQ(pair.client->max_datagram(), 0u);
  EXPECT_EQ(pair.client->SendDatagram(0, kFlow, Filled(1, 1)).error(), QuicError::kNoDatagrams);
  pair.Settle();
  EXPECT_FALSE(pair.recorder.closed);
}

TEST(QuicDatagram, QueueIsBoundedByCount) {
  Pair pair;
  ASSERT_TRUE(pair.Connect());
  pair.Settle();
  std::size_t taken = 0;
  while (pair.client->SendDatagram(0, kFlow, Filled(1, static_cast<std::uint8_t>(taken)))) {
    ++taken;
    ASSERT_LE(taken, quic_test::kBounds.datagrams_per_tunnel);
  }
  EXPECT_EQ(taken, quic_test::kBounds.datagrams_per_tunnel);
  EXPECT_EQ(pair.client->SendDatagram(0, kFlow, Filled(1, 0)).error(), QuicError::kFull);
  EXPECT_EQ(pair.recorder.writable, 0);
  ASSERT_TRUE(pair.RunUntil([&] { return pair.recorder.writable > 0; }));
  EXPECT_TRUE(pair.client->SendDatagram(0, kFlow, Filled(1, 0)));
  ASSERT_TRUE(pair.RunUntil([&] { return pair.server->datagrams.size() == taken + 1; }))
    << "one was lost";
  EXPECT_EQ(pair.recorder.writable, 1) << "told without having been asked";
  for (std::size_t i = 0; i < taken; ++i) {
    ASSERT_EQ(pair.server->datagrams[i][1], static_cast<std::uint8_t>(i)) << "out of order";
  }
}

TEST(QuicDatagram, QueueIsBoundedByBytes) {
  Pair pair;
  ASSERT_TRUE(pair.Connect());
  pair.Settle();
  std::size_t bytes = 0;
  for (const auto size = pair.client->max_datagram();
       pair.client->SendDatagram(0, {}, Filled(size, 1));) {
    bytes += size + ngmasque::DatagramQueue::kOverhead;
    ASSERT_LE(bytes, quic_test::kBounds.bytes_per_tunnel);
  }
  EXPECT_GT(bytes, quic_test::kBounds.bytes_per_tunnel - 2000);
  ASSERT_TRUE(pair.RunUntil([&] { return pair.recorder.writable > 0; }));
}

// One tunnel's full queue is in no other's way, and costs it a turn.
TEST(QuicDatagram, TunnelsTakeTurns) {
  Pair pair;
  ASSERT_TRUE(pair.Connect());
  pair.Settle();
  std::size_t taken = 0;
  while (pair.client->SendDatagram(0, kFlow, Filled(1000, 1))) {
    ++taken;
  }
  ASSERT_TRUE(pair.client->SendDatagram(1, kFlow, Filled(1000, 2)));
  ASSERT_TRUE(pair.RunUntil([&] { return pair.server->datagrams.size() == taken + 1; }));
  const auto other = std::ranges::find_if(
    pair.server->datagrams, [](const Bytes &datagram) { return datagram.back() == 2; });
  EXPECT_LT(other - pair.server->datagrams.begin(), 4);
  EXPECT_EQ(pair.recorder.writable, 1);
}

// Its owner is told; the one that has come gets its place.
TEST(QuicDatagram, FullestTunnelLosesAtTheBoundOfAll) {
  Pair pair;
  ASSERT_TRUE(pair.Connect());
  const auto tunnels = quic_test::kBounds.bytes / quic_test::kBounds.bytes_per_tunnel;
  for (std::uint64_t tunnel = 0; tunnel < tunnels; ++tunnel) {
    while (pair.client->SendDatagram(tunnel, {}, Filled(1000, 1))) {}
  }
  EXPECT_TRUE(pair.recorder.dropped.empty());
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(pair.client->SendDatagram(tunnels, {}, Filled(1000, 2)));
  }
  EXPECT_GT(pair.recorder.dropped.size(), 0u);
  for (const auto &[tunnel, reason] : pair.recorder.dropped) {
    EXPECT_LT(tunnel, tunnels);
    EXPECT_EQ(reason, QuicError::kFull);
  }
}

// What cannot share a system call makes a burst of one: all but the last are of one size.
TEST(QuicDatagram, PacketsOfABurstAreOfOneSize) {
  // The sizes of the datagrams, of which no two fit a packet, and of the packets.
  for (const auto &[sizes, segment] :
       {std::pair(std::array<std::size_t, 2>{1200, 1200}, std::size_t{1250}),
        std::pair(std::array<std::size_t, 2>{1200, 900}, std::size_t{1350}),
        std::pair(std::array<std::size_t, 2>{800, 800}, std::size_t{1350})}) {
    Pair pair;
    ASSERT_TRUE(pair.Connect());
    pair.Settle();
    pair.client_packets.clear();
    for (std::size_t i = 0; i < 6; ++i) {
      ASSERT_TRUE(pair.client->SendDatagram(0, kFlow, Filled(sizes[i % 2], 1)));
    }
    std::vector<std::size_t> bursts;
    pair.client->WritePackets(pair.now, [&](const ngmasque::OutgoingBurst &burst) {
      bursts.push_back(burst.data.size());
      EXPECT_LE(burst.segment, segment);
      EXPECT_GT(burst.segment, segment - 50);
      EXPECT_GT(burst.data.size(), 5 * burst.segment);
      return true;
    });
    EXPECT_EQ(bursts.size(), 1u);
  }
}

//= draft-00, section 4.1
//# The client can start sending packets tunnelled within DATAGRAM frames as soon as this first
//# CONNECT-UDP request for the datagram flow ID has been sent, even in the same QUIC packet to the
//# proxy.
TEST(QuicDatagram, RequestLeavesWithItsFirstDatagram) {
  Pair pair;
  ASSERT_TRUE(pair.Connect());
  pair.Settle();
  pair.server->order.clear();
  // Whoever's turn it is: several rounds.
  for (int i = 0; i < 4; ++i) {
    pair.client_packets.clear();
    ASSERT_TRUE(pair.client->SubmitRequest(Request()));
    ASSERT_TRUE(pair.client->SendDatagram(0, kFlow, Filled(1000, 1)));
    pair.client->WritePackets(pair.now, [&](const ngmasque::OutgoingBurst &burst) {
      pair.client_packets.push_back(burst.data.size());
      pair.server->Receive({.path = {.local = burst.path.remote, .remote = burst.path.local},
                            .ecn = 0,
                            .bytes = Bytes(burst.data.begin(), burst.data.end())},
                           pair.now);
      return true;
    });
    EXPECT_EQ(pair.client_packets.size(), 1u);
    EXPECT_EQ(pair.server->order, (std::vector<std::string>{"request", "datagram"}));
    pair.server->order.clear();
    pair.Settle();
  }
}

// A full queue of datagrams is ahead, and the request still leaves in the first packets; payloads
// on a stream that never end do not stop datagrams.
TEST(QuicDatagram, NeitherStarvesTheOther) {
  Pair pair;
  ASSERT_TRUE(pair.Connect());
  const auto stream = pair.client->SubmitRequest(Request()).value();
  pair.Settle();
  while (pair.client->SendDatagram(0, kFlow, Filled(1200, 1))) {}
  while (pair.client->SendData(stream, Bytes{4, 176}, Filled(1200, 2))) {}
  ASSERT_TRUE(pair.RunUntil([&] {
    return pair.server->datagrams.size() >= 20 && pair.server->bodies[0].size() >= 20 * 1202;
  }));
  EXPECT_LT(pair.server->datagrams.size(), 60u) << "the streams have waited";
  EXPECT_LT(pair.server->bodies[0].size(), 60u * 1202) << "the datagrams have waited";
}

TEST(QuicPayload, BytesBothWays) {
  Pair pair({.max_datagram_frame = 0, .settings = kNoDatagrams});
  ASSERT_TRUE(pair.Connect());
  const auto stream = pair.client->SubmitRequest(Request()).value();
  ASSERT_TRUE(pair.client->SendData(stream, Bytes{0, 3}, Filled(3, 9)));
  pair.Settle();
  ASSERT_TRUE(pair.client->SendData(stream, {}, {}));
  ASSERT_TRUE(pair.client->SendData(stream, {}, Filled(ngmasque::kMaxStreamBytes, 8)));
  EXPECT_EQ(pair.client->SendData(stream, Bytes{1}, Filled(ngmasque::kMaxStreamBytes, 8)).error(),
            QuicError::kTooLarge);
  EXPECT_EQ(pair.client->SendData(stream + 4, {}, Filled(1, 1)).error(),
            QuicError::kUnknownStream);
  EXPECT_EQ(pair.client->SendMessage(stream + 4, Filled(1, 1)).error(), QuicError::kUnknownStream);
  Bytes expected{0, 3, 9, 9, 9};
  expected.resize(expected.size() + ngmasque::kMaxStreamBytes, 8);
  ASSERT_TRUE(pair.RunUntil([&] { return pair.server->bodies[0].size() >= expected.size(); }));
  EXPECT_EQ(pair.server->bodies[0], expected);

  pair.server->Respond(0, Ok());
  for (const std::uint8_t byte : {0, 2, 5}) {
    pair.server->SendBody(0, {byte});
  }
  pair.server->SendBody(0, {6, 7});
  pair.Settle();
  EXPECT_EQ(pair.recorder.data, (Bytes{0, 2, 5, 6, 7}));
}

TEST(QuicPayload, StreamIsBounded) {
  Pair pair({.max_datagram_frame = 0, .settings = kNoDatagrams});
  ASSERT_TRUE(pair.Connect());
  const auto stream = pair.client->SubmitRequest(Request()).value();
  std::size_t bytes = 0;
  std::size_t parts = 0;
  const auto taken = [&] { return bytes + parts * ngmasque::kStreamPartOverhead; };
  while (pair.client->SendData(stream, Bytes{3, 232}, Filled(1000, 1))) {
    bytes += 1002;
    ++parts;
    ASSERT_LE(taken(), ngmasque::kMaxStreamBytes + ngmasque::kStreamPartOverhead);
  }
  EXPECT_GT(taken(), ngmasque::kMaxStreamBytes - 1002);
  // A message has room of its own.
  EXPECT_TRUE(pair.client->SendMessage(stream, Filled(1002, 2)));
  bytes += 1002;
  ++parts;
  const auto room = ngmasque::kMaxStreamMessageBytes - taken();
  EXPECT_EQ(pair.client->SendMessage(stream, Filled(room + 1, 2)).error(), QuicError::kFull);
  ASSERT_TRUE(pair.RunUntil([&] { return pair.recorder.writable > 0; }));
  EXPECT_TRUE(pair.client->SendData(stream, Bytes{3, 232}, Filled(1000, 1)));
  ASSERT_TRUE(pair.RunUntil([&] { return pair.server->bodies[0].size() == bytes + 1002; }));
}

// The peer does not read: it costs kMaxStreamBytes and no more, and other streams go on.
TEST(QuicPayload, BlockedStreamHurtsNoOther) {
  Pair pair({.max_datagram_frame = 0, .settings = kNoDatagrams, .stream_window = 2000});
  ASSERT_TRUE(pair.Connect());
  const auto stream = pair.client->SubmitRequest(Request()).value();
  while (pair.client->SendData(stream, Bytes{3, 232}, Filled(1000, 1))) {}
  const auto other = pair.client->SubmitRequest(Request()).value();
  pair.client->CloseStream(stream);
  pair.Settle();
  EXPECT_TRUE(pair.server->requests.contains(static_cast<std::int64_t>(other)));
  EXPECT_GT(pair.recorder.writable, 0) << "what is closed is still counted";
}

} // namespace
} // namespace quic_test
