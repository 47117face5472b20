#include "session_tunnels_model.h"

#include <iterator>

namespace ngmasque {

namespace {
// Removes from a list, and returns what it has removed.
template <typename List, typename Which> List Take(List &list, Which which) {
  List taken;
  std::ranges::copy_if(list, std::back_inserter(taken), which);
  std::erase_if(list, which);
  return taken;
}
} // namespace

Registry::Moved TunnelsModel::Move(OuterConnection connection, const FourTuple &tuple) {
  Registry::Moved moved;
  if (!tuples_.contains(connection) || tuples_[connection] == tuple) {
    return moved;
  }
  const auto before = Sockets();
  Keep(connection, tuples_[connection]);
  for (const auto &request : Servers(connection)) {
    AddLate(tuples_[connection], request, false);
  }
  std::erase_if(late_, [&](const Late &late) {
    return late.tuple == tuple && late.connection == connection && late.key;
  });
  // Takes all of it out, and puts it in again one by one.
  tuples_.erase(connection);
  auto reserved = Take(reserved_, [&](const auto &entry) { return entry.first == connection; });
  auto requests =
    Take(requests_, [&](const Request &request) { return request.key.connection == connection; });
  tuples_[connection] = tuple;
  std::ranges::sort(reserved);
  for (const auto &entry : reserved) {
    if (OnTuple(tuple, entry.second)) {
      moved.reserved.push_back(Id(entry.second));
    } else {
      reserved_.push_back(entry);
    }
  }
  std::ranges::sort(requests, {}, &Request::key);
  for (const auto &request : requests) {
    if (request.kind == Kind::kServer && OnTuple(tuple, request.id)) {
      moved.lost.push_back(request.key);
    } else {
      requests_.push_back(request);
    }
  }
  Forget();
  moved.unused = Gone(before);
  return moved;
}

void TunnelsModel::Keep(OuterConnection connection, const FourTuple &tuple) {
  auto &others = others_[connection];
  std::erase(others, tuple);
  if (others.size() == Tunnels::kMaxOthers) {
    std::erase_if(late_, [&](const Late &late) {
      return late.connection == connection && late.tuple == others.front();
    });
    others.erase(others.begin());
  }
  others.push_back(tuple);
}

std::vector<TunnelsModel::Request> TunnelsModel::Servers(OuterConnection connection) const {
  std::vector<Request> servers;
  std::ranges::copy_if(requests_, std::back_inserter(servers), [&](const Request &request) {
    return request.kind == Kind::kServer && request.key.connection == connection;
  });
  std::ranges::sort(servers, {}, &Request::key);
  return servers;
}

void TunnelsModel::AddLate(const FourTuple &tuple, const Request &request, bool retired) {
  std::vector<Bytes> ids;
  for (const auto &late : late_) {
    if (late.tuple == tuple) {
      ids.push_back(late.id);
    }
  }
  if (!Among(ids, request.id)) {
    late_.push_back({.tuple = tuple,
                     .connection = request.key.connection,
                     .flow = request.flow,
                     .socket = request.socket,
                     .key = retired ? std::nullopt : std::optional(request.key),
                     .id = request.id});
  }
}

void TunnelsModel::Expect(OuterConnection connection, const FourTuple &tuple) {
  if (tuples_.contains(connection) && tuples_[connection] != tuple) {
    Keep(connection, tuple);
    for (const auto &request : Servers(connection)) {
      AddLate(tuple, request, false);
    }
  }
}

std::optional<SocketId> TunnelsModel::Retire(const StreamKey &key) {
  const auto found = std::ranges::find(requests_, key, &Request::key);
  if (found == requests_.end() || found->kind != Kind::kServer) {
    return std::nullopt;
  }
  const auto request = *found;
  const auto unused = RemoveStream(key);
  Keep(key.connection, tuples_[key.connection]);
  if (FindFlow(key.connection, request.flow)) {
    AddLate(tuples_[key.connection], request, true);
  }
  return unused;
}

std::optional<SessionError> TunnelsModel::OnTuple(const FourTuple &tuple, const Bytes &id) {
  std::vector<Bytes> ids;
  for (const auto &[connection, reserved] : reserved_) {
    if (tuples_.contains(connection) && tuples_[connection] == tuple) {
      ids.push_back(reserved);
    }
  }
  for (const auto &request : requests_) {
    if (request.kind == Kind::kServer && tuples_[request.key.connection] == tuple) {
      ids.push_back(request.id);
    }
  }
  return Among(ids, id);
}

std::optional<SessionError> TunnelsModel::OnSocket(SocketId socket, const Bytes &id) {
  std::vector<Bytes> ids;
  for (const auto &request : requests_) {
    if (request.kind == Kind::kClient && request.socket == socket) {
      ids.push_back(request.id);
    }
  }
  return Among(ids, id);
}

std::optional<SessionError> TunnelsModel::Among(const std::vector<Bytes> &ids,
                                                const Bytes &id) const {
  std::set<std::size_t> lengths{id.size()};
  for (const auto &other : ids) {
    lengths.insert(other.size());
    if (other == id) {
      return SessionError::kEqual;
    }
    if (Begins(id, other)) {
      return SessionError::kExistingIsPrefix;
    }
    if (Begins(other, id)) {
      return SessionError::kNewIsPrefix;
    }
  }
  if (ids.size() >= limits_.max_ids_per_scope) {
    return SessionError::kTooManyIds;
  }
  if (lengths.size() > limits_.max_lengths_per_scope) {
    return SessionError::kTooManyLengths;
  }
  return std::nullopt;
}

std::optional<SessionError> TunnelsModel::WhyNot(const Registration &request, Kind kind,
                                                 const Bytes &id) {
  const auto connection = request.stream.connection;
  const auto client = clients_.at(connection);
  std::set<std::pair<OuterConnection, TunnelKey>> flows; // Of all connections of the client.
  std::set<std::pair<OuterConnection, TunnelKey>> on_socket;
  const Request *same_flow = nullptr;
  for (const auto &other : requests_) {
    if (clients_.at(other.key.connection) == client) {
      flows.insert({other.key.connection, other.flow});
    }
    if (other.key.connection == connection && other.flow == request.flow) {
      same_flow = &other;
    }
    if (other.socket == request.socket) {
      on_socket.insert({other.key.connection, other.flow});
    }
  }
  if (same_flow) {
    if (kind == Kind::kPlain || same_flow->kind == Kind::kPlain) {
      return SessionError::kFlowInUse;
    }
  } else {
    if (flows.size() >= limits_.max_flows_per_client) {
      return SessionError::kTooManyFlows;
    }
    if (!on_socket.empty() && (kind == Kind::kPlain || !shared_[request.socket])) {
      return SessionError::kSocketNotShared;
    }
    if (on_socket.size() >= limits_.max_flows_per_socket) {
      return SessionError::kTooManyFlowsOnSocket;
    }
    if (on_socket.empty() && Sockets().size() >= limits_.max_sockets) {
      return SessionError::kTooManySockets;
    }
  }
  if (kind == Kind::kPlain) {
    return std::nullopt;
  }
  if (id.size() < limits_.min_connection_id) {
    return SessionError::kTooShort;
  }
  return kind == Kind::kServer ? OnTuple(tuples_[connection], id) : OnSocket(request.socket, id);
}

} // namespace ngmasque
