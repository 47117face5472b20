// Http3Server: one of its connections.

#include "endpoint_setup.h"
#include "http3_server_impl.h"

#include "ngmasque/quic/socket_address.h"

#include <algorithm>

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2_crypto.h>

namespace ngmasque {

namespace {

// There is no TLS any more once the handshake is complete.
//
//= RFC 9001, section 6
//# Endpoints MUST treat the receipt of a TLS KeyUpdate message as a connection error of type 0x010a,
//# equivalent to a fatal TLS alert of unexpected_message; see Section 4.8.
//
// Nor is there another message that a client may send, as no certificate is asked of it any more.
int RecvCryptoData(ngtcp2_conn *conn, ngtcp2_encryption_level level, std::uint64_t offset,
                   const std::uint8_t *data, std::size_t size, void *user_data) {
  if (static_cast<Http3Endpoint::Impl *>(user_data)->tls) {
    return ngtcp2_crypto_recv_crypto_data_cb(conn, level, offset, data, size, user_data);
  }
  ngtcp2_conn_set_tls_alert(conn, GNUTLS_A_UNEXPECTED_MESSAGE);
  return NGTCP2_ERR_CRYPTO;
}

const ngtcp2_callbacks &Callbacks() {
  static const ngtcp2_callbacks callbacks = [] {
    auto made = Http3Endpoint::Impl::MakeCallbacks();
    made.recv_client_initial = ngtcp2_crypto_recv_client_initial_cb;
    made.recv_crypto_data = RecvCryptoData;
    return made;
  }();
  return callbacks;
}

ConnectionId ToConnectionId(const ngtcp2_cid &cid) {
  return *ConnectionId::From({cid.data, cid.datalen});
}

} // namespace

std::vector<ConnectionId> Http3Server::Connection::local_ids() const {
  const auto *conn = endpoint().conn.get();
  std::vector<ngtcp2_cid> cids(ngtcp2_conn_get_scid2(conn, nullptr));
  ngtcp2_conn_get_scid2(conn, cids.data());
  std::vector<ConnectionId> ids;
  ids.reserve(cids.size());
  std::ranges::transform(cids, std::back_inserter(ids), ToConnectionId);
  return ids;
}

std::string_view Http3Server::Connection::client_name() const {
  return static_cast<const ServerConnection &>(*this).client_name;
}

void Http3Server::Connection::RestartIdleTimer(Nanoseconds now) {
  ngtcp2_conn_restart_idle_timer(endpoint().conn.get(), now);
}

void Http3Server::Connection::CloseSoon(std::uint64_t code) {
  auto &self = static_cast<ServerConnection &>(*this);
  self.close_code = code;
  OnWantWrite();
}

ServerConnection::ServerConnection(Http3Server::Impl &server, const Http3Server::Options &options)
  : Connection(Role::kServer, options.features, options.queues),
    server_(server),
    options_(options) {}

ServerConnection::~ServerConnection() = default;

std::expected<void, QuicError> ServerConnection::Start(const FourTuple &path,
                                                       const Acceptor::Accept &accept,
                                                       Nanoseconds now) {
  auto &impl = endpoint();
  impl.buffer = server_.buffer;
  impl.reset_secret = server_.ids.reset_secret();
  impl.draw_id = [this](std::span<std::uint8_t> id) {
    return server_.ids.Draw(options_.worker, id);
  };
  ngtcp2_cid scid;
  if (!impl.DrawLocalId(scid, nullptr)) {
    return std::unexpected(QuicError{QuicError::kInternal, "no connection ID can be drawn"});
  }
  // It is new, as the packet would not have come here otherwise.
  (void)OnNewLocalId(ToConnectionId(accept.header.dcid));

  ngtcp2_settings settings;
  ngtcp2_transport_params params;
  if (auto prepared =
        PrepareConnection(impl,
                          {.qlog_dir = options_.qlog_dir,
                           .hold_qlog = true,
                           .idle_timeout = options_.idle_timeout,
                           .handshake_timeout = options_.handshake_timeout,
                           .max_udp_payload = options_.max_udp_payload,
                           // A client whose first packets are large has a path for such ones.
                           .probe_path = accept.packet_size < options_.max_udp_payload,
                           .features = options_.features},
                          scid, now, settings, params);
      !prepared) {
    return prepared;
  }
  settings.token = accept.header.token;
  settings.tokenlen = accept.header.tokenlen;
  settings.token_type = accept.token_type;
  params.original_dcid_present = 1;
  params.original_dcid = accept.header.dcid;
  if (accept.original_dcid) {
    params.original_dcid = *accept.original_dcid;
    params.retry_scid_present = 1;
    params.retry_scid = accept.header.dcid;
  }
  params.initial_max_stream_data_bidi_remote = kStreamWindow;
  params.initial_max_streams_bidi = options_.max_requests;
  params.stateless_reset_token_present = 1;
  if (ngtcp2_crypto_generate_stateless_reset_token(
        params.stateless_reset_token, impl.reset_secret.data(), impl.reset_secret.size(), &scid) !=
      0) {
    return std::unexpected(QuicError{QuicError::kInternal, "stateless reset token"});
  }

  QuicPath quic_path(path);
  const auto raw_path = quic_path.get();
  ngtcp2_conn *raw = nullptr;
  if (const int rv = ngtcp2_conn_server_new(&raw, &accept.header.scid, &scid, &raw_path,
                                            accept.header.version, &Callbacks(), &settings,
                                            &params, nullptr, &impl);
      rv != 0) {
    return std::unexpected(QuicError{QuicError::kInternal, ngtcp2_strerror(rv)});
  }
  impl.Attach(raw);

  auto session = server_.tls->NewSession(Http3Endpoint::Impl::Conn, &impl);
  if (!session) {
    return std::unexpected(std::move(session.error()));
  }
  impl.tls = *std::move(session);
  ngtcp2_conn_set_tls_native_handle(raw, impl.tls->session());
  return {};
}

void ServerConnection::OnHandshakeCompleted() {
  handshake_completed = true;
  if (auto &qlog = endpoint().qlog) {
    qlog->Keep();
  }
  server_.EndHandshake(*this);
  ++server_.handshakes;
  // For the next connection, which takes a round trip more if there is no token or ticket: RFC 9000,
  // section 8.1.3, and RFC 9001, section 4.5.
  auto *conn = endpoint().conn.get();
  if (const auto token =
        server_.acceptor.NewToken(path().remote, ngtcp2_conn_get_timestamp(conn))) {
    (void)ngtcp2_conn_submit_new_token(conn, token->data(), token->size());
  }
  auto &tls = static_cast<TlsServerSession &>(*endpoint().tls);
  client_name = tls.ClientName();
  (void)tls.SendTicket();
  local_ = path().local;
  if (server_.move_on_handshake) {
    Move(*server_.move_on_handshake);
  }
  if (auto *handler = server_.handler.OnConnection(*this)) {
    SetHandler(handler);
  } else {
    CloseSoon(kH3ExcessiveLoad);
  }
}

// What TLS has is more than a fifth of what a connection takes.
void ServerConnection::Deliver() {
  auto &impl = endpoint();
  if (handshake_completed && impl.tls) {
    ngtcp2_conn_set_tls_native_handle(impl.conn.get(), nullptr);
    impl.tls.reset();
  }
  // It is empty while the client is on its way.
  if (handshake_completed && impl.told_path != FourTuple() && impl.told_path.local != local_) {
    local_ = impl.told_path.local;
    ++server_.moves;
  }
}

bool ServerConnection::OnNewLocalId(const ConnectionId &id) {
  if (!server_.by_id.emplace(id, this).second) {
    return false;
  }
  ids_.push_back(id);
  return true;
}

void ServerConnection::OnRetiredLocalId(const ConnectionId &id) {
  server_.Forget(id);
  std::erase(ids_, id);
}

void ServerConnection::OnWantWrite() { server_.Queue(*this); }

void ServerConnection::Move(const Endpoint &address) {
  next_ = address;
  OnWantWrite();
}

// What is left of it is tried again when something has come: a client that has used all connection IDs
// says so when it retires one.
bool ServerConnection::Announce() {
  auto &impl = endpoint();
  if (!next_ || impl.state != Http3Endpoint::Impl::State::kOpen || !handshake_completed) {
    return false;
  }
  auto *conn = impl.conn.get();
  if (!ngtcp2_conn_get_remote_transport_params2(conn)->enable_server_migration ||
      (*next_ == path().local && !ngtcp2_conn_get_server_alternate_address(conn))) {
    next_.reset();
    return false;
  }
  const SocketAddress address(*next_);
  const bool ipv4 = address.family() == AF_INET;
  const int rv = ngtcp2_conn_submit_server_alternate_address2(
    conn,
    options_.same_path ? NGTCP2_SERVER_ALT_ADDR_FLAG_SAME_PATH : NGTCP2_SERVER_ALT_ADDR_FLAG_NONE,
    ipv4 ? reinterpret_cast<const ngtcp2_sockaddr_in *>(address.get()) : nullptr,
    ipv4 ? nullptr : reinterpret_cast<const ngtcp2_sockaddr_in6 *>(address.get()), nullptr);
  if (rv == NGTCP2_ERR_CONN_ID_BLOCKED || rv == NGTCP2_ERR_INVALID_STATE) {
    return false;
  }
  next_.reset(); // With another error the client would refuse to go there.
  server_.announced += rv == 0;
  return rv == 0;
}

// A request that was sent before the client had the first GOAWAY is here within a round trip after it
// was sent; a probe timeout is as long at least.
void ServerConnection::Drain(Nanoseconds now) {
  auto &impl = endpoint();
  if (impl.state != Http3Endpoint::Impl::State::kOpen) {
    return;
  }
  if (!handshake_completed) {
    impl.Refuse();
  } else if (!close_code) {
    AnnounceGoAway();
    last_call_ = now + ngtcp2_conn_get_pto2(impl.conn.get());
    ++server_.in_last_call;
  }
  OnWantWrite();
}

void ServerConnection::HandleExpiry(Nanoseconds now) {
  if (last_call_ <= now) {
    last_call_ = kNever;
    --server_.in_last_call;
    gone_away_ = true;
    if (!GoAway()) {
      CloseSoon(kH3InternalError);
    }
  }
  if (Http3Endpoint::Expiry() <= now) {
    Http3Endpoint::HandleExpiry(now);
  }
}

void ServerConnection::Write(Nanoseconds now, const BurstSink &sink) {
  auto &impl = endpoint();
  if (close_code && impl.state == Http3Endpoint::Impl::State::kOpen) {
    impl.FailLocal(*close_code);
  }
  Announce();
  WritePackets(now, sink);
  if (Announce()) { // Connection IDs are issued while packets are written.
    OnWantWrite();
  }
  if (gone_away_ && impl.state == Http3Endpoint::Impl::State::kOpen && drained()) {
    CloseSoon(kH3NoError); // It comes again.
  }
}

} // namespace ngmasque
