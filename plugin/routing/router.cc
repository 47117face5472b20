// Router: connections and requests come and go.

#include "router_state.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace ngmasque {

Router::State::Connection *Router::State::Find(OuterConnection connection) {
  const auto found = connections.find(connection);
  return found == connections.end() ? nullptr : &found->second;
}

Router::State::Tuple &Router::State::Join(const FourTuple &tuple) {
  auto &record = tuples.try_emplace(tuple, tuple, key, table_limits).first->second;
  ++record.connections;
  return record;
}

void Router::State::Leave(Tuple &tuple) {
  if (--tuple.connections == 0) {
    tuples.erase(FourTuple(tuple.tuple)); // A copy: erase must not get a part of what it destroys.
  }
}

std::expected<void, RefusalReason>
Router::State::Fits(const Connection &connection, const Registration &request, Kind kind) const {
  if (connection.streams.contains(request.stream.stream)) {
    return std::unexpected(RefusalReason::kStreamInUse);
  }
  if (connection.streams.size() >= limits.max_streams_per_connection) {
    return std::unexpected(RefusalReason::kTooManyStreams);
  }

  //= draft-00, section 2.1
  //# Each pair of client <-> proxy QUIC connection and datagram flow ID MUST be mapped to a single
  //# server-facing socket.
  if (const auto flow = connection.flows.find(request.flow); flow != connection.flows.end()) {
    if (flow->second.plain || kind == Kind::kPlain) {
      return std::unexpected(RefusalReason::kFlowInUse);
    }
    if (flow->second.socket->id != request.socket) {
      return std::unexpected(RefusalReason::kFlowOnOtherSocket);
    }
    return {};
  }

  if (connection.flows.size() >= limits.max_flows_per_connection) {
    return std::unexpected(RefusalReason::kTooManyFlows);
  }
  if (const auto socket = sockets.find(request.socket); socket != sockets.end()) {
    if (!socket->second.shared || kind == Kind::kPlain) {
      return std::unexpected(RefusalReason::kSocketNotShared);
    }
    if (socket->second.flows.size() >= limits.max_flows_per_socket) {
      return std::unexpected(RefusalReason::kTooManyFlowsOnSocket);
    }
  } else if (sockets.size() >= limits.max_sockets) {
    return std::unexpected(RefusalReason::kTooManySockets);
  }
  return {};
}

std::expected<void, RefusalReason> Router::State::CheckId(const Connection &connection,
                                                          SocketId socket, Kind kind,
                                                          const ConnectionId &id) const {
  if (kind == Kind::kPlain) {
    return {};
  }
  if (id.size() < limits.min_connection_id) {
    return std::unexpected(RefusalReason::kTooShort);
  }

  //= draft-00, section 2.4
  //# The proxy treats two mappings as being in conflict when a conflict is detected for all
  //elements # on the left side of the mapping diagrams above.
  //
  // So the conflict is sought on one 4-tuple or one socket alone.  A new socket takes anything.
  std::expected<void, InsertError> possible;
  if (kind == Kind::kServerId) {
    possible = connection.tuple->ids.Check(id);
  } else if (const auto found = sockets.find(socket); found != sockets.end()) {
    possible = found->second.ids.Check(id);
  }
  if (!possible) {
    return std::unexpected(ToReason(possible.error()));
  }
  return {};
}

std::expected<void, Refusal> Router::State::Add(const Registration &request, Kind kind,
                                                const ConnectionId &id) {
  auto *connection = Find(request.stream.connection);
  auto possible = connection ? Fits(*connection, request, kind)
                             : std::unexpected(RefusalReason::kUnknownConnection);
  if (possible) {
    possible = CheckId(*connection, request.socket, kind, id);
  }
  if (!possible) {
    //= draft-00, section 5
    //# If this occurs on the first request for a given datagram flow, the proxy removes any mapping
    //# for that datagram flow.
    return std::unexpected(
      Refusal{.reason = possible.error(), .close_socket = !sockets.contains(request.socket)});
  }

  auto &socket = sockets
                   .try_emplace(request.socket, request.socket,
                                request.shared && kind != Kind::kPlain, key, table_limits)
                   .first->second;
  auto &flow = connection->flows
                 .try_emplace(request.flow, Flow{.connection = connection,
                                                 .id = request.flow,
                                                 .socket = &socket,
                                                 .plain = kind == Kind::kPlain,
                                                 .streams = {}})
                 .first->second;
  socket.flows.insert(&flow);
  flow.streams.insert(request.stream.stream);
  connection->streams.try_emplace(request.stream.stream,
                                  Stream{.flow = &flow, .kind = kind, .id = id});
  // Both are known to succeed.
  if (kind == Kind::kClientId) {
    std::ignore = socket.ids.Insert(id, {.flow = &flow, .forwardable = !id.empty()});
  } else if (kind == Kind::kServerId) {
    std::ignore = connection->tuple->ids.Insert(id, {.flow = &flow});
    ++flow.server_ids;
  }
  return {};
}

std::optional<SocketId> Router::State::Drop(Connection &connection, StreamId id, bool mapped) {
  const auto stream = connection.streams.find(id);
  auto &flow = *stream->second.flow;
  auto &socket = *flow.socket;
  if (stream->second.kind == Kind::kClientId) {
    socket.ids.Erase(stream->second.id);
  } else if (stream->second.kind == Kind::kServerId) {
    if (mapped) {
      connection.tuple->ids.Erase(stream->second.id);
    }
    // A client that cannot forward any more is taken at its word: it gets no forwarded packets,
    // until it forwards one itself again.
    flow.forwarding = --flow.server_ids > 0 && flow.forwarding;
  }
  connection.streams.erase(stream);

  flow.streams.erase(id);
  if (!flow.streams.empty()) {
    return std::nullopt;
  }
  socket.flows.erase(&flow);
  connection.flows.erase(FlowId(flow.id));
  //= draft-00, section 5.1
  //# A proxy can close its server-facing socket once all datagram flows mapped to that socket have
  //# been removed.
  if (!socket.flows.empty()) {
    return std::nullopt;
  }
  const auto unused = socket.id;
  sockets.erase(unused);
  return unused;
}

Router::Router(const HashKey &key, const RoutingLimits &limits)
  : state_(std::make_unique<State>(key, limits)) {}
Router::~Router() = default;
Router::Router(Router &&) noexcept = default;
Router &Router::operator=(Router &&) noexcept = default;

std::expected<void, Refusal> Router::AddPlain(const Registration &request) {
  return state_->Add(request, State::Kind::kPlain, {});
}

std::expected<void, Refusal> Router::AddClientId(const Registration &request,
                                                 const ConnectionId &id) {
  return state_->Add(request, State::Kind::kClientId, id);
}

std::expected<void, Refusal> Router::AddServerId(const Registration &request,
                                                 const ConnectionId &id) {
  return state_->Add(request, State::Kind::kServerId, id);
}

std::optional<SocketId> Router::RemoveStream(const StreamKey &stream) {
  auto *connection = state_->Find(stream.connection);
  if (!connection || !connection->streams.contains(stream.stream)) {
    return std::nullopt;
  }
  return state_->Drop(*connection, stream.stream);
}

std::vector<StreamKey> Router::RemoveSocket(SocketId id) {
  std::vector<StreamKey> gone;
  const auto socket = state_->sockets.find(id);
  if (socket == state_->sockets.end()) {
    return gone;
  }
  for (const auto *flow : socket->second.flows) {
    for (const auto stream : flow->streams) {
      gone.push_back({.connection = flow->connection->id, .stream = stream});
    }
  }
  std::ranges::sort(gone);
  // The last one takes the socket with it.
  for (const auto &stream : gone) {
    std::ignore = RemoveStream(stream);
  }
  return gone;
}

RouterCounts Router::counts() const {
  return {.connections = state_->connections.size(),
          .tuples = state_->tuples.size(),
          .sockets = state_->sockets.size()};
}

std::uint64_t Router::probes() const { return state_->probes; }

} // namespace ngmasque
