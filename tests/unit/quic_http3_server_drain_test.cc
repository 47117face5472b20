// Http3Server: it ends in order.

#include "quic_http3_requests.h"
#include "quic_server_network.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace {

using ngmasque::CloseKind;
using ngmasque::QuicError;
using ngmasque::StreamId;
using quic_test::Bytes;
using quic_test::Network;
using quic_test::Request;

constexpr ngmasque::Nanoseconds kSecond = 1'000'000'000;
constexpr std::uint64_t kConnectionRefused = 2; // RFC 9000, section 20.1.

StreamId Open(Network &network, Network::Client &client) {
  const auto stream = client->SubmitRequest(Request()).value();
  EXPECT_TRUE(network.RunUntil([&] { return client.recorder.responses.contains(stream); }));
  return stream;
}

// The server has nothing against it.
void ExpectClosedInOrder(const Network::Client &client) {
  ASSERT_TRUE(client.recorder.closed);
  EXPECT_EQ(client.recorder.closed->kind, CloseKind::kPeer);
  EXPECT_TRUE(client.recorder.closed->application);
  EXPECT_EQ(client.recorder.closed->code, ngmasque::kH3NoError);
}

TEST(Http3ServerDrain, RequestsGoOnAndTheConnectionEndsWithTheLast) {
  Network network;
  auto &client = network.Connect();
  const auto first = Open(network, client);
  EXPECT_TRUE(network.server->takes_requests());
  network.server->Drain(network.now);
  // On its way when the client is told.
  const auto crossing = client->SubmitRequest(Request()).value();
  ASSERT_TRUE(network.RunUntil([&] { return client.recorder.responses.contains(crossing); }));
  ASSERT_TRUE(network.RunUntil([&] { return client.recorder.go_away == 1; }));
  EXPECT_EQ(client->SubmitRequest(Request()).error(), QuicError::kGoingAway);
  ASSERT_TRUE(network.RunUntil([&] { return !network.server->takes_requests(); }));

  network.Run(3 * kSecond);
  auto &record = network.At(client);
  ASSERT_TRUE(client->SendData(first, {}, Bytes(100'000)));
  ASSERT_TRUE(record.connection->SendData(crossing, {}, Bytes(100'000)));
  EXPECT_TRUE(network.RunUntil(
    [&] { return record.data[first].size() == 100'000 && client.recorder.data.size() == 100'000; }));

  client->CloseStream(first);
  network.Run(kSecond);
  EXPECT_FALSE(client.recorder.closed);
  client->CloseStream(crossing);
  ASSERT_TRUE(network.RunUntil([&] { return client.recorder.closed.has_value(); }));
  ExpectClosedInOrder(client);
  ASSERT_TRUE(record.closed);
  EXPECT_EQ(record.closed->kind, CloseKind::kLocal);
  EXPECT_EQ(client.recorder.go_away, 1);
  EXPECT_TRUE(network.RunOut());
}

TEST(Http3ServerDrain, ConnectionsWithoutRequestsAreClosed) {
  Network network;
  auto &idle = network.Connect();
  auto &busy = network.Connect();
  const auto stream = Open(network, busy);
  network.server->Drain(network.now);
  ASSERT_TRUE(network.RunUntil([&] { return idle.recorder.closed.has_value(); }));
  ExpectClosedInOrder(idle);
  EXPECT_EQ(idle.recorder.go_away, 1);
  EXPECT_FALSE(busy.recorder.closed);
  network.server->Drain(network.now); // Again: it is as it was.
  network.Run(kSecond);
  EXPECT_FALSE(busy.recorder.closed);
  network.At(busy).connection->CloseStream(stream);
  EXPECT_TRUE(network.RunUntil([&] { return busy.recorder.closed.has_value(); }));
  ExpectClosedInOrder(busy);
}

TEST(Http3ServerDrain, NewConnectionsAreRefused) {
  Network network;
  auto &before = network.Connect();
  (void)Open(network, before);
  auto &half = network.Add();
  ASSERT_TRUE(network.RunUntil([&] { return network.server->connections() == 2; }));
  ASSERT_EQ(network.server->statistics().handshakes, 1u);
  network.server->Drain(network.now);
  auto &late = network.Add();
  ASSERT_TRUE(network.RunUntil(
    [&] { return half.recorder.closed.has_value() && late.recorder.closed.has_value(); }));
  for (const auto *client : {&half, &late}) {
    EXPECT_EQ(client->recorder.closed->kind, CloseKind::kPeer);
    EXPECT_FALSE(client->recorder.closed->application);
    EXPECT_EQ(client->recorder.closed->code, kConnectionRefused);
  }
  EXPECT_EQ(network.app.records.size(), 1u);
  EXPECT_EQ(network.server->connections(), 1u);
  EXPECT_FALSE(before.recorder.closed);
}

// Of a client that does not care for GOAWAY.
TEST(Http3ServerDrain, LaterRequestsAreRejected) {
  const auto request = quic_test::HeadersFrame(Request());
  Network network;
  quic_test::RawClient client("h3");
  network.Talk(client, 9000);
  client.Send(request, false);
  network.Talk(client, 9000);
  ASSERT_TRUE(network.app.From(9000)->requests.contains(0));
  network.server->Drain(network.now);
  network.Talk(client, 9000);
  ASSERT_FALSE(network.server->takes_requests());
  for (const std::int64_t stream : {4, 8}) {
    client.Send(request, false);
    network.Talk(client, 9000);
    ASSERT_TRUE(client.reset.contains(stream));
    EXPECT_EQ(client.reset.at(stream), ngmasque::kH3RequestRejected);
    EXPECT_EQ(client.stopped.at(stream), ngmasque::kH3RequestRejected);
  }
  EXPECT_EQ(network.app.From(9000)->requests.size(), 1u);
  EXPECT_FALSE(network.app.From(9000)->closed);
}

TEST(Http3ServerDrain, AServerWithoutConnectionsIsDoneAtOnce) {
  Network network;
  network.server->Drain(network.now);
  EXPECT_FALSE(network.server->takes_requests());
  auto &client = network.Add();
  ASSERT_TRUE(network.RunUntil([&] { return client.recorder.closed.has_value(); }));
  EXPECT_EQ(client.recorder.closed->code, kConnectionRefused);
}

TEST(Http3ServerDrain, ManyClientsOnABadNetwork) {
  constexpr std::size_t kClients = 30;
  Network network({}, {.seed = 3, .loss = 150, .jitter = 10'000'000});
  for (std::size_t i = 0; i < kClients; ++i) {
    network.Add();
  }
  const auto all = [&](auto &&has) {
    return network.RunUntil([&] { return std::ranges::all_of(network.clients, has); },
                            100 * kSecond);
  };
  ASSERT_TRUE(all([&](auto &client) { return client.ready() && network.app.From(client.port); }));
  for (auto &client : network.clients) {
    EXPECT_EQ(Open(network, client), 0u);
  }
  network.server->Drain(network.now);
  // Some end on their own, some while they are told, and the rest when they are asked to.
  network.Close(network.clients.front());
  network.Run(kSecond / 100);
  network.Close(network.clients.back());
  network.Vanish(network.clients.front());
  network.Vanish(network.clients.back());
  ASSERT_TRUE(all([](auto &client) { return client.recorder.go_away == 1; }));
  EXPECT_TRUE(network.RunUntil([&] { return !network.server->takes_requests(); }));
  for (auto &client : network.clients) {
    client->CloseStream(0);
  }
  ASSERT_TRUE(all([](auto &client) { return client.recorder.closed.has_value(); }));
  std::size_t unheard = 0;
  for (const auto &client : network.clients) {
    // The network may lose the last packet, and then the server knows nothing of the connection any more.
    if (client.recorder.closed->kind == CloseKind::kStatelessReset) {
      ++unheard;
    } else {
      ExpectClosedInOrder(client);
    }
  }
  EXPECT_LT(unheard, kClients / 2);
  EXPECT_TRUE(network.RunOut());
}

} // namespace
