// Users: from its first request on that is admitted, a connection counts for its user.

#include "session_proxy_support.h"

#include <map>
#include <string>
#include <utility>

namespace ngmasque {
namespace {

constexpr std::string_view kTarget = "5.6.7.8:443";
constexpr std::string_view kName = "target.example:443";
// From Alice's address, as another connection of hers.
constexpr OuterConnection kAlice2{11};

// Whoever names a user is that one.
class Users : public testing::Test {
protected:
  void Start(ProxyOptions options) {
    options.access = [this](const AccessRequest &request) -> AccessDecision {
      if (!request.proxy_authorization) {
        return std::unexpected(AccessRefusal{.challenges = {"Bearer"}});
      }
      const std::string user(*request.proxy_authorization);
      const auto rate = rates.find(user);
      return Admission{.user = user,
                       .max_bytes_per_second =
                         rate == rates.end() ? std::nullopt : std::optional(rate->second),
                       .grant = user.size()};
    };
    world = ProxyWorld(options);
    auto tuple = Tuple(1);
    tuple.remote.port = 11;
    ASSERT_TRUE(world.proxy.AddConnection(kAlice2, tuple));
  }

  unsigned Open(OuterConnection connection, StreamId stream, std::string_view user,
                std::string_view authority = kTarget) {
    auto fields = RequestFields(Plain(authority, stream / 2));
    if (!user.empty()) {
      fields.push_back({.name = "proxy-authorization", .value = std::string(user)});
    }
    return world.Request(connection, stream, fields);
  }

  std::optional<DropReason> Error(OuterConnection connection, FlowId flow,
                                  std::string_view payload) {
    return world.Send(connection, flow, payload).error();
  }

  const Client &ClientOf(OuterConnection connection) {
    return *world.proxy.Find(connection)->client;
  }

  std::map<std::string, std::uint64_t> rates;
  ProxyWorld world;
};

TEST_F(Users, OneUserFromTwoAddresses) {
  Start({});
  const auto *address = &ClientOf(kAlice2);
  EXPECT_EQ(&ClientOf(kAlice), address);
  ASSERT_EQ(Open(kAlice, 0, "carol"), 200u);
  ASSERT_EQ(Open(kBob, 0, "carol"), 200u);
  EXPECT_EQ(&ClientOf(kAlice), &ClientOf(kBob));
  EXPECT_EQ(ClientOf(kAlice).connections, 2u);
  EXPECT_EQ(ClientOf(kAlice).tunnels, 2u);
  EXPECT_EQ(&ClientOf(kAlice2), address) << "she has said nothing yet";
  EXPECT_EQ(address->connections, 1u);
  ASSERT_EQ(Open(kAlice2, 0, "dave"), 200u);
  EXPECT_NE(&ClientOf(kAlice2), &ClientOf(kAlice)) << "one address, two users";
}

TEST_F(Users, ARefusedRequestSaysNothing) {
  Start({});
  ASSERT_EQ(Open(kAlice, 0, ""), 407u);
  EXPECT_EQ(&ClientOf(kAlice), &ClientOf(kAlice2));
  // One that is admitted does, whatever becomes of it.
  ASSERT_EQ(Open(kAlice, 4, "carol", "10.0.0.1:443"), 403u);
  EXPECT_NE(&ClientOf(kAlice), &ClientOf(kAlice2));
}

TEST_F(Users, Connections) {
  Start({.routing = {.max_connections_per_client = 2}});
  ASSERT_EQ(Open(kAlice, 0, "carol"), 200u);
  ASSERT_EQ(Open(kAlice2, 0, "carol"), 200u);
  EXPECT_EQ(Open(kBob, 0, "carol"), 429u);
  EXPECT_EQ(world.Field(kBob, 0, "proxy-status"),
            "ngmasque;error=http_request_error;details=\"too many connections of the client\"");
  EXPECT_EQ(world.proxy.Find(kBob)->user, std::nullopt);
  EXPECT_EQ(ClientOf(kBob).connections, 1u) << "it stays its address's";
  EXPECT_EQ(Open(kBob, 4, "dave"), 200u);
  // Her address has room for others: hers are not its any more.
  ASSERT_TRUE(world.proxy.AddConnection(OuterConnection{12}, Tuple(1)));
  ASSERT_TRUE(world.proxy.AddConnection(OuterConnection{13}, Tuple(1)));
  EXPECT_EQ(world.proxy.AddConnection(OuterConnection{14}, Tuple(1)).error(),
            SessionError::kTooManyClientConnections);
  EXPECT_EQ(Open(OuterConnection{12}, 0, "carol"), 429u);
  world.Do(world.proxy.RemoveConnection(kAlice, world.now));
  EXPECT_EQ(Open(OuterConnection{12}, 4, "carol"), 200u);
}

TEST_F(Users, TunnelsAndRequests) {
  Start({.routing = {.max_flows_per_client = 2}});
  ASSERT_EQ(Open(kAlice, 0, "carol"), 200u);
  ASSERT_EQ(Open(kBob, 0, "carol", kName), 0u);
  EXPECT_EQ(Open(kBob, 4, "carol"), 429u);
  EXPECT_EQ(Open(kAlice2, 0, "dave"), 200u);
  world.Close(kAlice, 0);
  EXPECT_EQ(Open(kBob, 8, "carol"), 200u);

  Start({.routing = {.max_streams_per_client = 1}});
  ASSERT_EQ(Open(kAlice, 0, "carol"), 200u);
  EXPECT_EQ(Open(kBob, 0, "carol"), 429u);
  EXPECT_EQ(Open(kAlice2, 0, "dave"), 200u);
}

TEST_F(Users, Lookups) {
  Start({.max_lookups_per_client = 1});
  ASSERT_EQ(Open(kAlice, 0, "carol", kName), 0u);
  EXPECT_EQ(Open(kBob, 0, "carol", kName), 429u);
  EXPECT_EQ(Open(kAlice2, 0, "dave", kName), 0u);
  // Those that run keep count when her last connection is gone.
  world.Do(world.proxy.RemoveConnection(kAlice, world.now));
  world.Do(world.proxy.RemoveConnection(kBob, world.now));
  ASSERT_TRUE(world.proxy.AddConnection(kBob, Tuple(2)));
  EXPECT_EQ(Open(kBob, 4, "carol", kName), 429u);
  world.NotFound(LookupId{0}, SessionError::kNoAddress);
  EXPECT_EQ(Open(kBob, 8, "carol", kName), 0u);
}

TEST_F(Users, Rate) {
  rates["dave"] = 0;
  Start({.max_bytes_per_second_per_client = 1000, .burst_bytes_per_client = 100});
  ASSERT_EQ(Open(kAlice, 0, "carol"), 200u);
  ASSERT_EQ(Open(kBob, 0, "carol"), 200u);
  ASSERT_EQ(Open(kAlice2, 0, "dave"), 200u);
  const std::string hundred(100, 'x');
  EXPECT_TRUE(world.Send(kAlice, 0, hundred));
  EXPECT_EQ(Error(kBob, 0, "x"), DropReason::kRateLimited);
  EXPECT_TRUE(world.Send(kAlice2, 0, hundred));
  EXPECT_TRUE(world.Send(kAlice2, 0, hundred)) << "he has no bound";
  // It counts from her first connection to her last.
  ASSERT_TRUE(world.proxy.AddConnection(OuterConnection{12}, Tuple(3)));
  ASSERT_EQ(Open(OuterConnection{12}, 0, "carol"), 200u);
  EXPECT_EQ(Error(OuterConnection{12}, 0, "x"), DropReason::kRateLimited);
}

// Another rate for those who are there.
TEST_F(Users, RateWhileItRuns) {
  rates["dave"] = 2000;
  Start({.max_bytes_per_second_per_client = 1000, .burst_bytes_per_client = 100});
  ASSERT_EQ(Open(kAlice, 0, "carol"), 200u);
  ASSERT_EQ(Open(kAlice2, 0, "dave"), 200u);
  const auto rate = [this](OuterConnection connection) {
    return ClientOf(connection).bucket.rate();
  };
  world.proxy.SetRate(500);
  EXPECT_EQ(rate(kAlice), 500u);
  EXPECT_EQ(rate(kAlice2), 2000u) << "his own";
  EXPECT_EQ(rate(kBob), 500u) << "nobody's yet";
  ASSERT_TRUE(world.Send(kAlice, 0, std::string(100, 'x')));
  world.proxy.SetRate(500);
  EXPECT_EQ(Error(kAlice, 0, "x"), DropReason::kRateLimited) << "nothing has changed";

  // One gets a rate, and the other one loses his.
  world.Do(world.proxy
             .Review(
               [](const Admitted &before) {
                 return Admission{.user = std::string(before.user),
                                  .max_bytes_per_second =
                                    before.user == "carol" ? std::optional(0) : std::nullopt};
               },
               world.now)
             .actions);
  EXPECT_EQ(rate(kAlice), 0u);
  EXPECT_EQ(rate(kAlice2), 500u);
  EXPECT_TRUE(world.Send(kAlice, 0, "x"));
  ASSERT_TRUE(world.proxy.AddConnection(OuterConnection{12}, Tuple(3)));
  EXPECT_EQ(rate(OuterConnection{12}), 500u);
}

// Who may not use it any more loses what there is, in whatever state, and nobody else does.
TEST_F(Users, Review) {
  Start({});
  ASSERT_EQ(Open(kAlice, 0, "carol"), 200u);
  ASSERT_EQ(Open(kAlice, 4, "carol", kName), 0u);
  ASSERT_EQ(Open(kAlice2, 0, "dave"), 200u);
  std::multimap<std::string, std::uint64_t> asked;
  const auto review = [&asked](const Admitted &before) {
    asked.emplace(before.user, before.grant);
    return before.user == "carol" ? std::nullopt : std::optional(Admission{});
  };
  auto [actions, revoked] = world.proxy.Review(review, world.now + 5);
  world.Do(std::move(actions));
  EXPECT_EQ(asked, (std::multimap<std::string, std::uint64_t>{{"carol", 5}, {"dave", 4}}))
    << "Bob has had nothing";
  EXPECT_EQ(revoked, std::vector{kAlice});
  ASSERT_EQ(world.ended.size(), 2u);
  for (const auto &record : world.ended) {
    EXPECT_EQ(record.reason, EndReason::kRevoked);
    EXPECT_EQ(record.user, "carol");
    EXPECT_EQ(record.duration, 5u);
    EXPECT_EQ(record.error, std::nullopt);
  }
  EXPECT_EQ(world.proxy.counters().ended[std::to_underlying(EndReason::kRevoked)], 2u);
  EXPECT_EQ(world.proxy.tunnels(), 1u);
  EXPECT_EQ(Error(kAlice, 0, "x"), DropReason::kUnknownFlow);
  EXPECT_TRUE(world.Send(kAlice2, 0, "x"));
  EXPECT_TRUE(world.proxy.Find(kAlice)) << "until the caller closes it";
  world.Do(world.proxy.RemoveConnection(kAlice, world.now));
  EXPECT_EQ(world.ended.size(), 2u);
}

// What waits for a flow before anybody has said whose it is goes with the connection.
TEST_F(Users, WhatWaits) {
  Start({.routing = {.max_waiting_bytes = 25, .max_waiting_bytes_per_client = 10}});
  ASSERT_EQ(Error(kAlice, 4, "123456"), kLater);
  const auto address = ClientOf(kAlice).waiting;
  EXPECT_EQ(address->bytes(), 6u);
  ASSERT_EQ(Open(kAlice, 0, "carol"), 200u);
  EXPECT_EQ(address->bytes(), 0u);
  EXPECT_EQ(ClientOf(kAlice).waiting->bytes(), 6u);
  EXPECT_EQ(Error(kAlice2, 4, "1234567890"), kLater) << "the address has its own again";
  ASSERT_EQ(Open(kAlice, 8, "carol"), 200u);
  ASSERT_EQ(world.sent.size(), 1u);
  EXPECT_EQ(world.sent[0].second, "123456");
  EXPECT_EQ(ClientOf(kAlice).waiting->bytes(), 0u);
  // There is no room for it at the user's: it is dropped, and nobody else pays.
  ASSERT_EQ(Error(kAlice, 10, "12345"), kLater);
  ASSERT_EQ(Error(kBob, 4, "123456"), kLater);
  ASSERT_EQ(Open(kBob, 0, "carol"), 200u);
  EXPECT_EQ(ClientOf(kBob).waiting->bytes(), 5u);
  world.Do(world.proxy.RemoveConnection(kAlice, world.now));
  world.Do(world.proxy.RemoveConnection(kBob, world.now));
  world.Do(world.proxy.RemoveConnection(kAlice2, world.now));
  EXPECT_EQ(address->bytes(), 0u);
}

TEST_F(Users, MovesAreTheUsers) {
  Start({.routing = {.max_flows_per_client = 1}});
  ASSERT_EQ(Open(kAlice, 0, "carol"), 200u);
  world.Do(world.proxy.MoveConnection(kAlice, Tuple(3), world.now).actions);
  EXPECT_EQ(Open(kAlice, 4, "carol"), 429u);
  EXPECT_EQ(Open(kAlice, 8, "dave"), 403u);
  EXPECT_EQ(world.answers.at({.connection = kAlice, .stream = 8}).refused->client,
            Tuple(3).remote);
  EXPECT_EQ(Open(kBob, 0, "carol"), 429u);
}

// A user is nobody's address, whatever the name is.
TEST_F(Users, NamesAreNoAddresses) {
  Start({.routing = {.max_flows_per_client = 1}});
  const auto address = Tuple(2).remote.address;
  const std::string name(address.begin() + 12, address.end());
  ASSERT_EQ(Open(kAlice, 0, name), 200u);
  EXPECT_NE(&ClientOf(kAlice), &ClientOf(kBob));
}

} // namespace
} // namespace ngmasque
