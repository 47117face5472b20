#include "tls_common.h"

#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <type_traits>

namespace ngmasque {

namespace {

// What the sample programs of ngtcp2 offer: RFC 9001 leaves no more of TLS 1.3.
constexpr const char *kPriority =
  "%DISABLE_TLS13_COMPAT_MODE:NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:"
  "+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-CCM:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:"
  "+GROUP-SECP384R1:+GROUP-SECP521R1";

using Priority =
  std::unique_ptr<std::remove_pointer_t<gnutls_priority_t>, Destroy<gnutls_priority_deinit>>;

// Read once, for all sessions: each of its own would take 8 kB.
std::expected<gnutls_priority_t, int> ReadPriority() {
  static const auto read = []() -> std::expected<Priority, int> {
    gnutls_priority_t priority = nullptr;
    if (const int rv = gnutls_priority_init(&priority, kPriority, nullptr); rv != 0) {
      return std::unexpected(rv);
    }
    return Priority(priority);
  }();
  return read.transform([](const Priority &priority) { return priority.get(); });
}

void AppendHex(std::string &line, std::span<const unsigned char> bytes) {
  for (const auto byte : bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    line += kDigits[byte >> 4];
    line += kDigits[byte & 0xf];
  }
}

int WriteKey(gnutls_session_t session, const char *label, const gnutls_datum_t *secret) {
  const auto *reference = static_cast<TlsReference *>(
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

} // namespace

std::unexpected<QuicError> TlsFailure(std::string_view what, int code) {
  return std::unexpected(
    QuicError{QuicError::kTls, std::string(what) + ": " + gnutls_strerror(code)});
}

std::string CertificateProblem(unsigned status) {
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

std::uint8_t CertificateAlert(unsigned status) {
  if (status & GNUTLS_CERT_REVOKED) {
    return GNUTLS_A_CERTIFICATE_REVOKED;
  }
  if (status & (GNUTLS_CERT_SIGNER_NOT_FOUND | GNUTLS_CERT_SIGNER_NOT_CA)) {
    return GNUTLS_A_UNKNOWN_CA;
  }
  // "A certificate has expired or is not currently valid."
  if (status & (GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED)) {
    return GNUTLS_A_CERTIFICATE_EXPIRED;
  }
  return GNUTLS_A_BAD_CERTIFICATE;
}

std::expected<File, QuicError> OpenKeyLog(const std::filesystem::path &file) {
  if (file.empty()) {
    return File();
  }
  File opened(std::fopen(file.c_str(), "ae"));
  if (!opened) {
    return std::unexpected(
      QuicError{QuicError::kQlog, "key log file " + file.string() + ": " + std::strerror(errno)});
  }
  return opened;
}

std::expected<void, QuicError> ConfigureTls(gnutls_session_t session,
                                            gnutls_certificate_credentials_t credentials,
                                            TlsReference &reference) {
  const auto priority = ReadPriority();
  if (const int rv = priority ? gnutls_priority_set(session, *priority) : priority.error();
      rv != 0) {
    return TlsFailure("priorities", rv);
  }
  // The base, for ngtcp2 takes the pointer as one to it.
  gnutls_session_set_ptr(session, static_cast<ngtcp2_crypto_conn_ref *>(&reference));
  if (const int rv = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
      rv != 0) {
    return TlsFailure("credentials", rv);
  }
  unsigned char protocol[] = {'h', '3'};
  const gnutls_datum_t alpn{.data = protocol, .size = sizeof(protocol)};
  if (const int rv = gnutls_alpn_set_protocols(session, &alpn, 1, GNUTLS_ALPN_MANDATORY); rv != 0) {
    return TlsFailure("ALPN", rv);
  }
  if (reference.key_log) {
    gnutls_session_set_keylog_function(session, WriteKey);
  }
  return {};
}

} // namespace ngmasque
