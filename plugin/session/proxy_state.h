// What is behind Proxy: what happens to the tunnels of its registry, and the names of its sockets.
#pragma once

#include "ngmasque/session/proxy.h"
#include "ngmasque/wire/quic_header.h"

#include "early_datagrams.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ngmasque {

// What Proxy keeps for a connection, besides its record.
struct ConnectionState final : Attachment {
  ConnectionState(std::unique_ptr<Dialect> d, const EarlyLimits &limits,
                  std::shared_ptr<ByteBudget> waiting)
    : dialect(std::move(d)), early(limits, std::move(waiting)) {}

  std::unique_ptr<Dialect> dialect;
  EarlyDatagrams early;
  std::map<TunnelKey, Tunnel *> by_key; // As many as the connection has tunnels.
};

inline ConnectionState &StateOf(const ClientConnection &connection) {
  return static_cast<ConnectionState &>(*connection.state);
}

inline bool IsLong(std::span<const std::uint8_t> packet) {
  return PeekHeaderForm(packet) == HeaderForm::kLong;
}

struct Proxy::State {
  using Stage = Tunnel::Stage;

  // Who has asked for a look-up.
  struct Asked {
    Client *by = nullptr;
    Tunnel *tunnel = nullptr; // Null if it is not waited for any more.
  };

  //= draft-00, section 5
  //# If a proxy reuses server-facing sockets, it SHOULD store which authorities (which could be a
  //# domain name or IP address literal) are being accessed over a particular server-facing socket
  //# so it can avoid performing a new DNS query and potentially choosing a different server IP
  //# address which could map to a different server.
  struct Named {
    ServerSocket *socket = nullptr;
    std::size_t tunnels = 0; // Of it that were opened for the authority; never 0.
  };

  State(const HashKey &k, const ProxyOptions &o, TargetPolicy p)
    : key(k),
      options(o),
      policy(std::move(p)),
      tunnels(k, o.routing),
      source(o.id_key.value_or(k), o.worker, FirstNumber(k)) {}

  // Where its virtual connection IDs begin to count: `k` is drawn anew for each.
  static std::uint64_t FirstNumber(const HashKey &k) {
    constexpr std::array<std::uint8_t, 2> kUse{'v', 2};
    return SipHash<2, 4>(k, kUse);
  }

  // What the dialect of a connection is handed: proxy_model.h.
  class Model;

  // The request that is being seen to, in OnRequest.
  struct Request {
    std::span<const HeaderField> fields;
    std::shared_ptr<const TargetPolicy> policy; // Admission::policy
  };

  // Access: proxy_access.cc.

  // The client has got its first connection, or has one again.
  void Begin(Client &client, std::optional<std::uint64_t> max_bytes_per_second) const;

  // From now on; nothing: that of all.
  void SetRate(Client &client, std::optional<std::uint64_t> own) const;

  // Whether the request may go on; otherwise it has been refused.
  [[nodiscard]] bool Admit(ClientConnection &connection, Model &model, StreamId stream);
  [[nodiscard]] AccessDecision Decide(const ClientConnection &connection,
                                      std::span<const HeaderField> fields) const;
  // Whose the connection is from its first request on.
  [[nodiscard]] std::expected<void, SessionError> Assign(ClientConnection &connection,
                                                         const Admission &admission);
  void RefuseAccess(const AccessRefusal &refusal, Model &model, StreamId stream) const;
  // TunnelRecord::dialect
  static std::string_view ProtocolOf(std::span<const HeaderField> fields);
  // Of what there is of it already.
  TunnelRecord RecordOf(const ClientConnection &connection) const;
  TunnelRecord RecordOf(const Tunnel &tunnel) const;
  TunnelRecord RecordOfRequest(const ClientConnection &connection) const;

  // Tunnels come and go: proxy_model.cc.  What may end with the tunnel being gone says so.

  // The tunnel cannot be: its requests are refused, and it is gone.
  void RefuseAll(Tunnel &tunnel, SessionError error, ProxyActions &actions);
  // The tunnel's socket is open.  The tunnel may be gone.
  void Register(Tunnel &tunnel, ProxyActions &actions);
  // What has waited for the tunnel leaves.
  void Release(Tunnel &tunnel, ProxyActions &actions);
  // The tunnel is gone; its dialect forgets it.
  void Remove(Tunnel &tunnel, EndReason reason, ProxyActions &actions);

  // Look-ups and sockets: proxy_targets.cc.  In the first four the tunnel may be gone afterwards.

  void FindTarget(Tunnel &tunnel, ProxyActions &actions);
  void UseAddresses(Tunnel &tunnel, std::span<const Endpoint> addresses, ProxyActions &actions);
  void TryNext(Tunnel &tunnel, ProxyActions &actions);
  // The tunnel has that socket from now on, whether it is open or not yet.
  void Join(Tunnel &tunnel, ServerSocket &socket, ProxyActions &actions);
  // Of a full socket: a socket to the same target for itself.
  void UseAnother(Tunnel &tunnel, const Endpoint &target, ProxyActions &actions);
  // The tunnel waits for no look-up and has no socket any more.
  void Leave(Tunnel &tunnel, ProxyActions &actions);
  // New tunnels can use the socket of this one for its authority from now on.
  void Name(Tunnel &tunnel);
  void Forget(ServerSocket &socket);
  const TargetPolicy &PolicyOf(const Tunnel &tunnel) const {
    return tunnel.policy ? *tunnel.policy : policy;
  }
  // Whether the tunnel may have that target.  What is the proxy's own nobody may.
  std::expected<void, SessionError> Check(const Tunnel &tunnel, const Endpoint &target) const;
  bool Shares(const Tunnel &tunnel) const {
    return options.port_sharing && !tunnel.plain && !tunnel.alone;
  }

  // Packets: proxy_packets.cc

  // A payload of a client's, for a tunnel that is there or, if it is null, not yet.
  std::expected<PayloadToTarget, DropReason> Pass(ClientConnection &connection, Tunnel *tunnel,
                                                  const TunnelledPayload &tunnelled, Timestamp now);
  std::unexpected<DropReason> Count(DropReason reason);
  // The same for a packet that has a tunnel.
  std::unexpected<DropReason> Count(Tunnel &tunnel, Way way, DropReason reason);

  HashKey key;
  ProxyOptions options;
  TargetPolicy policy;
  Tunnels tunnels;
  KeyedSource source;
  ProxyCounters counters; // Without those of the tunnels.
  Timestamp now = 0;      // Of the event that is being seen to.
  Request request;        // Empty but in OnRequest.
  std::uint64_t next_lookup = 0;
  std::unordered_map<LookupId, Asked> lookups; // At most max_lookups.
  // Shared ones.  Ordered, as peers choose the keys.
  std::map<Endpoint, ServerSocket *> by_endpoint; // At most max_sockets.
  std::map<std::string, Named> by_authority;      // At most one per tunnel.
};

} // namespace ngmasque
