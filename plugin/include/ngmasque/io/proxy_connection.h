// A client's connection at a proxy: an HTTP/3 connection on the one side, a ProxyServer on the other.
#pragma once

#include "ngmasque/io/proxy_server.h"
#include "ngmasque/quic/http3_endpoint.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>

namespace ngmasque {

/// What a client may open besides its requests for tunnels: so that one too many gets an answer.
/// Credit is per connection, and any one of its connections may have all of a client's requests.
inline constexpr std::uint64_t kSpareRequests = 16;

/// What such connections let wait.  What comes on top is dropped, and the tunnelled connection's own
/// congestion control notices.  What waits on streams as well counts for the client, too:
/// RoutingLimits::max_waiting_bytes_per_client.
inline constexpr Http3Connection::QueueBounds kProxyQueueBounds{
  .datagrams_per_tunnel = SIZE_MAX,
  .bytes_per_tunnel = std::size_t{1} << 20,
  .bytes = std::size_t{1} << 20,
};

/// Hands on what each says to the other.  How forwarded packets leave, and how an idle timer is
/// restarted, is for the class derived from it: Forward and OnActivity.  Its destructor has to call
/// Deregister, for as long as the proxy knows the connection it may call them.
class ProxyConnection : public Http3Endpoint::Handler, public ProxyServer::Client {
public:
  /// `http3` has kProxyQueueBounds.  Both have to outlive this.
  ProxyConnection(ProxyServer &proxy, OuterConnection id, Http3Connection &http3)
    : proxy_(proxy), http3_(http3), id_(id) {}
  ~ProxyConnection() override;
  ProxyConnection(const ProxyConnection &) = delete;
  ProxyConnection &operator=(const ProxyConnection &) = delete;

  /// Makes the connection known to the proxy, once its handshake is complete; `local_ids`: those that
  /// it has issued so far; `client`: see ProxyServer::AddConnection.
  /// Error: why the proxy does not take it.  It stays, but its requests are answered with that.
  std::expected<void, SessionError> Register(const FourTuple &path,
                                             std::span<const ConnectionId> local_ids,
                                             const std::optional<ClientKey> &client = std::nullopt);

  // Http3Endpoint::Handler.
  void OnHeaders(StreamId stream, std::span<const HeaderField> fields) override;
  void OnData(StreamId stream, std::span<const std::uint8_t> data) override;
  void OnStreamClosed(StreamId stream, StreamEnd end, std::uint64_t code) override;
  std::uint64_t OnDatagram(std::span<const std::uint8_t> datagram) override;
  void OnDatagramDropped(DatagramQueue::Key tunnel, std::span<const std::uint8_t> datagram,
                         QuicError::Code reason) override;
  bool OnNewLocalId(const ConnectionId &id) override;
  void OnRetiredLocalId(const ConnectionId &id) override;
  void OnProbing(const FourTuple &path) override;
  void OnMigrating() override;
  void OnPathChanged(const FourTuple &path) override;
  void OnSettings(const PeerSettings &settings) override;

  // ProxyServer::Client.
  std::expected<void, DropReason> SendDatagram(std::uint64_t tunnel,
                                               std::span<const std::uint8_t> prefix,
                                               std::span<const std::uint8_t> payload) override;
  std::expected<void, DropReason> SendOnStream(StreamId stream,
                                               std::span<const std::uint8_t> prefix,
                                               std::span<const std::uint8_t> payload) override;
  std::expected<void, DropReason> SendMessage(StreamId stream,
                                              std::span<const std::uint8_t> message) override;
  void ShareWith(std::shared_ptr<ByteBudget> waiting) override;
  void Respond(StreamId stream, unsigned status, std::span<const HeaderField> fields) override;
  void ResetStream(StreamId stream, std::uint64_t code) override;

  [[nodiscard]] OuterConnection id() const { return id_; }

protected:
  /// The proxy forgets the connection, and sends what it has of it.
  void Deregister();

private:
  [[nodiscard]] StreamKey Key(StreamId stream) const {
    return {.connection = id_, .stream = stream};
  }
  /// What is known of the client has changed.
  void TellDatagrams();

  ProxyServer &proxy_;
  Http3Connection &http3_;
  OuterConnection id_;
  bool registered_ = false;
  bool extended_connect_ = false; // It has made such a request: that of RFC 9298 is one.
  unsigned refusal_ = 503; // The status of what requests are answered with, if it is not.
  std::optional<unsigned> retry_after_{}; // The same, in seconds.
};

} // namespace ngmasque
