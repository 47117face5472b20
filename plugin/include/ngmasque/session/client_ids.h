// The connection IDs that packets to a client may begin with on one 4-tuple: those of the outer
// connection, and those of all its tunnels.
#pragma once

#include "ngmasque/routing/connection_id_table.h"
#include "ngmasque/routing/error.h"
#include "ngmasque/routing/siphash.h"
#include "ngmasque/session/client_tunnel.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <unordered_map>

namespace ngmasque {

/// Whose a packet is that comes on the socket of the outer connection.  None of the connection IDs
/// is equal to or a prefix of another, whoever has it: a short header does not show which of them
/// it is.  Each ClientTunnel of the connection puts its own ones in and takes them out.
class ClientIds {
public:
  /// Of all together.  Only the program fills it, by tunnels that it opens and connection IDs that
  /// it adds; what is beyond is as beyond ClientTunnelLimits::max_mappings.
  static constexpr std::size_t kMaxIds = std::size_t{1} << 16;

  /// `key`: see HashKey.
  explicit ClientIds(const HashKey &key, std::size_t max_ids = kMaxIds);
  ClientIds(const ClientIds &) = delete;
  ClientIds &operator=(const ClientIds &) = delete;

  /// Keeps a connection ID from all tunnels: one of the outer connection, or the first one
  /// of a tunnel that is to start later.  Returns false if it is in conflict with another one, or
  /// beyond the bound; then it is not taken note of.  One that is reserved already stays so.
  [[nodiscard]] bool Reserve(const ConnectionId &id);

  /// Ends what Reserve began.  Those of tunnels and unknown ones are ignored.
  void Release(const ConnectionId &id);

  /// Whether a tunnel can have it.  A zero-length one always can, as it is not in the table: no
  /// packet is ever taken for a forwarded one because of it, all would be.
  /// Errors: as of ConnectionIdTable::Insert.
  [[nodiscard]] std::expected<void, RoutingError> Check(const ConnectionId &id) const;

  /// Which tunnel a packet that arrived on the socket of the outer connection was forwarded for: a
  /// short header with an acknowledged client connection ID, or with a virtual one where the dialect
  /// has that.  Without a tunnel it is the outer connection's.
  ///
  /// Without virtual ones not before FromInner of that tunnel has said kForward once.  No proxy may forward before it has
  /// seen such a packet, so nothing is lost; and not to forward is how a client says that it does
  /// not want forwarded packets (section 4.5), which a proxy must not get around.  It stays so when
  /// the tunnel has no server connection ID left: the proxy may not know that yet.
  ///
  /// Cost: one hash probe for each distinct length of connection IDs, none for long headers.
  [[nodiscard]] ForwardedPacket FindForwarded(std::span<const std::uint8_t> packet) const;

  /// A mapping that the proxy says it knows no more.
  struct ResetMapping {
    ClientTunnel *tunnel = nullptr;
    MappingId mapping{};
  };

  /// Whether a packet that FindForwarded finds nobody for is a stateless reset for a virtual connection
  /// ID that the client has, in which case ClientTunnel::OnReset is to be told.  Cost: one hash probe.
  [[nodiscard]] std::optional<ResetMapping>
  FindReset(std::span<const std::uint8_t> packet) const;

private:
  friend class ClientTunnel;

  /// Both are null if it is reserved.
  struct Owner {
    ClientTunnel *tunnel = nullptr;
    const ClientMapping *mapping = nullptr;
    std::size_t virtual_length = 0; ///< In bytes; 0: it is not virtual.
  };

  struct Reset {
    ResetToken token;
    ResetMapping of;
  };
  [[nodiscard]] std::uint64_t Hash(const ResetToken &token) const;
  // The first one stays, of two that are equal.
  void AddToken(const ResetToken &token, const ResetMapping &of);
  void EraseToken(const ResetToken &token, const ResetMapping &of);

  HashKey key_;
  // By keyed hashes of the tokens: at most one for each mapping to a target, so
  // ClientTunnelLimits::max_mappings of each tunnel.
  std::unordered_map<std::uint64_t, Reset> resets_;
  ConnectionIdTable<Owner> table_; // At most kMaxIds, none of zero length but a reserved one.
};

} // namespace ngmasque
