// The TLS half of a QUIC server: RFC 9001 with GnuTLS.
#pragma once

#include "handles.h"
#include "tls_common.h"
#include "tls_end.h"

#include "ngmasque/quic/error.h"

#include <expected>
#include <filesystem>
#include <memory>

#include <ngtcp2/ngtcp2_crypto.h>

namespace ngmasque {

class TlsServerSession;

/// What the connections of a server share: its certificate, what session tickets are sealed with,
/// and the key log.
class TlsServerContext {
public:
  /// Files in PEM; the certificates of issuers follow the server's.  `key_log_file`: empty for
  /// none, otherwise appended to.  Errors: kTls, kQlog (the key log file).
  [[nodiscard]] static std::expected<std::unique_ptr<TlsServerContext>, QuicError>
  Create(const std::filesystem::path &certificate_file, const std::filesystem::path &key_file,
         const std::filesystem::path &key_log_file = {});

  /// New connections get this certificate from now on; others keep theirs, and their session
  /// tickets stay good.  Error: kTls, and nothing changes.
  [[nodiscard]] std::expected<void, QuicError>
  Replace(const std::filesystem::path &certificate_file, const std::filesystem::path &key_file);

  /// A session that takes `h3` and no other protocol.  It may outlive the context.  `get_conn`
  /// finds its connection: user_data of its argument is `user_data`.  Error: kTls.
  [[nodiscard]] std::expected<std::unique_ptr<TlsServerSession>, QuicError>
  NewSession(ngtcp2_crypto_get_conn get_conn, void *user_data) const;

private:
  friend class TlsServerSession;
  using Credentials = std::shared_ptr<const TlsCredentials>;
  struct Shared;

  TlsServerContext() = default;

  std::shared_ptr<const Shared> shared_;
  Credentials credentials_;
};

class TlsServerSession final : public TlsEnd {
public:
  [[nodiscard]] gnutls_session_t session() const override { return session_.get(); }

  /// Writes a session ticket into the CRYPTO stream, with which a client can send early data.  To
  /// be called once, when the handshake is complete.  Error: kTls; the connection is as good
  /// without.
  [[nodiscard]] std::expected<void, QuicError> SendTicket();

private:
  friend class TlsServerContext;
  TlsServerSession() = default;
  [[nodiscard]] std::expected<void, QuicError> Open();

  // The session uses what stands before it.
  std::shared_ptr<const TlsServerContext::Shared> shared_;
  TlsServerContext::Credentials credentials_;
  TlsReference reference_{};
  TlsSession session_;
};

} // namespace ngmasque
