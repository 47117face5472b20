// Http3Endpoint: the end of a connection.

#include "http3_endpoint_impl.h"

#include <algorithm>
#include <format>

#include <gnutls/gnutls.h>

namespace ngmasque {

namespace {

using Impl = Http3Endpoint::Impl;

// For logs: a peer's words are not to be trusted.
std::string Printable(std::span<const std::uint8_t> bytes) {
  constexpr std::size_t kMaxText = 256;
  std::string text;
  for (const auto byte : bytes.first(std::min(bytes.size(), kMaxText))) {
    text += byte >= 0x20 && byte < 0x7f ? static_cast<char>(byte) : '?';
  }
  return text;
}

CloseReason PeerReason(const ngtcp2_ccerr &error) {
  const bool application = error.type == NGTCP2_CCERR_TYPE_APPLICATION;
  auto text = std::format("closed by the peer with {} error {:#x}", application ? "HTTP/3" : "QUIC",
                          error.error_code);
  // RFC 9001, section 4.8: an alert, with its description in the last byte.
  if (!application && error.error_code >> 8 == 1) {
    const auto *name =
      gnutls_alert_get_name(static_cast<gnutls_alert_description_t>(error.error_code & 0xff));
    text += std::format(" (TLS: {})", name ? name : "unknown alert");
  }
  if (error.reasonlen != 0) {
    text += ": " + Printable({error.reason, error.reasonlen});
  }
  return {.kind = CloseKind::kPeer,
          .application = application,
          .code = error.error_code,
          .text = std::move(text)};
}

} // namespace

void Impl::Fail(int error) {
  if (state != State::kOpen) {
    return;
  }
  state = State::kClosePacket;
  self.CloseHttp3();
  switch (error) {
  case NGTCP2_ERR_DRAINING:
    state = State::kClosed;
    lingers = !stateless_reset;
    reason = stateless_reset ? CloseReason{.kind = CloseKind::kStatelessReset,
                                           .text = "the peer has reset the connection"}
                             : PeerReason(*ngtcp2_conn_get_ccerr2(conn.get()));
    break;
  case NGTCP2_ERR_IDLE_CLOSE:
    state = State::kClosed;
    reason = {.kind = CloseKind::kIdleTimeout, .text = "idle timeout"};
    break;
  case NGTCP2_ERR_RETRY: retry = true; [[fallthrough]];
  case NGTCP2_ERR_DROP_CONN:
  case NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
    state = State::kClosed;
    reason = {.kind = CloseKind::kProtocol, .text = ngtcp2_strerror(error)};
    break;
  case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
    reason = {.kind = CloseKind::kHandshakeTimeout, .text = "handshake timeout"};
    ngtcp2_ccerr_set_liberr(&close_error, error, nullptr, 0);
    break;
  case NGTCP2_ERR_CRYPTO: {
    const auto own = tls ? tls->CertificateAlert() : std::nullopt;
    const auto alert = own.value_or(ngtcp2_conn_get_tls_alert2(conn.get()));
    ngtcp2_ccerr_set_tls_alert(&close_error, alert, nullptr, 0);
    const auto certificate = tls ? tls->CertificateError() : std::string();
    const auto *name = gnutls_alert_get_name(static_cast<gnutls_alert_description_t>(alert));
    reason = certificate.empty()
               ? CloseReason{.kind = CloseKind::kTls,
                             .code = close_error.error_code,
                             .text = std::format("TLS handshake: {}", name ? name : "failed")}
               : CloseReason{.kind = CloseKind::kCertificate,
                             .code = close_error.error_code,
                             .text = "certificate of the peer: " + certificate};
    break;
  }
  default:
    if (const auto &failure = self.failure()) {
      // close_error points into it.
      ngtcp2_ccerr_set_application_error(
        &close_error, failure->code, reinterpret_cast<const std::uint8_t *>(failure->text.data()),
        failure->text.size());
      reason = {.kind = CloseKind::kProtocol,
                .application = true,
                .code = failure->code,
                .text = failure->text};
      break;
    }
    ngtcp2_ccerr_set_liberr(&close_error, error, nullptr, 0);
    reason = {.kind = ngtcp2_err_is_fatal(error) || error == NGTCP2_ERR_INTERNAL
                        ? CloseKind::kInternal
                        : CloseKind::kProtocol,
              .code = close_error.error_code,
              .text = ngtcp2_strerror(error)};
  }
  tell_closed = true;
}

void Impl::FailLocal(std::uint64_t code) {
  if (state != State::kOpen) {
    return;
  }
  state = State::kClosePacket;
  self.CloseHttp3();
  ngtcp2_ccerr_set_application_error(&close_error, code, nullptr, 0);
  reason = {.kind = CloseKind::kLocal, .application = true, .code = code, .text = "closed"};
  tell_closed = true;
}

void Impl::Refuse() {
  FailLocal(NGTCP2_CONNECTION_REFUSED);
  ngtcp2_ccerr_set_transport_error(&close_error, NGTCP2_CONNECTION_REFUSED, nullptr, 0);
  reason.application = false;
}

void Impl::WriteClose(Nanoseconds now, const BurstSink &sink) {
  state = State::kClosed;
  self.CloseHttp3();
  ngtcp2_path_storage storage;
  ngtcp2_path_storage_zero(&storage);
  ngtcp2_pkt_info pi{};
  const auto written = ngtcp2_conn_write_connection_close(
    conn.get(), &storage.path, &pi, buffer.data(), buffer.size(), &close_error, now);
  if (written > 0) {
    const auto size = static_cast<std::size_t>(written);
    close_size = size;
    lingers = true;
    // A client sends it once: a server that does not get it has its idle timeout.
    (void)sink({.path = ToFourTuple(storage.path),
                .ecn = pi.ecn,
                .data = {buffer.data(), size},
                .segment = size});
  }
}

} // namespace ngmasque
