// Tunnels against its model: random connections, requests, removals, moves and packets.  Each
// packet has one owner or none, each conflict is one in the model too.

#include "ngmasque/session/tunnels.h"

#include "session_tunnels_model.h"
#include "session_tunnels_support.h"

#include <gtest/gtest.h>

namespace ngmasque {
namespace {

// How often what happened, so that the test can tell that it has tested something.
struct Tally {
  std::map<SessionError, int> refused;
  int added = 0, closed = 0, lost = 0, unreserved = 0;
  int assigned = 0, not_assigned = 0;
  int to_target = 0, late = 0, reserved = 0, tunnelled = 0, forwarded = 0, dropped = 0;
};

class Trial {
public:
  Trial(std::uint64_t seed, Tally &tally)
    : random_(seed),
      ids_(random_),
      limits_(DrawLimits()),
      registry_({.k0 = random_(), .k1 = random_()}, limits_),
      model_(limits_),
      tally_(tally) {}

  void Steps(int count) {
    while (count-- > 0 && !testing::Test::HasFatalFailure()) {
      Step();
      Packets();
    }
    for (int c = 0; c < kConnections && !testing::Test::HasFatalFailure(); ++c) {
      const auto connection = OuterConnection(c);
      ASSERT_EQ(registry_.RemoveConnection(connection), model_.RemoveConnection(connection));
    }
    ASSERT_EQ(registry_.counts(), TunnelCounts{}) << "something is left over";
  }

private:
  using Kind = TunnelsModel::Kind;
  static constexpr int kConnections = 5, kSockets = 4, kTuples = 3, kFlows = 4, kStreams = 20;

  RoutingLimits DrawLimits() {
    RoutingLimits limits{.min_connection_id = Below(6)};
    if (Below(3) == 0) {
      limits.max_connections = 1 + Below(kConnections);
      limits.max_sockets = 1 + Below(kSockets);
      limits.max_connections_per_client = 1 + Below(3);
      limits.max_flows_per_client = 1 + Below(2 * kFlows);
      limits.max_reserved_per_connection = Below(4);
      limits.max_flows_per_socket = 1 + Below(5);
      limits.max_ids_per_scope = 1 + Below(8);
      limits.max_lengths_per_scope = 1 + Below(4);
    }
    return limits;
  }

  std::size_t Below(std::size_t n) { return random_() % n; }
  OuterConnection AnyConnection() { return OuterConnection(Below(kConnections)); }
  SocketId AnySocket() { return SocketId(Below(kSockets)); }
  FourTuple AnyTuple() { return Tuple(static_cast<std::uint16_t>(1 + Below(kTuples))); }
  StreamKey AnyStream() { return {AnyConnection(), 4 * Below(kStreams)}; }

  void Same(const std::expected<void, Refusal> &got, std::optional<Refusal> model) {
    ASSERT_EQ(got.has_value(), !model) << ErrorName(got ? model->reason : got.error().reason);
    if (model) {
      ASSERT_EQ(got.error(), *model)
        << ErrorName(got.error().reason) << ", not " << ErrorName(model->reason);
      ++tally_.refused[model->reason];
    } else {
      ++tally_.added;
    }
  }

  void Same(const std::expected<void, Refusal> &got, std::optional<SessionError> model) {
    Same(got, model ? std::optional(Refusal{.reason = *model}) : std::nullopt);
  }

  void Step() {
    const auto what = Below(100);
    if (what < 10) {
      const auto connection = AnyConnection();
      const auto tuple = AnyTuple();
      Same(registry_.AddConnection(connection, tuple), model_.AddConnection(connection, tuple));
      if (Below(4) != 0) {
        Assign(connection);
      }
    } else if (what < 12) {
      const auto connection = AnyConnection();
      ASSERT_EQ(registry_.RemoveConnection(connection), model_.RemoveConnection(connection));
    } else if (what < 16) {
      Move();
    } else if (what < 24) {
      const auto connection = AnyConnection();
      const auto id = ids_.Draw();
      if (!model_.tuples().contains(connection)) {
        return;
      }
      Same(registry_.Reserve(connection, Id(id)), model_.Reserve(connection, id));
      reserved_.emplace_back(connection, id);
    } else if (what < 28 && !reserved_.empty()) {
      const auto &[connection, id] = reserved_[Below(reserved_.size())];
      if (model_.tuples().contains(connection)) {
        registry_.Unreserve(connection, Id(id));
        model_.Unreserve(connection, id);
      }
    } else if (what < 75) {
      Request();
    } else if (what < 77) {
      const auto connection = AnyConnection();
      const auto tuple = AnyTuple();
      registry_.Expect(connection, tuple);
      model_.Expect(connection, tuple);
    } else if (what < 82) {
      const auto stream = AnyStream();
      ASSERT_EQ(registry_.Retire(stream), model_.Retire(stream));
    } else if (what < 98) {
      const auto stream = AnyStream();
      const auto unused = model_.RemoveStream(stream);
      tally_.closed += unused.has_value();
      ASSERT_EQ(registry_.RemoveStream(stream), unused);
    } else {
      const auto socket = AnySocket();
      ASSERT_EQ(registry_.RemoveSocket(socket), model_.RemoveSocket(socket));
    }
  }

  // It turns out whose a connection is that has nothing yet.
  void Assign(OuterConnection connection) {
    if (!model_.tuples().contains(connection) || model_.Has(connection)) {
      return;
    }
    const Bytes user{static_cast<std::uint8_t>(Below(8) == 0 ? 'a' : 'b')};
    const auto key = ClientKey::FromCredentials(user).value();
    const auto refused = model_.Assign(connection, key);
    const auto assigned = registry_.Assign(connection, key);
    ASSERT_EQ(assigned ? std::nullopt : std::optional(assigned.error().reason), refused);
    ++(refused ? tally_.not_assigned : tally_.assigned);
  }

  void Request() {
    Registration request{.stream = AnyStream(),
                         .flow = 2 * Below(kFlows),
                         .socket = AnySocket(),
                         .shared = Below(4) != 0};
    if (!model_.tuples().contains(request.stream.connection) || model_.Has(request.stream)) {
      return;
    }
    // As a caller should: with the socket that the flow has.
    if (const auto known = model_.FindFlow(request.stream.connection, request.flow)) {
      request.socket = *known;
    }
    const auto id = ids_.Draw();
    switch (Below(9)) {
    case 0: Same(registry_.AddPlain(request), model_.Add(request, Kind::kPlain, {})); break;
    case 1:
    case 2:
    case 3:
    case 4:
      Same(registry_.AddServerId(request, Id(id)), model_.Add(request, Kind::kServer, id));
      break;
    default: Same(registry_.AddClientId(request, Id(id)), model_.Add(request, Kind::kClient, id));
    }
  }

  void Move() {
    const auto connection = AnyConnection();
    const auto tuple = AnyTuple();
    const auto registry = registry_.MoveConnection(connection, tuple);
    const auto model = model_.Move(connection, tuple);
    ASSERT_EQ(registry.lost, model.lost);
    ASSERT_EQ(registry.reserved, model.reserved);
    ASSERT_EQ(registry.unused, model.unused);
    tally_.lost += static_cast<int>(model.lost.size());
    tally_.unreserved += static_cast<int>(model.reserved.size());
  }

  void Packets() {
    ASSERT_EQ(registry_.counts(), (TunnelCounts{.clients = model_.clients(),
                                              .connections = model_.tuples().size(),
                                              .paths = model_.paths().size(),
                                              .sockets = model_.Sockets().size(),
                                              .mappings = model_.mappings()}));

    const auto connection = AnyConnection();
    const TunnelKey flow = 2 * Below(kFlows);
    const auto socket = registry_.FindFlow(connection, flow);
    ASSERT_EQ(socket ? std::optional(*socket) : std::nullopt, model_.FindFlow(connection, flow));

    FromClient();
    FromTarget();
  }

  void FromClient() {
    const auto tuple = AnyTuple();
    const auto rest = ids_.Packet();
    const auto owners = model_.FromClient(tuple, rest);
    ASSERT_LE(owners.size(), 1u);
    const auto expected = owners.empty() ? std::unexpected(kForQuic) : owners.front();
    ASSERT_EQ(registry_.FromClient(tuple, Short(rest)), expected);
    tally_.to_target += expected.has_value();
    tally_.late += expected && model_.tuples().at(expected->connection) != tuple;
    tally_.reserved += !expected && !owners.empty();
  }

  void FromTarget() {
    const auto socket = AnySocket();
    auto rest = ids_.Packet();
    const auto is_long = Below(3) == 0;
    if (is_long && rest.size() > 255) {
      rest.resize(255);
    }
    const auto owners = model_.FromTarget(socket, rest, is_long);
    ASSERT_LE(owners.size(), 1u);
    const auto to = registry_.FromTarget(socket, is_long ? Long(rest) : Short(rest));
    ASSERT_EQ(to.has_value(), !owners.empty());
    if (to) {
      ASSERT_EQ(*to, owners.front());
      ++(to->forward ? tally_.forwarded : tally_.tunnelled);
    } else {
      ASSERT_EQ(to.error(), model_.Sockets().contains(socket) ? DropReason::kUnknownConnectionId
                                                              : DropReason::kUnknownSocket);
      ++tally_.dropped;
    }
  }

  std::mt19937_64 random_;
  IdSource ids_;
  RoutingLimits limits_;
  Registry registry_;
  TunnelsModel model_;
  std::vector<std::pair<OuterConnection, Bytes>> reserved_;
  Tally &tally_;
};

TEST(TunnelsRandom, AgainstModel) {
  Tally tally;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    Trial(seed, tally).Steps(400);
    ASSERT_FALSE(testing::Test::HasFatalFailure()) << "seed " << seed;
  }
  // Everything has happened.
  for (int reason = 0; reason <= static_cast<int>(SessionError::kConnectionInUse); ++reason) {
    if (SessionError(reason) == SessionError::kTooManyStreams) {
      continue; // Requests are not its own.
    }
    EXPECT_GT(tally.refused[SessionError(reason)], 0) << ErrorName(SessionError(reason));
  }
  for (const auto count : {tally.added, tally.closed, tally.lost, tally.unreserved,
                           tally.assigned, tally.not_assigned, tally.to_target, tally.late,
                           tally.reserved, tally.tunnelled, tally.forwarded, tally.dropped}) {
    EXPECT_GT(count, 50);
  }
}

} // namespace
} // namespace ngmasque
