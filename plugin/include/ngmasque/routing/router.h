// Which packet belongs to whom: the state that a proxy needs (draft-00, section 2).
//
//     (outer connection, flow id)                 -> server-facing socket                        P1
//     (client-facing 4-tuple, server CID)         -> server-facing socket                        P2
//     (server-facing socket, client CID)          -> outer connection, flow id, and 4-tuple      P3
//
// No clock, no socket, no randomness: the caller says what happened and is told what to do.
#pragma once

#include "ngmasque/routing/connection_id.h"
#include "ngmasque/routing/siphash.h"
#include "ngmasque/routing/types.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace ngmasque {

/// The bounds of a router (P13) and its policy for short connection IDs.  What is beyond a bound is
/// refused with the reason named here; what is there already keeps working.
struct RoutingLimits {
  /// Connection IDs of requests that are shorter, in bytes, are refused as conflicts: kTooShort.
  /// The default takes those of the draft's own example and of the servers in use; 1 refuses only
  /// zero length, 0 nothing.
  ///
  //= draft-00, section 2.4
  //# Since very short Connection IDs are more likely to lead to conflicts, particularly zero-length
  //# Connection IDs, a proxy MAY choose to reject all requests for very short Connection IDs as
  //# conflicts, in anticipation of future conflicts.
  std::size_t min_connection_id = 4;

  std::size_t max_connections = 10'000;         ///< kTooManyConnections
  std::size_t max_sockets = 20'000;             ///< kTooManySockets, of all clients together
  std::size_t max_flows_per_connection = 100;   ///< kTooManyFlows; it bounds its sockets as well
  std::size_t max_streams_per_connection = 400; ///< kTooManyStreams; its mappings as well
  std::size_t max_reserved_per_connection = 64; ///< kTooManyReserved
  std::size_t max_flows_per_socket = 10'000;    ///< kTooManyFlowsOnSocket

  /// Connection IDs on one socket or 4-tuple: kTooManyIds.
  std::size_t max_ids_per_scope = std::size_t{1} << 17;
  /// Their different lengths, 1 to 256: kTooManyLengths.  That is how many hash probes an unknown
  /// packet costs.  On a shared socket other clients may have taken them all, as with a conflict:
  /// for a new flow the caller can open a socket of its own instead of refusing.
  std::size_t max_lengths_per_scope = 16;
};

/// Why nothing was added.
enum class RefusalReason : std::uint8_t {
  // Conflicts (P4), 409.
  kTooShort,         ///< Shorter than min_connection_id.
  kEqual,            ///< It is mapped there.
  kExistingIsPrefix, ///< A proper prefix of it is mapped there.
  kNewIsPrefix,      ///< It is a proper prefix of one that is mapped there.
  // Bounds (P13): RoutingLimits.
  kTooManyConnections,
  kTooManySockets,
  kTooManyFlows,
  kTooManyStreams,
  kTooManyReserved,
  kTooManyFlowsOnSocket,
  kTooManyIds,
  kTooManyLengths,
  // The flow and the socket do not go together.
  kFlowOnOtherSocket, ///< The flow has another socket (P1): FindFlow says which.
  kFlowInUse,         ///< A plain flow has one request only; this would be another one.
  kSocketNotShared,   ///< The socket belongs to another flow for itself.
  // Errors of the caller.
  kUnknownConnection,
  kConnectionInUse,
  kStreamInUse,
};

/// The reason in words, for logs.
[[nodiscard]] std::string_view ReasonName(RefusalReason reason);

/// Whether the reason is a conflict: 409.
[[nodiscard]] bool IsConflict(RefusalReason reason);

struct Refusal {
  RefusalReason reason{};
  /// Nothing uses the socket that the request was to have: it is to be closed (P7, P12).
  bool close_socket = false;
  [[nodiscard]] bool operator==(const Refusal &) const = default;
};

/// A CONNECT-UDP request and where its packets go.
struct Registration {
  StreamKey stream;  ///< The request; what it adds lasts until RemoveStream.
  FlowId flow{};     ///< Its datagram flow id.
  SocketId socket{}; ///< That of the flow if there is one (FindFlow), otherwise old or new.
  /// Whether other flows may use the socket as well.  Looked at if the socket is new.
  bool shared = false;
};

/// Where a forwarded packet of a client goes.
struct ToTarget {
  OuterConnection connection{}; ///< Whose idle timer it restarts (P11).
  FlowId flow{};
  SocketId socket{};
  [[nodiscard]] bool operator==(const ToTarget &) const = default;
};

/// How a packet of a target gets to the client.
enum class Way : std::uint8_t {
  kTunnel,  ///< In a datagram of the flow.
  kForward, ///< As it is, on the 4-tuple.
};

/// Where a packet of a target goes.
struct ToClient {
  OuterConnection connection{};
  FlowId flow{};
  FourTuple tuple;
  Way way{};
  [[nodiscard]] bool operator==(const ToClient &) const = default;
};

/// Why a packet is not routed.  It is dropped, except for the first three: these are for the
/// proxy's own QUIC connections, as is kUnknownConnectionId and kUnknownTuple from a client.
enum class NotRouted : std::uint8_t {
  kLongHeader,          ///< From a client: long headers are never forwarded.
  kReserved,            ///< From a client: the connection ID is the proxy's own.
  kUnknownTuple,        ///< No connection has this 4-tuple.
  kUnknownConnectionId, ///< Nobody has registered it here.
  kUnknownFlow,         ///< The connection or its flow is not known.
  kUnknownSocket,       ///< The socket is not known.
  kMalformed,           ///< No bytes, or a long header that is cut off.
};

/// The reason in words, for logs.
[[nodiscard]] std::string_view ReasonName(NotRouted reason);

/// How much there is of everything.
struct RouterCounts {
  std::size_t connections{};
  std::size_t tuples{};
  std::size_t sockets{};
  [[nodiscard]] bool operator==(const RouterCounts &) const = default;
};

/// What a proxy knows of its connections, flows, sockets and connection IDs.
///
/// Costs below: F, S and R are the flows, requests and reserved connection IDs of one connection,
/// n the connection IDs on one socket or 4-tuple, K their different lengths.  All of them are
/// bounded by RoutingLimits.  Hash tables of what a peer chooses are keyed.
class Router {
public:
  /// `key`: see HashKey.
  explicit Router(const HashKey &key, const RoutingLimits &limits = {});
  ~Router();
  Router(Router &&) noexcept;
  Router &operator=(Router &&) noexcept;

  // Connections.

  /// A client's connection and the 4-tuple that it uses.
  /// Errors: kConnectionInUse, kTooManyConnections.  Cost: O(1).
  std::expected<void, Refusal> AddConnection(OuterConnection connection, const FourTuple &tuple);

  /// The connection is gone, with all of its requests, flows and reserved connection IDs (P12).
  /// Returns the sockets that nobody uses now, in ascending order: close them.  An unknown
  /// connection: none.  Cost: O((S + R) log n).
  ///
  //= draft-00, section 5.1
  //# If a client's connection to the proxy is terminated for any reason, all mappings associated
  //# with all requests are removed.
  [[nodiscard]] std::vector<SocketId> RemoveConnection(OuterConnection connection);

  /// What did not survive a move.
  struct Moved {
    std::vector<StreamKey> lost;        ///< Requests that are removed: end their streams.
    std::vector<ConnectionId> reserved; ///< The proxy's own that are not reserved any more.
    std::vector<SocketId> unused;       ///< Close these.
  };

  /// The connection uses another 4-tuple, which the caller has validated.  What it registered and
  /// reserved goes with it, in that order of precedence: reserved first.  Of another connection on
  /// the new 4-tuple nothing is lost, so what conflicts with that is given up.  An unknown
  /// connection: nothing happens.  Cost: O((S + R) log n).
  [[nodiscard]] Moved MoveConnection(OuterConnection connection, const FourTuple &tuple);

  /// Keeps requests from taking a connection ID that the proxy itself has issued for `connection`
  /// (P4), of whatever length; to be called before the client is told of it.
  /// Errors: kEqual, kExistingIsPrefix, kNewIsPrefix (issue another one), kTooManyReserved,
  /// kTooManyIds, kTooManyLengths, kUnknownConnection.  Cost: O(log n).
  std::expected<void, Refusal> Reserve(OuterConnection connection, const ConnectionId &id);

  /// The connection ID is not used any more; unknown ones are ignored.  Cost: O(log n).
  void Unreserve(OuterConnection connection, const ConnectionId &id);

  // Requests.  A refusal changes nothing: a flow whose first request is refused does not come into
  // being (P7).  Common errors: kUnknownConnection, kStreamInUse, kFlowInUse, kFlowOnOtherSocket,
  // kSocketNotShared, and the bounds.  Cost: O(log n + log S).

  /// A request without connection ID: a flow with a socket for itself, and its only request (P14).
  std::expected<void, Refusal> AddPlain(const Registration &request);

  /// A request with client-connection-id: `id` leads from the socket to the client (P3).  With zero
  /// length it is never forwarded, as the client could not tell what it gets.
  /// Errors: the conflicts on the socket, too.
  std::expected<void, Refusal> AddClientId(const Registration &request, const ConnectionId &id);

  /// A request with server-connection-id: `id` leads from the 4-tuple to the socket (P2).
  /// Errors: the conflicts on the 4-tuple, reserved connection IDs included, too.
  std::expected<void, Refusal> AddServerId(const Registration &request, const ConnectionId &id);

  /// The request's stream is closed or reset, its mapping is gone, and the flow with its last one.
  /// Returns the socket if nobody uses it now: close it (P12).  Unknown ones are ignored.
  /// Cost: O(log n + log S).
  ///
  //= draft-00, section 5.1
  //# any mappings for the request last as long as the stream is open.
  [[nodiscard]] std::optional<SocketId> RemoveStream(const StreamKey &stream);

  /// The socket has failed.  Returns the requests that are gone with it, in ascending order: end
  /// their streams.  An unknown socket: none.  Cost: O(log n + log S) for each of them.
  [[nodiscard]] std::vector<StreamKey> RemoveSocket(SocketId socket);

  // Packets.

  /// Where the payload of a datagram goes: the socket of its flow (P1), which is also the socket
  /// for further requests of the flow (P6).  Errors: kUnknownFlow.  Cost: O(log F).
  [[nodiscard]] std::expected<SocketId, NotRouted> FindFlow(OuterConnection connection,
                                                            FlowId flow) const;

  /// A UDP payload that arrived on a client-facing 4-tuple (P9).  From then on the flow's packets
  /// may be forwarded to the client (P8), until it has no request with server-connection-id left.
  /// Errors: kLongHeader, kReserved, kUnknownTuple, kUnknownConnectionId, kMalformed.
  /// Cost: one probe for the 4-tuple, up to K for the connection ID, none for long headers.
  [[nodiscard]] std::expected<ToTarget, NotRouted> FromClient(const FourTuple &tuple,
                                                              std::span<const std::uint8_t> packet);

  /// A UDP payload that arrived on a server-facing socket (P8, P14).  What has no registered
  /// connection ID, a stateless reset for example, is tunnelled if the socket belongs to one flow
  /// for itself, and dropped if it is shared.
  /// Errors: kUnknownSocket; on shared sockets kUnknownConnectionId and kMalformed.
  /// Cost: one probe for the socket, up to K for a short header, up to one for a long header.
  [[nodiscard]] std::expected<ToClient, NotRouted>
  FromTarget(SocketId socket, std::span<const std::uint8_t> packet) const;

  [[nodiscard]] RouterCounts counts() const;

  /// The hash probes that connection IDs have cost so far.
  [[nodiscard]] std::uint64_t probes() const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace ngmasque
