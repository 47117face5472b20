// A whole CONNECT-UDP proxy on a libev loop: sockets, HTTP/3 connections and tunnels.
#pragma once

#include "ngmasque/io/common.h"
#include "ngmasque/io/error.h"
#include "ngmasque/io/proxy_server.h"
#include "ngmasque/io/udp_listener.h"
#include "ngmasque/quic/http3_server.h"

#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

struct ev_loop;

namespace ngmasque {

/// A UdpListener, an Http3Server and a ProxyServer.  Everything happens on the thread of the loop.
class ConnectUdpProxy {
public:
  struct Options {
    UdpListener::Options listener;
    /// `max_requests` and `queues` follow from what `proxy` allows.
    Http3Server::Options server;
    /// The addresses of this machine, and where the proxy listens, are added to `policy`.
    ProxyServer::Options proxy;
    LogFunction log{}; ///< Null: no log.  Of all three.
  };

  /// `loop` has to outlive it.
  /// Errors: kArgument and kSocket, see UdpListener; those of Http3Server; kResolve, if look-ups cannot
  /// be set up.
  [[nodiscard]] static std::expected<std::unique_ptr<ConnectUdpProxy>, IoError>
  Create(struct ev_loop *loop, Options options);

  /// The clients are not told: see Close.
  ~ConnectUdpProxy();
  ConnectUdpProxy(const ConnectUdpProxy &) = delete;
  ConnectUdpProxy &operator=(const ConnectUdpProxy &) = delete;

  /// Where it listens, in the order of UdpListener::Options::addresses, with the ports that the
  /// system chose.
  [[nodiscard]] std::vector<Endpoint> addresses() const;

  /// See Http3Server.
  [[nodiscard]] std::expected<void, QuicError>
  ReplaceCertificates(std::span<const CertificateAndKey> certificates);
  [[nodiscard]] std::expected<void, QuicError>
  ReplaceCertificate(const std::filesystem::path &certificate_file,
                     const std::filesystem::path &key_file);

  /// Which targets are allowed from now on, as with Options: tunnels that are there stay, those that
  /// are to be opened are checked by this.
  void SetPolicy(TargetPolicy::Options policy);

  /// ProxyOptions::max_bytes_per_second_per_client from now on, also of clients that are there and have
  /// no rate of their own.
  void SetRate(std::uint64_t max_bytes_per_second_per_client);

  /// Who may use the proxy has changed: asks about each connection of which a request was admitted.  A
  /// user has the rate of the answer from now on.  A connection that would not be admitted any more is
  /// closed with H3_NO_ERROR, and its tunnels end with EndReason::kRevoked.  Returns how many those are.
  std::size_t Review(const ReviewFunction &review);

  /// Has the clients go on at another address of this proxy, and their tunnels with them: see
  /// Http3Server::Move.  Those of a client that cannot, stay.  Error: kArgument, if it does not listen there.
  [[nodiscard]] std::expected<void, IoError> Move(const Endpoint &address);

  /// The same for each new connection, from the end of its handshake on; nothing: they stay where they
  /// are.  Error: kArgument.
  [[nodiscard]] std::expected<void, IoError>
  MoveOnHandshake(const std::optional<Endpoint> &address);

  /// Ends in order: see Http3Server::Drain.  No more tunnels are opened, those that there are go on, and
  /// a connection without any is closed.  `drained` is called from the loop, once, when the last tunnel
  /// is over, of which clients need not hurry: a program has a time limit, and calls Close.  (Those of
  /// draft-00 cannot have further connection IDs forwarded, as each would be a request.)  It may call
  /// anything, but not destroy the proxy.  Of several calls the first one counts.
  void Drain(std::function<void()> drained);

  /// Closes all connections, and their tunnels with them.  New ones are accepted still, unless Drain has
  /// been called.
  void Close();

  /// How many tunnels there are, those to be opened included.
  [[nodiscard]] std::size_t tunnels() const;

  /// How many connections there are, those in their handshake included.
  [[nodiscard]] std::size_t connections() const;
  [[nodiscard]] ProxyCounters counters() const;
  [[nodiscard]] Http3Server::Statistics server_statistics() const;
  [[nodiscard]] const UdpListener::Statistics &listener_statistics() const;

private:
  class Impl;
  explicit ConnectUdpProxy(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

} // namespace ngmasque
