// Proxy: random requests, answers of the world around it, and packets, of several clients.  Bounds
// hold, each request has one answer, each socket is closed, and what one client has is not lost by
// what another one does.

#include "session_proxy_support.h"

#include <algorithm>
#include <array>
#include <random>

namespace ngmasque {
namespace {

// How often what happened, so that the test can tell that it has tested something.
struct Tally {
  std::map<unsigned, int> answers;
  int closed_early = 0, lost = 0, failed = 0, early = 0, alone = 0, several = 0,
      not_added = 0;
  int to_target = 0, forwarded = 0, to_client = 0;
};

class Trial {
public:
  Trial(std::uint64_t seed, Tally &tally)
    : random_(seed), ids_(random_), options_(DrawOptions()), world_(options_), tally_(tally) {
    world_.open_at_once = false;
    for (std::uint64_t c = 3; c <= kConnections; ++c) {
      EXPECT_TRUE(world_.proxy.AddConnection(OuterConnection{c}, Tuple(c)));
    }
    for (std::uint64_t c = 1; c <= kConnections; ++c) {
      tuples_[OuterConnection{c}] = Tuple(c);
      clients_.emplace(OuterConnection{c}, ClientKey::FromAddress(Tuple(c).remote));
    }
  }

  void Steps(int count) {
    while (count-- > 0 && !testing::Test::HasFailure()) {
      Step();
      Bounds();
      for (int i = 0; i < 3; ++i) {
        Packet();
      }
    }
    for (const auto &[connection, tuple] : tuples_) {
      Do(world_.proxy.RemoveConnection(connection, world_.now),
         [](const StreamKey &) { return false; });
    }
    EXPECT_TRUE(world_.lookups.empty());
    EXPECT_TRUE(world_.opening.empty());
    EXPECT_TRUE(world_.open.empty());
    EXPECT_EQ(world_.opened, world_.closed);
    EXPECT_EQ(world_.proxy.counters().flows.now, 0u);
    // Each tunnel has ended once, and nothing that it has passed is lost.
    std::set<std::uint64_t> numbers;
    TunnelStatistics all;
    for (const auto &ended : world_.ended) {
      EXPECT_TRUE(numbers.insert(ended.number).second);
      all.Add(ended.statistics);
    }
    EXPECT_EQ(all, world_.proxy.counters().tunnels);
    EXPECT_EQ(numbers.size(), numbers.empty() ? 0 : *numbers.rbegin() + 1);
    EXPECT_EQ(world_.proxy.counters().sockets.now, 0u);
    for (const auto &[stream, answer] : world_.answers) {
      ++tally_.answers[answer.status];
    }
  }

private:
  static constexpr std::uint64_t kConnections = 4, kTuples = 5, kFlows = 5;

  ProxyOptions DrawOptions() {
    ProxyOptions options{
      .forwarding = Below(8) != 0, .port_sharing = Below(6) != 0, .mixed_addresses = Below(2) == 0};
    if (Below(2) == 0) {
      options.routing.max_sockets = 1 + Below(5);
      options.routing.max_connections_per_client = 1 + Below(kConnections);
      options.routing.max_flows_per_client = 1 + Below(2 * kFlows);
      options.routing.max_streams_per_client = 1 + Below(15);
      options.routing.max_waiting_bytes_per_client = Below(20);
      options.routing.max_waiting_bytes = Below(40);
      options.routing.max_flows_per_socket = 1 + Below(4);
      options.routing.max_ids_per_scope = 1 + Below(8);
      options.routing.max_lengths_per_scope = 1 + Below(4);
      options.max_early_datagrams = Below(3);
      options.max_early_flows = Below(3);
      options.max_lookups_per_client = 1 + Below(2);
      options.max_lookups = 1 + Below(4);
    }
    return options;
  }

  std::size_t Below(std::size_t n) { return random_() % n; }
  OuterConnection AnyConnection() { return OuterConnection{1 + Below(kConnections)}; }
  // No packet of QUIC comes twice.
  Bytes Fresh(const ConnectionId &id) {
    return Short(ToText(id.bytes()) + std::to_string(++packets_));
  }

  template <typename Container> const auto &Any(const Container &container) {
    return *std::next(container.begin(), static_cast<std::ptrdiff_t>(Below(container.size())));
  }

  void Step() {
    const auto what = Below(100);
    if (what < 35) {
      Request();
    } else if (what < 50 && !world_.lookups.empty()) {
      Lookup();
    } else if (what < 65 && !world_.opening.empty()) {
      Socket();
    } else if (what < 75 && !pending_.empty() && Below(3) == 0) {
      ++tally_.closed_early;
      Close(Any(pending_).first);
    } else if (what < 79 && !accepted_.empty()) {
      Close(Any(accepted_).first);
    } else if (what < 90) {
      Move();
    } else if (what < 92 && !world_.open.empty()) {
      const auto socket = Any(world_.open);
      ++tally_.failed;
      Do(world_.proxy.OnSocketFailed(socket, world_.now),
         [&](const StreamKey &stream) { return sockets_.at(stream) == socket; });
    } else if (what < 93) {
      Restart();
    } else if (what < 97) {
      std::ignore = world_.proxy.Reserve(AnyConnection(), Id(ids_.Draw()));
    }
  }

  // Does it, and looks at what has come of it.  `may_reset`: which accepted requests may be lost.
  template <typename MayReset> void Do(const ProxyActions &actions, MayReset &&may_reset) {
    const auto sent = world_.sent.size();
    const auto resets = world_.resets.size();
    std::set<StreamKey> answered;
    for (const auto &action : actions) {
      if (const auto *respond = std::get_if<proxy_action::Respond>(&action)) {
        answered.insert(respond->stream);
      }
    }
    world_.Do(actions);
    for (const auto &stream : answered) {
      const auto request = pending_.extract(stream);
      ASSERT_FALSE(request.empty()) << "answer to a stream that waits for none";
      if (world_.Status(stream.connection, stream.stream) == 200) {
        const auto socket = world_.Send(stream.connection, FlowOf(stream, request.mapped()), "");
        ASSERT_TRUE(socket);
        sockets_[stream] = *socket;
        accepted_.insert({stream, request.mapped()});
      }
    }
    for (auto i = resets; i < world_.resets.size(); ++i) {
      EXPECT_TRUE(may_reset(world_.resets[i])) << "lost by what others have done";
      EXPECT_EQ(accepted_.erase(world_.resets[i]), 1u);
    }
    // An early payload says whose it is.
    for (auto i = sent; i < world_.sent.size(); ++i) {
      const auto &[socket, payload] = world_.sent[i];
      const OuterConnection connection{std::uint64_t(payload.at(0) - '0')};
      EXPECT_EQ(world_.Send(connection, FlowId(payload.at(1) - '0'), ""), socket);
      ++tally_.early;
    }
  }
  void Do(const ProxyActions &actions) {
    Do(actions, [](const StreamKey &) { return false; });
  }

  static FlowId FlowOf(const StreamKey &, const ConnectUdpRequest &request) {
    return request.flow.value();
  }

  void Request() {
    constexpr std::array<std::string_view, 6> authorities{"5.6.7.1:443",   "5.6.7.2:443",
                                                          "10.0.0.1:443",  "a.example:443",
                                                          "b.example:443", "5.6.7.1:8443"};
    StreamKey stream{.connection = AnyConnection(), .stream = next_stream_ += 4};
    ConnectUdpRequest request{.authority = *ParseAuthority(authorities[Below(6)]),
                              .flow = 2 * Below(kFlows),
                              .id_header = Below(8) != 0 ? IdHeader::kClient : IdHeader::kNone,
                              .id = {}};
    if (!accepted_.empty() && Below(2) == 0) {
      const auto &[other, same] = Any(accepted_);
      stream.connection = other.connection;
      request.flow = same.flow;
      request.id_header = Below(4) != 0 ? IdHeader::kServer : IdHeader::kClient;
    }
    // Mostly as a client does it: the same authority for the same flow.
    const auto known = authorities_.find({stream.connection, *request.flow});
    if (known != authorities_.end() && Below(20) != 0) {
      request.authority = known->second;
    }
    authorities_.try_emplace({stream.connection, *request.flow}, request.authority);
    if (request.id_header != IdHeader::kNone) {
      request.id = Id(ids_.Draw());
      // Often one that somebody has already, on another 4-tuple perhaps.
      const auto other = std::ranges::find_if(accepted_, [&](const auto &accepted) {
        return accepted.second.id_header == request.id_header &&
               accepted.first.connection != stream.connection;
      });
      if (other != accepted_.end() && Below(4) != 0) {
        request.id = other->second.id;
      }
    }
    pending_[stream] = request;
    Do(world_.proxy.OnRequest(stream, RequestFields(request), world_.now));
  }

  void Lookup() {
    const auto lookup = Any(world_.lookups).first;
    world_.lookups.erase(lookup);
    if (Below(6) == 0) {
      Do(world_.proxy.OnLookup(
        lookup,
        std::unexpected(Below(2) == 0 ? SessionError::kNoAddress : SessionError::kLookupTimeout),
        world_.now));
      return;
    }
    std::vector<Endpoint> addresses;
    for (auto count = Below(4); count > 0; --count) {
      addresses.push_back(At(Below(10) == 0  ? "127.0.0.1"
                             : Below(2) == 0 ? "5.6.7.1"
                                             : "5.6.7.2",
                             static_cast<std::uint16_t>(Below(2))));
    }
    Do(world_.proxy.OnLookup(lookup, addresses, world_.now));
  }

  void Socket() {
    const auto socket = Any(world_.opening);
    world_.opening.erase(socket);
    if (Below(5) == 0) {
      Do(world_.proxy.OnSocket(
        socket,
        std::unexpected(Below(2) == 0 ? SessionError::kUnroutable : SessionError::kNoSocket),
        world_.now));
    } else {
      world_.open.insert(socket);
      ++world_.opened;
      const auto sockets = world_.targets.size();
      Do(world_.proxy.OnSocket(socket, nullptr, world_.now));
      tally_.alone += world_.targets.size() != sockets;
    }
  }

  void Close(StreamKey stream) {
    pending_.erase(stream);
    accepted_.erase(stream);
    Do(world_.proxy.OnStreamClosed(stream, world_.now));
  }

  void Move() {
    const auto connection = AnyConnection();
    tuples_[connection] = Tuple(static_cast<std::uint16_t>(1 + Below(kTuples)));
    const auto moved = world_.proxy.MoveConnection(connection, tuples_[connection], world_.now);
    const auto before = world_.resets.size();
    Do(moved.actions, [&](const StreamKey &stream) { return stream.connection == connection; });
    tally_.lost += static_cast<int>(world_.resets.size() - before);
  }

  void Restart() {
    const auto connection = AnyConnection();
    std::erase_if(pending_, [&](const auto &r) { return r.first.connection == connection; });
    std::erase_if(accepted_, [&](const auto &r) { return r.first.connection == connection; });
    std::erase_if(authorities_, [&](const auto &a) { return a.first.first == connection; });
    Do(world_.proxy.RemoveConnection(connection, world_.now));
    clients_.erase(connection);
    // As the client that is there now, if it may have one more.
    const auto client = ClientKey::FromAddress(tuples_[connection].remote);
    const auto others = std::ranges::count(clients_, client, [](const auto &c) { return c.second; });
    const auto added = world_.proxy.AddConnection(connection, tuples_[connection]);
    ASSERT_EQ(added.has_value(), static_cast<std::size_t>(others) <
                                   options_.routing.max_connections_per_client);
    if (!added) {
      ASSERT_EQ(added.error(), SessionError::kTooManyClientConnections);
      ++tally_.not_added;
      tuples_[connection] = Tuple(static_cast<std::uint16_t>(100 + std::to_underlying(connection)));
      ASSERT_TRUE(world_.proxy.AddConnection(connection, tuples_[connection]));
    }
    clients_.emplace(connection, ClientKey::FromAddress(tuples_[connection].remote));
  }

  void Bounds() {
    const auto &counters = world_.proxy.counters();
    const auto &routing = options_.routing;
    EXPECT_EQ(counters.sockets.now, world_.open.size() + world_.opening.size());
    EXPECT_LE(counters.sockets.now, routing.max_sockets);
    EXPECT_LE(world_.lookups.size(), options_.max_lookups);
    // Of each client, whose connections are wherever they have moved.
    std::map<const Client *, std::size_t> connections, tunnels, streams, waiting;
    for (const auto &[id, key] : clients_) {
      const auto &connection = *world_.proxy.Find(id);
      EXPECT_EQ(connection.client->key, key);
      ++connections[connection.client];
      tunnels[connection.client] += connection.tunnels.size();
      waiting[connection.client] = connection.client->waiting->bytes();
    }
    for (const auto *requests : {&pending_, &accepted_}) {
      for (const auto &[stream, request] : *requests) {
        ++streams[world_.proxy.Find(stream.connection)->client];
      }
    }
    std::size_t all_waiting = 0;
    for (const auto &[client, count] : connections) {
      EXPECT_EQ(client->connections, count);
      EXPECT_LE(count, routing.max_connections_per_client);
      EXPECT_EQ(client->tunnels, tunnels[client]);
      EXPECT_LE(client->tunnels, routing.max_flows_per_client);
      EXPECT_EQ(client->requests, streams[client]);
      EXPECT_LE(client->requests, routing.max_streams_per_client);
      EXPECT_LE(client->lookups, options_.max_lookups_per_client);
      EXPECT_LE(waiting[client], routing.max_waiting_bytes_per_client);
      all_waiting += waiting[client];
    }
    EXPECT_LE(all_waiting, routing.max_waiting_bytes);
    tally_.several += connections.size() < clients_.size();
  }

  // What was accepted works.
  void Packet() {
    const auto connection = AnyConnection();
    const FlowId flow = 2 * Below(kFlows);
    const auto whose = std::to_string(static_cast<unsigned>(connection)) + std::to_string(flow);
    if (Below(4) == 0 || accepted_.empty()) {
      std::ignore = world_.Send(connection, flow, whose);
      return;
    }

    const auto &[stream, request] = Any(accepted_);
    const auto socket = world_.Send(stream.connection, *request.flow, "x");
    ASSERT_TRUE(socket) << ReasonName(socket.error().value());
    ASSERT_EQ(*socket, sockets_.at(stream)) << "a flow has one socket";
    const auto &target = world_.targets.at(*socket);
    ASSERT_EQ(target.port, request.authority.port);
    if (const auto literal = ParseAddress(request.authority.host)) {
      ASSERT_EQ(target.address, *literal);
    }
    ASSERT_FALSE(target.address == *ParseAddress("127.0.0.1"));
    ++tally_.to_target;
    if (request.id_header == IdHeader::kServer) {
      const auto to =
        world_.Forward(tuples_[stream.connection], Fresh(request.id));
      ASSERT_TRUE(to) << ReasonName(to.error().value());
      ASSERT_EQ(
        *to, (ToTarget{.connection = stream.connection, .flow = *request.flow, .socket = *socket}));
      ++tally_.forwarded;
      return;
    }
    const auto to =
      world_.Receive(*socket, Below(2) == 0 ? Long(request.id.bytes()) : Fresh(request.id));
    ASSERT_TRUE(to) << ReasonName(to.error());
    ASSERT_EQ(to->connection, stream.connection);
    if (to->form == ClientForm::kForward) {
      ASSERT_EQ(to->tuple, tuples_[stream.connection]);
    } else {
      ASSERT_EQ(to->flow, *request.flow);
    }
    ++tally_.to_client;
  }

  std::mt19937_64 random_;
  IdSource ids_;
  ProxyOptions options_;
  ProxyWorld world_;
  Tally &tally_;
  std::uint64_t packets_ = 0; // That were Fresh.
  StreamId next_stream_ = 0;
  std::map<OuterConnection, FourTuple> tuples_;
  std::map<OuterConnection, ClientKey> clients_; // As whose they were added.
  std::map<std::pair<OuterConnection, FlowId>, Authority> authorities_;
  std::map<StreamKey, ConnectUdpRequest> pending_, accepted_;
  std::map<StreamKey, SocketId> sockets_;
};

TEST(ProxyRandom, ManyClients) {
  Tally tally;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    Trial(seed, tally).Steps(400);
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
  }
  // Everything has happened.
  for (const unsigned status : {200, 400, 403, 409, 429, 502, 503, 504}) {
    EXPECT_GT(tally.answers[status], 20) << status;
  }
  EXPECT_EQ(tally.answers.size(), 8u);
  for (const auto count : {tally.closed_early, tally.lost, tally.failed, tally.early, tally.alone,
                           tally.several, tally.not_added,
                           tally.to_target, tally.forwarded, tally.to_client}) {
    EXPECT_GT(count, 10);
  }
}

} // namespace
} // namespace ngmasque
