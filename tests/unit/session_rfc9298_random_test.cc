// Dialect rfc9298: two clients that share a socket do what comes to their mind, and a model says
// where each packet goes (adversarial.md, class 21).

#include "session_rfc9298_raw.h"

#include <algorithm>
#include <deque>
#include <random>
#include <ranges>

namespace ngmasque {
namespace {

constexpr int kSteps = 3000;
constexpr std::size_t kMinId = 4, kMaxVirtual = 20; // RoutingLimits::min_connection_id; QUIC version 1.

// One of the clients, and what it knows.
struct ModelTunnel {
  struct ClientId {
    std::deque<std::pair<ConnectionId, bool>> offered; // And whether a move has made it void.
    ConnectionId acknowledged;
  };

  explicit ModelTunnel(RawClient raw) : client(std::move(raw)) {}

  RawClient client;
  std::uint16_t port = 0; // Of the 4-tuple.
  std::uint64_t registered = 0, allowed = 2;
  std::map<ConnectionId, ClientId> clients;
  std::map<ConnectionId, std::deque<ConnectionId>> targets;
};

class Rfc9298Random : public testing::TestWithParam<unsigned> {
protected:
  Rfc9298Random() {
    std::uint16_t port = 1;
    for (const auto connection : {kAlice, kBob}) {
      tunnels.emplace_back(RawClient(world, connection));
      tunnels.back().port = port++;
      EXPECT_EQ(tunnels.back().client.Open(), 200u);
    }
  }

  std::size_t Below(std::size_t n) { return random() % n; }
  template <typename Map> auto Any(Map &map) {
    return std::next(map.begin(), static_cast<std::ptrdiff_t>(Below(map.size())));
  }

  // Those of a target, if there is one.
  std::deque<ConnectionId> AnyVirtual(ModelTunnel &tunnel) {
    return tunnel.targets.empty() ? std::deque<ConnectionId>{} : Any(tunnel.targets)->second;
  }

  // The answer to a registration; what it allows is noted.
  CidCapsule Ask(ModelTunnel &tunnel, const CidCapsule &capsule) {
    const auto answers = tunnel.client.Ask(capsule);
    EXPECT_FALSE(answers.empty());
    for (const auto &answer : answers | std::views::drop(1)) {
      EXPECT_EQ(answer.kind, Kind::kMaxConnectionIds);
      tunnel.allowed = answer.maximum;
    }
    return answers.empty() ? CidCapsule{} : answers[0];
  }

  bool IsFree(const ConnectionId &id) const {
    return std::ranges::none_of(tunnels, [&](const ModelTunnel &tunnel) {
      return std::ranges::any_of(tunnel.clients, [&](const auto &known) {
        return Compare(known.first.bytes(), id.bytes()) != Relation::kUnrelated;
      });
    });
  }

  void RegisterClient(ModelTunnel &tunnel, const ConnectionId &id) {
    const auto known = tunnel.clients.find(id);
    const bool repeated = known != tunnel.clients.end();
    if (!repeated && tunnel.registered++ >= tunnel.allowed) {
      --tunnel.registered;
      return;
    }
    if (repeated && known->second.offered.size() >= rfc9298::kMaxOffered) {
      return;
    }
    const auto answer = Ask(tunnel, {.kind = Kind::kRegisterClientCid, .id = id,
                                     .virtual_id = {}, .token = {}});
    EXPECT_EQ(answer.id, id);
    if (!repeated && (id.size() < kMinId || !IsFree(id))) {
      EXPECT_EQ(answer.kind, Kind::kRejectClientCid);
      EXPECT_EQ(answer.reason, id.size() < kMinId ? CidReason::kTooShort : CidReason::kConflict);
      return;
    }
    ASSERT_EQ(answer.kind, Kind::kAckClientCid);
    EXPECT_EQ(answer.virtual_id.size(), id.size() <= kMaxVirtual ? id.size() : 0);
    auto &mine = tunnel.clients[id];
    if (!answer.virtual_id.empty()) {
      mine.offered.emplace_back(answer.virtual_id, false);
    }
  }

  void RegisterTarget(ModelTunnel &tunnel, const ConnectionId &id) {
    const bool repeated = tunnel.targets.contains(id);
    if (!repeated && tunnel.registered++ >= tunnel.allowed) {
      --tunnel.registered;
      return;
    }
    const auto answer = Ask(tunnel, {.kind = Kind::kRegisterTargetCid, .id = id,
                                     .virtual_id = {}, .token = {}});
    EXPECT_EQ(answer.id, id);
    if (id.size() > kMaxVirtual) {
      EXPECT_EQ(answer.kind, Kind::kRejectTargetCid);
      return;
    }
    ASSERT_EQ(answer.kind, Kind::kAckTargetCid);
    EXPECT_EQ(answer.virtual_id.size(), std::max<std::size_t>(id.size(), 16));
    auto &mine = tunnel.targets[id];
    mine.push_back(answer.virtual_id);
    if (mine.size() > rfc9298::kMaxVirtual) {
      mine.pop_front();
    }
  }

  void Acknowledge(ModelTunnel &tunnel) {
    if (tunnel.clients.empty()) {
      return;
    }
    auto &[id, mine] = *Any(tunnel.clients);
    if (mine.offered.empty()) {
      return;
    }
    const auto which = Below(mine.offered.size());
    const auto [virtual_id, is_void] = mine.offered[which];
    EXPECT_TRUE(tunnel.client
                  .Ask({.kind = Kind::kAckClientVcid, .id = id, .virtual_id = virtual_id,
                        .token = {}})
                  .empty());
    if (!is_void) {
      mine.acknowledged = virtual_id;
    }
    mine.offered.erase(mine.offered.begin(),
                       mine.offered.begin() + static_cast<std::ptrdiff_t>(which) + 1);
  }

  template <typename Ids> void CloseAny(ModelTunnel &tunnel, Ids &ids, Kind kind) {
    if (ids.empty()) {
      return;
    }
    const auto gone = Any(ids);
    for (const auto &answer : tunnel.client.Ask(
           {.kind = kind, .id = gone->first, .virtual_id = {}, .token = {}})) {
      EXPECT_EQ(answer.kind, Kind::kMaxConnectionIds);
      tunnel.allowed = answer.maximum;
    }
    ids.erase(gone);
  }

  void Migrate(ModelTunnel &tunnel) {
    world.Do(world.proxy.OnMigrating(tunnel.client.connection, world.now));
    for (auto &[id, virtual_ids] : tunnel.targets) {
      virtual_ids.clear();
    }
    for (auto &[id, mine] : tunnel.clients) {
      mine.acknowledged = {};
      for (auto &[virtual_id, is_void] : mine.offered) {
        is_void = true;
      }
    }
    Rebind(tunnel);
  }
  void Rebind(ModelTunnel &tunnel) {
    tunnel.port = static_cast<std::uint16_t>(100 + Below(1000) * 2 + (&tunnel == &tunnels[0]));
    world.Do(world.proxy.MoveConnection(tunnel.client.connection, Tuple(tunnel.port), world.now)
               .actions);
  }

  void FromTarget(const Bytes &rest) {
    const bool is_long = Below(4) == 0 && rest.size() < 200;
    const auto packet = is_long ? Long(rest) : Short(rest);
    const auto received = world.Receive(world.socket(), packet);
    ++sent;
    for (const auto &tunnel : tunnels) {
      for (const auto &[id, mine] : tunnel.clients) {
        const bool is_its = is_long ? std::ranges::equal(id.bytes(), rest)
                                    : std::ranges::starts_with(rest, id.bytes());
        if (is_its) {
          ASSERT_TRUE(received);
          EXPECT_EQ(received->connection, tunnel.client.connection);
          const bool forwards = !is_long && !mine.acknowledged.empty();
          EXPECT_EQ(received->form, forwards ? ClientForm::kForward : ClientForm::kDatagram);
          if (forwards) {
            EXPECT_EQ(received->tuple, Tuple(tunnel.port));
          }
          return;
        }
      }
    }
    EXPECT_FALSE(received);
  }

  void FromClient(const ConnectionId &id, std::uint16_t port) {
    auto packet = Short(id.bytes());
    packet.resize(packet.size() + 20, 0x33);
    const auto to = world.Forward(Tuple(port), packet);
    const bool is_mapped = std::ranges::any_of(tunnels, [&](const ModelTunnel &tunnel) {
      return tunnel.port == port && std::ranges::any_of(tunnel.targets, [&](const auto &target) {
               return std::ranges::contains(target.second, id);
             });
    });
    EXPECT_EQ(to.has_value(), is_mapped);
    if (to) {
      ++sent;
      EXPECT_EQ(Tuple(port).remote, world.proxy.Find(to->connection)->path->tuple.remote);
    }
    seen.push_back(id);
  }

  void Step() {
    auto &tunnel = tunnels[Below(tunnels.size())];
    switch (Below(12)) {
    case 0:
    case 1: RegisterClient(tunnel, Id(ids.Draw())); break;
    case 2:
      if (!tunnel.clients.empty()) {
        RegisterClient(tunnel, Any(tunnel.clients)->first);
      }
      break;
    case 3: RegisterTarget(tunnel, Id(ids.Draw())); break;
    case 4:
      if (!tunnel.targets.empty()) {
        RegisterTarget(tunnel, Any(tunnel.targets)->first);
      }
      break;
    case 5: Acknowledge(tunnel); break;
    case 6: CloseAny(tunnel, tunnel.clients, Kind::kCloseClientCid); break;
    case 7: CloseAny(tunnel, tunnel.targets, Kind::kCloseTargetCid); break;
    case 8:
      if (Below(8) == 0) {
        Below(2) == 0 ? Migrate(tunnel) : Rebind(tunnel);
      }
      break;
    case 9:
      if (const auto &virtual_ids = AnyVirtual(tunnel); !virtual_ids.empty()) {
        FromClient(virtual_ids[Below(virtual_ids.size())], tunnels[Below(2)].port);
      } else if (!seen.empty()) {
        FromClient(seen[Below(seen.size())], tunnel.port);
      }
      break;
    default: FromTarget(ids.Packet()); break;
    }
    EXPECT_EQ(tunnel.client.reset(), 0u);
  }

  std::mt19937_64 random{GetParam()};
  IdSource ids{random};
  ProxyWorld world{{.routing = {.max_lengths_per_scope = 256}}, OpenPolicy()};
  std::vector<ModelTunnel> tunnels;
  std::vector<ConnectionId> seen; // Virtual ones that packets had.
  std::uint64_t sent = 0;         // Packets of both ways that are somebody's, or dropped.
};

//= draft-ietf-masque-quic-proxy, section 2.2
//# the proxy MUST guarantee that the mappings between VCIDs, CIDs, and 4-tuples are unique.
//
//= draft-ietf-masque-quic-proxy, section 5
//# Packets with unknown connection IDs received by the proxy on a target-facing sockets that
//# support port sharing MUST be dropped.
//
//= draft-ietf-masque-quic-proxy, section 5.10
//# Any packets received on a proxy-to-target 4-tuple used for proxying QUIC that does not
//# correspond to a known CID MUST be dropped.
TEST_P(Rfc9298Random, EveryPacketHasOneOwnerOrNone) {
  SCOPED_TRACE("seed " + std::to_string(GetParam()));
  EXPECT_EQ(world.opened, 1);
  for (int i = 0; i < kSteps && !HasFailure(); ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    Step();
  }
  std::uint64_t counted = 0;
  const auto counters = world.proxy.counters();
  for (const auto &way : counters.tunnels.ways) {
    counted += way.passed.packets;
  }
  for (const auto dropped : counters.dropped) {
    counted += dropped;
  }
  EXPECT_EQ(counted, sent);
  std::size_t mapped = 0;
  for (auto &tunnel : tunnels) {
    mapped += tunnel.clients.size();
    for (const auto &[id, virtual_ids] : tunnel.targets) {
      mapped += virtual_ids.size();
    }
    world.Close(tunnel.client.connection, tunnel.client.stream);
  }
  EXPECT_GT(mapped, 0u);
  EXPECT_GT(tunnels[0].registered + tunnels[1].registered, kSteps / 20u) << "it is not stuck";
  EXPECT_TRUE(world.open.empty());
  for (const auto connection : {kAlice, kBob}) {
    EXPECT_EQ(world.proxy.Find(connection)->client->mappings, 0u);
    EXPECT_EQ(world.proxy.Find(connection)->client->requests, 0u);
    EXPECT_EQ(world.proxy.Find(connection)->path->ids.size(), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Rfc9298Random, testing::Range(1u, 13u));

} // namespace
} // namespace ngmasque
