// Dialect rfc9298: client and proxy as they are, while either moves, at any time, and what they say to each
// other is still on its way.  Neither may ever find that the other one has broken a rule.

#include "session_rfc9298_raw.h"

#include "ngmasque/session/client_ids.h"
#include "ngmasque/session/client_tunnel.h"

#include <algorithm>
#include <deque>
#include <format>
#include <memory>
#include <random>
#include <set>
#include <utility>

namespace ngmasque {
namespace {

constexpr int kSteps = 3000;
constexpr std::size_t kMaxIds = 8; // Of each side.

class Rfc9298Moves : public testing::TestWithParam<unsigned> {
protected:
  std::size_t Below(std::size_t n) { return random() % n; }

  void Do(const std::vector<ClientAction> &actions) {
    for (const auto &action : actions) {
      std::visit([&](const auto &a) { Do(a); }, action);
    }
  }
  void Do(const client_action::SendRequest &a) {
    ASSERT_EQ(world.Request(kAlice, 0, a.fields), 200u);
    tunnel.OnSent(0, 0);
  }
  void Do(const client_action::SendOnStream &a) { up.push_back(a.message); }
  void Do(const client_action::CloseRequest &a) { ADD_FAILURE() << "the client ends it: " << a.code; }
  void Do(const client_action::Failed &a) { ADD_FAILURE() << "it has failed: " << a.refusal.code; }
  void Do(const client_action::DiscardClientId &a) { ADD_FAILURE() << ToText(a.id.bytes()); }
  void Do(const client_action::FellBack &a) { ADD_FAILURE() << ReasonName(a.reason); }
  void Do(const client_action::ReleaseClientId &) {}
  void Do(const client_action::Opened &) {}

  // One message of what is on its way arrives.
  void Up() {
    if (!up.empty()) {
      (void)at_proxy.Send(up.front());
      up.pop_front();
      for (const auto &[stream, message] : std::exchange(world.messages, {})) {
        down.push_back(message);
      }
    }
  }
  void Down() {
    if (down.empty()) {
      return;
    }
    const auto message = down.front();
    down.pop_front();
    std::vector<ClientAction> actions;
    for (std::span<const std::uint8_t> rest = message; !rest.empty();) {
      (void)tunnel.OnStreamData(0, rest, actions);
    }
    Do(actions);
  }
  // The proxy before this one, if there is one, says of any virtual connection ID that it knows it, once.
  void Link() {
    std::vector<ConnectionId> unknown;
    std::set<ConnectionId> now;
    for (const auto &one : tunnel.LinkIds()) {
      if (one.direction == Direction::kToClient && now.insert(one.id).second && !told.contains(one.id)) {
        unknown.push_back(one.id);
      }
    }
    std::erase_if(told, [&](const ConnectionId &id) { return !now.contains(id); });
    if (!unknown.empty()) {
      const auto id = unknown[Below(unknown.size())];
      told.insert(id);
      Do(tunnel.OnLinkId(id, true));
    }
  }
  void Settle() {
    for (int quiet = 0; quiet < 100; ++quiet) {
      quiet = up.empty() && down.empty() ? quiet : 0;
      Up();
      Down();
      Link();
    }
  }
  void Move() {
    world.Do(world.proxy.OnMigrating(kAlice, world.now));
    world.Do(world.proxy.MoveConnection(kAlice, Tuple(++port), world.now).actions);
  }

  void Add(std::deque<ConnectionId> &ids, std::string_view name) {
    if (ids.size() < kMaxIds) {
      ids.push_back(Id(std::format("{}-{:05}", name, next++)));
      Do(&ids == &clients ? tunnel.AddClientId(ids.back()) : tunnel.AddServerId(ids.back()));
    }
  }
  void Remove(std::deque<ConnectionId> &ids) {
    if (ids.size() > 1) {
      const auto which = ids.begin() + static_cast<std::ptrdiff_t>(Below(ids.size()));
      const auto id = *which;
      ids.erase(which);
      Do(&ids == &clients ? tunnel.RemoveClientId(id) : tunnel.RemoveServerId(id));
    }
  }

  void Step() {
    switch (Below(16)) {
    case 0: Add(clients, "client"); break;
    case 1: Add(servers, "server"); break;
    case 2: Remove(clients); break;
    case 3: Remove(servers); break;
    case 4: // Several in a round trip, or one after several.
      if (Below(4) == 0) {
        Do(tunnel.OnMigrated());
      }
      break;
    case 5: // Before or after the client has followed, or more often.
      if (Below(4) == 0) {
        Move();
      }
      break;
    case 6:
    case 7: Link(); break;
    default:
      for (auto messages = Below(8); messages > 0; --messages) {
        Below(2) == 0 ? Up() : Down();
      }
    }
    EXPECT_EQ(at_proxy.reset(), 0u);
    EXPECT_FALSE(tunnel.over());
  }

  std::mt19937_64 random{GetParam()};
  ProxyWorld world{{}, OpenPolicy()};
  RawClient at_proxy{world};
  ClientIds ids{kTestKey};
  std::unique_ptr<ClientDialect> dialect = MakeRfc9298Client(
    {.uri = UriTemplate::Parse(
              "https://proxy.example/.well-known/masque/udp/{target_host}/{target_port}/")
              .value(),
     .key = {.k0 = 3, .k1 = 4},
     .transforms = {Transform::kIdentity},
     .revision = kNewestRevision},
    {.datagrams = true, .settings = PeerSettings{.datagrams = true, .connect_protocol = true}});
  ClientTunnel tunnel{ids,
                      *dialect,
                      {.authority = ParseAuthority("192.0.2.9:443").value(),
                       .forward = true,
                       .chained = GetParam() % 2 == 0}};
  std::deque<Bytes> up, down;
  std::deque<ConnectionId> clients{Id("client-first")}, servers;
  std::set<ConnectionId> told;
  int next = 0;
  std::uint16_t port = 100;
};

TEST_P(Rfc9298Moves, NeitherBreaksARule) {
  SCOPED_TRACE("seed " + std::to_string(GetParam()));
  Do(tunnel.Start(clients.front()));
  Do(tunnel.OnResponse(0, world.answers.at(at_proxy.key()).fields));
  for (int i = 0; i < kSteps && !HasFailure(); ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    Step();
  }
  // Once both have come to rest, everything is forwarded.
  Settle();
  Move();
  Do(tunnel.OnMigrated());
  Settle();
  for (const auto &id : clients) {
    auto packet = Short(id.bytes());
    packet.resize(packet.size() + 30, 0x33);
    const auto received = world.Receive(world.socket(), packet);
    ASSERT_TRUE(received);
    EXPECT_EQ(received->form, ClientForm::kForward);
  }
  for (const auto &id : servers) {
    auto packet = Short(id.bytes());
    packet.resize(packet.size() + 30, 0x33);
    EXPECT_EQ(tunnel.FromInner(packet), ClientWay::kForward);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Rfc9298Moves, testing::Range(1u, 25u));

} // namespace
} // namespace ngmasque
