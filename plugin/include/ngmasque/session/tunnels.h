// The one registry of a proxy: connections, tunnels, sockets and connection IDs, and which packet
// belongs to whom (draft-00, section 2).
//
//     (outer connection, what a datagram says)    -> tunnel -> server-facing socket
//     (client-facing 4-tuple, server CID)         -> tunnel -> server-facing socket
//     (server-facing socket, client CID)          -> tunnel -> outer connection, and 4-tuple
//
// The first one is Proxy's, by what its dialect reads.  No clock, no socket, no randomness: the
// caller says what happened.
#pragma once

#include "ngmasque/routing/keyed_source.h"
#include "ngmasque/session/error.h"
#include "ngmasque/session/tunnel.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace ngmasque {

/// The bounds of the registry and its policy for short connection IDs.  What is beyond a
/// bound is refused with the reason named here; what is there already keeps working.
struct RoutingLimits {
  /// Connection IDs of requests that are shorter, in bytes, are refused as conflicts: kTooShort.
  /// The default takes those of the draft's own example and of the servers in use; 1 refuses only
  /// zero length, 0 nothing.  Zero length is taken all the same on a Tunnel::own_socket.
  ///
  //= draft-00, section 2.4
  //# Since very short Connection IDs are more likely to lead to conflicts, particularly zero-length
  //# Connection IDs, a proxy MAY choose to reject all requests for very short Connection IDs as
  //# conflicts, in anticipation of future conflicts.
  std::size_t min_connection_id = 4;

  // Of all clients together.
  std::size_t max_connections = 10'000; ///< kTooManyConnections
  std::size_t max_sockets = 20'000;     ///< kTooManySockets

  // Of one client, see ClientKey, and all of its connections.  They are a few hundredths of what
  // all may have: what one client takes, however many connections it makes, others hardly notice.
  // Many people can be behind one address, so they are not smaller.
  std::size_t max_connections_per_client = 100; ///< kTooManyClientConnections
  std::size_t max_flows_per_client = 400;       ///< kTooManyFlows; it bounds its sockets as well
  std::size_t max_streams_per_client = 1'000;   ///< kTooManyStreams; its mappings as well

  std::size_t max_reserved_per_connection = 64; ///< kTooManyReserved
  std::size_t max_flows_per_socket = 10'000;    ///< kTooManyFlowsOnSocket

  /// Bytes that wait for clients, or for their targets, of all of them and of one: what Client::waiting
  /// counts.  Packets that come on top are dropped.
  std::size_t max_waiting_bytes = std::size_t{256} << 20;
  std::size_t max_waiting_bytes_per_client = std::size_t{4} << 20;

  /// Connection IDs on one socket or 4-tuple: kTooManyIds.
  std::size_t max_ids_per_scope = std::size_t{1} << 17;
  /// Their different lengths, 1 to 256: kTooManyLengths.  That is how many hash probes an unknown
  /// packet costs.  On a shared socket other clients may have taken them all, as with a conflict:
  /// for a new flow the caller can open a socket of its own instead of refusing.
  std::size_t max_lengths_per_scope = 16;
};

/// Where a packet of a target goes.
struct Destination {
  Tunnel *tunnel = nullptr;
  Mapping *mapping = nullptr; ///< Null if it has no registered connection ID.
  /// As it is, on the 4-tuple; otherwise it is tunnelled.
  bool forward = false;
};

/// How much there is of everything.
struct TunnelCounts {
  std::size_t clients{};
  std::size_t connections{};
  std::size_t paths{};
  std::size_t sockets{};
  std::size_t mappings{}; ///< Of tunnels that are there.
  [[nodiscard]] bool operator==(const TunnelCounts &) const = default;
};

/// See above.
///
/// Costs below: S and R are the mappings and reserved connection IDs of one connection, n the
/// connection IDs on one socket or 4-tuple, K their different lengths.  All of them are bounded by
/// RoutingLimits.  Hash tables of what a peer chooses are keyed.
class Tunnels {
public:
  /// `key`: see HashKey.
  explicit Tunnels(const HashKey &key, const RoutingLimits &limits = {});
  Tunnels(const Tunnels &) = delete;
  Tunnels &operator=(const Tunnels &) = delete;

  // Connections.

  /// A client's connection and the 4-tuple that it uses.
  /// Errors: kConnectionInUse, kTooManyConnections, kTooManyClientConnections.  Cost: O(1).
  std::expected<ClientConnection *, SessionError>
  AddConnection(OuterConnection id, const FourTuple &tuple, const ClientKey &client);

  /// The same of a client that is where it comes from.
  std::expected<ClientConnection *, SessionError> AddConnection(OuterConnection id,
                                                                const FourTuple &tuple) {
    return AddConnection(id, tuple, ClientKey::FromAddress(tuple.remote));
  }

  /// The connection, which has had no request and no tunnel yet, is `client`'s from now on, and not
  /// whose it was added as.  Error: kTooManyClientConnections, and it stays whose it is.  Cost: O(1).
  std::expected<void, SessionError> Assign(ClientConnection &connection, const ClientKey &client);

  /// A look-up of the client has ended.  The client may be gone, if it has no connection any more.
  /// Cost: O(1).
  void EndLookup(Client &client);

  /// Null if it is not known.  Cost: O(1).
  [[nodiscard]] ClientConnection *Find(OuterConnection id);

  /// Calls `each` with every one, in no order; it adds and removes none.
  template <typename Each> void ForEachConnection(const Each &each) {
    for (auto &[id, connection] : connections_) {
      each(connection);
    }
  }
  template <typename Each> void ForEachClient(const Each &each) {
    for (auto &[key, client] : clients_) {
      each(client);
    }
  }

  /// The connection is gone, with its reserved connection IDs.  Its tunnels have been removed.
  /// Cost: O(R log n).
  void Remove(ClientConnection &connection);

  /// What did not survive a move.
  struct Moved {
    std::vector<Mapping *> lost;        ///< They lead nowhere: end their streams, and remove them.
    std::vector<ConnectionId> reserved; ///< The proxy's own that are not reserved any more.
  };

  /// The connection uses another 4-tuple, which the caller has validated.  What it registered and
  /// reserved goes with it, in that order of precedence: reserved first, then by stream.  Of another
  /// connection on the new 4-tuple nothing is lost, so what conflicts with that is given up.
  ///
  /// It stays a connection of the client that it was added for, wherever that is now: a NAT that
  /// gives a client another address must not cost it anything, even if the one who had the address
  /// before has used up its limits; and nobody gets rid of what counts by moving around.
  /// Cost: O((S + R) log n).
  [[nodiscard]] Moved Move(ClientConnection &connection, const FourTuple &tuple);

  /// What the connection forwards is taken from `tuple` as well, by the mappings that it has now:
  /// that is where it may be before the caller knows, as when its answer to a challenge is lost.
  /// Nothing is sent there, and who else is there loses nothing.  As the 4-tuples that it has left
  /// with Move, where packets may still be on their way, it is forgotten when there are
  /// kMaxOthers later ones.  Cost: O(S log n).
  void Expect(ClientConnection &connection, const FourTuple &tuple);

  /// ngtcp2 remembers as many paths besides the one in use, and goes back to them.
  static constexpr std::size_t kMaxOthers = 4;

  /// Keeps requests from taking a connection ID that the proxy itself has issued for `connection`
  /// (section 2.4), of whatever length; to be called before the client is told of it.
  /// Errors: kEqual, kExistingIsPrefix, kNewIsPrefix (issue another one), kTooManyReserved,
  /// kTooManyIds, kTooManyLengths.  Cost: O(log n).
  std::expected<void, SessionError> Reserve(ClientConnection &connection, const ConnectionId &id);

  /// The connection ID is not used any more; unknown ones are ignored.  Cost: O(log n).
  void Unreserve(ClientConnection &connection, const ConnectionId &id);

  // Tunnels and their sockets.

  /// A new tunnel; `plain`: without connection IDs.  Error: kTooManyFlows, of its client.
  std::expected<Tunnel *, SessionError> AddTunnel(ClientConnection &connection, bool plain);

  /// The tunnel is gone, with its mappings.  It has left its socket.
  void Remove(Tunnel &tunnel);

  /// A socket that is to be opened.  Error: kTooManySockets.
  std::expected<ServerSocket *, SessionError> AddSocket(const Endpoint &target, bool shared);

  /// Null if it is not known.  Cost: O(1).
  [[nodiscard]] ServerSocket *Find(SocketId id);

  /// The tunnel has that socket from now on, and no other (section 2.1).
  /// Errors: kSocketNotShared, kTooManyFlowsOnSocket.
  std::expected<void, SessionError> Join(Tunnel &tunnel, ServerSocket &socket);

  /// It has it no more, and its mappings to the client lead nowhere.  Returns whether nobody uses
  /// the socket now: then it is to be removed.
  [[nodiscard]] bool Leave(Tunnel &tunnel);

  void Remove(ServerSocket &socket);

  // Mappings.

  /// The tunnel has a socket.  With kToClient `id` leads from the socket to the client, with
  /// kToTarget from the 4-tuple to the socket.  With zero length, for which Tunnel::own_socket or no
  /// least length is needed, it is never forwarded to the client, which could not tell what it gets.
  /// `virtual_id`: see Mapping; with kToTarget it is what must be in no conflict, and `id` may have
  /// any length.
  /// Errors: the conflicts there, those with reserved connection IDs included, kTooManyIds,
  /// kTooManyLengths, kFlowInUse, kTooShort.  Cost: O(log n).
  std::expected<Mapping *, SessionError> AddMapping(Tunnel &tunnel, Direction direction,
                                                    const ConnectionId &id, StreamId stream,
                                                    const ConnectionId &virtual_id = {},
                                                    const std::optional<ResetToken> &token = {});

  /// Cost: O(log n).
  void Remove(Mapping &mapping);

  /// One to the target, and the client, which is about to leave the 4-tuple, does not use it
  /// elsewhere: from now on it is for packets that come late, until the 4-tuple is forgotten or there
  /// are kMaxRetired later ones.  For the tunnel it is as good as removed.  Cost: O(log n).
  void Retire(Mapping &mapping);
  static constexpr std::size_t kMaxRetired = 256;

  /// Whether `bytes` begin with Mapping::virtual_id of one to the target that is there, be it late, of
  /// KeyedSource::kRoutedLength bytes at least: with so many no two are alike.  Cost: O(1).
  [[nodiscard]] bool HasVirtual(std::span<const std::uint8_t> bytes) const;

  // Packets.  All of them get the record of the place where the packet has arrived.

  /// The 4-tuple, null if no connection uses it.  Valid until a connection is added, moved or
  /// removed: one call will do for packets that have arrived together.  Cost: one probe.
  [[nodiscard]] const ClientPath *FindPath(const FourTuple &tuple) const;

  /// A UDP payload that arrived on a client-facing 4-tuple, null if it is unknown.  Returns null
  /// unless it has a short header with a connection ID that is mapped there: then it is one for the
  /// proxy's own QUIC.  Otherwise the tunnel's packets may be forwarded to the client from then on,
  /// until it has no mapping to the target left.  What comes late may have another 4-tuple: Expect.
  /// Error: kMalformed.
  /// Cost: up to K probes, none for long headers.
  [[nodiscard]] std::expected<Mapping *, DropReason>
  FromClient(const ClientPath *path, std::span<const std::uint8_t> packet);

  /// A UDP payload that arrived on a server-facing socket.  What has no registered
  /// connection ID, a stateless reset for example, is tunnelled if the socket belongs to one tunnel
  /// for itself, and dropped if it is shared.
  /// Errors: on shared sockets kUnknownConnectionId and kMalformed.
  /// Cost: up to K probes for a short header, up to one for a long header.
  [[nodiscard]] std::expected<Destination, DropReason>
  FromTarget(const ServerSocket &socket, std::span<const std::uint8_t> packet);

  [[nodiscard]] TunnelCounts counts() const;

  /// What waits for all clients together: RoutingLimits::max_waiting_bytes.
  [[nodiscard]] std::size_t waiting_bytes() const { return waiting_->bytes(); }

  /// Of all tunnels that there are and that there were.  Cost: O(tunnels).
  [[nodiscard]] TunnelStatistics statistics() const;

  /// The hash probes that connection IDs have cost so far.
  [[nodiscard]] std::uint64_t probes() const { return probes_; }

private:
  // The client, which has one more connection.  Error: kTooManyClientConnections.
  std::expected<Client *, SessionError> AddTo(const ClientKey &key);
  // It has one less, and may be gone.
  void RemoveFrom(Client &client);
  ClientPath &JoinPath(const FourTuple &tuple);
  void LeavePath(ClientPath &path);
  // Adds it to those of the connection, as the latest one.
  void KeepPath(ClientConnection &connection, ClientPath &path);
  // And away from it, with what is retired there.
  void ForgetPath(ClientConnection &connection, ClientPath &path);
  void EraseUnused(ClientPath &path);
  static void EraseLate(ClientPath &path, const Mapping &mapping);
  // Nothing leads to the mapping any more, and it does not count.
  void Unlist(Mapping &mapping);
  // Forgets the client if it has nothing any more.
  void Release(Client &client);
  // It is gone.
  void EraseVirtual(const Mapping &mapping);

  // What virtual connection IDs begin with.  They are as good as random, and asked for when they are
  // known to be the proxy's own, so nothing has to be hashed.
  using VirtualKey = std::array<std::uint8_t, KeyedSource::kRoutedLength>;
  struct VirtualKeyHash {
    [[nodiscard]] std::size_t operator()(const VirtualKey &key) const noexcept;
  };
  static std::optional<VirtualKey> VirtualKeyOf(std::span<const std::uint8_t> bytes);

  HashKey key_;
  RoutingLimits limits_;
  ConnectionIdTableLimits table_limits_;
  std::uint64_t probes_ = 0;
  TunnelStatistics ended_; // Of the tunnels that are gone.
  std::uint64_t next_tunnel_ = 0;
  std::uint64_t next_socket_ = 0;
  std::uint64_t next_ticket_ = 0;
  std::shared_ptr<ByteBudget> waiting_; // Of all clients.
  // At most one per connection and look-up.
  std::unordered_map<ClientKey, Client, ClientKeyHash> clients_;
  std::unordered_map<OuterConnection, ClientConnection> connections_; // At most max_connections.
  std::unordered_map<FourTuple, ClientPath, FourTupleHash> paths_; // 1 + kMaxOthers per connection.
  std::unordered_map<SocketId, ServerSocket> sockets_;                // At most max_sockets.
  // Of mappings to targets, at most max_streams_per_client of each client, and kMaxRetired of each
  // connection.
  std::unordered_multiset<VirtualKey, VirtualKeyHash> virtual_ids_;
};

} // namespace ngmasque
