// The sample server as a proxy: the extension of the server, and that of one of its connections.
#pragma once

#include "ngmasque/io/proxy_server.h"
#include "ngmasque/quic/datagram_queue.h"
#include "ngmasque/quic/socket_address.h"

#include "server_ext.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque::examples {

class ServerProxy;

/// Nothing for families other than those of IP.
std::optional<FourTuple> ToFourTuple(const ngtcp2_path &path);

/// A client's connection, from the end of its handshake on.
class ServerProxyConn final : public ngtcp2::ServerConnExt, public ProxyServer::Client {
public:
  ServerProxyConn(ServerProxy &proxy, Handler &handler, OuterConnection id);
  ~ServerProxyConn() override;

  /// Makes the connection known to the proxy, with the connection IDs that it has already.
  void Register();

  void recv_request(int64_t stream_id, const ngtcp2::HTTPFields &fields) override;
  void recv_data(int64_t stream_id, std::span<const uint8_t> data) override;
  void stream_closed(int64_t stream_id) override;
  std::expected<void, uint64_t> recv_datagram(std::span<const uint8_t> data) override;
  std::span<const uint8_t> datagram() override;
  void datagram_done(bool sent) override;
  void path_validated(const ngtcp2_path &path) override;
  void packet_read() override;
  bool new_scid(const ngtcp2_cid &cid) override;
  void remove_scid(const ngtcp2_cid &cid) override;

  // ProxyServer::Client.
  std::expected<void, DropReason> SendDatagram(std::uint64_t tunnel,
                                               std::span<const std::uint8_t> prefix,
                                               std::span<const std::uint8_t> payload) override;
  std::expected<void, DropReason> SendOnStream(StreamId stream,
                                               std::span<const std::uint8_t> prefix,
                                               std::span<const std::uint8_t> payload) override;
  SendOutcome Forward(const FourTuple &tuple, const Burst &packets) override;
  void OnActivity() override;
  void Respond(StreamId stream, unsigned status, std::span<const HeaderField> fields) override;
  void ResetStream(StreamId stream) override;

private:
  /// Datagrams that wait for the congestion window, in bytes; what comes on top is dropped, and
  /// the tunnelled connection's own congestion control notices.  All that waits, on streams as well,
  /// counts for the client, too: RoutingLimits::max_waiting_bytes_per_client.
  static constexpr std::size_t kMaxQueue = std::size_t{1} << 20;

  void Drop(DatagramQueue::Key tunnel, std::span<const std::uint8_t> datagram, DropReason reason);
  /// Gives back what has been acknowledged of a stream's data, or all of it if it is gone.
  void Refresh(StreamId stream);

  ServerProxy &proxy_;
  Handler &handler_;
  OuterConnection id_;
  bool registered_ = false;
  /// ngtcp2 remembers four paths besides the one in use, for ten minutes.
  static constexpr std::size_t kMaxValidated = 5;

  std::deque<FourTuple> validated_;      // kMaxValidated; the last one is that of the mappings.
  const ::Endpoint *endpoint_ = nullptr; // Of that one: forwarded packets leave from there.
  DatagramQueue queue_;
  std::shared_ptr<ByteBudget> waiting_; // Null if it is not registered.
  /// What is taken of it, of streams that have waiting data; at most one per request.
  std::map<StreamId, BudgetShare> on_streams_;
  StreamId refreshed_{}; // The last one of those that are looked at in turn.
  unsigned refusal_ = 503; // Of requests, if it is not registered.
};

class ServerProxy final : public ngtcp2::ServerExt {
public:
  // Command line.
  std::span<const option> options() const override;
  std::expected<void, ngtcp2::Error> set_option(std::string_view name, const char *arg) override;
  void print_help(FILE *out) const override;
  bool enabled() const override { return enabled_; }
  std::string stats() const override;

  // ServerExt.
  std::expected<void, ngtcp2::Error> start(struct ev_loop *loop, Server *server) override;
  void stop() override;
  void configure(ngtcp2_settings &settings, ngtcp2_transport_params &params) const override;
  void configure(nghttp3_settings &settings) const override;
  std::expected<void, ngtcp2::Error> recv_settings(ngtcp2_conn *conn,
                                                   const nghttp3_proto_settings &settings) override;
  bool wants(const ngtcp2::HTTPFields &fields) const override;
  std::unique_ptr<ngtcp2::ServerConnExt> new_conn(Handler *handler) override;
  bool recv_packet(const ::Endpoint &ep, const ::ngtcp2::Address &local_addr,
                   const ::ngtcp2::Address &remote_addr, const ngtcp2_pkt_info &pi,
                   std::span<uint8_t> data) override;
  void recv_done() override;

  /// Null once the server stops.
  [[nodiscard]] ProxyServer *proxy() const { return proxy_.get(); }
  /// What clients can bring about.
  void Complain(std::string_view line);

private:
  bool enabled_ = false;
  ProxyServer::Options options_;
  std::unique_ptr<ProxyServer> proxy_;
  std::uint64_t next_connection_ = 0;
  LogLimit complaints_;
  // Of the UDP payload that came last: if it makes a new connection, its packets are as large.
  std::size_t last_packet_ = 0;
  std::string stats_; // When proxy_ is gone.
};

} // namespace ngmasque::examples
