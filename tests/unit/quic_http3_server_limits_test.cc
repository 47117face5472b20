// Http3Server: what is too much, and what is malformed.

#include "quic_server_network.h"

#include "ngmasque/wire/byte_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

namespace {

using ngmasque::ByteBudget;
using ngmasque::HeaderField;
using ngmasque::QuicError;
using ngmasque::StreamEnd;
using ngmasque::StreamId;
using quic_test::Bytes;
using quic_test::Network;
using quic_test::Request;
using quic_test::ServerRecord;

constexpr ngmasque::Nanoseconds kSecond = 1'000'000'000;
const std::vector<HeaderField> kOk{{.name = ":status", .value = "200"}};

std::string Status(const Network::Client &client, StreamId stream) {
  const auto found = client.recorder.responses.find(stream);
  return found == client.recorder.responses.end() ? "none" : found->second.at(0).value;
}

StreamId Open(Network &network, Network::Client &client) {
  const auto stream = client->SubmitRequest(Request()).value();
  EXPECT_TRUE(network.RunUntil([&] { return client.recorder.responses.contains(stream); }));
  EXPECT_EQ(Status(client, stream), "200");
  return stream;
}

TEST(Http3ServerLimits, TooManyFieldBytesGet431) {
  Network network;
  auto &client = network.Connect();
  const auto before = Open(network, client);
  auto fields = Request();
  // Names, values and 32 for each: one byte more, and none.
  std::size_t size = 0;
  for (const auto &field : fields) {
    size += field.name.size() + field.value.size() + 32;
  }
  const auto last = ngmasque::kMaxFieldBytes - size - 32 - 1;
  fields.push_back({.name = "x", .value = std::string(last + 1, 'a')});
  const auto refused = client->SubmitRequest(fields).value();
  fields.back().value.pop_back();
  const auto taken = client->SubmitRequest(fields).value();
  ASSERT_TRUE(network.RunUntil([&] {
    return client.recorder.responses.contains(taken) && client.recorder.ends.contains(refused);
  }));
  EXPECT_EQ(Status(client, refused), "431");
  EXPECT_EQ(Status(client, taken), "200");
  EXPECT_FALSE(network.At(client).requests.contains(refused));
  EXPECT_TRUE(client->SendData(before, {}, Bytes{1}));
  EXPECT_TRUE(network.RunUntil([&] { return network.At(client).data.contains(before); }));
}

TEST(Http3ServerLimits, AMalformedRequestIsResetAndNothingElse) {
  Network network;
  auto &client = network.Connect();
  const auto before = Open(network, client);
  // No method, two of them, and what only a connection may say.
  const std::vector<std::vector<HeaderField>> malformed{
    {{.name = ":authority", .value = "target.example:443"}},
    {{.name = ":method", .value = "CONNECT"},
     {.name = ":method", .value = "CONNECT"},
     {.name = ":authority", .value = "target.example:443"}},
    {{.name = ":method", .value = "CONNECT"},
     {.name = ":authority", .value = "target.example:443"},
     {.name = "connection", .value = "close"}},
  };
  for (const auto &fields : malformed) {
    const auto stream = client->SubmitRequest(fields).value();
    ASSERT_TRUE(network.RunUntil([&] { return client.recorder.ends.contains(stream); }))
      << fields.size() << " fields";
    EXPECT_EQ(client.recorder.ends.at(stream).first, StreamEnd::kReset);
    EXPECT_EQ(client.recorder.ends.at(stream).second, ngmasque::kH3MessageError);
    EXPECT_FALSE(network.At(client).requests.contains(stream));
  }
  EXPECT_FALSE(client.recorder.ends.contains(before));
  (void)Open(network, client);
}

TEST(Http3ServerLimits, MoreRequestsWait) {
  Network network({.max_requests = 3});
  auto &client = network.Connect();
  std::vector<StreamId> streams;
  for (int i = 0; i < 3; ++i) {
    streams.push_back(Open(network, client));
  }
  EXPECT_EQ(client->SubmitRequest(Request()).error(), QuicError::kStreamsBlocked);
  const auto before = client.recorder.streams_available;
  network.At(client).connection->CloseStream(streams[1]);
  ASSERT_TRUE(network.RunUntil([&] { return client.recorder.streams_available != before; }));
  (void)Open(network, client);
  EXPECT_EQ(client->SubmitRequest(Request()).error(), QuicError::kStreamsBlocked);

  // As many as ever, one after the other.
  for (int i = 0; i < 20; ++i) {
    client->CloseStream(streams[0]);
    ASSERT_TRUE(network.RunUntil([&] { return network.At(client).ends.contains(streams[0]); }));
    network.Run(kSecond / 10);
    streams[0] = Open(network, client);
  }
}

// A stream on which no request has begun is no request that anybody ends.
TEST(Http3ServerLimits, AStreamThatIsResetAtOnceMakesRoomForAnother) {
  Network network({.max_requests = 2});
  quic_test::RawClient client("h3");
  network.Talk(client, 9000);
  ASSERT_TRUE(client.completed());
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(client.streams_left(), 2u);
    client.ResetNewStream(ngmasque::kH3RequestCancelled);
    network.Talk(client, 9000);
  }
  EXPECT_EQ(client.streams_left(), 2u);
  EXPECT_TRUE(network.app.From(9000)->requests.empty());
  EXPECT_FALSE(network.app.From(9000)->closed);
}

// A HEADERS frame with a field of `size` bytes, after those of a GET, and `missing` bytes at its end
// that do not come.
Bytes Headers(std::size_t size, std::size_t missing) {
  // QPACK: GET, https, "/", and the authority "a"; then a literal name and a literal value.
  Bytes section{0, 0, 0xd1, 0xd7, 0xc1, 0x50, 1, 'a', 0x21, 'x', 0x7f};
  for (auto rest = size - 0x7f; rest != 0; rest >>= 7) {
    section.push_back(static_cast<std::uint8_t>((rest & 0x7f) | (rest >> 7 != 0 ? 0x80 : 0)));
  }
  section.insert(section.end(), size, 'b');
  const auto length = section.size() + missing;
  Bytes frame{0x01, static_cast<std::uint8_t>(0x40 | length >> 8),
              static_cast<std::uint8_t>(length & 0xff)};
  frame.insert(frame.end(), section.begin(), section.end());
  return frame;
}

// Each could be as large, and none of them comes to its end.
TEST(Http3ServerLimits, FieldsOfUnfinishedMessagesAreBoundedTogether) {
  constexpr std::size_t kSize = 15'000;
  constexpr std::uint16_t kPort = 9000;
  for (const std::size_t unfinished : {3, 4}) {
    Network network;
    quic_test::RawClient client("h3");
    network.Talk(client, kPort);
    ASSERT_TRUE(client.completed());
    for (std::size_t i = 0; i < unfinished; ++i) {
      client.Send(Headers(kSize, 100), false);
      network.Talk(client, kPort);
    }
    client.Send(Headers(kSize, 0), true);
    network.Talk(client, kPort);
    const auto &record = *network.app.From(kPort);
    // There is room for four; the fifth is answered by the server itself.
    EXPECT_EQ(record.requests.size(), unfinished == 3 ? 1u : 0u);
    EXPECT_FALSE(record.closed);
    // Of 200 the table of QPACK has one byte, of 431 nothing but the name.
    const auto &answer = client.streams[static_cast<std::int64_t>(4 * unfinished)];
    EXPECT_EQ(answer.size() == 5, unfinished == 3) << testing::PrintToString(answer);
  }
}

// RFC 9001, section 6: there is no KeyUpdate message of TLS.
TEST(Http3ServerLimits, ACryptoFrameAfterTheHandshakeClosesTheConnection) {
  constexpr std::uint16_t kPort = 9000;
  Network network;
  quic_test::RawClient client("h3");
  network.Talk(client, kPort);
  ASSERT_TRUE(client.completed());
  client.SendCrypto({24, 0, 0, 1, 0});
  network.Talk(client, kPort);
  const auto &record = *network.app.From(kPort);
  ASSERT_TRUE(record.closed);
  EXPECT_EQ(record.closed->code, 0x10au);
  EXPECT_EQ(network.server->connections(), 0u);
}

TEST(Http3ServerLimits, WhatIsNoRequest) {
  struct {
    Bytes bytes;
    std::uint64_t code; // With which the connection ends; 0: it goes on.
  } const cases[]{
    // An empty section of fields is a malformed message; the others break HTTP/3: nothing at all,
    // an unknown frame alone, half of one, and DATA before HEADERS.
    {.bytes = {0x01, 2, 0, 0}, .code = 0},
    {.bytes = {}, .code = NGHTTP3_H3_FRAME_UNEXPECTED},
    {.bytes = {0x21, 0}, .code = NGHTTP3_H3_FRAME_UNEXPECTED},
    {.bytes = {0x01, 20, 0}, .code = NGHTTP3_H3_FRAME_ERROR},
    {.bytes = {0x00, 1, 1}, .code = NGHTTP3_H3_FRAME_UNEXPECTED},
  };
  Network network({.max_requests = 2});
  std::uint16_t port = 9000;
  for (const auto &[bytes, code] : cases) {
    SCOPED_TRACE(testing::PrintToString(bytes));
    quic_test::RawClient client("h3");
    network.Talk(client, ++port);
    ASSERT_TRUE(client.completed());
    auto &record = *network.app.From(port);
    client.Send(bytes, true);
    network.Talk(client, port);
    EXPECT_TRUE(record.requests.empty());
    if (code == 0) {
      EXPECT_FALSE(record.closed);
      EXPECT_EQ(client.streams_left(), 2u);
    } else {
      ASSERT_TRUE(record.closed);
      EXPECT_EQ(record.closed->kind, ngmasque::CloseKind::kProtocol);
      EXPECT_TRUE(record.closed->application);
      EXPECT_EQ(record.closed->code, code);
    }
  }
  EXPECT_EQ(network.server->connections(), 1u);
}

TEST(Http3ServerLimits, AResponseIsGivenOnce) {
  Network network;
  std::vector<std::expected<void, QuicError>> results;
  network.app.on_headers = [&](ServerRecord &record, StreamId stream) {
    results.push_back(record.connection->Respond(stream, kOk, false));
    results.push_back(record.connection->Respond(stream, kOk, true));
  };
  auto &client = network.Connect();
  const auto stream = Open(network, client);
  ASSERT_EQ(results.size(), 2u);
  EXPECT_TRUE(results[0]);
  EXPECT_EQ(results[1].error(), QuicError::kUnknownStream);
  EXPECT_EQ(network.At(client).connection->Respond(stream + 4, kOk, false).error(),
            QuicError::kUnknownStream);
  EXPECT_FALSE(client.recorder.ends.contains(stream));
}

TEST(Http3ServerLimits, AResponseThatEndsIsTheEnd) {
  Network network;
  network.app.on_headers = [&](ServerRecord &record, StreamId stream) {
    EXPECT_TRUE(record.connection->Respond(
      stream, std::vector<HeaderField>{{.name = ":status", .value = "403"}}, true));
    EXPECT_EQ(record.connection->SendData(stream, {}, Bytes{1}).error(),
              QuicError::kUnknownStream);
    EXPECT_EQ(record.connection->SendMessage(stream, Bytes{1}).error(),
              QuicError::kUnknownStream);
  };
  auto &client = network.Connect();
  auto &record = network.At(client);
  const auto stream = client->SubmitRequest(Request()).value();
  ASSERT_TRUE(client->SendData(stream, {}, Bytes(100'000)));
  ASSERT_TRUE(network.RunUntil([&] { return client.recorder.ends.contains(stream); }));
  EXPECT_EQ(Status(client, stream), "403");
  EXPECT_EQ(client.recorder.ends.at(stream).first, StreamEnd::kFinished);
  network.Run(kSecond);
  EXPECT_TRUE(record.ends.empty()) << "the handler has ended it itself";
  EXPECT_TRUE(record.data.empty());
}

TEST(Http3ServerLimits, WhatWaitsOnAStreamIsBounded) {
  Network network;
  auto &client = network.Connect();
  const auto stream = Open(network, client);
  auto &connection = *network.At(client).connection;
  using namespace ngmasque;
  EXPECT_EQ(connection.SendData(stream, Bytes(1), Bytes(kMaxStreamBytes)).error(),
            QuicError::kTooLarge);
  EXPECT_EQ(connection.SendMessage(stream, Bytes(kMaxStreamMessageBytes + 1)).error(),
            QuicError::kTooLarge);
  EXPECT_EQ(connection.SendData(stream + 4, {}, Bytes(1)).error(), QuicError::kUnknownStream);
  EXPECT_TRUE(connection.SendData(stream, {}, Bytes(kMaxStreamBytes)));
  EXPECT_EQ(connection.SendData(stream, {}, Bytes(1)).error(), QuicError::kFull);
  // There is room for messages still, but not for any number of them.
  int messages = 0;
  while (connection.SendMessage(stream, Bytes(1000))) {
    ASSERT_LT(++messages, 100);
  }
  EXPECT_GE(messages, 14);
  EXPECT_EQ(connection.SendMessage(stream, Bytes(1000)).error(), QuicError::kFull);
  const auto size = kMaxStreamBytes + static_cast<std::size_t>(messages) * 1000;
  EXPECT_TRUE(network.RunUntil([&] { return client.recorder.data.size() == size; }));
  network.Run(kSecond);
  EXPECT_TRUE(connection.SendData(stream, {}, Bytes(kMaxStreamBytes))) << "all is acknowledged";
}

TEST(Http3ServerLimits, TheBudgetIsGivenBack) {
  const auto whole = std::make_shared<ByteBudget>(1'000'000);
  Network network;
  auto &first = network.Connect();
  auto &second = network.Connect();
  for (auto *client : {&first, &second}) {
    network.At(*client).connection->ShareWith(std::make_shared<ByteBudget>(200'000, whole));
  }
  const auto fill = [&](Network::Client &client, StreamId stream) {
    auto &connection = *network.At(client).connection;
    EXPECT_TRUE(connection.SendData(stream, {}, Bytes(100'000)));
    EXPECT_TRUE(connection.SendDatagram(1, {}, Bytes(1000)));
    EXPECT_EQ(connection.SendData(stream, {}, Bytes(100'000)).error(), QuicError::kFull);
    EXPECT_TRUE(connection.SendData(stream, {}, Bytes(50'000)));
  };
  const auto one = Open(network, first);
  const auto two = Open(network, second);
  EXPECT_EQ(whole->bytes(), 0u);
  fill(first, one);
  EXPECT_GT(whole->bytes(), 150'000u);
  fill(second, two);
  EXPECT_GT(whole->bytes(), 300'000u);

  // When it has come; when the stream ends; when the connection does.
  EXPECT_TRUE(network.RunUntil([&] { return whole->bytes() == 0; }));
  network.lose = [](const auto &wire) { return !wire.to_server; };
  fill(first, one);
  fill(second, two);
  const auto both = whole->bytes();
  network.Run(kSecond / 10);
  first->CloseStream(one);
  EXPECT_TRUE(network.RunUntil([&] { return network.At(first).ends.contains(one); }));
  network.lose = [&](const auto &wire) {
    return !wire.to_server && wire.path.remote.port == second.port;
  };
  EXPECT_TRUE(network.RunUntil([&] { return whole->bytes() <= both / 2; }));
  EXPECT_GT(whole->bytes(), 150'000u);
  network.Close(second);
  EXPECT_TRUE(network.RunUntil([&] { return whole->bytes() == 0; }));
}

TEST(Http3ServerLimits, AFullSocketLosesNothingAndAllTakeTurns) {
  Network network;
  for (int i = 0; i < 4; ++i) {
    (void)network.Connect();
  }
  std::map<std::uint16_t, int> packets;
  std::vector<StreamId> streams;
  for (auto &client : network.clients) {
    streams.push_back(Open(network, client));
  }
  network.Run(kSecond);
  for (auto &client : network.clients) {
    ASSERT_TRUE(network.At(client).connection->SendData(streams[0], {}, Bytes(200'000)));
  }
  network.lose = [&](const auto &wire) {
    if (!wire.to_server) {
      ++packets[wire.path.remote.port];
    }
    return false;
  };
  // One burst at a time: each of them gets one before the first one gets another.
  for (int round = 1; round <= 2; ++round) {
    packets.clear();
    for (int i = 0; i < 4; ++i) {
      ASSERT_TRUE(network.server->wants_write());
      network.room = 1;
      network.Run(0);
      EXPECT_EQ(network.room, 0u);
    }
    EXPECT_EQ(packets.size(), 4u);
    EXPECT_TRUE(network.server->wants_write());
    network.Run(kSecond / 50);
  }
  network.room = SIZE_MAX;
  EXPECT_TRUE(network.RunUntil([&] {
    return std::ranges::all_of(network.clients, [](auto &client) {
      return client.recorder.data.size() == 200'000;
    });
  }));
  for (auto &client : network.clients) {
    network.Close(client);
  }
  EXPECT_TRUE(network.RunOut());
}

// IDs that the handler does not want are never used, and nothing of them stays.
TEST(Http3ServerLimits, AHandlerRefusesConnectionIds) {
  Network network;
  auto &client = network.Connect();
  auto &record = network.At(client);
  network.Run(kSecond);
  network.app.refuse_ids = 5;
  (void)network.Move(client);
  network.Run(kSecond);
  EXPECT_EQ(record.refused_ids.size(), 5u);
  auto ids = record.connection->local_ids();
  std::ranges::sort(ids);
  std::ranges::sort(record.local_ids);
  EXPECT_EQ(ids, record.local_ids);
  for (const auto &id : record.refused_ids) {
    EXPECT_FALSE(std::ranges::contains(ids, id));
    Bytes packet(100, 0xee);
    packet[0] = 0x40;
    std::ranges::copy(id.bytes(), packet.begin() + 1);
    const auto resets = network.server->statistics().resets;
    network.Inject(9000, packet);
    EXPECT_EQ(network.server->statistics().resets, resets + 1) << "it is nobody's";
  }
}

} // namespace
