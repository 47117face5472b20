// Router: connections, their 4-tuples and the connection IDs that the proxy issues for them.

#include "router_state.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace ngmasque {

std::expected<void, Refusal> Router::AddConnection(OuterConnection connection,
                                                   const FourTuple &tuple) {
  if (state_->Find(connection)) {
    return std::unexpected(Refusal{.reason = RefusalReason::kConnectionInUse});
  }
  if (state_->connections.size() >= state_->limits.max_connections) {
    return std::unexpected(Refusal{.reason = RefusalReason::kTooManyConnections});
  }
  auto &record = state_->connections[connection];
  record.id = connection;
  record.tuple = &state_->Join(tuple);
  return {};
}

std::vector<SocketId> Router::RemoveConnection(OuterConnection id) {
  std::vector<SocketId> unused;
  auto *connection = state_->Find(id);
  if (!connection) {
    return unused;
  }
  while (!connection->streams.empty()) {
    if (auto socket = state_->Drop(*connection, connection->streams.begin()->first)) {
      unused.push_back(*socket);
    }
  }
  for (const auto &reserved : connection->reserved) {
    connection->tuple->ids.Erase(reserved);
  }
  state_->Leave(*connection->tuple);
  state_->connections.erase(id);
  std::ranges::sort(unused);
  return unused;
}

Router::Moved Router::MoveConnection(OuterConnection id, const FourTuple &tuple) {
  Moved moved;
  auto *connection = state_->Find(id);
  if (!connection || connection->tuple->tuple == tuple) {
    return moved;
  }

  for (const auto &reserved : connection->reserved) {
    connection->tuple->ids.Erase(reserved);
  }
  for (const auto &[stream, request] : connection->streams) {
    if (request.kind == State::Kind::kServerId) {
      connection->tuple->ids.Erase(request.id);
    }
  }
  state_->Leave(*std::exchange(connection->tuple, &state_->Join(tuple)));

  auto &ids = connection->tuple->ids;
  std::erase_if(connection->reserved, [&](const ConnectionId &reserved) {
    if (ids.Insert(reserved, {.flow = nullptr})) {
      return false;
    }
    moved.reserved.push_back(reserved);
    return true;
  });
  for (const auto &[stream, request] : connection->streams) {
    if (request.kind == State::Kind::kServerId && !ids.Insert(request.id, {.flow = request.flow})) {
      moved.lost.push_back({.connection = id, .stream = stream});
    }
  }
  for (const auto &lost : moved.lost) {
    if (auto socket = state_->Drop(*connection, lost.stream, false)) {
      moved.unused.push_back(*socket);
    }
  }
  std::ranges::sort(moved.unused);
  return moved;
}

std::expected<void, Refusal> Router::Reserve(OuterConnection id, const ConnectionId &reserved) {
  auto *connection = state_->Find(id);
  if (!connection) {
    return std::unexpected(Refusal{.reason = RefusalReason::kUnknownConnection});
  }
  if (connection->reserved.size() >= state_->limits.max_reserved_per_connection) {
    return std::unexpected(Refusal{.reason = RefusalReason::kTooManyReserved});
  }
  if (auto added = connection->tuple->ids.Insert(reserved, {.flow = nullptr}); !added) {
    return std::unexpected(Refusal{.reason = ToReason(added.error())});
  }
  connection->reserved.insert(reserved);
  return {};
}

void Router::Unreserve(OuterConnection id, const ConnectionId &reserved) {
  if (auto *connection = state_->Find(id); connection && connection->reserved.erase(reserved)) {
    connection->tuple->ids.Erase(reserved);
  }
}

} // namespace ngmasque
