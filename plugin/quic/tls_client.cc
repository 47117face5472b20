#include "tls_client.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

namespace ngmasque {

namespace {

// What the sample programs of ngtcp2 offer: RFC 9001 leaves no more of TLS 1.3.
constexpr const char *kPriority =
  "%DISABLE_TLS13_COMPAT_MODE:NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:"
  "+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-CCM:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:"
  "+GROUP-SECP384R1:+GROUP-SECP521R1";

std::unexpected<QuicError> TlsFailure(std::string_view what, int code) {
  return std::unexpected(
    QuicError{QuicError::kTls, std::string(what) + ": " + gnutls_strerror(code)});
}

bool IsAddress(const std::string &name) {
  in6_addr address;
  return inet_pton(AF_INET, name.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, name.c_str(), &address) == 1;
}

void AppendHex(std::string &line, std::span<const unsigned char> bytes) {
  for (const auto byte : bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    line += kDigits[byte >> 4];
    line += kDigits[byte & 0xf];
  }
}

} // namespace

int TlsClient::WriteKey(gnutls_session_t session, const char *label, const gnutls_datum_t *secret) {
  const auto *reference = static_cast<Reference *>(
    static_cast<ngtcp2_crypto_conn_ref *>(gnutls_session_get_ptr(session)));
  gnutls_datum_t client_random;
  gnutls_datum_t server_random;
  gnutls_session_get_random(session, &client_random, &server_random);

  std::string line = label;
  line += ' ';
  AppendHex(line, {client_random.data, client_random.size});
  line += ' ';
  AppendHex(line, {secret->data, secret->size});
  line += '\n';
  // A reader may wait for the keys of a connection that is alive.
  std::fwrite(line.data(), 1, line.size(), reference->key_log);
  std::fflush(reference->key_log);
  return 0;
}

std::expected<void, QuicError> TlsClient::Trust(const std::filesystem::path &ca_file) {
  gnutls_certificate_credentials_t credentials = nullptr;
  if (const int rv = gnutls_certificate_allocate_credentials(&credentials); rv != 0) {
    return TlsFailure("credentials", rv);
  }
  credentials_.reset(credentials);
  if (ca_file.empty()) {
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

std::expected<void, QuicError> TlsClient::OpenSession() {
  gnutls_session_t session = nullptr;
  if (const int rv = gnutls_init(&session, GNUTLS_CLIENT); rv != 0) {
    return TlsFailure("session", rv);
  }
  session_.reset(session);
  if (const int rv = gnutls_priority_set_direct(session, kPriority, nullptr); rv != 0) {
    return TlsFailure("priorities", rv);
  }
  if (ngtcp2_crypto_gnutls_configure_client_session(session) != 0) {
    return std::unexpected(QuicError{QuicError::kTls, "session cannot be set up for QUIC"});
  }
  // The base, for ngtcp2 takes the pointer as one to it.
  gnutls_session_set_ptr(session, static_cast<ngtcp2_crypto_conn_ref *>(&reference_));
  if (const int rv = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials_.get());
      rv != 0) {
    return TlsFailure("credentials", rv);
  }

  unsigned char protocol[] = {'h', '3'};
  const gnutls_datum_t alpn{.data = protocol, .size = sizeof(protocol)};
  if (const int rv = gnutls_alpn_set_protocols(session, &alpn, 1, GNUTLS_ALPN_MANDATORY); rv != 0) {
    return TlsFailure("ALPN", rv);
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
  if (key_log_) {
    gnutls_session_set_keylog_function(session, WriteKey);
  }
  return {};
}

std::expected<std::unique_ptr<TlsClient>, QuicError>
TlsClient::Create(const std::string &server_name, const std::filesystem::path &ca_file,
                  const std::filesystem::path &key_log_file, ngtcp2_crypto_get_conn get_conn,
                  void *user_data) {
  std::unique_ptr<TlsClient> tls(new TlsClient);
  tls->name_ = server_name;
  tls->reference_.get_conn = get_conn;
  tls->reference_.user_data = user_data;
  if (!key_log_file.empty()) {
    tls->key_log_.reset(std::fopen(key_log_file.c_str(), "ae"));
    if (!tls->key_log_) {
      return std::unexpected(QuicError{
        QuicError::kQlog, "key log file " + key_log_file.string() + ": " + std::strerror(errno)});
    }
    tls->reference_.key_log = tls->key_log_.get();
  }
  if (auto trusted = tls->Trust(ca_file); !trusted) {
    return std::unexpected(std::move(trusted.error()));
  }
  if (auto opened = tls->OpenSession(); !opened) {
    return std::unexpected(std::move(opened.error()));
  }
  return tls;
}

std::string TlsClient::CertificateError() const {
  if (!verify_) {
    return {};
  }
  const auto status = gnutls_session_get_verify_cert_status(session_.get());
  // All ones: it was not looked at.
  if (status == 0 || status == static_cast<unsigned>(-1)) {
    return {};
  }
  gnutls_datum_t text;
  if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) != 0) {
    return "not acceptable";
  }
  std::string words(reinterpret_cast<const char *>(text.data), text.size);
  gnutls_free(text.data);
  // It ends with a blank, and its length counts the terminating zero in some versions.
  while (!words.empty() && (words.back() == ' ' || words.back() == '\0')) {
    words.pop_back();
  }
  return words;
}

} // namespace ngmasque
