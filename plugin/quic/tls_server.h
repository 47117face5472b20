// The TLS half of a QUIC server: RFC 9001 with GnuTLS.
#pragma once

#include "handles.h"
#include "tls_common.h"
#include "tls_end.h"

#include "ngmasque/quic/error.h"
#include "ngmasque/quic/server_certificates.h"

#include <array>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ngtcp2/ngtcp2_crypto.h>

namespace ngmasque {

class TlsServerSession;

/// What session tickets are sealed with: GnuTLS derives keys from it that it changes now and then, by
/// the time of day alone.
using TicketKey = std::array<std::uint8_t, 64>;

/// What the connections of a server share: its certificates, what session tickets are sealed with,
/// and the key log.
class TlsServerContext {
public:
  /// As in Http3Server::Options.
  struct Options {
    std::vector<CertificateAndKey> certificates{}; ///< At least one.
    ClientCertificates client_certificates = ClientCertificates::kNone;
    std::filesystem::path client_ca_file{};
    std::filesystem::path key_log_file{};
    /// Servers with the same one take each other's tickets, but no early data with those that were
    /// sent before they were there.  Nothing: one is drawn.
    std::optional<TicketKey> ticket_key{};
  };

  /// Errors: kTls, kQlog (the key log file).
  [[nodiscard]] static std::expected<std::unique_ptr<TlsServerContext>, QuicError>
  Create(Options options);

  /// New connections get these certificates from now on; others keep theirs, and their session
  /// tickets stay good.  Error: kTls, and nothing changes.
  [[nodiscard]] std::expected<void, QuicError>
  Replace(std::span<const CertificateAndKey> certificates);

  /// A session that takes `h3` and no other protocol.  It may outlive the context.  `get_conn`
  /// finds its connection: user_data of its argument is `user_data`.  Error: kTls.
  [[nodiscard]] std::expected<std::unique_ptr<TlsServerSession>, QuicError>
  NewSession(ngtcp2_crypto_get_conn get_conn, void *user_data) const;

private:
  friend class TlsServerSession;
  using Credentials = std::shared_ptr<const TlsCredentials>;
  struct Shared;

  explicit TlsServerContext(Options options) : options_(std::move(options)) {}
  [[nodiscard]] std::expected<TlsCredentials, QuicError>
  Load(std::span<const CertificateAndKey> certificates) const;

  const Options options_;
  std::shared_ptr<const Shared> shared_;
  Credentials credentials_;
};

class TlsServerSession final : public TlsEnd {
public:
  [[nodiscard]] gnutls_session_t session() const override { return session_.get(); }

  [[nodiscard]] std::string CertificateError() const override;
  [[nodiscard]] std::optional<std::uint8_t> CertificateAlert() const override;

  /// See Http3Server::Connection::client_name; once the handshake is complete.
  [[nodiscard]] std::string ClientName() const;

  /// Writes a session ticket into the CRYPTO stream, with which a client can send early data.  To
  /// be called once, when the handshake is complete; without effect if clients show certificates.
  /// Error: kTls; the connection is as good without.
  [[nodiscard]] std::expected<void, QuicError> SendTicket();

private:
  friend class TlsServerContext;
  TlsServerSession() = default;
  [[nodiscard]] std::expected<void, QuicError> Open();
  /// Has GnuTLS ask the client for its certificate.
  void Ask();
  /// Returns 0, or an error of GnuTLS.
  [[nodiscard]] int Verify();

  // The session uses what stands before it.
  std::shared_ptr<const TlsServerContext::Shared> shared_;
  TlsServerContext::Credentials credentials_;
  TlsReference reference_{};
  ClientCertificates asks_ = ClientCertificates::kNone;
  unsigned status_ = 0; // What is wrong with the client's certificate, as GnuTLS has it.
  TlsSession session_;
};

} // namespace ngmasque
