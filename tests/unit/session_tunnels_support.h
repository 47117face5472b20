// Tunnels with numbers instead of handles, as its tests want it: the flow ids, streams and sockets
// of a dialect that has one request per connection ID.
#pragma once

#include "ngmasque/session/tunnels.h"

#include "routing_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace ngmasque {

// A request and where its packets go.
struct Registration {
  StreamKey stream;
  TunnelKey flow{};
  SocketId socket{};
  // Whether other flows may use the socket as well.  Looked at if the socket is new.
  bool shared = false;
};

struct Refusal {
  SessionError reason{};
  // Nothing uses the socket that the request was to have.
  bool close_socket = false;
  bool operator==(const Refusal &) const = default;
};

// Where a forwarded packet of a client goes.
struct ToTarget {
  OuterConnection connection{};
  TunnelKey flow{};
  SocketId socket{};
  bool operator==(const ToTarget &) const = default;
};

// Of a client's packet that is not forwarded: nothing if it is for the proxy's own QUIC.
using NotForwarded = std::optional<DropReason>;
inline constexpr NotForwarded kForQuic;

// Where a packet of a target goes.
struct ToClient {
  OuterConnection connection{};
  TunnelKey flow{};
  FourTuple tuple;
  bool forward{};
  bool operator==(const ToClient &) const = default;
};

class Registry {
public:
  explicit Registry(const HashKey &key, const RoutingLimits &limits = {})
    : tunnels_(std::make_unique<Tunnels>(key, limits)) {}

  std::expected<void, Refusal> AddConnection(OuterConnection connection, const FourTuple &tuple) {
    if (auto added = tunnels_->AddConnection(connection, tuple); !added) {
      return std::unexpected(Refusal{added.error()});
    }
    return {};
  }

  std::expected<void, Refusal> Assign(OuterConnection connection, const ClientKey &client) {
    return tunnels_->Assign(*tunnels_->Find(connection), client)
      .transform_error([](SessionError error) { return Refusal{error}; });
  }

  // Returns the sockets that nobody uses now.
  std::vector<SocketId> RemoveConnection(OuterConnection id) {
    std::vector<SocketId> unused;
    auto *connection = tunnels_->Find(id);
    if (connection) {
      for (const auto &stream : StreamsOf(id)) {
        Note(RemoveStream(stream), unused);
      }
      tunnels_->Remove(*connection);
    }
    return unused;
  }

  struct Moved {
    std::vector<StreamKey> lost;
    std::vector<ConnectionId> reserved;
    std::vector<SocketId> unused;
  };

  Moved MoveConnection(OuterConnection id, const FourTuple &tuple) {
    Moved moved;
    if (auto *connection = tunnels_->Find(id)) {
      auto result = tunnels_->Move(*connection, tuple);
      moved.reserved = result.reserved;
      for (const auto *mapping : result.lost) {
        moved.lost.push_back({id, mapping->stream});
      }
      std::ranges::sort(moved.lost);
      for (const auto &stream : moved.lost) {
        Note(RemoveStream(stream), moved.unused);
      }
    }
    return moved;
  }

  std::expected<void, Refusal> Reserve(OuterConnection connection, const ConnectionId &id) {
    const auto reserved = tunnels_->Reserve(*tunnels_->Find(connection), id);
    return reserved ? std::expected<void, Refusal>()
                    : std::unexpected(Refusal{reserved.error()});
  }
  void Unreserve(OuterConnection connection, const ConnectionId &id) {
    tunnels_->Unreserve(*tunnels_->Find(connection), id);
  }

  std::expected<void, Refusal> AddPlain(const Registration &request) {
    return Add(request, true, [](Tunnel &) { return std::expected<Mapping *, SessionError>(); });
  }
  std::expected<void, Refusal> AddClientId(const Registration &request, const ConnectionId &id) {
    return Add(request, false, [&](Tunnel &tunnel) {
      return tunnels_->AddMapping(tunnel, Direction::kToClient, id, request.stream.stream);
    });
  }
  std::expected<void, Refusal> AddServerId(const Registration &request, const ConnectionId &id) {
    return Add(request, false, [&](Tunnel &tunnel) {
      return tunnels_->AddMapping(tunnel, Direction::kToTarget, id, request.stream.stream);
    });
  }

  void Expect(OuterConnection id, const FourTuple &tuple) {
    if (auto *connection = tunnels_->Find(id)) {
      tunnels_->Expect(*connection, tuple);
    }
  }

  // Returns the socket if nobody uses it now.
  std::optional<SocketId> Retire(const StreamKey &key) {
    const auto found = requests_.find(key);
    const auto *mapping = found == requests_.end() ? nullptr : found->second.second;
    return mapping && mapping->direction == Direction::kToTarget ? RemoveStream(key, true)
                                                                 : std::nullopt;
  }

  // Returns the socket if nobody uses it now.
  std::optional<SocketId> RemoveStream(const StreamKey &key, bool retire = false) {
    const auto request = requests_.extract(key);
    if (request.empty()) {
      return std::nullopt;
    }
    const auto [tunnel, mapping] = request.mapped();
    if (retire) {
      tunnels_->Retire(*mapping);
    } else if (mapping) {
      tunnels_->Remove(*mapping);
    }
    const auto is_its = [&](const auto &other) { return other.second.first == tunnel; };
    return std::ranges::none_of(requests_, is_its) ? Remove(*tunnel) : std::nullopt;
  }

  // Returns the requests that are gone with it.
  std::vector<StreamKey> RemoveSocket(SocketId id) {
    std::vector<StreamKey> gone;
    for (const auto &[key, request] : requests_) {
      if (numbers_.at(request.first->socket) == id) {
        gone.push_back(key);
      }
    }
    for (const auto &key : gone) {
      RemoveStream(key);
    }
    return gone;
  }

  std::expected<SocketId, DropReason> FindFlow(OuterConnection connection, TunnelKey flow) const {
    const auto found = flows_.find({connection, flow});
    return found == flows_.end()
             ? std::expected<SocketId, DropReason>(std::unexpect, DropReason::kUnknownFlow)
             : numbers_.at(found->second->socket);
  }

  std::expected<ToTarget, NotForwarded> FromClient(const FourTuple &tuple, const Bytes &packet) {
    const auto mapping = tunnels_->FromClient(tunnels_->FindPath(tuple), packet);
    if (!mapping) {
      return std::unexpected(mapping.error());
    }
    if (!*mapping) {
      return std::unexpected(kForQuic);
    }
    const auto &tunnel = *(*mapping)->tunnel;
    return ToTarget{tunnel.connection->id, tunnel.key, numbers_.at(tunnel.socket)};
  }

  std::expected<ToClient, DropReason> FromTarget(SocketId id, const Bytes &packet) const {
    const auto socket = sockets_.find(id);
    if (socket == sockets_.end()) {
      return std::unexpected(DropReason::kUnknownSocket);
    }
    const auto to = tunnels_->FromTarget(*socket->second, packet);
    if (!to) {
      return std::unexpected(to.error());
    }
    const auto &connection = *to->tunnel->connection;
    EXPECT_TRUE(!to->mapping || to->mapping->tunnel == to->tunnel);
    return ToClient{connection.id, to->tunnel->key, connection.path->tuple,
                    to->forward};
  }

  TunnelCounts counts() const { return tunnels_->counts(); }
  std::uint64_t probes() const { return tunnels_->probes(); }

private:
  // A request adds what is not there yet; one that is refused takes that away again (P7).
  std::expected<void, Refusal> Add(const Registration &request, bool plain, auto &&map) {
    auto &connection = *tunnels_->Find(request.stream.connection);
    const auto refuse = [&](SessionError reason) {
      return std::unexpected(Refusal{reason, !sockets_.contains(request.socket)});
    };
    const auto known = flows_.find({request.stream.connection, request.flow});
    const auto is_new = known == flows_.end();
    if (!is_new && (plain || known->second->plain)) {
      return refuse(SessionError::kFlowInUse);
    }
    const auto tunnel = is_new ? tunnels_->AddTunnel(connection, plain) : known->second;
    if (!tunnel) {
      return refuse(tunnel.error());
    }
    if (is_new) {
      (*tunnel)->key = request.flow;
      if (const auto joined = Join(**tunnel, request); !joined) {
        tunnels_->Remove(**tunnel);
        return refuse(joined.error());
      }
      flows_.insert({{request.stream.connection, request.flow}, *tunnel});
    }
    const auto mapping = map(**tunnel);
    if (!mapping) {
      if (is_new) {
        Remove(**tunnel);
      }
      return refuse(mapping.error());
    }
    requests_.insert({request.stream, {*tunnel, *mapping}});
    return {};
  }

  std::expected<void, SessionError> Join(Tunnel &tunnel, const Registration &request) {
    if (const auto known = sockets_.find(request.socket); known != sockets_.end()) {
      return tunnels_->Join(tunnel, *known->second);
    }
    const auto socket = tunnels_->AddSocket({}, request.shared && !tunnel.plain);
    if (!socket) {
      return std::unexpected(socket.error());
    }
    sockets_[request.socket] = *socket;
    numbers_[*socket] = request.socket;
    return tunnels_->Join(tunnel, **socket);
  }

  std::optional<SocketId> Remove(Tunnel &tunnel) {
    std::optional<SocketId> unused;
    auto &socket = *tunnel.socket;
    if (tunnels_->Leave(tunnel)) {
      unused = numbers_.extract(&socket).mapped();
      sockets_.erase(*unused);
      tunnels_->Remove(socket);
    }
    flows_.erase({tunnel.connection->id, tunnel.key});
    tunnels_->Remove(tunnel);
    return unused;
  }

  std::vector<StreamKey> StreamsOf(OuterConnection connection) const {
    std::vector<StreamKey> streams;
    for (const auto &[key, request] : requests_) {
      if (key.connection == connection) {
        streams.push_back(key);
      }
    }
    return streams;
  }

  static void Note(std::optional<SocketId> socket, std::vector<SocketId> &unused) {
    if (socket) {
      unused.push_back(*socket);
      std::ranges::sort(unused);
    }
  }

  std::unique_ptr<Tunnels> tunnels_;
  std::map<std::pair<OuterConnection, TunnelKey>, Tunnel *> flows_;
  std::map<StreamKey, std::pair<Tunnel *, Mapping *>> requests_;
  std::map<SocketId, ServerSocket *> sockets_;
  std::map<const ServerSocket *, SocketId> numbers_;
};

} // namespace ngmasque
