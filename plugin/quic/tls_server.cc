#include "tls_server.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <string_view>
#include <type_traits>
#include <utility>

#include <gnutls/x509.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

namespace ngmasque {

namespace {

//= RFC 9001, section 4.6.1
//# Servers MUST NOT send the early_data extension with a max_early_data_size field set to any value
//# other than 0xffffffff.
constexpr std::uint32_t kMaxEarlyData = 0xffffffff;

// GnuTLS asks whether a ClientHello with early data is new, after it has looked at its age.  Any
// is: HTTP does nothing that a replay could repeat with what comes early, but to answer it with
// 425.
int TakeAsNew(void *, std::time_t, const gnutls_datum_t *, const gnutls_datum_t *) { return 0; }

//= RFC 9001, section 8.1
//# When using ALPN, endpoints MUST immediately close a connection (see Section 10.2 of
//# [QUIC-TRANSPORT]) with a no_application_protocol TLS alert (QUIC error code 0x0178; see Section
//# 4.8) if an application protocol is not negotiated.
//
// GnuTLS does so for a client that offers others, and not for one that offers none.
int OnClientHello(gnutls_session_t session, unsigned, unsigned, unsigned, const gnutls_datum_t *) {
  gnutls_datum_t protocol;
  return gnutls_alpn_get_selected_protocol(session, &protocol) == 0
           ? 0
           : GNUTLS_E_NO_APPLICATION_PROTOCOL;
}

// For logs, and to compare with what an operator has written down.
bool IsPlain(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](char c) { return c > 0x20 && c < 0x7f; });
}

using X509 = std::unique_ptr<std::remove_pointer_t<gnutls_x509_crt_t>,
                             Destroy<gnutls_x509_crt_deinit>>;

// The first one of this kind; empty if there is none.
std::string AltName(gnutls_x509_crt_t certificate, unsigned kind) {
  constexpr unsigned kMaxNames = 64;
  for (unsigned i = 0; i < kMaxNames; ++i) {
    std::array<char, 256> name;
    std::size_t size = name.size();
    unsigned type = 0;
    const int rv = gnutls_x509_crt_get_subject_alt_name2(certificate, i, name.data(), &size, &type,
                                                         nullptr);
    if (rv == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) {
      return {};
    }
    if (rv >= 0 && type == kind) {
      return {name.data(), size};
    }
  }
  return {};
}

std::string CommonName(gnutls_x509_crt_t certificate) {
  std::array<char, 256> name;
  std::size_t size = name.size();
  return gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name.data(),
                                       &size) == 0
           ? std::string(name.data(), size)
           : std::string();
}

} // namespace

struct TlsServerContext::Shared {
  Shared() = default;
  Shared(const Shared &) = delete;
  Shared &operator=(const Shared &) = delete;
  ~Shared() {
    gnutls_anti_replay_deinit(anti_replay);
    if (ticket_key.data) {
      gnutls_memset(ticket_key.data, 0, ticket_key.size);
      gnutls_free(ticket_key.data);
    }
  }

  File key_log;
  gnutls_datum_t ticket_key{}; // See TicketKey.
  gnutls_anti_replay_t anti_replay = nullptr;
};

// GnuTLS chooses among several certificates by the name that the client asks for.
std::expected<TlsCredentials, QuicError>
TlsServerContext::Load(std::span<const CertificateAndKey> certificates) const {
  gnutls_certificate_credentials_t raw = nullptr;
  if (const int rv = gnutls_certificate_allocate_credentials(&raw); rv != 0) {
    return TlsFailure("credentials", rv);
  }
  TlsCredentials credentials(raw);
  if (certificates.empty()) {
    return std::unexpected(QuicError{QuicError::kTls, "no certificate"});
  }
  for (const auto &[certificate_file, key_file] : certificates) {
    // It makes sure that they belong together.
    if (const int rv = gnutls_certificate_set_x509_key_file(raw, certificate_file.c_str(),
                                                            key_file.c_str(), GNUTLS_X509_FMT_PEM);
        rv < 0) {
      return TlsFailure(
        "certificate file " + certificate_file.string() + ", key file " + key_file.string(), rv);
    }
  }
  if (options_.client_certificates == ClientCertificates::kNone) {
    return credentials;
  }
  const auto &ca_file = options_.client_ca_file;
  const int issuers =
    gnutls_certificate_set_x509_trust_file(raw, ca_file.c_str(), GNUTLS_X509_FMT_PEM);
  if (issuers < 0) {
    return TlsFailure("CA file for clients " + ca_file.string(), issuers);
  }
  if (issuers == 0) {
    return std::unexpected(QuicError{
      QuicError::kTls, "CA file for clients " + ca_file.string() + ": no certificate in it"});
  }
  return credentials;
}

std::expected<std::unique_ptr<TlsServerContext>, QuicError>
TlsServerContext::Create(Options options) {
  auto shared = std::make_shared<Shared>();
  auto key_log = OpenKeyLog(options.key_log_file);
  if (!key_log) {
    return std::unexpected(std::move(key_log.error()));
  }
  shared->key_log = *std::move(key_log);
  if (const int rv = gnutls_session_ticket_key_generate(&shared->ticket_key); rv != 0) {
    return TlsFailure("key of session tickets", rv);
  }
  if (const auto &key = options.ticket_key) {
    // GnuTLS has its own idea of how long it is.
    if (shared->ticket_key.size != key->size()) {
      return std::unexpected(QuicError{QuicError::kTls, "key of session tickets"});
    }
    std::ranges::copy(*key, shared->ticket_key.data);
  }
  if (const int rv = gnutls_anti_replay_init(&shared->anti_replay); rv != 0) {
    return TlsFailure("early data", rv);
  }
  gnutls_anti_replay_set_add_function(shared->anti_replay, TakeAsNew);

  std::unique_ptr<TlsServerContext> context(new TlsServerContext(std::move(options)));
  context->shared_ = std::move(shared);
  if (auto loaded = context->Replace(context->options_.certificates); !loaded) {
    return std::unexpected(std::move(loaded.error()));
  }
  return context;
}

std::expected<void, QuicError>
TlsServerContext::Replace(std::span<const CertificateAndKey> certificates) {
  auto loaded = Load(certificates);
  if (!loaded) {
    return std::unexpected(std::move(loaded.error()));
  }
  credentials_ = std::make_shared<const TlsCredentials>(*std::move(loaded));
  return {};
}

std::expected<std::unique_ptr<TlsServerSession>, QuicError>
TlsServerContext::NewSession(ngtcp2_crypto_get_conn get_conn, void *user_data) const {
  std::unique_ptr<TlsServerSession> session(new TlsServerSession);
  session->shared_ = shared_;
  session->credentials_ = credentials_;
  session->reference_.get_conn = get_conn;
  session->reference_.user_data = user_data;
  session->reference_.key_log = shared_->key_log.get();
  session->asks_ = options_.client_certificates;
  if (auto opened = session->Open(); !opened) {
    return std::unexpected(std::move(opened.error()));
  }
  return session;
}

std::expected<void, QuicError> TlsServerSession::Open() {
  gnutls_session_t session = nullptr;
  // Tickets wait for the keys that they are sent with; RFC 9001, section 8.3, has no
  // EndOfEarlyData.
  if (const int rv = gnutls_init(&session, GNUTLS_SERVER | GNUTLS_ENABLE_EARLY_DATA |
                                             GNUTLS_NO_AUTO_SEND_TICKET |
                                             GNUTLS_NO_END_OF_EARLY_DATA);
      rv != 0) {
    return TlsFailure("session", rv);
  }
  session_.reset(session);
  if (auto configured = ConfigureTls(session, credentials_->get(), reference_); !configured) {
    return configured;
  }
  if (ngtcp2_crypto_gnutls_configure_server_session(session) != 0) {
    return std::unexpected(QuicError{QuicError::kTls, "session cannot be set up for QUIC"});
  }
  // A connection that is resumed shows no certificate.
  if (asks_ != ClientCertificates::kNone) {
    Ask();
  } else if (const int rv = gnutls_session_ticket_enable_server(session, &shared_->ticket_key);
             rv != 0) {
    return TlsFailure("session tickets", rv);
  }
  gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_CLIENT_HELLO, GNUTLS_HOOK_POST,
                                     OnClientHello);
  gnutls_anti_replay_enable(session, shared_->anti_replay);
  if (const int rv = gnutls_record_set_max_early_data_size(session, kMaxEarlyData); rv != 0) {
    return TlsFailure("early data", rv);
  }
  return {};
}

void TlsServerSession::Ask() {
  reference_.server = this;
  gnutls_certificate_server_set_request(session_.get(), asks_ == ClientCertificates::kRequired
                                                          ? GNUTLS_CERT_REQUIRE
                                                          : GNUTLS_CERT_REQUEST);
  gnutls_session_set_verify_function(session_.get(), [](gnutls_session_t session) {
    auto *reference = static_cast<TlsReference *>(
      static_cast<ngtcp2_crypto_conn_ref *>(gnutls_session_get_ptr(session)));
    return reference->server->Verify();
  });
}

int TlsServerSession::Verify() {
  unsigned count = 0;
  if (!gnutls_certificate_get_peers(session_.get(), &count) || count == 0) {
    // If one is required, GnuTLS has ended it before, with certificate_required.
    return asks_ == ClientCertificates::kRequired ? GNUTLS_E_NO_CERTIFICATE_FOUND : 0;
  }
  std::string purpose = GNUTLS_KP_TLS_WWW_CLIENT;
  gnutls_typed_vdata_st data{.type = GNUTLS_DT_KEY_PURPOSE_OID,
                             .data = reinterpret_cast<unsigned char *>(purpose.data()),
                             .size = 0};
  const int rv = gnutls_certificate_verify_peers(session_.get(), &data, 1, &status_);
  if (rv != 0) {
    status_ = GNUTLS_CERT_INVALID;
    return rv;
  }
  return status_ == 0 ? 0 : GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
}

std::string TlsServerSession::CertificateError() const {
  return status_ == 0 ? std::string() : CertificateProblem(status_);
}

std::optional<std::uint8_t> TlsServerSession::CertificateAlert() const {
  return status_ == 0 ? std::nullopt : std::optional(ngmasque::CertificateAlert(status_));
}

std::string TlsServerSession::ClientName() const {
  unsigned count = 0;
  const auto *chain = asks_ == ClientCertificates::kNone
                        ? nullptr
                        : gnutls_certificate_get_peers(session_.get(), &count);
  gnutls_x509_crt_t raw = nullptr;
  if (!chain || count == 0 || gnutls_x509_crt_init(&raw) != 0) {
    return {};
  }
  const X509 certificate(raw);
  if (gnutls_x509_crt_import(raw, chain, GNUTLS_X509_FMT_DER) != 0) {
    return {};
  }
  for (auto &name : {AltName(raw, GNUTLS_SAN_DNSNAME), AltName(raw, GNUTLS_SAN_RFC822NAME),
                     CommonName(raw)}) {
    if (!name.empty()) {
      return IsPlain(name) ? name : std::string();
    }
  }
  return {};
}

std::expected<void, QuicError> TlsServerSession::SendTicket() {
  if (asks_ != ClientCertificates::kNone) {
    return {};
  }
  if (const int rv = gnutls_session_ticket_send(session_.get(), 1, 0); rv != 0) {
    return TlsFailure("session ticket", rv);
  }
  return {};
}

} // namespace ngmasque
