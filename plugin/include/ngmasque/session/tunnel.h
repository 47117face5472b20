// What a proxy knows of its clients, their tunnels and its sockets: the records of class Tunnels.
//
//     ClientConnection --< Tunnel --< Mapping         a client's connection, what it is associated
//           |                 |                       with, and the connection IDs of that
//     ClientPath         ServerSocket                 where packets come from
//
// Pointers to records are the handles that packets are passed on with.  They are valid until the
// record is removed; records do not move.  Others than Tunnels and Proxy only read them.
#pragma once

#include "ngmasque/routing/connection_id.h"
#include "ngmasque/routing/connection_id_table.h"
#include "ngmasque/routing/types.h"
#include "ngmasque/session/message.h"
#include "ngmasque/session/token_bucket.h"

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <vector>

namespace ngmasque {

struct ClientConnection;
struct ServerSocket;
struct Tunnel;

/// A look-up of a name; the numbers are the proxy's, from 0 upwards.
enum class LookupId : std::uint64_t {};

/// Why a socket was not opened.
enum class SocketError : std::uint8_t {
  kUnroutable, ///< The address cannot be connected to: 502, `error=destination_ip_unroutable`
  kExhausted,  ///< No descriptor, memory or port is left: 503
};

/// Which way the packets go that begin with a connection ID.
enum class Direction : std::uint8_t {
  kToTarget, ///< It is the target's: server-connection-id.
  kToClient, ///< It is the client's: client-connection-id.
};

/// One connection ID of a tunnel.
struct Mapping {
  Tunnel *tunnel = nullptr;
  Direction direction{};
  ConnectionId id;
  StreamId stream{};   ///< On which it was asked for.
  bool indexed = true; ///< False once a move has taken it out of its table.
  std::list<Mapping>::iterator self{};
};

/// One client's association with one target, from its first request on.
///
///     kLookup --OnLookup--> kOpening --OnSocket--> kOpen
///        |                     |  ^                  |
///        +---- refused <-------+--+ next address     +--> ended
///
/// In the first two, requests wait, in order; the first one's answer decides about the tunnel.
struct Tunnel {
  enum class Stage : std::uint8_t {
    kNone, ///< Between the others.
    kLookup,
    kOpening,
    kOpen,
  };

  ClientConnection *connection = nullptr;
  std::uint64_t number = 0; ///< No other one has it, ever.
  Authority authority{};
  FlowId flow{};
  bool plain = false; ///< It has no connection IDs (P14).
  Stage stage = Stage::kNone;

  // kLookup
  LookupId lookup{};
  // kOpening and kOpen
  ServerSocket *socket = nullptr; ///< Otherwise null.
  std::uint64_t ticket = 0;       ///< See ServerSocket::users.
  bool alone = false;    ///< It needs a socket for itself, as the shared one is full.
  bool named = false;    ///< The socket is known by its authority because of it, too.
  bool answered = false; ///< The target has sent it something.
  /// The client has forwarded a packet, and can do so still.
  bool forwarding = false;
  std::vector<Endpoint> targets{};              ///< To be tried yet, in order; at most max_addresses.
  SocketError error = SocketError::kUnroutable; ///< Of the last one that was tried.

  std::list<Mapping> mappings{};   ///< At most as many as the connection has requests.
  std::size_t to_target = 0;       ///< Of these, with that direction.
  /// Requests.  Both together: at most max_streams_per_connection; never both empty.
  std::vector<StreamId> waiting{}; ///< kLookup and kOpening
  std::set<StreamId> accepted{};   ///< kOpen
};

/// A client-facing 4-tuple.
struct ClientPath {
  ClientPath(const FourTuple &t, const HashKey &key, const ConnectionIdTableLimits &limits)
    : tuple(t), ids(key, limits) {}

  FourTuple tuple;
  std::size_t connections = 0;      ///< Never 0.
  ConnectionIdTable<Mapping *> ids; ///< kToTarget; null: issued by the proxy itself.
};

/// What a dialect keeps for a connection.
class DialectState {
public:
  virtual ~DialectState() = default;
};

/// A client's connection to the proxy.
struct ClientConnection {
  OuterConnection id{};
  void *user_data = nullptr; ///< The caller's.
  ClientPath *path = nullptr;
  bool datagrams = true; ///< It has QUIC datagrams.
  TokenBucket bucket{0, 0};
  std::size_t lookups = 0;                 ///< At most max_lookups_per_connection.
  std::set<ConnectionId> reserved{};       ///< At most max_reserved_per_connection.
  std::map<std::uint64_t, Tunnel> tunnels{}; ///< By number; at most max_flows_per_connection.
  std::unique_ptr<DialectState> dialect{};
};

/// A server-facing socket.
struct ServerSocket {
  ServerSocket(SocketId s, const Endpoint &t, bool is_shared, const HashKey &key,
               const ConnectionIdTableLimits &limits)
    : id(s), target(t), shared(is_shared), ids(key, limits) {}

  SocketId id;
  Endpoint target;
  bool shared;
  bool open = false;         ///< The caller has opened it.
  void *user_data = nullptr; ///< The caller's, from then on.
  /// By the order in which they came; never empty; at most max_flows_per_socket.
  std::map<std::uint64_t, Tunnel *> users{};
  ConnectionIdTable<Mapping *> ids; ///< kToClient
};

} // namespace ngmasque
