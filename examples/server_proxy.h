// The sample server as a proxy: the extension of the server, and that of one of its connections.
#pragma once

#include "proxy_options.h"
#include "server_proxy_options.h"

#include "ngmasque/io/proxy_connection.h"
#include "ngmasque/quic/peer_moves.h"
#include "ngmasque/quic/socket_address.h"
#include "ngmasque/quic/validated_paths.h"

#include "network.h"
#include "server_ext.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct Endpoint;

namespace ngmasque::examples {

class ServerProxy;

/// HTTP/3 on a connection of the server's.
class ServerHttp3 final : public Http3Connection {
public:
  ServerHttp3(::Handler &handler, ngtcp2_ccerr &last_error);
  using Http3Connection::DeliverHttp3;
  using Http3Connection::ResumeStreams;
  using Http3Connection::SetHandler;
  using Http3Connection::WritePacket;

private:
  void OnWantWrite() override;
  void OnFailure() override;

  ::Handler &handler_;
  ngtcp2_ccerr &last_error_;
};

/// A client's connection.
class ServerProxyConn final : public ngtcp2::ServerConnExt, public ProxyConnection {
public:
  ServerProxyConn(ServerProxy &proxy, ::Handler &handler, ngtcp2_ccerr &last_error,
                  OuterConnection id);
  ~ServerProxyConn() override { Deregister(); }

  /// Has those of a new connection tell its ServerProxyConn.
  static void SetCallbacks(ngtcp2_callbacks &callbacks);

  [[nodiscard]] Http3Connection &http3() { return http3_; }
  /// The handshake is complete.
  void Start();
  void Validated(const ngtcp2_path &path);
  /// In the middle of a packet: one of its frames is for HTTP/3.
  void OnFrame();
  void OnRetiredLocalId(const ConnectionId &id) override;
  ngtcp2_ssize write_pkt(ngtcp2_path *path, ngtcp2_pkt_info *pi, std::uint8_t *dest,
                         std::size_t size, ngtcp2_tstamp now) override;

  SendOutcome Forward(const FourTuple &tuple, const Burst &packets) override;
  void OnActivity() override;
  void OnClosed(const CloseReason &) override {} // The server says nothing of it.

private:
  /// What is forwarded goes where the connection's packets go, once that is validated.
  void FollowPath();

  ServerProxy &proxy_;
  ::Handler &handler_;
  ServerHttp3 http3_;
  ValidatedPaths validated_;
  PeerMoves moves_;
  std::size_t id_size_ = 0; // Of the connection IDs that the server issues, from Start on.
  FourTuple told_path_;                  // That of the mappings, from Start on.
  ngtcp2_path_storage told_{};           // The same, to be compared with for every packet.
  const ::Endpoint *endpoint_ = nullptr; // Of that one: forwarded packets leave from there.
};

class ServerProxy final : public ngtcp2::ServerExt {
public:
  // Command line.
  std::span<const option> options() const override;
  std::expected<void, ngtcp2::Error> set_option(std::string_view name, const char *arg) override;
  void print_help(FILE *out) const override;
  bool enabled() const override { return options_.enabled; }
  std::string stats() const override;

  // ServerExt.
  std::expected<void, ngtcp2::Error> start(struct ev_loop *loop, Server *server) override;
  void stop() override;
  void configure(ngtcp2_callbacks &callbacks, ngtcp2_settings &settings,
                 ngtcp2_transport_params &params) override;
  std::unique_ptr<ngtcp2::ServerConnExt> new_conn(::Handler *handler,
                                                  ngtcp2_ccerr &last_error) override;
  bool recv_packet(const ngtcp2::Address &local_addr, const ngtcp2::Address &remote_addr,
                   const ngtcp2_pkt_info &pi, std::span<std::uint8_t> data) override;
  void recv_done() override;

  /// A packet that the server is reading.
  struct Arrival {
    FourTuple path;
    std::span<const std::uint8_t> packet;
  };
  [[nodiscard]] const Arrival &arrival() const { return arrival_; }

  /// Null once the server stops.
  [[nodiscard]] ProxyServer *proxy() const { return proxy_.get(); }
  /// A client has completed its handshake.
  void CountConnection() { ++connections_; }
  /// What clients can bring about.
  void Complain(std::string_view line);

private:
  ServerProxyOptions options_;
  std::unique_ptr<ProxyServer> proxy_;
  std::uint64_t next_connection_ = 0;
  std::uint64_t connections_ = 0;
  LogLimit complaints_;
  Arrival arrival_; // Without bytes: none.
  // Of the UDP payload that came last: if it makes a new connection, its packets are as large.
  std::size_t last_packet_ = 0;
  std::string stats_; // When proxy_ is gone.
};

} // namespace ngmasque::examples
