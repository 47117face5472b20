// Http3Server: requests, datagrams, paths and certificates.

#include "quic_server_network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

namespace {

using ngmasque::CloseKind;
using ngmasque::HeaderField;
using ngmasque::QuicError;
using ngmasque::StreamEnd;
using ngmasque::StreamId;
using quic_test::Bytes;
using quic_test::CertificateFiles;
using quic_test::Local;
using quic_test::Network;
using quic_test::Request;
using quic_test::ServerRecord;

constexpr ngmasque::Nanoseconds kSecond = 1'000'000'000;

// A request that the server has answered with 200.
StreamId Open(Network &network, Network::Client &client) {
  const auto stream = client->SubmitRequest(Request()).value();
  EXPECT_TRUE(network.RunUntil([&] { return client.recorder.responses.contains(stream); }));
  return stream;
}

Bytes Pattern(std::size_t size, std::uint8_t first) {
  Bytes bytes(size);
  std::ranges::generate(bytes, [&first] { return first++; });
  return bytes;
}

// Sends all of it on a stream, as there is room.
template <typename End>
bool SendAll(Network &network, End *end, StreamId stream, const Bytes &bytes) {
  std::span<const std::uint8_t> rest = bytes;
  return network.RunUntil([&] {
    while (!rest.empty()) {
      const auto part = rest.first(std::min<std::size_t>(rest.size(), 5000));
      if (!end->SendData(stream, {}, part)) {
        return false;
      }
      rest = rest.subspan(part.size());
    }
    return true;
  });
}

TEST(Http3Server, RequestsAreAnsweredWithDataBothWays) {
  Network network({}, {.loss = 20, .jitter = 2'000'000});
  auto &client = network.Connect();
  const auto stream = Open(network, client);
  auto &record = network.At(client);
  const auto same = [](const HeaderField &a, const HeaderField &b) {
    return a.name == b.name && a.value == b.value;
  };
  EXPECT_TRUE(std::ranges::equal(record.requests.at(stream), Request(), same));
  EXPECT_TRUE(std::ranges::equal(client.recorder.responses.at(stream),
                                 std::vector<HeaderField>{{.name = ":status", .value = "200"}},
                                 same));

  const auto up = Pattern(1'000'000, 1);
  const auto down = Pattern(1'500'000, 2);
  ASSERT_TRUE(SendAll(network, client.client.get(), stream, up));
  ASSERT_TRUE(SendAll(network, record.connection, stream, down));
  EXPECT_TRUE(network.RunUntil([&] {
    return record.data[stream].size() == up.size() && client.recorder.data.size() == down.size();
  }));
  EXPECT_EQ(record.data[stream], up);
  EXPECT_EQ(client.recorder.data, down);
  EXPECT_TRUE(record.ends.empty());
  const auto statistics = network.server->statistics();
  EXPECT_EQ(statistics.accepted, 1u);
  EXPECT_EQ(statistics.handshakes, 1u);
  EXPECT_EQ(statistics.retries + statistics.refused + statistics.resets + statistics.negotiations,
            0u);
}

TEST(Http3Server, DatagramsGoBothWays) {
  Network network;
  auto &client = network.Connect();
  auto &record = network.At(client);
  ASSERT_TRUE(record.connection->datagrams());
  const auto largest = record.connection->max_datagram();
  EXPECT_GE(largest, 1200u);
  const auto header = Pattern(3, 7);
  const auto payload = Pattern(largest - header.size(), 9);
  Bytes whole = header;
  whole.insert(whole.end(), payload.begin(), payload.end());

  EXPECT_TRUE(record.connection->SendDatagram(1, header, payload));
  EXPECT_EQ(record.connection->SendDatagram(1, header, whole).error(), QuicError::kTooLarge);
  EXPECT_TRUE(client->SendDatagram(1, {}, payload));
  EXPECT_TRUE(network.RunUntil(
    [&] { return !record.datagrams.empty() && !client.recorder.datagrams.empty(); }));
  EXPECT_EQ(record.datagrams, std::vector<Bytes>{payload});
  EXPECT_EQ(client.recorder.datagrams, std::vector<Bytes>{whole});
  EXPECT_EQ(record.connection->statistics().datagrams_sent, 1u);
  EXPECT_EQ(record.connection->statistics().datagrams_received, 1u);
}

TEST(Http3Server, WithoutDatagramsThereAreNone) {
  Network network({.features = quic_test::kNoDatagrams});
  auto &client = network.Connect();
  EXPECT_FALSE(client->datagrams());
  EXPECT_EQ(client->SendDatagram(1, {}, Bytes{1}).error(), QuicError::kNoDatagrams);
}

TEST(Http3Server, ManyClientsAtATime) {
  constexpr int kClients = 40;
  Network network({}, {.loss = 30, .jitter = 4'000'000});
  for (int i = 0; i < kClients; ++i) {
    network.Add();
  }
  const auto all = [&](auto &&has) {
    return network.RunUntil([&] { return std::ranges::all_of(network.clients, has); });
  };
  ASSERT_TRUE(all([&](auto &client) { return client.ready() && network.app.From(client.port); }));
  EXPECT_EQ(network.server->connections(), std::size_t{kClients});
  // What each says tells it from all others.
  const auto said = [](const Network::Client &client) {
    return Pattern(20'000, static_cast<std::uint8_t>(client.port));
  };
  for (auto &client : network.clients) {
    const auto stream = client->SubmitRequest(Request()).value();
    ASSERT_TRUE(client->SendData(stream, {}, said(client)));
  }
  EXPECT_TRUE(all([&](auto &client) { return network.At(client).data[0].size() == 20'000; }));
  for (auto &client : network.clients) {
    EXPECT_EQ(network.At(client).data[0], said(client));
    network.Close(client);
  }
  EXPECT_TRUE(network.RunOut());
}

TEST(Http3Server, LocalIdsAreThoseThatTheClientMayUse) {
  Network network;
  auto &client = network.Connect();
  auto &record = network.At(client);
  network.Run(kSecond);
  auto ids = record.connection->local_ids();
  EXPECT_EQ(ids.size(), 7u) << "as many as the client takes";
  std::ranges::sort(ids);
  std::ranges::sort(record.local_ids);
  EXPECT_EQ(ids, record.local_ids);
  EXPECT_EQ(ids.front().size(), ngmasque::kLocalIdLength);

  // A move takes another one, and retires one; then there is another.
  const auto before = ids;
  (void)network.Move(client);
  network.Run(5 * kSecond);
  ids = record.connection->local_ids();
  EXPECT_EQ(ids.size(), 7u);
  std::ranges::sort(ids);
  std::ranges::sort(record.local_ids);
  EXPECT_EQ(ids, record.local_ids);
  EXPECT_NE(ids, before);
}

TEST(Http3Server, AClientThatMovesIsFollowedOnceItsPathIsValidated) {
  Network network;
  auto &client = network.Connect();
  auto &record = network.At(client);
  network.Run(kSecond);
  const auto old_path = record.connection->path();
  ASSERT_EQ(old_path.remote, Local(client.port));

  // What the server sends to the new port is lost for a while: the client is not there yet.
  bool blocked = true;
  std::uint16_t port = 0;
  network.lose = [&](const Network::Wire &wire) {
    return blocked && !wire.to_server && wire.path.remote.port == port;
  };
  port = network.Move(client);
  network.Run(kSecond / 20);
  EXPECT_TRUE(record.paths.empty());
  blocked = false;
  ASSERT_TRUE(network.RunUntil([&] { return !record.paths.empty(); }));
  EXPECT_EQ(record.paths,
            (std::vector<ngmasque::FourTuple>{{.local = Local(443), .remote = Local(port)}}));
  EXPECT_EQ(record.connection->path(), record.paths.back());
  EXPECT_EQ(client.recorder.paths.size(), 1u);

  // Back to where it was: known already, and told.
  network.Run(kSecond);
  ASSERT_TRUE(client->Migrate(Local(client.port), network.now));
  ASSERT_TRUE(network.RunUntil([&] { return record.paths.size() == 2; }));
  EXPECT_EQ(record.paths.back(), old_path);
  (void)Open(network, client);
}

TEST(Http3Server, APathThatIsNotValidatedIsNotTold) {
  Network network;
  auto &client = network.Connect();
  auto &record = network.At(client);
  network.Run(kSecond);
  // Somebody on the way sends packets of the client's from another port, and hears what comes back.
  network.lose = [&](const Network::Wire &wire) {
    if (wire.to_server && wire.path.remote.port == client.port) {
      network.Inject(9000, wire.bytes);
      return true;
    }
    return false;
  };
  client->Ping();
  network.Run(kSecond / 50);
  EXPECT_EQ(record.connection->path().remote, Local(9000)) << "ngtcp2 sends there already";
  network.lose = nullptr;
  EXPECT_FALSE(network.strays.empty());
  // Packets from both go on, and the client is heard where it is.
  client->Ping();
  network.Run(10 * kSecond);
  EXPECT_EQ(record.connection->path().remote, Local(client.port));
  EXPECT_TRUE(record.paths.empty());
  (void)Open(network, client);
}

TEST(Http3Server, TheCertificateIsReplacedForNewConnections) {
  Network network;
  auto &before = network.Connect({.ca_file = network.files.file()});
  const CertificateFiles other;
  ASSERT_TRUE(network.server->ReplaceCertificate(other.file(), other.key));
  auto &after = network.Connect({.ca_file = other.file()});
  (void)Open(network, before);
  (void)Open(network, after);

  auto &wary = network.Add({.ca_file = network.files.file()});
  EXPECT_TRUE(network.RunUntil([&] { return wary.recorder.closed.has_value(); }));
  EXPECT_EQ(wary.recorder.closed->kind, CloseKind::kCertificate);
  EXPECT_TRUE(network.RunUntil([&] { return network.server->connections() == 2; }));

  // What cannot be loaded changes nothing.
  EXPECT_EQ(network.server->ReplaceCertificate(other.file(), network.files.key).error(),
            QuicError::kTls);
  EXPECT_EQ(network.server->ReplaceCertificate("/nonexistent", other.key).error(), QuicError::kTls);
  (void)network.Connect({.ca_file = other.file()});
}

TEST(Http3Server, OptionsOutOfRange) {
  const CertificateFiles files;
  quic_test::ServerApp app;
  const auto create = [&](std::size_t size, const std::filesystem::path &key) {
    return ngmasque::Http3Server::Create(
      {.certificate_file = files.file(), .key_file = key, .max_udp_payload = size}, app);
  };
  EXPECT_EQ(create(ngmasque::kMinUdpPayload - 1, files.key).error(), QuicError::kArgument);
  EXPECT_EQ(create(65528, files.key).error(), QuicError::kArgument);
  EXPECT_EQ(create(1350, "/nonexistent").error(), QuicError::kTls);
  ASSERT_TRUE(create(ngmasque::kMinUdpPayload, files.key));
  const auto server = create(65527, files.key).value();
  EXPECT_EQ(server->Expiry(), ngmasque::kNever);
  EXPECT_FALSE(server->wants_write());
  EXPECT_EQ(server->connections(), 0u);
}

TEST(Http3Server, QlogsAndKeysAreWritten) {
  const CertificateFiles files;
  const std::filesystem::path dir = files.file().string() + ".qlog";
  const std::filesystem::path keys = files.file().string() + ".keys";
  quic_test::ServerApp app;
  EXPECT_EQ(ngmasque::Http3Server::Create({.certificate_file = files.file(),
                                           .key_file = files.key,
                                           .qlog_dir = dir},
                                          app)
              .error(),
            QuicError::kQlog);
  std::filesystem::create_directory(dir);
  {
    Network network({.qlog_dir = dir, .key_log_file = keys});
    auto &client = network.Connect();
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir), {}), 1);
    network.Close(client);
    EXPECT_TRUE(network.RunOut());
    // Without a directory there is none, and the others get in.
    std::filesystem::rename(dir, dir.string() + ".moved");
    (void)network.Connect();
    std::filesystem::rename(dir.string() + ".moved", dir);
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir), {}), 1);
  EXPECT_GT(std::filesystem::file_size(std::filesystem::directory_iterator(dir)->path()), 1000u);
  EXPECT_GT(std::filesystem::file_size(keys), 100u);
  std::ifstream qlog(std::filesystem::directory_iterator(dir)->path());
  const std::string first(std::istreambuf_iterator<char>(qlog), {});
  EXPECT_LT(first.find("qlog_version"), 100u) << "from the beginning on";
  EXPECT_TRUE(first.contains("initial"));
  std::filesystem::remove_all(dir);
  std::filesystem::remove(keys);
}

// What begins connections costs no files unless somebody has completed a handshake, and of those that
// fail only some are kept.
TEST(Http3Server, QlogsOfConnectionsThatAreNone) {
  const CertificateFiles files, other;
  const std::filesystem::path dir = files.file().string() + ".qlog";
  std::filesystem::create_directory(dir);
  const auto count = [&] { return std::distance(std::filesystem::directory_iterator(dir), {}); };
  {
    Network network({.qlog_dir = dir, .handshake_timeout = std::chrono::seconds(2)});
    network.lose = [](const Network::Wire &wire) { return !wire.to_server; };
    for (int i = 0; i < 20; ++i) {
      network.Add();
    }
    EXPECT_TRUE(network.RunUntil([&] { return network.server->connections() == 20; }));
    while (!network.clients.empty()) {
      network.Vanish(network.clients.front());
    }
    EXPECT_TRUE(network.RunOut());
    EXPECT_EQ(count(), 0);

    network.lose = nullptr;
    for (int i = 0; i < 15; ++i) {
      auto &wary = network.Add({.ca_file = other.file()});
      EXPECT_TRUE(network.RunUntil([&] { return wary.recorder.closed.has_value(); }));
    }
    EXPECT_TRUE(network.RunOut());
    EXPECT_EQ(count(), 10);
    (void)network.Connect();
    EXPECT_EQ(count(), 11);
  }
  std::filesystem::remove_all(dir);
}

} // namespace
