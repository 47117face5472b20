// The TLS half of a QUIC endpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <gnutls/gnutls.h>

namespace ngmasque {

class TlsEnd {
public:
  virtual ~TlsEnd() = default;

  [[nodiscard]] virtual gnutls_session_t session() const = 0;

  /// What is wrong with the peer's certificate, in words; empty if nothing is, or was asked.
  [[nodiscard]] virtual std::string CertificateError() const { return {}; }

  /// The alert for that: GnuTLS has one for all problems.  Nothing if there is no such problem.
  [[nodiscard]] virtual std::optional<std::uint8_t> CertificateAlert() const { return {}; }
};

} // namespace ngmasque
