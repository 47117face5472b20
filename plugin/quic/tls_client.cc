#include "tls_client.h"

#include <utility>

#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

namespace ngmasque {

namespace {

bool IsAddress(const std::string &name) {
  in6_addr address;
  return inet_pton(AF_INET, name.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, name.c_str(), &address) == 1;
}

} // namespace

std::expected<void, QuicError> TlsClient::Trust(const Options &options) {
  gnutls_certificate_credentials_t credentials = nullptr;
  if (const int rv = gnutls_certificate_allocate_credentials(&credentials); rv != 0) {
    return TlsFailure("credentials", rv);
  }
  credentials_.reset(credentials);
  const auto &ca_file = options.ca_file;
  if (ca_file.empty() && !options.system_roots) {
    return {};
  }
  if (ca_file.empty()) {
    const int certificates = gnutls_certificate_set_x509_system_trust(credentials);
    if (certificates < 0) {
      return TlsFailure("the system's trust store", certificates);
    }
    if (certificates == 0) {
      return std::unexpected(
        QuicError{QuicError::kTls, "the system's trust store has no certificate in it"});
    }
    verify_ = true;
    return {};
  }
  const int certificates =
    gnutls_certificate_set_x509_trust_file(credentials, ca_file.c_str(), GNUTLS_X509_FMT_PEM);
  if (certificates < 0) {
    return TlsFailure("CA file " + ca_file.string(), certificates);
  }
  if (certificates == 0) {
    return std::unexpected(
      QuicError{QuicError::kTls, "CA file " + ca_file.string() + ": no certificate in it"});
  }
  verify_ = true;
  return {};
}

std::expected<void, QuicError> TlsClient::Present(const Options &options) {
  if (options.certificate_file.empty()) {
    return {};
  }
  const auto &key = options.key_file.empty() ? options.certificate_file : options.key_file;
  // It makes sure that they belong together.
  if (const int rv = gnutls_certificate_set_x509_key_file(credentials_.get(),
                                                          options.certificate_file.c_str(),
                                                          key.c_str(), GNUTLS_X509_FMT_PEM);
      rv < 0) {
    return TlsFailure("certificate file " + options.certificate_file.string() + ", key file " +
                        key.string(),
                      rv);
  }
  present_ = true;
  return {};
}

std::expected<void, QuicError> TlsClient::OpenSession() {
  gnutls_session_t session = nullptr;
  // A certificate that the user has named is shown to a server that asks for one, whatever issuers
  // that lists: its answer says more than silence.
  const unsigned flags = GNUTLS_CLIENT | (present_ ? GNUTLS_FORCE_CLIENT_CERT : 0);
  if (const int rv = gnutls_init(&session, flags); rv != 0) {
    return TlsFailure("session", rv);
  }
  session_.reset(session);
  if (ngtcp2_crypto_gnutls_configure_client_session(session) != 0) {
    return std::unexpected(QuicError{QuicError::kTls, "session cannot be set up for QUIC"});
  }
  if (auto configured = ConfigureTls(session, credentials_.get(), reference_); !configured) {
    return configured;
  }
  // RFC 6066, section 3: literal addresses are not permitted in SNI.
  if (!name_.empty() && !IsAddress(name_)) {
    if (const int rv = gnutls_server_name_set(session, GNUTLS_NAME_DNS, name_.data(), name_.size());
        rv != 0) {
      return TlsFailure("server name " + name_, rv);
    }
  }
  if (verify_) {
    gnutls_session_set_verify_cert(session, name_.c_str(), 0);
  }
  return {};
}

std::expected<std::unique_ptr<TlsClient>, QuicError>
TlsClient::Create(const Options &options, ngtcp2_crypto_get_conn get_conn, void *user_data) {
  std::unique_ptr<TlsClient> tls(new TlsClient);
  tls->name_ = options.server_name;
  tls->reference_.get_conn = get_conn;
  tls->reference_.user_data = user_data;
  auto key_log = OpenKeyLog(options.key_log_file);
  if (!key_log) {
    return std::unexpected(std::move(key_log.error()));
  }
  tls->key_log_ = *std::move(key_log);
  tls->reference_.key_log = tls->key_log_.get();
  if (auto trusted = tls->Trust(options); !trusted) {
    return std::unexpected(std::move(trusted.error()));
  }
  if (auto presented = tls->Present(options); !presented) {
    return std::unexpected(std::move(presented.error()));
  }
  if (auto opened = tls->OpenSession(); !opened) {
    return std::unexpected(std::move(opened.error()));
  }
  return tls;
}

// 0 also before it was looked at.
unsigned TlsClient::CertificateStatus() const {
  constexpr auto kNotYet = static_cast<unsigned>(-1);
  const auto status = verify_ ? gnutls_session_get_verify_cert_status(session_.get()) : 0;
  return status == kNotYet ? 0 : status;
}

std::string TlsClient::CertificateError() const {
  const auto status = CertificateStatus();
  return status == 0 ? std::string() : CertificateProblem(status);
}

std::optional<std::uint8_t> TlsClient::CertificateAlert() const {
  const auto status = CertificateStatus();
  return status == 0 ? std::nullopt : std::optional(ngmasque::CertificateAlert(status));
}

} // namespace ngmasque
