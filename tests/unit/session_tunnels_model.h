// What Tunnels does, said once more in the plainest way: one list of requests and one of reserved
// connection IDs, searched from end to end each time.
#pragma once

#include "ngmasque/session/tunnels.h"

#include "session_tunnels_support.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace ngmasque {

class TunnelsModel {
public:
  enum class Kind { kPlain, kClient, kServer };

  explicit TunnelsModel(const RoutingLimits &limits) : limits_(limits) {}

  std::optional<SessionError> AddConnection(OuterConnection connection, const FourTuple &tuple) {
    if (tuples_.contains(connection)) {
      return SessionError::kConnectionInUse;
    }
    if (tuples_.size() >= limits_.max_connections) {
      return SessionError::kTooManyConnections;
    }
    const auto client = ClientKey::FromAddress(tuple.remote);
    if (HasAllConnections(client)) {
      return SessionError::kTooManyClientConnections;
    }
    tuples_[connection] = tuple;
    clients_.emplace(connection, client);
    return std::nullopt;
  }

  std::optional<SessionError> Assign(OuterConnection connection, const ClientKey &client) {
    auto &of = clients_.at(connection);
    if (of != client && HasAllConnections(client)) {
      return SessionError::kTooManyClientConnections;
    }
    of = client;
    return std::nullopt;
  }

  std::vector<SocketId> RemoveConnection(OuterConnection connection) {
    const auto before = Sockets();
    Remove([&](const Request &request) { return request.key.connection == connection; });
    std::erase_if(reserved_, [&](const auto &entry) { return entry.first == connection; });
    tuples_.erase(connection);
    others_.erase(connection);
    clients_.erase(connection);
    return Gone(before);
  }

  void Expect(OuterConnection connection, const FourTuple &tuple);
  // As RemoveStream, but what comes late on the 4-tuple of now is still forwarded.
  std::optional<SocketId> Retire(const StreamKey &key);

  Registry::Moved Move(OuterConnection connection, const FourTuple &tuple);

  std::optional<SessionError> Reserve(OuterConnection connection, const Bytes &id) {
    const auto mine =
      std::ranges::count(reserved_, connection, &std::pair<OuterConnection, Bytes>::first);
    if (static_cast<std::size_t>(mine) >= limits_.max_reserved_per_connection) {
      return SessionError::kTooManyReserved;
    }
    if (auto conflict = OnTuple(tuples_[connection], id)) {
      return conflict;
    }
    reserved_.emplace_back(connection, id);
    return std::nullopt;
  }

  void Unreserve(OuterConnection connection, const Bytes &id) {
    std::erase(reserved_, std::pair(connection, id));
  }

  std::optional<Refusal> Add(const Registration &request, Kind kind, const Bytes &id) {
    if (auto reason = WhyNot(request, kind, id)) {
      return Refusal{.reason = *reason, .close_socket = !Sockets().contains(request.socket)};
    }
    if (!Sockets().contains(request.socket)) {
      shared_[request.socket] = request.shared && kind != Kind::kPlain;
    }
    requests_.push_back({request.stream, request.flow, request.socket, kind, id});
    if (kind == Kind::kServer) {
      for (const auto &tuple : others_[request.stream.connection]) {
        AddLate(tuple, requests_.back(), false);
      }
    }
    return std::nullopt;
  }

  std::optional<SocketId> RemoveStream(const StreamKey &key) {
    const auto before = Sockets();
    Remove([&](const Request &request) { return request.key == key; });
    const auto gone = Gone(before);
    return gone.empty() ? std::nullopt : std::optional(gone.front());
  }

  std::vector<StreamKey> RemoveSocket(SocketId socket) {
    std::vector<StreamKey> keys;
    for (const auto &request : requests_) {
      if (request.socket == socket) {
        keys.push_back(request.key);
      }
    }
    std::ranges::sort(keys);
    Remove([&](const Request &request) { return request.socket == socket; });
    return keys;
  }

  std::optional<SocketId> FindFlow(OuterConnection connection, TunnelKey flow) const {
    for (const auto &request : requests_) {
      if (request.key.connection == connection && request.flow == flow) {
        return request.socket;
      }
    }
    return std::nullopt;
  }

  // Everybody who could get a packet of a client with a short header.
  std::vector<std::expected<ToTarget, NotForwarded>> FromClient(const FourTuple &tuple,
                                                                const Bytes &rest) {
    std::vector<std::expected<ToTarget, NotForwarded>> owners;
    for (const auto &[connection, id] : reserved_) {
      if (tuples_[connection] == tuple && Begins(rest, id)) {
        owners.push_back(std::unexpected(kForQuic));
      }
    }
    for (const auto &request : requests_) {
      if (request.kind == Kind::kServer && tuples_[request.key.connection] == tuple &&
          Begins(rest, request.id)) {
        forwarding_.insert({request.key.connection, request.flow});
        owners.push_back(ToTarget{request.key.connection, request.flow, request.socket});
      }
    }
    if (owners.empty()) {
      for (const auto &late : late_) {
        if (late.tuple == tuple && Begins(rest, late.id)) {
          forwarding_.insert({late.connection, late.flow});
          owners.push_back(ToTarget{late.connection, late.flow, late.socket});
        }
      }
      Forget();
    }
    return owners;
  }

  // Everybody who could get a packet of a target: with a short header, or with a long one.
  std::vector<ToClient> FromTarget(SocketId socket, const Bytes &id, bool is_long) {
    std::vector<ToClient> owners;
    for (const auto &request : requests_) {
      if (request.socket == socket && request.kind == Kind::kClient &&
          (is_long ? id == request.id : Begins(id, request.id))) {
        const auto forwarded = !is_long && !request.id.empty() &&
                               forwarding_.contains({request.key.connection, request.flow});
        owners.push_back(To(request, forwarded));
      }
    }
    const auto user = std::ranges::find(requests_, socket, &Request::socket);
    if (owners.empty() && user != requests_.end() && !shared_[socket]) {
      owners.push_back(To(*user, false));
    }
    return owners;
  }

  // The 4-tuples that packets of somebody may come from.
  std::set<FourTuple> paths() const {
    std::set<FourTuple> paths;
    for (const auto &[connection, tuple] : tuples_) {
      paths.insert(tuple);
    }
    for (const auto &[connection, others] : others_) {
      paths.insert(others.begin(), others.end());
    }
    return paths;
  }

  bool Has(OuterConnection connection) const {
    return std::ranges::any_of(requests_, [&](const Request &request) {
      return request.key.connection == connection;
    });
  }
  bool Has(const StreamKey &stream) const {
    return std::ranges::contains(requests_, stream, &Request::key);
  }

  std::set<SocketId> Sockets() const {
    std::set<SocketId> sockets;
    for (const auto &request : requests_) {
      sockets.insert(request.socket);
    }
    return sockets;
  }

  const std::map<OuterConnection, FourTuple> &tuples() const { return tuples_; }

  std::size_t mappings() const {
    return static_cast<std::size_t>(std::ranges::count_if(
      requests_, [](const Request &request) { return request.kind != Kind::kPlain; }));
  }

  std::size_t clients() const {
    std::vector<ClientKey> different;
    for (const auto &[connection, client] : clients_) {
      if (!std::ranges::contains(different, client)) {
        different.push_back(client);
      }
    }
    return different.size();
  }

private:
  bool HasAllConnections(const ClientKey &client) const {
    return static_cast<std::size_t>(std::ranges::count_if(
             clients_, [&](const auto &c) { return c.second == client; })) >=
           limits_.max_connections_per_client;
  }

  struct Request {
    StreamKey key;
    TunnelKey flow;
    SocketId socket;
    Kind kind;
    Bytes id;
  };

  // What is forwarded that comes from where its connection is not.
  struct Late {
    FourTuple tuple;
    OuterConnection connection;
    TunnelKey flow;
    SocketId socket;
    std::optional<StreamKey> key; // Nothing: it is retired.
    Bytes id;
  };

  static bool Begins(const Bytes &bytes, const Bytes &prefix) {
    return bytes.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), bytes.begin());
  }

  ToClient To(const Request &request, bool forward) {
    return {request.key.connection, request.flow, tuples_[request.key.connection], forward};
  }

  void Remove(auto &&which) {
    std::erase_if(requests_, which);
    Forget();
  }

  // Who has no server connection ID left does not forward.
  void Forget() {
    std::erase_if(forwarding_, [&](const auto &flow) {
      return std::ranges::none_of(requests_, [&](const Request &request) {
        return request.kind == Kind::kServer && request.key.connection == flow.first &&
               request.flow == flow.second;
      });
    });
    std::erase_if(late_, [&](const Late &late) {
      return late.key ? !Has(*late.key) : !FindFlow(late.connection, late.flow);
    });
  }

  std::vector<SocketId> Gone(std::set<SocketId> before) const {
    for (const auto socket : Sockets()) {
      before.erase(socket);
    }
    return {before.begin(), before.end()};
  }

  void Keep(OuterConnection connection, const FourTuple &tuple);
  void AddLate(const FourTuple &tuple, const Request &request, bool retired);
  std::vector<Request> Servers(OuterConnection connection) const;

  // The bounds and conflicts, in the order in which Tunnels sees to them.
  std::optional<SessionError> OnTuple(const FourTuple &tuple, const Bytes &id);
  std::optional<SessionError> OnSocket(SocketId socket, const Bytes &id);
  std::optional<SessionError> Among(const std::vector<Bytes> &ids, const Bytes &id) const;
  std::optional<SessionError> WhyNot(const Registration &request, Kind kind, const Bytes &id);

  RoutingLimits limits_;
  std::map<OuterConnection, FourTuple> tuples_;
  std::map<OuterConnection, std::vector<FourTuple>> others_; // The latest one last.
  std::vector<Late> late_;
  std::map<OuterConnection, ClientKey> clients_; // Wherever they have moved.
  std::vector<std::pair<OuterConnection, Bytes>> reserved_;
  std::vector<Request> requests_;
  std::map<SocketId, bool> shared_; // Of sockets that are in use.
  std::set<std::pair<OuterConnection, TunnelKey>> forwarding_;
};

} // namespace ngmasque
