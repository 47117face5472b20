// What the TLS halves of both ends have in common.
#pragma once

#include "handles.h"

#include "ngmasque/quic/error.h"

#include <cstdint>
#include <cstdio>
#include <expected>
#include <filesystem>
#include <string>
#include <string_view>

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2_crypto.h>

namespace ngmasque {

class TlsServerSession;

/// What GnuTLS hands back to callbacks of a session.
struct TlsReference : ngtcp2_crypto_conn_ref {
  TlsServerSession *server = nullptr; ///< One that has to look at the client's certificate.
  std::FILE *key_log = nullptr; ///< Null: none.
};

/// kTls, with the error of GnuTLS in words.
[[nodiscard]] std::unexpected<QuicError> TlsFailure(std::string_view what, int code);

/// What is wrong with a certificate, in words; `status` as GnuTLS has it.
[[nodiscard]] std::string CertificateProblem(unsigned status);

/// The alert of TLS for it: RFC 8446, section 6.2.
[[nodiscard]] std::uint8_t CertificateAlert(unsigned status);

/// Null for an empty path.  Error: kQlog.
[[nodiscard]] std::expected<File, QuicError> OpenKeyLog(const std::filesystem::path &file);

/// Sets the ciphers, the protocol `h3`, the key log, and `reference`, which has to outlive the
/// session.  Error: kTls.
[[nodiscard]] std::expected<void, QuicError>
ConfigureTls(gnutls_session_t session, gnutls_certificate_credentials_t credentials,
             TlsReference &reference);

} // namespace ngmasque
