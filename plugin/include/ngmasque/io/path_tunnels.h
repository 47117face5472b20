// The tunnels of one inner connection: one for each address that its target has.
//
// A QUIC server can have other addresses than the one that its client began with
// (preferred_address, RFC 9000, section 9.6, and SERVER_ALTERNATE_ADDRESS).  Behind a proxy each of
// them needs a tunnel of its own, as no packet may leave from anywhere else.  Here the program has
// paths, and tunnels follow.
#pragma once

#include "ngmasque/io/error.h"
#include "ngmasque/io/proxy_client.h"
#include "ngmasque/io/proxy_tunnel.h"
#include "ngmasque/routing/connection_id.h"
#include "ngmasque/routing/types.h"
#include "ngmasque/session/authority.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>

struct ev_loop;

namespace ngmasque {

/// See above.  Everything happens on the thread of the loop.  It may be destroyed at any time, also
/// from within a call of its Handler, but not later than its ProxyClient.
///
/// A tunnel to another address is opened when something is sent there, or when a server connection ID
/// for it is known.  It is closed when nothing has come or gone through it for Options::keep, or when
/// there are max_paths and another one is needed: then the one that has been idle for longest.  So
/// a target that moves among a few addresses costs no request, and one that announces an address
/// each millisecond costs no more tunnels than others.
class PathTunnels {
public:
  struct Options {
    ProxyTunnel::Options tunnel{};
    std::size_t max_paths = 6; ///< 2 or more, those that have ended not long ago included.
    std::chrono::milliseconds keep{30'000};
  };

  /// As ProxyTunnel::Handler, but for `remote`: the target's address.
  class Handler {
  public:
    virtual ~Handler() = default;
    /// The proxy has accepted the first tunnel.
    virtual void OnOpened() {}
    virtual void OnPacket(const Endpoint &remote, std::span<const std::uint8_t> packet,
                          unsigned ecn) = 0;
    virtual void OnPacketsDone() {}
    [[nodiscard]] virtual std::chrono::nanoseconds ProbeTimeout() const {
      return std::chrono::seconds(1);
    }
    virtual void OnReleaseClientId(const ConnectionId &id) = 0;
    virtual void OnDiscardClientId(const ConnectionId &id) = 0;
    virtual void OnWritable() = 0;
    /// There is no tunnel to `remote`, because the proxy has refused or ended it, while there are
    /// others.  What is sent there is lost, as on a path that is broken; after Options::keep it would be
    /// asked for again.
    virtual void OnPathEnded(const Endpoint &remote, const TunnelEnd &end) = 0;
    /// No tunnel is left; the last call.
    virtual void OnEnded(const TunnelEnd &end) = 0;
  };

  /// All have to outlive it.
  PathTunnels(struct ev_loop *loop, ProxyClient &client, Handler &handler, const Options &options);
  ~PathTunnels();
  PathTunnels(const PathTunnels &) = delete;
  PathTunnels &operator=(const PathTunnels &) = delete;

  /// Opens the first tunnel, as ProxyClient::Open with its errors.  To be called once.  `remote` is what
  /// the target's address is called here: where the proxy looks a name up, the real one is not known.
  [[nodiscard]] std::expected<void, IoError>
  Open(const Authority &target, const Endpoint &remote, const ConnectionId &inner_scid);

  /// As ProxyTunnel::SendBurst.
  [[nodiscard]] std::span<const std::uint8_t> SendBurst(const Endpoint &remote,
                                                        std::span<const std::uint8_t> packets,
                                                        std::size_t segment, unsigned ecn);

  /// As in ProxyTunnel.  The target is told of an ID when all tunnels have it that are there at that
  /// time, and never if one cannot have it.
  void AddClientId(const ConnectionId &id);
  void RemoveClientId(const ConnectionId &id);

  /// The connection sends to `remote` with this connection ID: RFC 9000, section 9.5, has one for each
  /// path.  The bound is that of the connection: active_connection_id_limit.
  void AddServerId(const Endpoint &remote, const ConnectionId &id,
                   const std::optional<ResetToken> &token = {});
  void RemoveServerId(const ConnectionId &id);

  /// Ends all tunnels.  Nothing is called any more.
  void Close();

  /// Tunnels that are not over.
  [[nodiscard]] std::size_t size() const;
  /// How many there have been.
  [[nodiscard]] std::uint64_t opened() const;
  /// The sum of all that there have been.
  [[nodiscard]] ProxyTunnelStatistics statistics() const;

  class Impl; // Of the implementation.

private:
  std::shared_ptr<Impl> impl_;
};

} // namespace ngmasque
