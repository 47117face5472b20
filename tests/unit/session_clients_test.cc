// Clients: who is one, and that limits count for all of its connections together and for nobody
// else (proxying.md, section 7).

#include "session_proxy_support.h"

#include <algorithm>
#include <array>

namespace ngmasque {
namespace {

constexpr std::string_view kTarget = "5.6.7.8:443";
constexpr std::string_view kName = "target.example:443";
// From Alice's address, as other connections of hers.
constexpr OuterConnection kAlice2{11}, kAlice3{12};

ClientKey From(std::string_view address, std::uint16_t port = 1000) {
  return ClientKey::FromAddress(At(address, port));
}

ClientKey By(std::string_view credentials) {
  return ClientKey::FromCredentials(ToBytes(credentials)).value();
}

TEST(ClientKey, Ipv4Address) {
  EXPECT_EQ(From("192.0.2.1"), From("192.0.2.1", 2000)) << "ports do not matter";
  EXPECT_EQ(From("192.0.2.1"), From("::ffff:192.0.2.1"));
  EXPECT_NE(From("192.0.2.1"), From("192.0.2.2"));
  EXPECT_NE(From("192.0.2.1"), From("::c000:201")) << "not IPv4-mapped";
}

TEST(ClientKey, Ipv6Prefix) {
  EXPECT_EQ(From("2001:db8:0:1::1"), From("2001:db8:0:1:ffff:ffff:ffff:ffff"));
  EXPECT_NE(From("2001:db8:0:1::1"), From("2001:db8:0:2::1"));
  EXPECT_NE(From("2001:db8:0:1::1"), From("2001:db8:1:1::1"));
  auto link_local = At("fe80::1", 1000);
  const auto one = ClientKey::FromAddress(link_local);
  link_local.scope = 1;
  EXPECT_NE(ClientKey::FromAddress(link_local), one) << "another link";
}

TEST(ClientKey, Credentials) {
  EXPECT_EQ(By("alice"), By("alice"));
  EXPECT_NE(By("alice"), By("alice2"));
  EXPECT_NE(By("alice"), By(std::string_view("alice\0", 6)));
  EXPECT_NE(By("\x7f\0\0\1"), From("127.0.0.1"));
  EXPECT_FALSE(ClientKey::FromCredentials({}));
  const Bytes longest(ClientKey::kMaxCredentials, 'x');
  EXPECT_TRUE(ClientKey::FromCredentials(longest));
  EXPECT_FALSE(ClientKey::FromCredentials(Bytes(ClientKey::kMaxCredentials + 1, 'x')));
}

TEST(ClientKey, HashIsKeyed) {
  const ClientKeyHash hash(kTestKey);
  EXPECT_EQ(hash(From("192.0.2.1")), hash(From("192.0.2.1", 2000)));
  EXPECT_NE(hash(From("192.0.2.1")), hash(From("192.0.2.2")));
  EXPECT_NE(hash(From("192.0.2.1")), ClientKeyHash({})(From("192.0.2.1")));
  EXPECT_NE(hash(By("alice")), hash(By(std::string_view("alice\0", 6))));
}

// Alice has three connections, from one address; Bob has one, from another.
class Clients : public testing::Test {
protected:
  void Start(const ProxyOptions &options) {
    world = ProxyWorld(options);
    for (const auto connection : {kAlice2, kAlice3}) {
      ASSERT_TRUE(world.proxy.AddConnection(connection, Alice(connection)));
    }
  }

  static FourTuple Alice(OuterConnection connection) {
    auto tuple = Tuple(1);
    tuple.remote.port = static_cast<std::uint16_t>(connection);
    return tuple;
  }

  unsigned Open(OuterConnection connection, StreamId stream, std::string_view id,
                std::string_view authority = kTarget) {
    return world.Request(connection, stream, WithClientId(authority, stream / 2, id));
  }

  std::optional<DropReason> Error(OuterConnection connection, FlowId flow,
                                  std::string_view payload) {
    return world.Send(connection, flow, payload).error();
  }

  const Client &ClientOf(OuterConnection connection) {
    return *world.proxy.Find(connection)->client;
  }

  ProxyWorld world;
};

TEST_F(Clients, ConnectionsOfOneAddress) {
  Start({.routing = {.max_connections_per_client = 3}});
  EXPECT_EQ(&ClientOf(kAlice), &ClientOf(kAlice3));
  EXPECT_NE(&ClientOf(kAlice), &ClientOf(kBob));
  const OuterConnection fourth{13};
  EXPECT_EQ(world.proxy.AddConnection(fourth, Alice(fourth)).error(),
            SessionError::kTooManyClientConnections);
  EXPECT_TRUE(world.proxy.AddConnection(fourth, Tuple(2))) << "Bob's";
  world.Do(world.proxy.RemoveConnection(kAlice2, world.now));
  EXPECT_TRUE(world.proxy.AddConnection(kAlice2, Alice(kAlice2)));
}

TEST_F(Clients, ConnectionsOfOnePrefix) {
  world = ProxyWorld({.routing = {.max_connections_per_client = 1}});
  const auto add = [&](std::uint64_t connection, std::string_view address) {
    return world.proxy
      .AddConnection(OuterConnection{connection},
                     {.local = At("2001:db8::443", 443), .remote = At(address, 1000)})
      .has_value();
  };
  EXPECT_TRUE(add(11, "2001:db8:0:1::1"));
  EXPECT_FALSE(add(12, "2001:db8:0:1:ffff::2"));
  EXPECT_TRUE(add(13, "2001:db8:0:2::1"));
}

TEST_F(Clients, Flows) {
  Start({.routing = {.max_flows_per_client = 2}});
  ASSERT_EQ(Open(kAlice, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kAlice2, 0, "client-2", kName), 0u);
  EXPECT_EQ(Open(kAlice3, 0, "client-3"), 429u);
  EXPECT_EQ(Open(kAlice, 4, "client-3"), 429u);
  EXPECT_EQ(Open(kBob, 0, "client-3"), 200u);
  world.Close(kAlice, 0);
  EXPECT_EQ(Open(kAlice3, 4, "client-4"), 200u);
  // A connection that goes takes its flows along.
  world.Do(world.proxy.RemoveConnection(kAlice3, world.now));
  EXPECT_EQ(Open(kAlice, 8, "client-5"), 200u);
  EXPECT_EQ(Open(kAlice, 12, "client-6"), 429u);
}

TEST_F(Clients, Requests) {
  Start({.routing = {.max_streams_per_client = 2}});
  ASSERT_EQ(Open(kAlice, 0, "client-1"), 200u);
  ASSERT_EQ(world.Request(kAlice, 4, WithServerId(kTarget, 0, "server-1")), 200u);
  EXPECT_EQ(Open(kAlice2, 0, "client-2"), 429u);
  EXPECT_EQ(Open(kBob, 0, "client-2"), 200u);
  EXPECT_EQ(Open(kBob, 4, "client-2"), 409u) << "it is not kept";
  EXPECT_EQ(Open(kBob, 8, "client-3"), 200u);
  world.Close(kAlice, 4);
  EXPECT_EQ(Open(kAlice2, 4, "client-4"), 200u);
  world.Do(world.proxy.RemoveConnection(kAlice, world.now));
  EXPECT_EQ(Open(kAlice2, 8, "client-5"), 200u);
  EXPECT_EQ(ClientOf(kAlice2).requests, 2u);
  EXPECT_EQ(ClientOf(kAlice2).tunnels, 2u);
}

TEST_F(Clients, Lookups) {
  Start({.max_lookups_per_client = 2});
  ASSERT_EQ(Open(kAlice, 0, "client-1", kName), 0u);
  ASSERT_EQ(Open(kAlice2, 0, "client-2", kName), 0u);
  EXPECT_EQ(Open(kAlice3, 0, "client-3", kName), 429u);
  EXPECT_EQ(world.Field(kAlice3, 0, "proxy-status"),
            "ngmasque;error=http_request_error;details=\"too many look-ups of the client\"");
  EXPECT_EQ(Open(kBob, 0, "client-3", kName), 0u);
  // New connections do not make the client another one, not even once all are gone.
  for (const auto connection : {kAlice, kAlice2, kAlice3}) {
    world.Do(world.proxy.RemoveConnection(connection, world.now));
  }
  ASSERT_TRUE(world.proxy.AddConnection(kAlice, Alice(kAlice)));
  EXPECT_EQ(Open(kAlice, 0, "client-1", kName), 429u);
  world.NotFound(LookupId{0}, SessionError::kNoAddress);
  EXPECT_EQ(Open(kAlice, 4, "client-1", kName), 0u);
}

TEST_F(Clients, Rate) {
  Start({.max_bytes_per_second_per_client = 1000, .burst_bytes_per_client = 100});
  ASSERT_EQ(Open(kAlice, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kAlice2, 0, "client-2"), 200u);
  ASSERT_EQ(Open(kBob, 0, "client-3"), 200u);
  const std::string hundred(100, 'x');
  EXPECT_TRUE(world.Send(kAlice, 0, hundred));
  EXPECT_EQ(Error(kAlice2, 0, "x"), DropReason::kRateLimited);
  EXPECT_EQ(world.Receive(world.socket(), Short("client-2")).error(), DropReason::kRateLimited);
  EXPECT_TRUE(world.Send(kBob, 0, hundred));
  // Another connection brings nothing.
  const OuterConnection fourth{13};
  ASSERT_TRUE(world.proxy.AddConnection(fourth, Alice(fourth)));
  EXPECT_EQ(Error(fourth, 0, "x"), DropReason::kRateLimited);
}

TEST_F(Clients, BytesThatWait) {
  Start({.routing = {.max_waiting_bytes = 25, .max_waiting_bytes_per_client = 10}});
  EXPECT_EQ(Error(kAlice, 0, "123456"), kLater);
  EXPECT_EQ(Error(kAlice2, 0, "12345"), DropReason::kUnknownFlow);
  EXPECT_EQ(Error(kAlice2, 0, "1234"), kLater);
  EXPECT_EQ(Error(kBob, 0, "1234567890"), kLater);
  // Of all clients together.
  ASSERT_TRUE(world.proxy.AddConnection(OuterConnection{3}, Tuple(3)));
  EXPECT_EQ(Error(OuterConnection{3}, 0, "123456"), DropReason::kUnknownFlow);
  EXPECT_EQ(Error(OuterConnection{3}, 0, "12345"), kLater);
  // What is sent, and what goes with its connection, makes room.
  ASSERT_EQ(Open(kAlice, 0, "client-1"), 200u);
  EXPECT_EQ(Error(kAlice2, 2, "123456"), kLater);
  EXPECT_EQ(ClientOf(kAlice).waiting->bytes(), 10u);
  world.Do(world.proxy.RemoveConnection(kAlice2, world.now));
  EXPECT_EQ(ClientOf(kAlice).waiting->bytes(), 0u);
}

// Parts of payloads on streams are kept until the rest comes.
TEST_F(Clients, PartsOfPayloadsThatWait) {
  Start({.routing = {.max_waiting_bytes_per_client = 10}});
  ASSERT_EQ(Open(kAlice, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kAlice2, 0, "client-2"), 200u);
  ASSERT_EQ(Open(kBob, 0, "client-3"), 200u);
  // The last one of what `bytes` bring.
  const auto stream = [&](OuterConnection connection, Bytes bytes) {
    std::span<const std::uint8_t> rest(bytes);
    std::expected<std::string, std::optional<DropReason>> last;
    ProxyActions actions;
    while (!rest.empty()) {
      const auto to = world.proxy.OnStreamData({connection, 0}, rest, world.now, actions);
      last = !to ? std::unexpected(std::optional(to.error()))
             : to->tunnel
               ? std::expected<std::string, std::optional<DropReason>>(ToText(to->payload))
               : std::unexpected(kLater);
    }
    return last;
  };
  auto first = OnStream("12345678");
  const Bytes end(first.end() - 2, first.end());
  first.resize(first.size() - 2);
  EXPECT_EQ(stream(kAlice, first).error(), kLater);
  EXPECT_EQ(ClientOf(kAlice).waiting->bytes(), 6u);
  EXPECT_EQ(stream(kBob, first).error(), kLater) << "others have theirs";
  EXPECT_EQ(stream(kAlice2, first).error(), DropReason::kQueueFull);
  EXPECT_EQ(stream(kAlice2, end).error(), kLater) << "the end of what is dropped";
  EXPECT_EQ(stream(kAlice2, OnStream("whole")), "whole") << "the stream is in step";
  EXPECT_EQ(stream(kAlice, end), "12345678");
  EXPECT_EQ(ClientOf(kAlice).waiting->bytes(), 8u) << "until the next one comes";
  EXPECT_EQ(stream(kAlice, OnStream("next")), "next");
  EXPECT_EQ(ClientOf(kAlice).waiting->bytes(), 0u);
  EXPECT_EQ(stream(kAlice2, first).error(), kLater);
  world.Close(kAlice2, 0);
  EXPECT_EQ(ClientOf(kAlice).waiting->bytes(), 0u);
  EXPECT_EQ(world.proxy.counters().dropped[static_cast<std::size_t>(DropReason::kQueueFull)], 1u);
}

// A NAT gives a client another address: it keeps what it has and what it may have, and others keep
// theirs.
TEST_F(Clients, MoveKeepsTheClient) {
  Start({.routing = {.max_connections_per_client = 3, .max_flows_per_client = 2}});
  ASSERT_EQ(Open(kAlice, 0, "client-1"), 200u);
  ASSERT_EQ(Open(kAlice, 4, "client-2"), 200u);
  ASSERT_EQ(Open(kBob, 0, "client-3"), 200u);
  ASSERT_EQ(Open(kBob, 4, "client-4"), 200u);
  const auto *client = &ClientOf(kAlice);
  auto to = Tuple(2);
  to.remote.port = 1234;
  world.Do(world.proxy.MoveConnection(kAlice, to, world.now).actions);
  EXPECT_TRUE(world.resets.empty());
  EXPECT_EQ(&ClientOf(kAlice), client);
  EXPECT_TRUE(world.Send(kAlice, 0, "a"));
  EXPECT_EQ(Open(kAlice, 8, "client-5"), 429u) << "moving does not shed anything";
  EXPECT_EQ(Open(kAlice2, 0, "client-5"), 429u);
  EXPECT_EQ(ClientOf(kBob).connections, 1u);
  // Who comes to where it was is not another client because of that.
  const OuterConnection fourth{13};
  EXPECT_EQ(world.proxy.AddConnection(fourth, Alice(fourth)).error(),
            SessionError::kTooManyClientConnections);
  world.Do(world.proxy.RemoveConnection(kAlice, world.now));
  EXPECT_EQ(Open(kAlice2, 4, "client-5"), 200u);
}

TEST_F(Clients, CredentialsInsteadOfAddresses) {
  Start({.routing = {.max_flows_per_client = 1}});
  const OuterConnection home{21}, office{22}, guest{23};
  ASSERT_TRUE(world.proxy.AddConnection(home, Tuple(3), nullptr, By("carol")));
  ASSERT_TRUE(world.proxy.AddConnection(office, Tuple(4), nullptr, By("carol")));
  ASSERT_TRUE(world.proxy.AddConnection(guest, Tuple(3)));
  ASSERT_EQ(Open(home, 0, "client-1"), 200u);
  EXPECT_EQ(Open(office, 0, "client-2"), 429u) << "it is she";
  EXPECT_EQ(Open(guest, 0, "client-2"), 200u) << "it is somebody else";
}

// The defaults: whatever one client does, others get what they ask for.
TEST_F(Clients, OneClientTakesNoBoundOfAll) {
  const ProxyOptions options;
  world = ProxyWorld(options);
  std::size_t connections = 1, sockets = 0, lookups = 0, refused = 0;
  for (std::uint64_t c = 100; c < 100 + options.routing.max_connections_per_client + 50; ++c) {
    const OuterConnection connection{c};
    if (!world.proxy.AddConnection(connection, Alice(connection))) {
      continue;
    }
    ++connections;
    for (StreamId stream = 0; stream < 400; stream += 4) {
      const auto status = world.Request(connection, stream, Plain(kTarget, stream / 2));
      sockets += status == 200;
      refused += status == 429;
      ASSERT_NE(status, 503u);
    }
  }
  EXPECT_EQ(connections, options.routing.max_connections_per_client);
  EXPECT_EQ(sockets, options.routing.max_flows_per_client);
  EXPECT_GT(refused, 0u);
  EXPECT_LE(20 * world.proxy.counters().sockets.now, options.routing.max_sockets);
  EXPECT_EQ(world.Request(kBob, 0, Plain(kTarget, 0)), 200u);

  world = ProxyWorld(options);
  for (std::uint64_t c = 100; c < 199; ++c) {
    const OuterConnection connection{c};
    ASSERT_TRUE(world.proxy.AddConnection(connection, Alice(connection)));
    for (StreamId stream = 0; stream < 64; stream += 4) {
      lookups += Open(connection, stream, "client-1", kName) == 0;
    }
  }
  EXPECT_EQ(lookups, options.max_lookups_per_client);
  EXPECT_LE(20 * lookups, options.max_lookups);
  EXPECT_EQ(Open(kBob, 0, "client-2", kName), 0u);
}

} // namespace
} // namespace ngmasque
