// Tunnels: connections, their 4-tuples and the connection IDs that the proxy issues for them.

#include "ngmasque/session/tunnels.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

namespace ngmasque {

ClientPath &Tunnels::JoinPath(const FourTuple &tuple) {
  auto &path = paths_.try_emplace(tuple, tuple, key_, table_limits_).first->second;
  ++path.connections;
  return path;
}

void Tunnels::EraseUnused(ClientPath &path) {
  if (path.connections == 0 && path.others == 0) {
    paths_.erase(paths_.find(path.tuple));
  }
}

void Tunnels::LeavePath(ClientPath &path) {
  --path.connections;
  EraseUnused(path);
}

void Tunnels::EraseLate(ClientPath &path, const Mapping &mapping) {
  const auto &id = mapping.client_facing();
  if (auto *const *known = path.late.FindExact(id.bytes()); known && *known == &mapping) {
    path.late.Erase(id);
  }
}

void Tunnels::KeepPath(ClientConnection &connection, ClientPath &path) {
  auto &others = connection.others;
  if (std::erase(others, &path) == 0) {
    ++path.others;
    if (others.size() == kMaxOthers) {
      ForgetPath(connection, *others.front());
    }
  }
  others.push_back(&path);
}

void Tunnels::ForgetPath(ClientConnection &connection, ClientPath &path) {
  for (auto &[number, tunnel] : connection.tunnels) {
    for (auto &mapping : tunnel.mappings) {
      if (mapping.direction == Direction::kToTarget) {
        EraseLate(path, mapping);
      }
    }
  }
  for (auto next = connection.retired.begin(); next != connection.retired.end();) {
    auto &mapping = *next++;
    if (mapping.late == &path) {
      Remove(mapping);
    }
  }
  std::erase(connection.others, &path);
  --path.others;
  EraseUnused(path);
}

void Tunnels::Expect(ClientConnection &connection, const FourTuple &tuple) {
  if (connection.path->tuple == tuple) {
    return;
  }
  auto &path = paths_.try_emplace(tuple, tuple, key_, table_limits_).first->second;
  KeepPath(connection, path);
  for (auto &[number, tunnel] : connection.tunnels) {
    for (auto &mapping : tunnel.mappings) {
      if (mapping.direction == Direction::kToTarget && mapping.indexed) {
        // In a conflict the first one stays.
        std::ignore = path.late.Insert(mapping.client_facing(), &mapping);
      }
    }
  }
}

void Tunnels::Release(Client &client) {
  if (client.connections == 0 && client.lookups == 0) {
    clients_.erase(clients_.find(client.key));
  }
}

void Tunnels::EndLookup(Client &client) {
  --client.lookups;
  Release(client);
}

std::expected<Client *, SessionError> Tunnels::AddTo(const ClientKey &key) {
  auto known = clients_.find(key);
  if ((known == clients_.end() ? 0 : known->second.connections) >=
      limits_.max_connections_per_client) {
    return std::unexpected(SessionError::kTooManyClientConnections);
  }
  if (known == clients_.end()) {
    known = clients_
              .try_emplace(key, key,
                           std::make_shared<ByteBudget>(limits_.max_waiting_bytes_per_client,
                                                        waiting_))
              .first;
  }
  ++known->second.connections;
  return &known->second;
}

void Tunnels::RemoveFrom(Client &client) {
  --client.connections;
  Release(client);
}

std::expected<void, SessionError> Tunnels::Assign(ClientConnection &connection,
                                                  const ClientKey &key) {
  if (connection.client->key == key) {
    return {};
  }
  const auto client = AddTo(key);
  if (!client) {
    return std::unexpected(client.error());
  }
  RemoveFrom(*std::exchange(connection.client, *client));
  return {};
}

std::expected<ClientConnection *, SessionError>
Tunnels::AddConnection(OuterConnection id, const FourTuple &tuple, const ClientKey &key) {
  if (connections_.contains(id)) {
    return std::unexpected(SessionError::kConnectionInUse);
  }
  if (connections_.size() >= limits_.max_connections) {
    return std::unexpected(SessionError::kTooManyConnections);
  }
  const auto client = AddTo(key);
  if (!client) {
    return std::unexpected(client.error());
  }
  auto &connection = connections_[id];
  connection.id = id;
  connection.client = *client;
  connection.path = &JoinPath(tuple);
  return &connection;
}

ClientConnection *Tunnels::Find(OuterConnection id) {
  const auto found = connections_.find(id);
  return found == connections_.end() ? nullptr : &found->second;
}

void Tunnels::Remove(ClientConnection &connection) {
  for (const auto &reserved : connection.reserved) {
    connection.path->ids.Erase(reserved);
  }
  while (!connection.others.empty()) {
    ForgetPath(connection, *connection.others.front());
  }
  LeavePath(*connection.path);
  auto &client = *connection.client;
  connections_.erase(connections_.find(connection.id));
  RemoveFrom(client);
}

Tunnels::Moved Tunnels::Move(ClientConnection &connection, const FourTuple &tuple) {
  Moved moved;
  if (connection.path->tuple == tuple) {
    return moved;
  }

  std::vector<Mapping *> to_target; // At most max_streams_per_client.
  for (auto &[number, tunnel] : connection.tunnels) {
    for (auto &mapping : tunnel.mappings) {
      if (mapping.direction == Direction::kToTarget && mapping.indexed) {
        to_target.push_back(&mapping);
      }
    }
  }
  // The new 4-tuple may have no room for all of them.
  std::ranges::sort(to_target, {}, &Mapping::stream);
  for (const auto &reserved : connection.reserved) {
    connection.path->ids.Erase(reserved);
  }
  // What has left before the client moved may come after it.
  auto &left = *connection.path;
  KeepPath(connection, left);
  for (auto *mapping : to_target) {
    left.ids.Erase(mapping->client_facing());
    std::ignore = left.late.Insert(mapping->client_facing(), mapping);
  }
  connection.path = &JoinPath(tuple);
  LeavePath(left);

  auto &ids = connection.path->ids;
  std::erase_if(connection.reserved, [&](const ConnectionId &reserved) {
    if (ids.Insert(reserved, nullptr)) {
      return false;
    }
    moved.reserved.push_back(reserved);
    return true;
  });
  for (auto *mapping : to_target) {
    EraseLate(*connection.path, *mapping);
    if (!ids.Insert(mapping->client_facing(), mapping)) {
      mapping->indexed = false;
      moved.lost.push_back(mapping);
    }
  }
  return moved;
}

std::expected<void, SessionError> Tunnels::Reserve(ClientConnection &connection,
                                                   const ConnectionId &id) {
  if (connection.reserved.size() >= limits_.max_reserved_per_connection) {
    return std::unexpected(SessionError::kTooManyReserved);
  }
  if (const auto added = connection.path->ids.Insert(id, nullptr); !added) {
    return std::unexpected(ToSessionError(added.error()));
  }
  connection.reserved.insert(id);
  return {};
}

void Tunnels::Unreserve(ClientConnection &connection, const ConnectionId &id) {
  if (connection.reserved.erase(id) > 0) {
    connection.path->ids.Erase(id);
  }
}

} // namespace ngmasque
