// Tunnels: tunnels, their sockets and mappings come and go.

#include "ngmasque/session/tunnels.h"

#include <iterator>
#include <tuple>
#include <utility>

namespace ngmasque {

namespace {

//= draft-00, section 2.4
//# The proxy treats two mappings as being in conflict when a conflict is detected for all elements
//# on the left side of the mapping diagrams above.
//
// So the conflict is sought on one 4-tuple or one socket alone.
ConnectionIdTable<Mapping *> &TableOf(const Tunnel &tunnel, Direction direction) {
  return direction == Direction::kToTarget ? tunnel.connection->path->ids : tunnel.socket->ids;
}

// What it is found by there.
const ConnectionId &KeyOf(const Mapping &mapping) {
  return mapping.direction == Direction::kToTarget ? mapping.client_facing() : mapping.id;
}

void ForgetToken(Mapping &mapping, ServerSocket &socket) {
  if (const auto token = std::exchange(mapping.token, std::nullopt)) {
    if (const auto known = socket.tokens.find(*token);
        known != socket.tokens.end() && known->second == &mapping) {
      socket.tokens.erase(known);
    }
  }
}

} // namespace

Tunnels::Tunnels(const HashKey &key, const RoutingLimits &limits)
  : key_(key),
    limits_(limits),
    table_limits_{.max_ids = limits.max_ids_per_scope, .max_lengths = limits.max_lengths_per_scope},
    waiting_(std::make_shared<ByteBudget>(limits.max_waiting_bytes)),
    clients_(0, ClientKeyHash(key)),
    paths_(0, FourTupleHash(key)) {}

std::expected<Tunnel *, SessionError> Tunnels::AddTunnel(ClientConnection &connection, bool plain) {
  if (connection.client->tunnels >= limits_.max_flows_per_client) {
    return std::unexpected(SessionError::kTooManyFlows);
  }
  ++connection.client->tunnels;
  auto &tunnel = connection.tunnels[next_tunnel_];
  tunnel.connection = &connection;
  tunnel.number = next_tunnel_++;
  tunnel.plain = plain;
  return &tunnel;
}

void Tunnels::Remove(Tunnel &tunnel) {
  while (!tunnel.mappings.empty()) {
    Remove(tunnel.mappings.front());
  }
  auto &retired = tunnel.connection->retired;
  for (auto next = retired.begin(); next != retired.end();) {
    auto &mapping = *next++;
    if (mapping.tunnel == &tunnel) {
      Remove(mapping);
    }
  }
  ended_.Add(tunnel.statistics);
  --tunnel.connection->client->tunnels;
  auto &tunnels = tunnel.connection->tunnels;
  tunnels.erase(tunnels.find(tunnel.number));
}

std::expected<ServerSocket *, SessionError> Tunnels::AddSocket(const Endpoint &target,
                                                               bool shared) {
  if (sockets_.size() >= limits_.max_sockets) {
    return std::unexpected(SessionError::kTooManySockets);
  }
  const SocketId id{next_socket_++};
  return &sockets_.try_emplace(id, id, target, shared, key_, table_limits_).first->second;
}

ServerSocket *Tunnels::Find(SocketId id) {
  const auto found = sockets_.find(id);
  return found == sockets_.end() ? nullptr : &found->second;
}

void Tunnels::Remove(ServerSocket &socket) { sockets_.erase(sockets_.find(socket.id)); }

//= draft-00, section 2.1
//# Each pair of client <-> proxy QUIC connection and datagram flow ID MUST be mapped to a single
//# server-facing socket.
std::expected<void, SessionError> Tunnels::Join(Tunnel &tunnel, ServerSocket &socket) {
  //= draft-ietf-masque-quic-proxy, section 5.10
  //# Proxy-to-target 4-tuples MUST NOT be reused across QUIC and non-QUIC UDP proxy requests, since
  //# it might not be possible to correctly demultiplex or direct the traffic.
  if (!socket.users.empty() && (!socket.shared || tunnel.plain)) {
    return std::unexpected(SessionError::kSocketNotShared);
  }
  if (socket.users.size() >= limits_.max_flows_per_socket) {
    return std::unexpected(SessionError::kTooManyFlowsOnSocket);
  }
  tunnel.socket = &socket;
  tunnel.ticket = next_ticket_++;
  socket.users.emplace(tunnel.ticket, &tunnel);
  return {};
}

//= draft-00, section 5.1
//# A proxy can close its server-facing socket once all datagram flows mapped to that socket have
//# been removed.
bool Tunnels::Leave(Tunnel &tunnel) {
  for (auto &mapping : tunnel.mappings) {
    if (mapping.direction == Direction::kToClient && std::exchange(mapping.indexed, false)) {
      tunnel.socket->ids.Erase(mapping.id);
    }
    ForgetToken(mapping, *tunnel.socket);
  }
  auto &socket = *std::exchange(tunnel.socket, nullptr);
  //= RFC 9298, section 3.1
  //# The UDP proxy MUST keep the socket open while the request stream is open.
  socket.users.erase(tunnel.ticket);
  return socket.users.empty();
}

std::expected<Mapping *, SessionError>
Tunnels::AddMapping(Tunnel &tunnel, Direction direction, const ConnectionId &id, StreamId stream,
                    const ConnectionId &virtual_id, const std::optional<ResetToken> &token) {
  if (tunnel.plain) {
    return std::unexpected(SessionError::kFlowInUse);
  }
  Mapping added{.tunnel = &tunnel,
                .direction = direction,
                .id = id,
                .virtual_id = virtual_id,
                .token = token,
                .stream = stream};
  const auto &key = KeyOf(added);
  // What stands for it is not the client's choice.
  //
  //= draft-ietf-masque-quic-proxy, section 5.8
  //# Since very short Connection IDs are more likely to lead to conflicts, particularly zero-length
  //# Connection IDs, a proxy MAY choose to reject all registrations for very short Connection IDs as
  //# conflicts, in anticipation of future conflicts.
  const bool for_all = direction == Direction::kToClient && key.empty() && tunnel.own_socket;
  if (virtual_id.empty() && key.size() < limits_.min_connection_id && !for_all) {
    return std::unexpected(SessionError::kTooShort);
  }
  auto &table = TableOf(tunnel, direction);
  //= draft-ietf-masque-quic-proxy, section 2.1
  //# In order to share a proxy-to-target 4-tuple between multiple proxied connections, the proxy
  //# MUST guarantee that the client CIDs do not conflict.
  //
  //= draft-ietf-masque-quic-proxy, section 2.2
  //# the proxy MUST guarantee that the mappings between VCIDs, CIDs, and 4-tuples are unique.
  if (const auto possible = table.Check(key); !possible) {
    return std::unexpected(ToSessionError(possible.error()));
  }
  auto &mapping = tunnel.mappings.emplace_back(std::move(added));
  mapping.self = std::prev(tunnel.mappings.end());
  std::ignore = table.Insert(KeyOf(mapping), &mapping);
  if (mapping.token) {
    // Whoever knows it already, knows it from the target: nobody else can take it away.
    tunnel.socket->tokens.try_emplace(*mapping.token, &mapping);
  }
  if (direction == Direction::kToTarget) {
    ++tunnel.to_target;
    if (const auto virtual_key = VirtualKeyOf(mapping.virtual_id.bytes())) {
      virtual_ids_.insert(*virtual_key);
    }
    // The client may not have moved yet where the proxy has.
    for (auto *path : tunnel.connection->others) {
      std::ignore = path->late.Insert(KeyOf(mapping), &mapping);
    }
  }
  ++tunnel.connection->client->mappings;
  return &mapping;
}

void Tunnels::Unlist(Mapping &mapping) {
  auto &tunnel = *mapping.tunnel;
  if (std::exchange(mapping.indexed, false)) {
    TableOf(tunnel, mapping.direction).Erase(KeyOf(mapping));
  }
  if (tunnel.socket) {
    ForgetToken(mapping, *tunnel.socket);
  }
  if (mapping.direction == Direction::kToTarget) {
    for (auto *path : tunnel.connection->others) {
      EraseLate(*path, mapping);
    }
    // A client that cannot forward any more is taken at its word: it gets no forwarded packets,
    // until it forwards one itself again.
    tunnel.forwarding = --tunnel.to_target > 0 && tunnel.forwarding;
  }
  --tunnel.connection->client->mappings;
}

void Tunnels::EraseVirtual(const Mapping &mapping) {
  const auto key = VirtualKeyOf(mapping.virtual_id.bytes());
  if (key && mapping.direction == Direction::kToTarget) {
    virtual_ids_.erase(virtual_ids_.find(*key));
  }
}

void Tunnels::Remove(Mapping &mapping) {
  EraseVirtual(mapping);
  if (mapping.late) {
    EraseLate(*mapping.late, mapping);
    mapping.tunnel->connection->retired.erase(mapping.self);
    return;
  }
  Unlist(mapping);
  mapping.tunnel->mappings.erase(mapping.self);
}

void Tunnels::Retire(Mapping &mapping) {
  auto &tunnel = *mapping.tunnel;
  auto &connection = *tunnel.connection;
  auto &path = *connection.path;
  const bool used = mapping.indexed;
  Unlist(mapping);
  KeepPath(connection, path);
  if (!used || !path.late.Insert(KeyOf(mapping), &mapping)) {
    EraseVirtual(mapping);
    tunnel.mappings.erase(mapping.self);
    return;
  }
  mapping.late = &path;
  auto &retired = connection.retired;
  retired.splice(retired.end(), tunnel.mappings, mapping.self);
  if (retired.size() > kMaxRetired) {
    Remove(retired.front());
  }
}

TunnelStatistics Tunnels::statistics() const {
  auto all = ended_;
  for (const auto &[id, connection] : connections_) {
    for (const auto &[number, tunnel] : connection.tunnels) {
      all.Add(tunnel.statistics);
    }
  }
  return all;
}

TunnelCounts Tunnels::counts() const {
  std::size_t mappings = 0;
  for (const auto &[key, client] : clients_) {
    mappings += client.mappings;
  }
  return {.clients = clients_.size(),
          .connections = connections_.size(),
          .paths = paths_.size(),
          .sockets = sockets_.size(),
          .mappings = mappings};
}

} // namespace ngmasque
