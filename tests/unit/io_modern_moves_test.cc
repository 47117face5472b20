// ProxyClient and ConnectUdpProxy in dialect rfc9298: what is forwarded when the client moves, and when
// a NAT does.

#include "io_loop_support.h"
#include "quic_certificate_files.h"
#include "quic_proxy_support.h"

#include "ngmasque/io/connect_udp_proxy.h"
#include "ngmasque/session/rfc9298.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace ngmasque {
namespace {

using quic_test::Bytes;
using quic_test::Id;
using quic_test::Local;
using quic_test::Short;

// Between clients and the proxy, with an address of its own for each of theirs.
class Nat {
public:
  Nat(struct ev_loop *loop, std::uint16_t proxy)
    : loop_(loop), proxy_(Local(proxy)), front_(loop, [this](Bytes bytes, const Endpoint &client) {
        auto &outside = outside_[client];
        if (!outside) {
          Rebind(client);
        }
        Note(true, client, bytes);
        outside->Send(proxy_, bytes);
      }) {}

  // Other addresses for all.
  void Rebind() {
    for (auto &[client, outside] : outside_) {
      Rebind(client);
    }
  }
  std::uint16_t port() const { return front_.at.port; }

  // What follows the first byte of packets with a short header, by the address of the client that has
  // sent or got them: the beginning of their connection IDs.
  std::map<Endpoint, std::set<Bytes>> to_proxy, to_client;
  bool deaf = false; // Nothing comes to clients.

private:
  void Rebind(const Endpoint &client) {
    auto &outside = outside_[client];
    if (outside) {
      old_.push_back(std::move(outside)); // For what is on its way.
    }
    outside = std::make_unique<Socket>(loop_, [this, client](Bytes bytes, const Endpoint &) {
      Note(false, client, bytes);
      if (!deaf) {
        front_.Send(client, bytes);
      }
    });
  }
  void Note(bool up, const Endpoint &client, const Bytes &bytes) {
    if (bytes.size() > 9 && (bytes[0] & 0x80) == 0) {
      (up ? to_proxy : to_client)[client].insert(Bytes(bytes.begin() + 1, bytes.begin() + 9));
    }
  }

  struct ev_loop *loop_;
  Endpoint proxy_;
  std::map<Endpoint, std::unique_ptr<Socket>> outside_;
  std::vector<std::unique_ptr<Socket>> old_;
  Socket front_;
};

class ModernMoves : public testing::TestWithParam<Transform>, public ProxyClient::Handler {
protected:
  ModernMoves() {
    ConnectUdpProxy::Options options;
    options.listener.addresses = {Local(0)};
    options.server.certificate_file = certificate.file();
    options.server.key_file = certificate.key;
    options.proxy.policy.allow.push_back(*ParseAddressBlock("127.0.0.0/8"));
    proxy = ConnectUdpProxy::Create(loop, options).value();
    nat.emplace(loop, proxy->addresses().front().port);
    Rfc9298ClientOptions modern{
      .uri = UriTemplate::Parse(
               "https://proxy.example/.well-known/masque/udp/{target_host}/{target_port}/")
               .value(),
      .key = {.k0 = 1, .k1 = 2},
      .transforms = {GetParam()}};
    ProxyClient::Options client_options{.host = "127.0.0.1", .port = std::to_string(nat->port())};
    client_options.own_dialect = [modern](const ClientDialectOptions &of) {
      return MakeRfc9298Client(modern, of);
    };
    client.emplace(loop, client_options, *this);
    EXPECT_TRUE(client->Start());
    tunnel = client->Open({.host = "127.0.0.1", .port = target.at.port}, Id(0x60), recorder).value();
    tunnel->AddServerId(Id(0x55));
    EXPECT_TRUE(Forwards());
  }
  ~ModernMoves() override {
    tunnel.reset();
    client.reset();
    proxy.reset();
  }

  void OnReady() override {}
  void OnClosed(std::string_view text) override { ADD_FAILURE() << text; }

  // There and back, without a tunnel.
  bool Forwards() {
    const auto before = tunnel->statistics();
    return loop.RunUntil([&] {
      std::ignore = tunnel->Send(Short(0x55), 0);
      const auto &now = tunnel->statistics();
      return now.forwarded_tx.packets > before.forwarded_tx.packets &&
             now.forwarded_rx.packets > before.forwarded_rx.packets;
    });
  }

  // Connection IDs that one address of the client has in common with another one of its.
  static std::vector<Bytes> Shared(const std::map<Endpoint, std::set<Bytes>> &seen) {
    std::vector<Bytes> shared;
    std::set<Bytes> all;
    for (const auto &[client, ids] : seen) {
      std::ranges::copy_if(ids, std::back_inserter(shared),
                           [&all](const Bytes &id) { return !all.insert(id).second; });
    }
    return shared;
  }

  Loop loop;
  quic_test::CertificateFiles certificate;
  Socket target{loop, [this](const Bytes &, const Endpoint &from) {
                  target.Send(from, Short(0x60, answer_size));
                  ++answers;
                }};
  std::size_t answer_size = 100, answers = 0;
  std::unique_ptr<ConnectUdpProxy> proxy;
  std::optional<Nat> nat;
  quic_test::TunnelRecorder recorder;
  std::optional<ProxyClient> client;
  std::unique_ptr<ProxyTunnel> tunnel;
};

//= draft-ietf-masque-quic-proxy, section 6.5
//# In the event of active migration, the proxy removes forwarding rules in order to not send packets
//# with the same connection ID bytes over multiple network paths.
TEST_P(ModernMoves, AClientThatMovesHasOtherVirtualConnectionIds) {
  for (std::size_t addresses = 2; addresses <= 4; ++addresses) {
    ASSERT_TRUE(loop.RunUntil([&] { return client->ChangeLocalAddress().has_value(); }));
    // Something is under way all the time.
    ASSERT_TRUE(loop.RunUntil([&] {
      std::ignore = tunnel->Send(Short(0x55), 0);
      return nat->to_client.size() == addresses;
    }));
    for (int round = 0; round < 20; ++round) {
      ASSERT_TRUE(Forwards());
    }
    EXPECT_EQ(nat->to_proxy.size(), addresses);
  }
  EXPECT_EQ(Shared(nat->to_proxy), std::vector<Bytes>{});
  EXPECT_EQ(Shared(nat->to_client), std::vector<Bytes>{});
  EXPECT_TRUE(recorder.ended.empty());
  EXPECT_EQ(recorder.packets.back(), Short(0x60));
}

// The target knows how large its packets can be when they are forwarded.
TEST_P(ModernMoves, WhatFitsInNoDatagramWaitsUntilTheClientHasRegisteredAgain) {
  answer_size = tunnel->max_payload() + 20;
  for (int round = 0; round < 10; ++round) {
    ASSERT_TRUE(Forwards());
  }
  for (std::size_t addresses = 2; addresses <= 4; ++addresses) {
    ASSERT_TRUE(loop.RunUntil([&] { return client->ChangeLocalAddress().has_value(); }));
    ASSERT_TRUE(loop.RunUntil([&] {
      std::ignore = tunnel->Send(Short(0x55), 0);
      return nat->to_client.size() == addresses;
    }));
    ASSERT_TRUE(Forwards());
  }
  EXPECT_TRUE(loop.RunUntil([this] { return recorder.packets.size() == answers; }));
  EXPECT_EQ(proxy->counters().dropped, Drops{});
}

// The same the other way: the program keeps it meanwhile.
TEST_P(ModernMoves, WhatTheProgramSendsWaitsUntilTheClientHasRegisteredAgain) {
  const auto size = tunnel->max_payload() + 20;
  std::size_t sent = 0, blocked = 0;
  const auto send = [&] {
    const auto status = tunnel->Send(Short(0x55, size), 0);
    ASSERT_NE(status, SendStatus::kDropped);
    sent += status == SendStatus::kSent;
    if (status == SendStatus::kBlocked) {
      ++blocked;
      // A larger one may be a probe, and what fits goes on.
      ASSERT_EQ(tunnel->Send(Short(0x55, size + 1), 0), SendStatus::kDropped);
      ASSERT_EQ(tunnel->Send(Short(0x55), 0), SendStatus::kSent);
      ++sent;
    }
  };
  const auto before = answers;
  for (int round = 0; round < 10; ++round) {
    send();
  }
  const auto writable = recorder.writable;
  for (std::size_t addresses = 2; addresses <= 4; ++addresses) {
    ASSERT_TRUE(loop.RunUntil([&] { return client->ChangeLocalAddress().has_value(); }));
    ASSERT_TRUE(loop.RunUntil([&] {
      send();
      return nat->to_client.size() == addresses;
    }));
    const auto forwarded = tunnel->statistics().forwarded_tx.packets;
    ASSERT_TRUE(loop.RunUntil([&] {
      send();
      return tunnel->statistics().forwarded_tx.packets > forwarded + 10;
    }));
  }
  EXPECT_GT(blocked, 0u);
  EXPECT_GT(recorder.writable, writable);
  EXPECT_TRUE(loop.RunUntil([&] { return answers == before + sent; }));
  EXPECT_EQ(tunnel->statistics().of(DropReason::kTooLarge), blocked);
  EXPECT_EQ(tunnel->statistics().on_stream_tx, 0u);
}

TEST_P(ModernMoves, WhatTheProgramSendsDoesNotWaitForEver) {
  const auto size = tunnel->max_payload() + 20;
  for (int round = 0; round < 10; ++round) {
    ASSERT_EQ(tunnel->Send(Short(0x55, size), 0), SendStatus::kSent);
  }
  ASSERT_TRUE(loop.RunUntil([&] { return client->ChangeLocalAddress().has_value(); }));
  ASSERT_TRUE(loop.RunUntil([&] {
    return tunnel->Send(Short(0x55, size), 0) == SendStatus::kBlocked;
  }));
  nat->deaf = true; // No registration is acknowledged.
  const auto writable = recorder.writable;
  ASSERT_TRUE(loop.RunUntil([&] { return recorder.writable > writable; }));
  ASSERT_TRUE(loop.RunUntil([&] {
    return tunnel->Send(Short(0x55, size), 0) == SendStatus::kSent;
  }));
  EXPECT_EQ(tunnel->statistics().on_stream_tx, 1u);
  const auto before = answers;
  nat->deaf = false;
  EXPECT_TRUE(loop.RunUntil([&] { return answers > before; }));
  ASSERT_TRUE(Forwards());
}

//= draft-ietf-masque-quic-proxy, section 6.5
//# In the event of passive migration, the proxy automatically reconfigures forwarding rules to use
//# the latest active and validated network path for the HTTP stream.
TEST_P(ModernMoves, ANatThatChangesLeavesThemAsTheyAre) {
  const auto up = nat->to_proxy.begin()->second, down = nat->to_client.begin()->second;
  for (int i = 0; i < 3; ++i) {
    nat->Rebind();
    for (int round = 0; round < 20; ++round) {
      ASSERT_TRUE(Forwards());
    }
  }
  // But for the outer connection's own, of which it takes others.
  const auto &now = nat->to_proxy.begin()->second;
  EXPECT_TRUE(std::ranges::includes(now, up));
  EXPECT_LE(now.size(), up.size() + 3);
  EXPECT_TRUE(std::ranges::includes(nat->to_client.begin()->second, down));
  EXPECT_TRUE(recorder.ended.empty());
}

INSTANTIATE_TEST_SUITE_P(Transforms, ModernMoves,
                         testing::Values(Transform::kIdentity, Transform::kScrambleDt),
                         [](const auto &info) {
                           return info.param == Transform::kIdentity ? "identity" : "scramble";
                         });

} // namespace
} // namespace ngmasque
