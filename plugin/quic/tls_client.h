// The TLS half of a QUIC client: RFC 9001 with GnuTLS.
#pragma once

#include "handles.h"
#include "tls_common.h"
#include "tls_end.h"

#include "ngmasque/quic/error.h"

#include <expected>
#include <filesystem>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <ngtcp2/ngtcp2_crypto.h>

namespace ngmasque {

class TlsClient final : public TlsEnd {
public:
  /// As in Http3Client::Options.
  struct Options {
    std::string server_name{};
    std::filesystem::path ca_file{};
    bool system_roots = false;
    std::filesystem::path certificate_file{};
    std::filesystem::path key_file{};
    std::filesystem::path key_log_file{};
  };

  /// A session that offers `h3`.  `get_conn` finds its connection: user_data of its argument is
  /// `user_data`.
  /// Errors: kTls, kQlog (the key log file).
  [[nodiscard]] static std::expected<std::unique_ptr<TlsClient>, QuicError>
  Create(const Options &options, ngtcp2_crypto_get_conn get_conn, void *user_data);

  [[nodiscard]] gnutls_session_t session() const override { return session_.get(); }
  [[nodiscard]] std::string CertificateError() const override;
  [[nodiscard]] std::optional<std::uint8_t> CertificateAlert() const override;

private:
  TlsClient() = default;
  [[nodiscard]] unsigned CertificateStatus() const;
  [[nodiscard]] std::expected<void, QuicError> Trust(const Options &options);
  [[nodiscard]] std::expected<void, QuicError> Present(const Options &options);
  [[nodiscard]] std::expected<void, QuicError> OpenSession();

  // The session uses what stands before it.
  std::string name_;
  TlsReference reference_{};
  File key_log_;
  TlsCredentials credentials_;
  TlsSession session_;
  bool verify_ = false;
  bool present_ = false; // There is a certificate of the client.
};

} // namespace ngmasque
