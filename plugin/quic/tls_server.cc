#include "tls_server.h"

#include <ctime>
#include <utility>

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

std::expected<TlsCredentials, QuicError> Load(const std::filesystem::path &certificate_file,
                                              const std::filesystem::path &key_file) {
  gnutls_certificate_credentials_t raw = nullptr;
  if (const int rv = gnutls_certificate_allocate_credentials(&raw); rv != 0) {
    return TlsFailure("credentials", rv);
  }
  TlsCredentials credentials(raw);
  // It makes sure that they belong together.
  if (const int rv = gnutls_certificate_set_x509_key_file(raw, certificate_file.c_str(),
                                                          key_file.c_str(), GNUTLS_X509_FMT_PEM);
      rv < 0) {
    return TlsFailure(
      "certificate file " + certificate_file.string() + ", key file " + key_file.string(), rv);
  }
  return credentials;
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
  gnutls_datum_t ticket_key{}; // GnuTLS derives keys from it that it changes now and then.
  gnutls_anti_replay_t anti_replay = nullptr;
};

std::expected<std::unique_ptr<TlsServerContext>, QuicError>
TlsServerContext::Create(const std::filesystem::path &certificate_file,
                         const std::filesystem::path &key_file,
                         const std::filesystem::path &key_log_file) {
  auto shared = std::make_shared<Shared>();
  auto key_log = OpenKeyLog(key_log_file);
  if (!key_log) {
    return std::unexpected(std::move(key_log.error()));
  }
  shared->key_log = *std::move(key_log);
  if (const int rv = gnutls_session_ticket_key_generate(&shared->ticket_key); rv != 0) {
    return TlsFailure("key of session tickets", rv);
  }
  if (const int rv = gnutls_anti_replay_init(&shared->anti_replay); rv != 0) {
    return TlsFailure("early data", rv);
  }
  gnutls_anti_replay_set_add_function(shared->anti_replay, TakeAsNew);

  std::unique_ptr<TlsServerContext> context(new TlsServerContext);
  context->shared_ = std::move(shared);
  if (auto loaded = context->Replace(certificate_file, key_file); !loaded) {
    return std::unexpected(std::move(loaded.error()));
  }
  return context;
}

std::expected<void, QuicError>
TlsServerContext::Replace(const std::filesystem::path &certificate_file,
                          const std::filesystem::path &key_file) {
  auto loaded = Load(certificate_file, key_file);
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
  if (const int rv = gnutls_session_ticket_enable_server(session, &shared_->ticket_key); rv != 0) {
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

std::expected<void, QuicError> TlsServerSession::SendTicket() {
  if (const int rv = gnutls_session_ticket_send(session_.get(), 1, 0); rv != 0) {
    return TlsFailure("session ticket", rv);
  }
  return {};
}

} // namespace ngmasque
