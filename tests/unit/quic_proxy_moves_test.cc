// ProxyClient: the proxy moves to other addresses of its.

#include "quic_proxy_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <set>

namespace quic_test {
namespace {

using ngmasque::Endpoint;

class ProxyMoves : public ProxyClientTest {
protected:
  // Forwarding has begun, and the handshake is confirmed.
  void BeginMoves() {
    BeginForwarding();
    here = proxy->local();
    RunUntilQuiet();
  }

  // The proxy asks the client to come there.  When it has, what is forwarded goes there, and comes
  // from there.
  void MoveTo(const Endpoint &address) {
    const auto moves = client->statistics().server_migrations;
    ASSERT_EQ(proxy->server->Announce(address), 0);
    ASSERT_TRUE(RunUntil([&] {
      return proxy->server->used().local == address &&
             client->statistics().server_migrations == moves + 1;
    }));
    ExpectForwardedAt(address);
  }

  // As many as are sent, all of them there, and answers are taken.
  void ExpectForwardedAt(const Endpoint &address) {
    constexpr std::size_t kPackets = 20;
    proxy->forwarded.clear();
    proxy->forwarded_at.clear();
    for (std::size_t i = 0; i < kPackets; ++i) {
      ASSERT_EQ(tunnel->Send(Short(0x55), 0), ngmasque::SendStatus::kSent);
    }
    ASSERT_TRUE(RunUntil([&] { return proxy->forwarded.size() == kPackets; }));
    EXPECT_EQ(proxy->forwarded_at, std::set{address});
    const auto from = proxy->server->used().remote;
    EXPECT_TRUE(std::ranges::all_of(proxy->forwarded,
                                    [&](const auto &entry) { return entry.first == from; }));
    ExpectTaken(address, from);
  }

  void ExpectTaken(const Endpoint &proxys, const Endpoint &clients) {
    const auto before = packets.size();
    proxy->SendRaw(proxys, clients, Short(0x11));
    EXPECT_TRUE(RunUntil([&] { return packets.size() == before + 1; }));
  }

  Endpoint here;
};

TEST_F(ProxyMoves, BackAndForth) {
  BeginMoves();
  const auto second = proxy->Listen(), third = proxy->Listen();
  std::map<Endpoint, Endpoint> from{{here, proxy->server->used().remote}};
  for (const auto &address : {second, third, here, second, here, third, second}) {
    ASSERT_NO_FATAL_FAILURE(MoveTo(address));
    // One local port for each: those who see two paths do not know that they are the same client's.
    const auto [known, fresh] = from.emplace(address, proxy->server->used().remote);
    EXPECT_EQ(known->second, proxy->server->used().remote);
  }
  EXPECT_EQ(from.size(), 3u);
  EXPECT_NE(from.at(second), from.at(third));
  EXPECT_TRUE(ended.empty());
}

TEST_F(ProxyMoves, WhatStillComesFromTheOldAddressIsTaken) {
  BeginMoves();
  const auto old = proxy->server->used();
  const auto second = proxy->Listen();
  ASSERT_NO_FATAL_FAILURE(MoveTo(second));
  ExpectTaken(old.local, old.remote);
}

// More addresses than there are sockets.
TEST_F(ProxyMoves, ManyAddresses) {
  BeginMoves();
  for (int i = 0; i < 12; ++i) {
    ASSERT_NO_FATAL_FAILURE(MoveTo(proxy->Listen())) << i;
  }
  ASSERT_NO_FATAL_FAILURE(MoveTo(here));
}

TEST_F(ProxyMoves, AnAddressThatNeverAnswers) {
  BeginMoves();
  const auto dead = proxy->Listen(), second = proxy->Listen();
  proxy->dead = {dead};
  ASSERT_EQ(proxy->server->Announce(dead), 0);
  RunFor(std::chrono::milliseconds(200));
  EXPECT_EQ(client->statistics().server_migrations, 0u);
  ExpectForwardedAt(here);
  // The next one is gone to when that one has had its time.
  ASSERT_NO_FATAL_FAILURE(MoveTo(second));
}

TEST_F(ProxyMoves, APortThatIsNoProxys) {
  BeginMoves();
  auto refused = Local(53);
  const auto second = proxy->Listen();
  ASSERT_EQ(proxy->server->Announce(refused), 0);
  ASSERT_NO_FATAL_FAILURE(MoveTo(second));
  EXPECT_EQ(client->statistics().server_migrations, 1u);
}

TEST_F(ProxyMoves, TheClientMovesAfterIt) {
  BeginMoves();
  const auto second = proxy->Listen();
  ASSERT_NO_FATAL_FAILURE(MoveTo(second));
  const auto before = proxy->server->used();
  ASSERT_TRUE(RunUntil([this] { return client->ChangeLocalAddress().has_value(); }));
  ASSERT_TRUE(RunUntil([&] { return proxy->server->used() != before; }));
  EXPECT_EQ(proxy->server->used().local, second);
  EXPECT_EQ(client->statistics().server_migrations, 1u);
  ExpectForwardedAt(second);
  ASSERT_NO_FATAL_FAILURE(MoveTo(here));
  // The new port of the client is the one by which it is known at the second address from now on.
  const auto latest = proxy->server->used();
  ASSERT_NO_FATAL_FAILURE(MoveTo(second));
  EXPECT_NE(proxy->server->used().remote, latest.remote);
  EXPECT_NE(proxy->server->used().remote, before.remote);
}

TEST_F(ProxyMoves, NotIfTheClientIsToStay) {
  server_migration = false;
  BeginMoves();
  const auto second = proxy->Listen();
  EXPECT_NE(proxy->server->Announce(second), 0);
  ExpectForwardedAt(here);
}

TEST_F(ProxyMoves, ToItsPreferredAddress) {
  proxy = std::make_unique<Proxy>(loop, Server::Options{});
  const auto first = proxy->local();
  const auto preferred = proxy->Listen();
  proxy->Prefer(preferred);
  Make(proxy->port());
  ASSERT_TRUE(client->Start());
  ASSERT_TRUE(RunUntil([&] { return proxy->server && proxy->server->used().local == preferred; }));
  EXPECT_EQ(client->statistics().server_migrations, 1u);
  EXPECT_NE(first, preferred);
}

} // namespace
} // namespace quic_test
