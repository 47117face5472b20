// The client's end of an HTTP/3 connection: an Http3Endpoint that connects to a server and sends
// requests.
#pragma once

#include "ngmasque/quic/http3_endpoint.h"
#include "ngmasque/quic/packet_size.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ngmasque {

class Http3Client final : public Http3Endpoint {
public:
  struct Options {
    std::string server_name{};        ///< For SNI and for the certificate; no SNI for an address.
    /// PEM.  Empty: the certificate is not verified, unless `system_roots`.
    std::filesystem::path ca_file{};
    bool system_roots = false; ///< Without `ca_file`: whether the system's trust store holds.
    /// PEM, the client's own, for a server that asks for one.  Empty: none.
    std::filesystem::path certificate_file{};
    std::filesystem::path key_file{}; ///< Its key; empty: in the same file.
    std::filesystem::path qlog_dir{}; ///< Empty: none.  File: ID.outer.sqlog, ID in hex.
    std::filesystem::path key_log_file{}; ///< Empty: none.  Appended to.
    std::chrono::nanoseconds idle_timeout = std::chrono::seconds(30);
    std::chrono::nanoseconds handshake_timeout = std::chrono::seconds(10);
    /// Silence after which a PING is sent; nothing: a third of the idle timeout that both ends
    /// agree on; zero: never.
    std::optional<std::chrono::nanoseconds> keep_alive{};
    /// UDP payload of packets in bytes, kMinUdpPayload to 65527: from the start, or else at most.
    std::size_t max_udp_payload = kOuterUdpPayload;
    /// Whether packets begin with kMinUdpPayload, and the path is probed for more.
    bool probe_path = false;
    Http3Features features{}; ///< What is announced.
    /// Whether the server may have the connection move to another address of it: the one of
    /// preferred_address (RFC 9000, section 9.6), and any number of SERVER_ALTERNATE_ADDRESS.
    bool server_migration = false;
    /// UDP payload in bytes that the server's packets may have, kMinUdpPayload or more; 0: any.
    std::size_t max_received_payload = 0;
    /// Whether the server is told of our further connection IDs by ReleaseLocalId only.
    bool hold_local_ids = false;
  };

  class Handler : public Http3Endpoint::Handler {
  public:
    /// The handshake is complete; requests can be sent.  `max_datagram` is max_datagram().
    virtual void OnReady(std::size_t max_datagram) = 0;
    /// The peer allows more streams than before.
    virtual void OnStreamsAvailable() = 0;
    /// The server wants the connection to go on at `remote`; only with Options::server_migration.
    /// Returns the local endpoint to go there from; OnPathChanged follows if it gets an answer.
    /// From the one that it was there from before, the path need not be validated again.  Nothing:
    /// the connection stays.  No function of the connection may be called from here.
    virtual std::optional<Endpoint> OnServerAddress(const Endpoint & /*remote*/) { return {}; }
  };

  /// Starts a connection on `path`.  `handler` has to outlive it; OnNewLocalId is called.
  /// Errors: kTls, kQlog, kArgument, kInternal.
  [[nodiscard]] static std::expected<std::unique_ptr<Http3Client>, QuicError>
  Create(Options options, const FourTuple &path, Handler &handler, Nanoseconds now);

  using Http3Endpoint::Close;
  using Http3Endpoint::Expiry;
  using Http3Endpoint::HandleExpiry;
  using Http3Endpoint::Receive;
  using Http3Endpoint::WritePackets;

  /// Validates a path from another local endpoint and moves there: OnPathChanged.
  /// Errors: kClosed, kNotReady (the handshake is not confirmed), kNotSupported, kInternal.
  [[nodiscard]] std::expected<void, QuicError> Migrate(const Endpoint &local, Nanoseconds now);

  /// The server may use this connection ID, one that OnNewLocalId has had after Create ...
  void ReleaseLocalId(const ConnectionId &id);
  /// ... or never will: OnRetiredLocalId, and soon another one is drawn.  The connection IDs of both
  /// are held back (Options::hold_local_ids); others are ignored.
  void DiscardLocalId(const ConnectionId &id);

  /// What our packets are sent to, and the stateless reset token that came with it.
  struct RemoteId {
    Endpoint remote; ///< Where it is used: RFC 9000, section 9.5, has one for each path.
    ConnectionId id;
    std::optional<ResetToken> token;
    [[nodiscard]] bool operator==(const RemoteId &) const = default;
  };
  /// That of the path in use, and behind it those of paths that are being validated, or were left not
  /// long ago.  None before the handshake is complete, and when the connection is over.
  [[nodiscard]] std::vector<RemoteId> remote_ids() const;

private:
  Http3Client(Options options, Handler &handler);
  [[nodiscard]] std::expected<void, QuicError> Start(const FourTuple &path, Nanoseconds now);
  void OnHandshakeCompleted() override;
  void OnStreamsAvailable() override { tell_streams_ = true; }
  void Deliver() override;
  std::optional<FourTuple> OnServerAddresses(std::span<const Endpoint> remotes) override;

  Options options_;
  Handler &handler_;
  std::vector<std::uint8_t> buffer_;
  bool tell_ready_ = false;
  bool tell_streams_ = false;
};

} // namespace ngmasque
