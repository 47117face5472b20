// The TLS half of a QUIC endpoint.
#pragma once

#include <string>

#include <gnutls/gnutls.h>

namespace ngmasque {

class TlsEnd {
public:
  virtual ~TlsEnd() = default;

  [[nodiscard]] virtual gnutls_session_t session() const = 0;

  /// What is wrong with the peer's certificate, in words; empty if nothing is, or was asked.
  [[nodiscard]] virtual std::string CertificateError() const { return {}; }
};

} // namespace ngmasque
