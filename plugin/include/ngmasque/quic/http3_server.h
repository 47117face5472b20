// The server's end of HTTP/3 connections: what comes from where, and what is done with it before and
// after it is a connection.  RFC 9000, sections 5, 8 and 10.
//
// Without sockets and clocks, as Http3Endpoint.
#pragma once

#include "ngmasque/quic/http3_endpoint.h"
#include "ngmasque/quic/packet_size.h"
#include "ngmasque/quic/server_certificates.h"
#include "ngmasque/routing/siphash.h"
#include "ngmasque/routing/types.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace ngmasque {

class Http3Server {
public:
  struct Options {
    std::filesystem::path certificate_file{}; ///< PEM, with those of its issuers.
    std::filesystem::path key_file{};         ///< PEM.
    /// Further ones.  A client gets one for the name that it asks for (SNI), or else the first one.
    std::vector<CertificateAndKey> more_certificates{};
    /// Clients' certificates are verified with those in `client_ca_file`, PEM, and are to be for
    /// clients.  Then there are no session tickets: each connection is to show its certificate.
    ClientCertificates client_certificates = ClientCertificates::kNone;
    std::filesystem::path client_ca_file{};
    /// Empty: none.  File: ID.outer.sqlog, ID in hex, for each connection whose handshake has been
    /// completed, without bound: to look for an error, and not for every day.  Of those that have failed
    /// with an error before there is one a second, ten at once; of those that came to nothing, as what
    /// forged packets begin, there is none.
    std::filesystem::path qlog_dir{};
    std::filesystem::path key_log_file{};     ///< Empty: none.  Appended to.
    std::chrono::nanoseconds idle_timeout = std::chrono::seconds(30);
    std::chrono::nanoseconds handshake_timeout = std::chrono::seconds(10);
    /// UDP payload of packets in bytes, kMinUdpPayload to 65527.
    std::size_t max_udp_payload = kOuterUdpPayload;
    Http3Features features{.connect_protocol = true}; ///< What is announced.
    /// Requests that a client may have at a time on one connection.
    std::uint64_t max_requests = 100;
    Http3Connection::QueueBounds queues{};
    /// Beyond it clients are answered with CONNECTION_REFUSED.
    std::size_t max_connections = 20'000;
    /// Connections whose handshake is not complete.  Beyond it clients are answered with
    /// CONNECTION_REFUSED.
    std::size_t max_handshakes = 2'000;
    /// From so many of them on clients have to show by Retry that they are where they say.
    std::size_t retry_from = 200;
    /// Of these, those of one client (ClientKey::FromAddress) that has shown by Retry, or by a token of
    /// an earlier connection, that it is there.  Beyond it this one is answered with CONNECTION_REFUSED.
    std::size_t max_handshakes_per_client = 200;
    /// The same of those that are said to be from there.  From so many on they have to show it: in
    /// the name of another one, everybody could use up what it may have.
    std::size_t retry_from_per_client = 20;
    /// Whether all addresses that Move is called with are reached by the same way through the network,
    /// as those of one host and subnet are: a connection that moves keeps its congestion state then, and
    /// would begin anew otherwise (RFC 9000, section 9.4).
    bool same_path = false;
    /// Which of the workers that share a port this is: its connection IDs tell who has `secret`.
    std::uint8_t worker = 0;
    /// What connection IDs, stateless resets, tokens and session tickets are made with: the same for all
    /// workers of a port, and for a server that is started again.  Only so can its clients be told that
    /// it does not know them any more, and begin again as those that it knows.  (Early data with a
    /// ticket of before it was started is not taken: RFC 8446, section 8.2.)  Nobody else may have it.
    /// Nothing: one is drawn.
    std::optional<std::array<std::uint8_t, 32>> secret{};
  };

  /// A client's connection; its handshake is complete.  It is there until Handler::OnClosed returns.
  class Connection : public Http3Endpoint {
  public:
    /// Those that the client may use now.
    [[nodiscard]] std::vector<ConnectionId> local_ids() const;

    /// The name in the client's certificate, which is verified: the first DNS name of its
    /// subjectAltName, or else the first e-mail address there, or else the common name of its subject.
    /// Empty if it has shown none, or it has no such name of printable ASCII.  Also before
    /// Handler::OnConnection returns.
    [[nodiscard]] std::string_view client_name() const;

    /// The client has done something that is no packet of this connection.
    void RestartIdleTimer(Nanoseconds now);

    /// Closes the connection with an error code of HTTP/3, with the next WritePackets: then the
    /// handler is told, with kLocal.
    void CloseSoon(std::uint64_t code);

  protected:
    using Http3Endpoint::Http3Endpoint;
    ~Connection() = default;
  };

  class Handler {
  public:
    virtual ~Handler() = default;
    /// A client has completed its handshake.  Returns who is told of what comes, which has to be there
    /// until its OnClosed is called, and may be gone when that returns; null: the connection is closed.
    /// From within it nothing may be called but const functions and ShareWith.
    virtual Http3Endpoint::Handler *OnConnection(Connection &connection) = 0;

    /// Whether what follows the first byte of a short header is a connection ID that was given out with
    /// Http3Server::ResetToken, and leads nowhere any more: then it is answered with a stateless reset.
    /// Nothing may be called from within.
    [[nodiscard]] virtual bool IsOver(std::span<const std::uint8_t> /*bytes*/) { return false; }

    // For logs; nothing may be called from within.

    /// A client was answered with CONNECTION_REFUSED.
    virtual void OnRefused(const FourTuple &) {}
    /// A handshake has ended without a connection, but not with Close.
    virtual void OnHandshakeFailed(const FourTuple &, const CloseReason &) {}
  };

  struct Statistics {
    std::uint64_t accepted = 0;    ///< Connections that were begun.
    std::uint64_t handshakes = 0;  ///< Of these, those that were completed.
    std::uint64_t retries = 0;
    std::uint64_t refused = 0;     ///< With CONNECTION_REFUSED or INVALID_TOKEN.
    std::uint64_t resets = 0;      ///< Stateless ones.
    std::uint64_t negotiations = 0; ///< Version Negotiation packets.
    std::uint64_t announced = 0;   ///< Addresses, to a connection each: see Move.
    std::uint64_t moves = 0;       ///< How often a client has gone on at another address of the server.
    std::uint64_t dropped = 0;     ///< UDP payloads that are of no connection and get no answer.
  };

  /// `handler` has to outlive it.  Errors: kTls, kArgument, kInternal; kQlog, if qlog_dir is no directory.
  [[nodiscard]] static std::expected<std::unique_ptr<Http3Server>, QuicError>
  Create(Options options, Handler &handler);

  /// Handlers of connections are not told.
  ~Http3Server();
  Http3Server(const Http3Server &) = delete;
  Http3Server &operator=(const Http3Server &) = delete;

  /// Takes a UDP payload.  `ecn`: 0 to 3.  What is not a connection's is answered to `sink` at once,
  /// if at all.
  void Receive(const FourTuple &path, unsigned ecn, std::span<const std::uint8_t> packet,
               Nanoseconds now, const BurstSink &sink);

  /// To be called at Expiry().
  void HandleExpiry(Nanoseconds now);

  /// When HandleExpiry and WritePackets are to be called; kNever if there is nothing to wait for.
  [[nodiscard]] Nanoseconds Expiry() const;

  /// Whether WritePackets has something to do.
  [[nodiscard]] bool wants_write() const;

  /// Writes what connections can send now.  To be called after everything that may have made
  /// something to send, and when the sink takes more again.
  void WritePackets(Nanoseconds now, const BurstSink &sink);

  /// Closes all connections with an error code of HTTP/3; their handlers are told, with kLocal.
  void Close(std::uint64_t code, Nanoseconds now, const BurstSink &sink);

  /// Ends in order, RFC 9114, section 5.2.  No connections are taken any more: clients are answered with
  /// CONNECTION_REFUSED, those in the middle of a handshake included.  Those that are there are told to
  /// send no more requests; what was on its way is taken for about a round trip, and what comes later is
  /// reset with H3_REQUEST_REJECTED.  Requests that were taken go on, and a connection that has none is
  /// closed with H3_NO_ERROR.  It cannot be taken back.
  void Drain(Nanoseconds now);

  /// Whether a request may be taken still: always without Drain, and for a round trip with it.
  [[nodiscard]] bool takes_requests() const;

  /// Has the clients go on at another address of this server: SERVER_ALTERNATE_ADDRESS of
  /// draft-saa-ali-quic.  What comes there has to be handed over with it as FourTuple::local, and what is
  /// written for it sent from there, for as long as there are connections.  A client that has not said
  /// that it may be told (Http3Client::Options::server_migration) stays, and one may ignore it; which of
  /// them has come is said by Http3Endpoint::Handler::OnPathChanged.  The last call counts: a client that
  /// has no connection ID to spare for it is told as soon as it has, if that is still so then.
  void Move(const Endpoint &address);

  /// The same for each new connection, from the end of its handshake on; nothing: they stay where they
  /// are.  So a balancer needs to see handshakes only.
  void MoveOnHandshake(const std::optional<Endpoint> &address);

  /// New connections get these certificates from now on, instead of all others; client_ca_file is read
  /// again.  Error: kTls, with one of the files as text, and nothing changes.
  [[nodiscard]] std::expected<void, QuicError>
  ReplaceCertificates(std::span<const CertificateAndKey> certificates);

  /// The same with a single one.
  [[nodiscard]] std::expected<void, QuicError>
  ReplaceCertificate(const std::filesystem::path &certificate_file,
                     const std::filesystem::path &key_file);

  /// A key that is made of Options::secret, for connection IDs that others draw for packets which come
  /// here (KeyedSource).
  [[nodiscard]] const HashKey &foreign_id_key() const;

  /// The token of stateless resets for one of those, of 16 bytes at least; see Handler::IsOver.  Also
  /// made of Options::secret.  Nothing if GnuTLS fails.
  [[nodiscard]] std::optional<ngmasque::ResetToken>
  ResetToken(std::span<const std::uint8_t> id) const;

  /// How many connections there are, those in their handshake included.
  [[nodiscard]] std::size_t connections() const;
  [[nodiscard]] Statistics statistics() const;

  struct Impl; // Of the implementation.

private:
  explicit Http3Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

} // namespace ngmasque
