// The client's way through a CONNECT-UDP proxy: one HTTP/3 connection to it (the outer one), and on
// it any number of tunnels, each for an inner connection.  draft-pauly-masque-quic-proxy-00,
// section 4; what is said to the proxy, and how, is the dialect's.
#pragma once

#include "ngmasque/io/client_dialects.h"
#include "ngmasque/io/common.h"
#include "ngmasque/io/error.h"
#include "ngmasque/io/proxy_tunnel.h"
#include "ngmasque/quic/packet_size.h"
#include "ngmasque/quic/types.h"
#include "ngmasque/routing/connection_id.h"
#include "ngmasque/routing/types.h"
#include "ngmasque/session/authority.h"
#include "ngmasque/session/client_dialect.h"
#include "ngmasque/session/proxy_authorization.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct ev_loop;

namespace ngmasque {

/// Of the outer connection.  What its tunnels carried is in ProxyTunnelStatistics, and nowhere else.
struct ProxyClientStatistics {
  /// Of what arrived for no tunnel: DropReason::kUnknownFlow, kMalformed and kTooLong.
  Drops dropped{};
  /// How often it has followed the proxy to another address of it, one that it was at before included.
  std::uint64_t server_migrations = 0;

  [[nodiscard]] std::uint64_t of(DropReason reason) const {
    return dropped[static_cast<std::size_t>(reason)];
  }
};

/// See above.  Everything happens on the thread of the loop; objects can neither be copied nor
/// moved.  From Start to Close, or OnClosed, its watchers keep ev_run running.
class ProxyClient {
public:
  struct Options {
    std::string host{};       ///< A name or an address, IPv6 without brackets.
    std::string port = "443"; ///< In decimal digits.
    /// Where that is, in the order in which they are tried, for a program that has looked it up itself,
    /// as with Resolver; the first 16.  Empty: Start looks it up.
    std::vector<Endpoint> addresses{};
    /// The name in SNI and, with `ca_file`, that of the certificate.  Empty: `host`.
    std::string sni{};
    /// PEM; the only roots that are trusted.  Empty: the certificate is not verified, as in the
    /// sample client, unless `system_roots`.
    std::filesystem::path ca_file{};
    bool system_roots = false; ///< Without `ca_file`: whether the system's trust store holds.
    /// PEM, the client's own, for a proxy that asks for one.  Empty: none.
    std::filesystem::path certificate_file{};
    std::filesystem::path key_file{}; ///< Its key; empty: in the same file.
    /// The value of proxy-authorization in every request (RFC 9110, section 11.7.2), such as
    /// BasicAuthorization makes; empty: none.  Printable ASCII, kMaxAuthorization bytes at most.
    std::string authorization{};
    std::filesystem::path qlog_dir{}; ///< Empty: no qlog.  File: ID.outer.sqlog, ID in hex.
    /// Empty: none.  The program passes the value of SSLKEYLOGFILE.
    std::filesystem::path key_log_file{};
    /// Of the outer connection.  A third of it without packets makes a PING, since in forwarded
    /// mode nothing else flows there.
    std::chrono::milliseconds idle_timeout{30'000};
    /// For each address of the proxy.  A third of it is for packets of max_udp_payload bytes, the
    /// rest for a second attempt that begins with kMinUdpPayload.  As long again is waited for its
    /// SETTINGS, where the dialect depends on them; then the connection ends.
    std::chrono::milliseconds handshake_timeout{10'000};
    std::size_t max_udp_payload = kOuterUdpPayload; ///< Of outer packets in bytes, 1200 to 65527.
    bool gso = true;
    /// Whether the outer connection follows a proxy that moves to another address: preferred_address
    /// (RFC 9000, section 9.6) and SERVER_ALTERNATE_ADDRESS.  It goes to ports that a proxy's target
    /// may have, see TargetPolicy::AllowsPort, from a local port for each address; with `via`, through
    /// a tunnel for each: PathTunnels.
    bool server_migration = true;
    /// Tunnels at a time, those that are over left out.  Beyond it Open says kTooManyTunnels.
    std::size_t max_tunnels = 64;
    /// While it is not known yet which one the proxy speaks, tunnels wait; if it speaks none of these,
    /// the connection ends.
    ClientDialectChoice dialects{};
    ClientDialectFactory own_dialect{}; ///< One of the program's, instead of `dialects`.
    /// Not null: the outer connection goes through a tunnel of this one, which leads to another
    /// proxy and was started before.  That proxy looks `host` up and has a socket, here there is none.
    /// Tunnels are forwarded by both, as far as both are willing.  Each of the two may be closed or
    /// destroyed first, but neither be destroyed from within a Handler of the other.
    ProxyClient *via = nullptr;
    ProxyTunnel::Options via_tunnel{}; ///< Of that tunnel, and of those to further addresses of the proxy.
    LogFunction log{}; ///< Null: no log.
  };

  /// Called from the loop alone, never from within a member function of ProxyClient or ProxyTunnel;
  /// every member function of both may be called from within, but for the destructor of ProxyClient.
  class Handler {
  public:
    virtual ~Handler() = default;

    /// The outer connection is there, and its dialect is known.  Nobody has to wait for it.
    virtual void OnReady() {}

    /// The proxy takes no more tunnels on this connection, as it is about to stop: once.  Tunnels that
    /// it has taken go on, but with draft-00 no further connection IDs of theirs are asked for, as each
    /// would be a request: those of servers are tunnelled, those of clients held back.  Those that it has
    /// not taken have ended, or will, with TunnelEnd::Kind::kRejected.  A program that needs others opens
    /// another ProxyClient.  When the last one is over, the proxy closes the connection.
    virtual void OnDraining() {}

    /// The outer connection is over, or did not come about.  All tunnels have been told, each with
    /// TunnelEnd::Kind::kConnection; nothing else is called any more.
    virtual void OnClosed(std::string_view text) = 0;
  };

  /// `loop` and `handler` have to outlive it.
  ProxyClient(struct ev_loop *loop, Options options, Handler &handler);
  /// As Close, but without a word to the proxy.
  ~ProxyClient();
  ProxyClient(const ProxyClient &) = delete;
  ProxyClient &operator=(const ProxyClient &) = delete;

  /// Looks the proxy up, which may block, unless there are Options::addresses, and starts the outer
  /// connection.  They are tried in turn until one has answered; OnReady or OnClosed follows.  To
  /// be called once.
  /// Errors: kResolve, kSocket, kTls, kQlog, kArgument (also for Options::authorization), kInternal;
  /// with Options::via also kClosed, and those of its Open.
  [[nodiscard]] std::expected<void, IoError> Start();

  /// Opens a tunnel to `target` for an inner connection whose Initial has the Source Connection ID
  /// `inner_scid`, before the outer connection is there or at any time later.  When it is there,
  /// packets can be sent at once.
  ///
  /// Requests leave in the order in which they were made.  Those that the proxy allows no stream for
  /// wait until it does: there are at most ClientTunnelLimits::max_mappings of each tunnel.
  ///
  /// `handler` has to outlive the tunnel, up to OnEnded or Close.
  /// Errors: kClosed, kGoingAway (see Handler::OnDraining), kTooManyTunnels, kIdConflict, kInternal.
  [[nodiscard]] std::expected<std::unique_ptr<ProxyTunnel>, IoError>
  Open(const Authority &target, const ConnectionId &inner_scid, ProxyTunnel::Handler &handler,
       const ProxyTunnel::Options &options = {});

  /// Opens another tunnel for the inner connection of `tunnel`, with the same options: to another
  /// address of its target (RFC 9000, section 9).  `id`: one of the connection's client connection IDs.
  /// PathTunnels does that for whoever has paths and not tunnels.
  /// Errors: as Open; kNotReady: `tunnel` is over, or the outer connection is not there yet.
  [[nodiscard]] std::expected<std::unique_ptr<ProxyTunnel>, IoError>
  OpenSibling(const ProxyTunnel &tunnel, const Authority &target, const ConnectionId &id,
              ProxyTunnel::Handler &handler);

  /// What is spoken with the proxy, as ClientDialect::name says it; empty before OnReady.
  [[nodiscard]] std::string_view dialect() const;

  /// Tunnels that are not over.
  [[nodiscard]] std::size_t tunnels() const;

  /// Whether Open would say kGoingAway: see Handler::OnDraining, which may be still to come.
  [[nodiscard]] bool draining() const;

  /// How QUIC has ended the outer connection, to the address that was tried last; nothing if it has
  /// not, or was over for another reason.  Of use in OnClosed: `kind` says whether to try again.
  [[nodiscard]] const std::optional<CloseReason> &close_reason() const;

  /// Where the outer connection is, between its sockets; nothing before OnReady, after its end, and
  /// with Options::via.
  [[nodiscard]] std::optional<FourTuple> path() const;

  /// How long nothing has come from the proxy, forwarded packets included; 0 before Start.
  [[nodiscard]] std::chrono::nanoseconds silence() const;

  /// Moves the outer connection to a socket of its own with another local port, and forwarded
  /// packets with it once the proxy has answered there.
  /// Errors: kNotReady (also from within OnPacket, or before the handshake is confirmed), kClosed,
  /// kSocket, kNotSupported (the proxy forbids it, or has given no connection ID to do it with; or
  /// there is Options::via, which has the socket), kInternal.
  [[nodiscard]] std::expected<void, IoError> ChangeLocalAddress();

  /// Closes all tunnels and the outer connection, and stops all watchers.  Nothing is called any
  /// more.
  void Close();

  [[nodiscard]] const ProxyClientStatistics &statistics() const;

  /// What the tunnels of Options::via have carried, forwarded packets of this one's tunnels included.
  /// Nothing without Options::via.
  [[nodiscard]] std::optional<ProxyTunnelStatistics> via_statistics() const;

  class Impl; // Of the implementation.

private:
  std::unique_ptr<Impl> impl_;
};

} // namespace ngmasque
