// The server of the tests of quic/.

#include "quic_support.h"

#include "ngmasque/quic/socket_address.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

namespace quic_test {

using ngmasque::SocketAddress;

// GoogleTest's assertions return nothing, callbacks do.
#define MUST(condition) [&] { ASSERT_TRUE(condition); }()

struct ServerCallbacks {
  static Server &Self(void *user_data) { return *static_cast<Server *>(user_data); }

  static void Random(std::uint8_t *out, std::size_t size, const ngtcp2_rand_ctx *) {
    gnutls_rnd(GNUTLS_RND_NONCE, out, size);
  }

  static int NewId(ngtcp2_conn *, ngtcp2_cid *cid, ngtcp2_stateless_reset_token *token,
                   std::size_t size, void *) {
    cid->datalen = size;
    gnutls_rnd(GNUTLS_RND_NONCE, cid->data, size);
    gnutls_rnd(GNUTLS_RND_NONCE, token->data, sizeof(token->data));
    return 0;
  }

  static int TxKey(ngtcp2_conn *conn, ngtcp2_encryption_level level, void *user_data) {
    if (level != NGTCP2_ENCRYPTION_LEVEL_1RTT) {
      return 0;
    }
    auto &self = Self(user_data);
    nghttp3_settings settings;
    nghttp3_settings_default(&settings);
    settings.h3_datagram = self.options_.settings.datagrams;
    settings.h3_datagram_draft05 = self.options_.settings.draft_datagrams;
    settings.enable_connect_protocol = self.options_.settings.connect_protocol;
    settings.qpack_max_dtable_capacity = 4096;
    nghttp3_callbacks callbacks{};
    callbacks.recv_header = Header;
    callbacks.end_headers = [](nghttp3_conn *, std::int64_t, int, void *data, void *) {
      Self(data).order.emplace_back("request");
      return 0;
    };
    callbacks.recv_data = Data;
    callbacks.recv_settings2 = [](nghttp3_conn *, const nghttp3_proto_settings *got, void *data) {
      Self(data).client_settings = {.datagrams = got->h3_datagram != 0,
                                    .draft_datagrams = got->h3_datagram_draft05 != 0,
                                    .connect_protocol = got->enable_connect_protocol != 0};
      return 0;
    };
    nghttp3_conn_server_new(&self.h3_, &callbacks, &settings, nghttp3_mem_default(), &self);
    std::array<std::int64_t, 3> ids;
    for (auto &id : ids) {
      MUST(ngtcp2_conn_open_uni_stream(conn, &id, nullptr) == 0);
    }
    self.control_stream_ = ids[0];
    if (!self.options_.hold_settings) {
      self.SendSettings();
    }
    nghttp3_conn_bind_qpack_streams(self.h3_, ids[1], ids[2]);
    nghttp3_conn_set_max_client_streams_bidi(self.h3_, self.options_.max_streams);
    return 0;
  }

  static int Header(nghttp3_conn *, std::int64_t id, std::int32_t, nghttp3_rcbuf *name,
                    nghttp3_rcbuf *value, std::uint8_t, void *data, void *) {
    const auto text = [](const nghttp3_rcbuf *buffer) {
      const auto bytes = nghttp3_rcbuf_get_buf(buffer);
      return std::string(reinterpret_cast<const char *>(bytes.base), bytes.len);
    };
    Self(data).requests[id].push_back({.name = text(name), .value = text(value)});
    return 0;
  }

  static int Data(nghttp3_conn *, std::int64_t id, const std::uint8_t *bytes, std::size_t size,
                  void *data, void *) {
    auto &self = Self(data);
    auto &body = self.bodies[id];
    body.insert(body.end(), bytes, bytes + size);
    if (!self.stalled.contains(id)) {
      ngtcp2_conn_extend_max_stream_offset(self.conn_, id, size);
    }
    ngtcp2_conn_extend_max_offset(self.conn_, size);
    return 0;
  }

  static nghttp3_ssize Read(nghttp3_conn *, std::int64_t id, nghttp3_vec *vecs, std::size_t,
                            std::uint32_t *flags, void *data, void *) {
    auto &body = Self(data).bodies_out_[id];
    if (body.given < body.pieces.size()) {
      auto &piece = body.pieces[body.given++];
      vecs[0] = {.base = piece.data(), .len = piece.size()};
      return 1;
    }
    if (body.end) {
      *flags |= NGHTTP3_DATA_FLAG_EOF;
      return 0;
    }
    return NGHTTP3_ERR_WOULDBLOCK;
  }

  static int StreamData(ngtcp2_conn *conn, std::uint32_t flags, std::int64_t id, std::uint64_t,
                        const std::uint8_t *bytes, std::size_t size, void *data, void *) {
    const auto read = nghttp3_conn_read_stream2(Self(data).h3_, id, bytes, size,
                                                flags & NGTCP2_STREAM_DATA_FLAG_FIN,
                                                ngtcp2_conn_get_timestamp(conn));
    if (read < 0) {
      return NGTCP2_ERR_CALLBACK_FAILURE;
    }
    if (!Self(data).stalled.contains(id)) {
      ngtcp2_conn_extend_max_stream_offset(conn, id, static_cast<std::uint64_t>(read));
    }
    ngtcp2_conn_extend_max_offset(conn, static_cast<std::uint64_t>(read));
    return 0;
  }

  static int StreamClose(ngtcp2_conn *, std::uint32_t, std::int64_t id, std::uint64_t code,
                         void *data, void *) {
    auto &self = Self(data);
    self.closed[id] = code;
    if (ngtcp2_is_bidi_stream(id)) {
      ngtcp2_conn_extend_max_streams_bidi(self.conn_, 1);
    }
    (void)nghttp3_conn_close_stream(self.h3_, id, code);
    return 0;
  }

  static int StreamReset(ngtcp2_conn *, std::int64_t id, std::uint64_t, std::uint64_t, void *data,
                         void *) {
    return nghttp3_conn_shutdown_stream_read(Self(data).h3_, id);
  }

  static int StopSending(ngtcp2_conn *, std::int64_t id, std::uint64_t code, void *data, void *) {
    Self(data).stopped[id] = code;
    return 0;
  }

  static int Acked(ngtcp2_conn *, std::int64_t id, std::uint64_t, std::uint64_t size, void *data,
                   void *) {
    return nghttp3_conn_add_ack_offset(Self(data).h3_, id, size);
  }

  static int Window(ngtcp2_conn *, std::int64_t id, std::uint64_t, void *data, void *) {
    return nghttp3_conn_unblock_stream(Self(data).h3_, id);
  }

  static int Datagram(ngtcp2_conn *, std::uint32_t, const std::uint8_t *bytes, std::size_t size,
                      void *data) {
    Self(data).datagrams.emplace_back(bytes, bytes + size);
    Self(data).order.emplace_back("datagram");
    return 0;
  }

  static ngtcp2_callbacks Make() {
    ngtcp2_callbacks callbacks{};
    callbacks.recv_client_initial = ngtcp2_crypto_recv_client_initial_cb;
    callbacks.recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb;
    callbacks.encrypt = ngtcp2_crypto_encrypt_cb;
    callbacks.decrypt = ngtcp2_crypto_decrypt_cb;
    callbacks.hp_mask = ngtcp2_crypto_hp_mask_cb;
    callbacks.update_key = ngtcp2_crypto_update_key_cb;
    callbacks.delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb;
    callbacks.delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb;
    callbacks.version_negotiation = ngtcp2_crypto_version_negotiation_cb;
    callbacks.get_path_challenge_data2 = ngtcp2_crypto_get_path_challenge_data2_cb;
    callbacks.rand = Random;
    callbacks.get_new_connection_id2 = NewId;
    callbacks.recv_tx_key = TxKey;
    callbacks.recv_stream_data = StreamData;
    callbacks.stream_close = StreamClose;
    callbacks.stream_reset = StreamReset;
    callbacks.recv_stop_sending = StopSending;
    callbacks.acked_stream_data_offset = Acked;
    callbacks.extend_max_stream_data = Window;
    callbacks.recv_datagram = Datagram;
    return callbacks;
  }
};

namespace {

ngtcp2_path RawPath(SocketAddress &local, SocketAddress &remote) {
  return {.local = {.addr = local.get(), .addrlen = local.size()},
          .remote = {.addr = remote.get(), .addrlen = remote.size()},
          .user_data = nullptr};
}

} // namespace

Server::Server(Options options, const Certificate &certificate, const Packet &initial,
               ngmasque::Nanoseconds now)
  : options_(options) {
  const auto get_conn = [](ngtcp2_crypto_conn_ref *reference) {
    return static_cast<Server *>(reference->user_data)->conn_;
  };
  if (options.tls) {
    session_ = options.tls->NewSession(get_conn, this).value();
    tls_ = session_->session();
  } else {
    reference_.user_data = this;
    reference_.get_conn = get_conn;
    OpenPlainSession(certificate);
  }

  ngtcp2_pkt_hd header;
  MUST(ngtcp2_accept(&header, initial.bytes.data(), initial.bytes.size()) == 0);
  ngtcp2_settings settings;
  ngtcp2_settings_default(&settings);
  settings.initial_ts = now;
  settings.max_tx_udp_payload_size = options.max_udp_payload;
  settings.no_tx_udp_payload_size_shaping = 1;
  settings.no_pmtud = 1;
  ngtcp2_transport_params params;
  ngtcp2_transport_params_default(&params);
  params.initial_max_stream_data_bidi_remote = options.stream_window;
  params.initial_max_stream_data_uni = 1 << 20;
  params.initial_max_data = 1 << 24;
  params.initial_max_streams_bidi = options.max_streams;
  params.initial_max_streams_uni = 3;
  params.max_idle_timeout = 30 * NGTCP2_SECONDS;
  params.max_datagram_frame_size = options.max_datagram_frame;
  params.disable_active_migration = options.disable_migration;
  params.active_connection_id_limit = 4;
  if (options.preferred) {
    params.preferred_addr_present = 1;
    auto &preferred = params.preferred_addr;
    preferred.cid.datalen = 20;
    gnutls_rnd(GNUTLS_RND_NONCE, preferred.cid.data, preferred.cid.datalen);
    const SocketAddress address(*options.preferred);
    std::memcpy(&preferred.ipv4, address.get(), sizeof(preferred.ipv4));
    preferred.ipv4_present = 1;
  }
  params.original_dcid = header.dcid;
  params.original_dcid_present = 1;

  ngtcp2_cid scid{.datalen = 20, .data = {}};
  gnutls_rnd(GNUTLS_RND_NONCE, scid.data, scid.datalen);
  SocketAddress local(initial.path.local);
  SocketAddress remote(initial.path.remote);
  const auto raw = RawPath(local, remote);
  static const auto callbacks = ServerCallbacks::Make();
  MUST(ngtcp2_conn_server_new(&conn_, &header.scid, &scid, &raw, header.version, &callbacks,
                              &settings, &params, nullptr, this) == 0);
  ngtcp2_conn_set_tls_native_handle(conn_, tls_);
}

void Server::OpenPlainSession(const Certificate &certificate) {
  gnutls_init(&tls_, GNUTLS_SERVER);
  gnutls_priority_set_direct(tls_, "NORMAL:-VERS-ALL:+VERS-TLS1.3:%DISABLE_TLS13_COMPAT_MODE",
                             nullptr);
  ngtcp2_crypto_gnutls_configure_server_session(tls_);
  gnutls_session_set_ptr(tls_, &reference_);
  gnutls_credentials_set(tls_, GNUTLS_CRD_CERTIFICATE, certificate.credentials());
  unsigned char protocol[] = {'h', '3'};
  const gnutls_datum_t alpn{.data = protocol, .size = sizeof(protocol)};
  gnutls_alpn_set_protocols(tls_, &alpn, 1, GNUTLS_ALPN_MANDATORY);
  if (options_.ask_certificate) {
    gnutls_certificate_server_set_request(tls_, GNUTLS_CERT_REQUEST);
  }
}

Bytes Server::client_certificate() const {
  unsigned count = 0;
  const auto *chain = gnutls_certificate_get_peers(tls_, &count);
  return count == 0 ? Bytes() : Bytes(chain->data, chain->data + chain->size);
}

Server::~Server() {
  nghttp3_conn_del(h3_);
  ngtcp2_conn_del(conn_);
  if (!session_) {
    gnutls_deinit(tls_);
  }
}

void Server::Receive(const Packet &packet, ngmasque::Nanoseconds now) {
  path = packet.path;
  SocketAddress local(packet.path.local);
  SocketAddress remote(packet.path.remote);
  const auto raw = RawPath(local, remote);
  const ngtcp2_pkt_info pi{.ecn = static_cast<std::uint8_t>(packet.ecn)};
  switch (
    ngtcp2_conn_read_pkt(conn_, &raw, &pi, packet.bytes.data(), packet.bytes.size(), now)) {
  case NGTCP2_ERR_DRAINING: close_code = ngtcp2_conn_get_ccerr2(conn_)->error_code; break;
  case NGTCP2_ERR_CRYPTO: tls_alert = ngtcp2_conn_get_tls_alert2(conn_); break;
  }
}

std::vector<Packet> Server::Write(ngmasque::Nanoseconds now) {
  std::vector<Packet> out;
  if (close_packet_) {
    out.push_back(*std::exchange(close_packet_, {}));
  }
  for (;;) {
    ngtcp2_path_storage storage;
    ngtcp2_path_storage_zero(&storage);
    ngtcp2_pkt_info pi{};
    Bytes bytes(65536);
    ngtcp2_ssize written = 0;
    if (!datagrams_out_.empty()) {
      int accepted = 0;
      const ngtcp2_vec vec{.base = datagrams_out_.front().data(),
                           .len = datagrams_out_.front().size()};
      written = ngtcp2_conn_writev_datagram(conn_, &storage.path, &pi, bytes.data(), bytes.size(),
                                            &accepted, 0, 0, &vec, 1, now);
      if (accepted) {
        datagrams_out_.pop_front();
      }
    } else {
      std::int64_t id = -1;
      int fin = 0;
      std::array<nghttp3_vec, 8> vecs;
      const auto count =
        h3_ ? nghttp3_conn_writev_stream(h3_, &id, &fin, vecs.data(), vecs.size()) : 0;
      ngtcp2_ssize taken = -1;
      written = ngtcp2_conn_writev_stream(conn_, &storage.path, &pi, bytes.data(), bytes.size(),
                                          &taken, fin ? NGTCP2_WRITE_STREAM_FLAG_FIN : 0, id,
                                          reinterpret_cast<const ngtcp2_vec *>(vecs.data()),
                                          static_cast<std::size_t>(count), now);
      if (taken >= 0) {
        nghttp3_conn_add_write_offset(h3_, id, static_cast<std::size_t>(taken));
      } else if (written == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
        nghttp3_conn_block_stream(h3_, id);
        continue;
      } else if (written == NGTCP2_ERR_STREAM_SHUT_WR) {
        nghttp3_conn_shutdown_stream_write(h3_, id);
        continue;
      }
    }
    ngtcp2_conn_update_pkt_tx_time(conn_, now);
    if (written <= 0) {
      return out; // Nothing to send, or the connection is over.
    }
    bytes.resize(static_cast<std::size_t>(written));
    // To the client the other end is the local one.
    out.push_back({.path = {.local = *ngmasque::ToEndpoint(storage.path.remote.addr),
                            .remote = *ngmasque::ToEndpoint(storage.path.local.addr)},
                   .ecn = pi.ecn,
                   .bytes = std::move(bytes)});
  }
}

void Server::HandleExpiry(ngmasque::Nanoseconds now) {
  (void)ngtcp2_conn_handle_expiry(conn_, now);
}

ngmasque::Nanoseconds Server::Expiry() const {
  return close_code || ngtcp2_conn_in_closing_period2(conn_) ? ngmasque::kNever
                                                             : ngtcp2_conn_get_expiry2(conn_);
}

void Server::Respond(std::int64_t stream, const std::vector<ngmasque::HeaderField> &fields,
                     bool interim) {
  std::vector<nghttp3_nv> lines;
  for (const auto &field : fields) {
    lines.push_back({.name = reinterpret_cast<const std::uint8_t *>(field.name.data()),
                     .value = reinterpret_cast<const std::uint8_t *>(field.value.data()),
                     .namelen = field.name.size(),
                     .valuelen = field.value.size(),
                     .flags = NGHTTP3_NV_FLAG_NONE});
  }
  const nghttp3_data_reader reader{.read_data = ServerCallbacks::Read};
  ASSERT_EQ(interim
              ? nghttp3_conn_submit_info(h3_, stream, lines.data(), lines.size())
              : nghttp3_conn_submit_response(h3_, stream, lines.data(), lines.size(), &reader),
            0);
}

} // namespace quic_test
