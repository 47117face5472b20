// What can be seen of the connection IDs of somebody else's QUIC connections: those of one local
// peer with one target.  RFC 8999, and of RFC 9000 and 9369 what an Initial packet looks like.
//
// Long headers show both ends' connection IDs.  Those that come later are in encrypted frames:
// packets with them cannot be told apart, and are tunnelled.  No clock, no socket: bytes and the
// time come in.
#pragma once

#include <ngmasque/routing/connection_id.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace ngmasque::programs {

class InnerIds {
public:
  using Packet = std::span<const std::uint8_t>;

  /// Connections at a time.  Beyond it the one that has been silent for longest is forgotten, and
  /// what is left of it is tunnelled.
  static constexpr std::size_t kMaxConnections = 8;

  /// Connection IDs that a target has shown for a connection: after its own and that of a Retry
  /// there are no more, but anybody can make them up.  Beyond it the oldest one is forgotten.
  static constexpr std::size_t kMaxShown = 4;

  /// Client connection IDs below that many bytes are not asked for: proxies refuse them, as they
  /// say too little of whose a packet is.  Those of zero length are, as browsers have them: a proxy
  /// with a socket for this peer alone can take them.
  static constexpr std::size_t kMinIdLength = 4;

  /// Whether a client connection ID can be asked for.
  [[nodiscard]] static bool MayAsk(Packet client_id) {
    return client_id.empty() || client_id.size() >= kMinIdLength;
  }

  /// What a proxy is to be told because of a packet, in this order.
  struct News {
    std::optional<ConnectionId> client_id; ///< Of a connection that begins: AddClientId.
    std::optional<ConnectionId> server_id; ///< It is in use from now on: AddServerId.
    /// Of the connection that had to be forgotten: RemoveClientId, RemoveServerId.
    std::optional<ConnectionId> old_client_id;
    std::optional<ConnectionId> old_server_id;

    [[nodiscard]] bool operator==(const News &) const = default;
  };

  /// Whether a packet begins a connection of a known version of QUIC: an Initial packet from a
  /// client, 1200 bytes or more.
  [[nodiscard]] static bool BeginsConnection(Packet packet);

  /// A packet of the local peer at `now`, of any clock that does not go back.
  [[nodiscard]] News FromClient(Packet packet, std::uint64_t now);
  /// A packet of the target.
  void FromTarget(Packet packet);

  /// Client connection IDs of the connections, the one that was used last first.  One of zero
  /// length is the only one.
  [[nodiscard]] std::vector<ConnectionId> client_ids() const;

  /// A new tunnel knows nothing: each server connection ID is news again.
  void OnNewTunnel();

  /// Packets of either side with a short header and a connection ID that has never been seen: they
  /// cannot be forwarded.
  [[nodiscard]] std::uint64_t unseen_to_target() const { return unseen_to_target_; }
  [[nodiscard]] std::uint64_t unseen_to_client() const { return unseen_to_client_; }

private:
  struct Connection {
    ConnectionId client;
    ConnectionId server;               // What the client's latest long header was sent to.
    std::vector<ConnectionId> shown{}; // By the target; kMaxShown.
    bool told = false;                 // `server` was news.
    std::uint64_t used = 0;
  };

  Connection *Find(Packet client_id);
  void Begin(const ConnectionId &client, std::uint64_t now, News &news);

  std::vector<Connection> connections_; // kMaxConnections
  std::uint64_t unseen_to_target_ = 0;
  std::uint64_t unseen_to_client_ = 0;
};

} // namespace ngmasque::programs
