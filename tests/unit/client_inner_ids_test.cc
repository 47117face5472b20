// Connection IDs of other people's connections, as far as they can be seen.

#include "ngmasque-client/inner_ids.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace ngmasque::programs {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint8_t kInitial = 0xc0;
constexpr std::uint8_t kHandshake = 0xe0;
constexpr std::uint8_t kInitialV2 = 0xd0;
constexpr std::uint32_t kV2 = 0x6b3343cf;

ConnectionId Id(std::uint8_t byte, std::size_t size = 8) {
  return *ConnectionId::From(Bytes(size, byte));
}

Bytes Long(const ConnectionId &dcid, const ConnectionId &scid, std::uint8_t first = kInitial,
           std::size_t size = 1200, std::uint32_t version = 1) {
  Bytes packet{first, static_cast<std::uint8_t>(version >> 24),
               static_cast<std::uint8_t>(version >> 16), static_cast<std::uint8_t>(version >> 8),
               static_cast<std::uint8_t>(version)};
  for (const auto &id : {dcid, scid}) {
    packet.push_back(static_cast<std::uint8_t>(id.size()));
    packet.insert(packet.end(), id.bytes().begin(), id.bytes().end());
  }
  packet.resize(std::max(size, packet.size()));
  return packet;
}

Bytes Short(const ConnectionId &dcid) {
  Bytes packet{0x40};
  packet.insert(packet.end(), dcid.bytes().begin(), dcid.bytes().end());
  packet.resize(packet.size() + 30, 0xee);
  return packet;
}

// A handshake up to the client's first short header: what that is news of.
InnerIds::News Handshake(InnerIds &ids, const ConnectionId &client, const ConnectionId &server,
                         std::uint64_t now = 1) {
  EXPECT_EQ(ids.FromClient(Long(Id(0xd0), client), now).client_id, client);
  ids.FromTarget(Long(client, server));
  EXPECT_FALSE(ids.FromClient(Long(server, client, kHandshake, 100), now).server_id);
  return ids.FromClient(Short(server), now);
}

TEST(InnerIds, WhatBeginsAConnection) {
  EXPECT_TRUE(InnerIds::BeginsConnection(Long(Id(1), Id(2))));
  EXPECT_TRUE(InnerIds::BeginsConnection(Long(Id(1), Id(2), kInitialV2, 1200, kV2)));
  EXPECT_TRUE(InnerIds::BeginsConnection(Long(Id(1), {})));
  EXPECT_FALSE(InnerIds::BeginsConnection(Long(Id(1), Id(2), kInitial, 1199))) << "a server's";
  EXPECT_FALSE(InnerIds::BeginsConnection(Long(Id(1), Id(2), kHandshake)));
  EXPECT_FALSE(InnerIds::BeginsConnection(Long(Id(1), Id(2), kInitial, 1200, kV2)));
  EXPECT_FALSE(InnerIds::BeginsConnection(Long(Id(1), Id(2), kInitial, 1200, 0)));
  EXPECT_FALSE(InnerIds::BeginsConnection(Long(Id(1), Id(2, 21)))) << "of no version 1";
  EXPECT_FALSE(InnerIds::BeginsConnection(Bytes(1200, 0xc0)));
  EXPECT_FALSE(InnerIds::BeginsConnection(Short(Id(1))));
  EXPECT_FALSE(InnerIds::BeginsConnection({}));
}

TEST(InnerIds, ServerIdIsNewsWithTheFirstShortHeader) {
  InnerIds ids;
  const auto news = Handshake(ids, Id(1), Id(2, 16));
  EXPECT_EQ(news.server_id, Id(2, 16));
  EXPECT_FALSE(news.client_id);
  EXPECT_FALSE(ids.FromClient(Short(Id(2, 16)), 2).server_id) << "once";
  EXPECT_EQ(ids.unseen_to_target(), 0u);
}

// That of the Retry is in the client's second Initial packet, but in none with a short header.
TEST(InnerIds, RetryIsNoServerId) {
  InnerIds ids;
  (void)ids.FromClient(Long(Id(0xd0), Id(1)), 1);
  ids.FromTarget(Long(Id(1), Id(7), 0xf0, 60));
  EXPECT_FALSE(ids.FromClient(Long(Id(7), Id(1)), 1).client_id) << "the same connection";
  ids.FromTarget(Long(Id(1), Id(2)));
  (void)ids.FromClient(Long(Id(2), Id(1), kHandshake, 100), 1);
  EXPECT_FALSE(ids.FromClient(Short(Id(7)), 1).server_id);
  EXPECT_EQ(ids.FromClient(Short(Id(2)), 1).server_id, Id(2));
}

// Anybody can send a packet with a long header, and it need not be one that the client takes.
TEST(InnerIds, MadeUpAnswersAreNotBelieved) {
  InnerIds ids;
  (void)ids.FromClient(Long(Id(0xd0), Id(1)), 1);
  for (std::uint8_t i = 0; i < 100; ++i) {
    ids.FromTarget(Long(Id(1), Id(static_cast<std::uint8_t>(100 + i))));
    ids.FromTarget(Long(Id(9), Id(2))); // Of another connection.
  }
  ids.FromTarget(Long(Id(1), Id(0xd0), kInitial, 100, kVersionNegotiation));
  EXPECT_FALSE(ids.FromClient(Short(Id(0xd0)), 1).server_id) << "the client's own choice";
  EXPECT_FALSE(ids.FromClient(Short(Id(150)), 1).server_id);
  ids.FromTarget(Long(Id(1), Id(2)));
  (void)ids.FromClient(Long(Id(2), Id(1), kHandshake, 100), 1);
  EXPECT_EQ(ids.FromClient(Short(Id(2)), 1).server_id, Id(2));
}

TEST(InnerIds, WhatComesLaterIsCounted) {
  InnerIds ids;
  (void)ids.FromClient(Short(Id(3)), 1);
  ids.FromTarget(Short(Id(3)));
  EXPECT_EQ(ids.unseen_to_target(), 0u) << "there is no connection";
  (void)Handshake(ids, Id(1), Id(2));
  ids.FromTarget(Short(Id(1)));
  EXPECT_EQ(ids.unseen_to_client(), 0u);
  EXPECT_FALSE(ids.FromClient(Short(Id(3)), 2).server_id);
  ids.FromTarget(Short(Id(4)));
  EXPECT_EQ(ids.unseen_to_target(), 1u);
  EXPECT_EQ(ids.unseen_to_client(), 1u);
}

TEST(InnerIds, ConnectionIdsThatAreNotAskedFor) {
  InnerIds ids;
  EXPECT_FALSE(ids.FromClient(Long(Id(0xd0), Id(1, 3)), 1).client_id) << "too short";
  EXPECT_FALSE(ids.FromClient(Long(Id(0xd0), Id(1), kInitial, 1000), 1).client_id)
    << "no beginning";
  EXPECT_TRUE(ids.FromClient(Long(Id(0xd0), Id(1, 4)), 1).client_id);
  EXPECT_FALSE(ids.FromClient(Long(Id(0xd0), Id(1, 5)), 1).client_id) << "in conflict";
  EXPECT_FALSE(ids.FromClient(Long(Id(0xd0), {}), 1).client_id) << "in conflict with all";
  EXPECT_EQ(ids.client_ids(), (std::vector{Id(1, 4)}));
}

// Whatever comes back is for it.
TEST(InnerIds, ZeroLength) {
  InnerIds ids;
  EXPECT_EQ(Handshake(ids, {}, Id(2)).server_id, Id(2));
  EXPECT_EQ(ids.client_ids(), std::vector{ConnectionId()});
  ids.FromTarget(Short({}));
  ids.FromTarget(Short(Id(9)));
  EXPECT_EQ(ids.unseen_to_client(), 0u);
  EXPECT_FALSE(ids.FromClient(Long(Id(0xd0), Id(1)), 2).client_id) << "in conflict";
  EXPECT_FALSE(ids.FromClient(Short(Id(3)), 2).server_id);
  EXPECT_EQ(ids.unseen_to_target(), 1u);
}

// The next connection of the port has the same one, and another server's.
TEST(InnerIds, ZeroLengthAgain) {
  InnerIds ids;
  EXPECT_EQ(Handshake(ids, {}, Id(2)).server_id, Id(2));
  const auto begun = ids.FromClient(Long(Id(0xd0), {}), 2);
  EXPECT_FALSE(begun.client_id) << "it is known";
  EXPECT_EQ(begun.old_server_id, Id(2));
  ids.FromTarget(Long({}, Id(3)));
  (void)ids.FromClient(Long(Id(3), {}, kHandshake, 100), 2);
  EXPECT_EQ(ids.FromClient(Short(Id(3)), 2).server_id, Id(3));
  EXPECT_FALSE(ids.FromClient(Short(Id(2)), 3).server_id) << "of the one before";
}

TEST(InnerIds, ServerWithoutOneIsNeverNews) {
  InnerIds ids;
  (void)ids.FromClient(Long(Id(0xd0), Id(1)), 1);
  ids.FromTarget(Long(Id(1), {}));
  (void)ids.FromClient(Long({}, Id(1), kHandshake, 100), 1);
  EXPECT_FALSE(ids.FromClient(Short({}), 1).server_id);
}

TEST(InnerIds, TheLongestSilentIsForgotten) {
  InnerIds ids;
  for (std::uint8_t i = 0; i < InnerIds::kMaxConnections; ++i) {
    EXPECT_TRUE(Handshake(ids, Id(static_cast<std::uint8_t>(10 + i)),
                          Id(static_cast<std::uint8_t>(50 + i)), 1 + i)
                  .server_id);
  }
  (void)ids.FromClient(Short(Id(50)), 100);
  const auto news = ids.FromClient(Long(Id(0xd0), Id(90)), 101);
  EXPECT_EQ(news.client_id, Id(90));
  EXPECT_EQ(news.old_client_id, Id(11));
  EXPECT_EQ(news.old_server_id, Id(51));
  const auto left = ids.client_ids();
  EXPECT_EQ(left.size(), InnerIds::kMaxConnections);
  EXPECT_EQ(left[0], Id(90)) << "the latest one first";
  EXPECT_EQ(left[1], Id(10));
  EXPECT_FALSE(std::ranges::contains(left, Id(11)));
}

TEST(InnerIds, NewTunnelIsToldAgain) {
  InnerIds ids;
  EXPECT_TRUE(Handshake(ids, Id(1), Id(2)).server_id);
  ids.OnNewTunnel();
  EXPECT_EQ(ids.FromClient(Short(Id(2)), 2).server_id, Id(2));
}

} // namespace
} // namespace ngmasque::programs
