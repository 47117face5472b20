// Http3Server: clients that come, do anything, and go, over a network that loses packets.

#include "quic_server_network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

namespace {

using ngmasque::HeaderField;
using ngmasque::StreamId;
using quic_test::Bytes;
using quic_test::Network;
using quic_test::Request;
using quic_test::ServerRecord;

constexpr ngmasque::Nanoseconds kSecond = 1'000'000'000;
constexpr std::size_t kMaxClients = 12;
constexpr int kSteps = 400;

class Story {
public:
  explicit Story(std::uint64_t seed)
    : network_({.idle_timeout = std::chrono::seconds(20),
                .handshake_timeout = std::chrono::seconds(10),
                .max_requests = 5,
                .max_connections = 10,
                .max_handshakes = 6,
                .retry_from = 3},
               {.seed = seed, .loss = 30, .jitter = 5'000'000}) {
    network_.app.on_connection = [this](ngmasque::Http3Server::Connection &connection) {
      budgets_.push_back(std::make_shared<ngmasque::ByteBudget>(100'000));
      connection.ShareWith(budgets_.back());
    };
    network_.app.on_headers = [this](ServerRecord &record, StreamId stream) {
      const auto status = [&](std::string value, bool end) {
        EXPECT_TRUE(record.connection->Respond(
          stream, std::vector<HeaderField>{{.name = ":status", .value = std::move(value)}}, end));
      };
      switch (Below(4)) {
      case 0: status("403", true); break;
      case 1: break; // Later, or never.
      default: status("200", false);
      }
    };
  }

  void Go() {
    for (int step = 0; step < kSteps; ++step) {
      Act();
      network_.Run(Below(60'000'000));
      ASSERT_LE(network_.server->connections(), 10u);
    }
    // Those that are left go, one way or another.
    network_.options.loss = 0;
    network_.room = SIZE_MAX;
    while (!network_.clients.empty()) {
      auto &client = network_.clients.front();
      if (Below(2) == 0) {
        network_.Close(client);
        network_.Run(kSecond / 10);
      }
      network_.Vanish(client);
    }
    if (Below(2) == 0) {
      network_.CloseServer(ngmasque::kH3NoError);
      EXPECT_EQ(network_.server->connections(), 0u);
    }
    EXPECT_TRUE(network_.RunOut());
    for (const auto &record : network_.app.records) {
      EXPECT_TRUE(record.closed);
    }
    for (const auto &budget : budgets_) {
      EXPECT_EQ(budget->bytes(), 0u);
    }
    const auto statistics = network_.server->statistics();
    EXPECT_EQ(statistics.handshakes, network_.app.records.size());
    EXPECT_GT(statistics.handshakes, 5u) << "nothing was tested";
  }

private:
  std::uint64_t Below(std::uint64_t bound) { return network_.random() % bound; }

  void Act() {
    if (network_.clients.empty() || (Below(10) == 0 && network_.clients.size() < kMaxClients)) {
      network_.Add();
      return;
    }
    auto &client = *std::next(network_.clients.begin(),
                              static_cast<long>(Below(network_.clients.size())));
    if (client.recorder.closed) {
      network_.Vanish(client);
      return;
    }
    auto *record = network_.app.From(client.port);
    auto *connection = record ? record->connection : nullptr;
    switch (Below(20)) {
    case 0: network_.Vanish(client); break;
    case 1:
      network_.Close(client);
      network_.Vanish(client);
      break;
    case 2:
      if (connection) {
        connection->CloseSoon(ngmasque::kH3NoError);
      }
      break;
    case 3:
      if (client.ready()) {
        Move(client);
      }
      break;
    case 4: Inject(); break;
    case 5: network_.room = 1 + Below(5); break; // For a while.
    default:
      network_.room = SIZE_MAX;
      if (client.ready() && connection) {
        Exchange(client, *record);
      }
    }
  }

  void Move(Network::Client &client) {
    const auto port = next_port_++;
    network_.Route(port, client);
    (void)client->Migrate(quic_test::Local(port), network_.now);
  }

  // What nobody has sent: any bytes, or the begin of a packet.
  void Inject() {
    Bytes bytes(Below(1300));
    std::ranges::generate(bytes, [&] { return static_cast<std::uint8_t>(network_.random()); });
    if (!network_.app.records.empty() && Below(2) == 0 && bytes.size() > 40) {
      const auto &ids = network_.app.records.back().local_ids;
      if (!ids.empty()) {
        bytes[0] = static_cast<std::uint8_t>(0x40 | (bytes[0] & 0x3f));
        std::ranges::copy(ids.front().bytes(), bytes.begin() + 1);
      }
    }
    network_.Inject(60000, std::move(bytes));
  }

  void Exchange(Network::Client &client, ServerRecord &record) {
    auto &server = *record.connection;
    const Bytes bytes(1 + Below(3000), 7);
    const auto datagram = std::span(bytes).first(bytes.size() / 3);
    const auto pick = [&](const auto &of) {
      return of.empty() ? StreamId{0}
                        : std::next(of.begin(), static_cast<long>(Below(of.size())))->first;
    };
    const auto asked = pick(record.requests);
    const auto answered = pick(client.recorder.responses);
    // Many of them are refused: streams come and go, and there are bounds.
    switch (Below(9)) {
    case 0:
    case 1: (void)client->SubmitRequest(Request()); break;
    case 2: (void)client->SendData(answered, {}, bytes); break;
    case 3: (void)server.SendData(asked, bytes, bytes); break;
    case 4: (void)server.SendMessage(asked, bytes); break;
    case 5: (void)client->SendDatagram(Below(3), {}, datagram); break;
    case 6:
      for (int i = 0; i < 20; ++i) {
        (void)server.SendDatagram(Below(3), {}, datagram);
      }
      break;
    case 7: client->CloseStream(answered); break;
    case 8:
      if (Below(2) == 0) {
        server.CloseStream(asked);
      } else {
        (void)server.Respond(
          asked, std::vector<HeaderField>{{.name = ":status", .value = "200"}}, Below(2) == 0);
      }
      break;
    }
  }

  Network network_;
  std::uint16_t next_port_ = 30000;
  std::vector<std::shared_ptr<ngmasque::ByteBudget>> budgets_;
};

TEST(Http3ServerRandom, WhateverHappensNothingIsLeft) {
  // What the network and the clients do is the same with the same seed; keys and IDs are not.
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Story(seed).Go();
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
  }
}

} // namespace
