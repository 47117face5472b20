// The records behind Router.  All pointers are into containers whose elements do not move.
#pragma once

#include "ngmasque/routing/connection_id_table.h"
#include "ngmasque/routing/router.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>

namespace ngmasque {

RefusalReason ToReason(InsertError error);

struct Router::State {
  struct Connection;
  struct Socket;

  struct Flow {
    Connection *connection;
    FlowId id;
    Socket *socket;
    bool plain = false;
    // The client has forwarded a packet, and can do so still.
    bool forwarding = false;
    std::size_t server_ids = 0;
    std::set<StreamId> streams; // At most max_streams_per_connection, together; never empty.
  };

  enum class Kind : std::uint8_t { kPlain, kClientId, kServerId };

  struct Stream {
    Flow *flow;
    Kind kind;
    ConnectionId id; // Empty for kPlain.
  };

  // The value of a connection ID on a client-facing 4-tuple.
  struct ServerRoute {
    Flow *flow; // Null if it is reserved.
  };

  // The value of a connection ID on a server-facing socket.
  struct ClientRoute {
    Flow *flow;
    // Not with zero length: the client tells forwarded packets from those of the outer connection
    // by connection ID (draft-00, section 4.4).
    bool forwardable;
  };

  struct Tuple {
    Tuple(const FourTuple &t, const HashKey &key, const ConnectionIdTableLimits &limits)
      : tuple(t), ids(key, limits) {}

    FourTuple tuple;
    std::size_t connections = 0; // Never 0.
    ConnectionIdTable<ServerRoute> ids;
  };

  struct Connection {
    OuterConnection id;
    Tuple *tuple;
    std::map<FlowId, Flow> flows;       // At most max_flows_per_connection.
    std::map<StreamId, Stream> streams; // At most max_streams_per_connection.
    std::set<ConnectionId> reserved;    // At most max_reserved_per_connection.
  };

  struct Socket {
    Socket(SocketId s, bool is_shared, const HashKey &key, const ConnectionIdTableLimits &limits)
      : id(s), shared(is_shared), ids(key, limits) {}

    SocketId id;
    bool shared;
    std::set<Flow *> flows; // At most max_flows_per_socket; never empty.
    ConnectionIdTable<ClientRoute> ids;
  };

  State(const HashKey &k, const RoutingLimits &l)
    : key(k),
      limits(l),
      table_limits{.max_ids = l.max_ids_per_scope, .max_lengths = l.max_lengths_per_scope},
      tuples(0, FourTupleHash(k)) {}

  // All connection IDs of requests go through here.
  std::expected<void, Refusal> Add(const Registration &request, Kind kind, const ConnectionId &id);

  // Whether `request` fits the flow and the socket that there are.
  std::expected<void, RefusalReason> Fits(const Connection &connection, const Registration &request,
                                          Kind kind) const;

  // Whether the tables would take `id`.
  std::expected<void, RefusalReason> CheckId(const Connection &connection, SocketId socket,
                                             Kind kind, const ConnectionId &id) const;

  Connection *Find(OuterConnection connection);

  // The 4-tuple's record for one more connection.
  Tuple &Join(const FourTuple &tuple);
  void Leave(Tuple &tuple);

  // Takes a request out of everything.  `mapped` is false if its connection ID is in no table any
  // more.  Returns the socket if that was its last use.
  std::optional<SocketId> Drop(Connection &connection, StreamId stream, bool mapped = true);

  HashKey key;
  RoutingLimits limits;
  ConnectionIdTableLimits table_limits;
  std::uint64_t probes = 0;
  std::unordered_map<OuterConnection, Connection> connections; // At most max_connections.
  std::unordered_map<FourTuple, Tuple, FourTupleHash> tuples;  // At most one per connection.
  std::unordered_map<SocketId, Socket> sockets;                // At most max_sockets.
};

} // namespace ngmasque
