// A client for tests of servers, at its plainest.
#pragma once

#include "quic_support.h"

#include "ngmasque/quic/socket_address.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

namespace quic_test {

// A client that is nothing but ngtcp2 and GnuTLS.
class RawClient {
public:
  // No ALPN at all without a `protocol`.
  explicit RawClient(std::optional<std::string> protocol, const Bytes &token_in = {},
                     std::uint32_t version = NGTCP2_PROTO_VER_V1) {
    gnutls_init(&tls_, GNUTLS_CLIENT | GNUTLS_ENABLE_EARLY_DATA | GNUTLS_NO_END_OF_EARLY_DATA);
    gnutls_priority_set_direct(tls_, "NORMAL:-VERS-ALL:+VERS-TLS1.3:%DISABLE_TLS13_COMPAT_MODE",
                               nullptr);
    EXPECT_EQ(ngtcp2_crypto_gnutls_configure_client_session(tls_), 0);
    reference_.user_data = this;
    reference_.get_conn = [](ngtcp2_crypto_conn_ref *reference) {
      return static_cast<RawClient *>(reference->user_data)->conn_;
    };
    gnutls_session_set_ptr(tls_, &reference_);
    gnutls_certificate_allocate_credentials(&credentials_);
    gnutls_credentials_set(tls_, GNUTLS_CRD_CERTIFICATE, credentials_);
    gnutls_server_name_set(tls_, GNUTLS_NAME_DNS, "proxy.example", 13);
    if (protocol) {
      const gnutls_datum_t alpn{.data = reinterpret_cast<unsigned char *>(protocol->data()),
                                .size = static_cast<unsigned>(protocol->size())};
      gnutls_alpn_set_protocols(tls_, &alpn, 1, 0);
    }
    gnutls_handshake_set_hook_function(
      tls_, GNUTLS_HANDSHAKE_NEW_SESSION_TICKET, GNUTLS_HOOK_POST,
      [](gnutls_session_t session, unsigned, unsigned, unsigned, const gnutls_datum_t *) {
        auto &self = *static_cast<RawClient *>(
          static_cast<ngtcp2_crypto_conn_ref *>(gnutls_session_get_ptr(session))->user_data);
        gnutls_datum_t data;
        EXPECT_EQ(gnutls_session_get_data2(session, &data), 0);
        self.ticket.assign(data.data, data.data + data.size);
        gnutls_free(data.data);
        return 0;
      });

    ngtcp2_callbacks callbacks{};
    callbacks.client_initial = ngtcp2_crypto_client_initial_cb;
    callbacks.recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb;
    callbacks.encrypt = ngtcp2_crypto_encrypt_cb;
    callbacks.decrypt = ngtcp2_crypto_decrypt_cb;
    callbacks.hp_mask = ngtcp2_crypto_hp_mask_cb;
    callbacks.recv_retry = ngtcp2_crypto_recv_retry_cb;
    callbacks.update_key = ngtcp2_crypto_update_key_cb;
    callbacks.delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb;
    callbacks.delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb;
    callbacks.version_negotiation = ngtcp2_crypto_version_negotiation_cb;
    callbacks.get_path_challenge_data2 = ngtcp2_crypto_get_path_challenge_data2_cb;
    callbacks.rand = [](std::uint8_t *out, std::size_t size, const ngtcp2_rand_ctx *) {
      gnutls_rnd(GNUTLS_RND_NONCE, out, size);
    };
    callbacks.get_new_connection_id2 = [](ngtcp2_conn *, ngtcp2_cid *cid,
                                          ngtcp2_stateless_reset_token *token, std::size_t size,
                                          void *) {
      cid->datalen = size;
      gnutls_rnd(GNUTLS_RND_NONCE, cid->data, size);
      gnutls_rnd(GNUTLS_RND_NONCE, token->data, sizeof(token->data));
      return 0;
    };
    callbacks.recv_new_token = [](ngtcp2_conn *, const std::uint8_t *bytes, std::size_t size,
                                  void *user_data) {
      static_cast<RawClient *>(user_data)->token.assign(bytes, bytes + size);
      return 0;
    };
    callbacks.recv_stream_data = [](ngtcp2_conn *, std::uint32_t flags, std::int64_t id,
                                    std::uint64_t, const std::uint8_t *bytes, std::size_t size,
                                    void *user_data, void *) {
      auto &self = *static_cast<RawClient *>(user_data);
      auto &stream = self.streams[id];
      stream.insert(stream.end(), bytes, bytes + size);
      if ((flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0) {
        self.finished.insert(id);
      }
      return 0;
    };
    callbacks.recv_datagram = [](ngtcp2_conn *, std::uint32_t, const std::uint8_t *bytes,
                                 std::size_t size, void *user_data) {
      static_cast<RawClient *>(user_data)->datagrams.emplace_back(bytes, bytes + size);
      return 0;
    };
    callbacks.stream_reset = [](ngtcp2_conn *, std::int64_t id, std::uint64_t, std::uint64_t code,
                                void *user_data, void *) {
      static_cast<RawClient *>(user_data)->reset[id] = code;
      return 0;
    };
    callbacks.recv_stop_sending = [](ngtcp2_conn *, std::int64_t id, std::uint64_t code,
                                     void *user_data, void *) {
      static_cast<RawClient *>(user_data)->stopped[id] = code;
      return 0;
    };
    ngtcp2_settings settings;
    ngtcp2_settings_default(&settings);
    settings.initial_ts = now;
    settings.token = token_in.data();
    settings.tokenlen = token_in.size();
    settings.token_type =
      token_in.empty() ? NGTCP2_TOKEN_TYPE_UNKNOWN : NGTCP2_TOKEN_TYPE_NEW_TOKEN;
    ngtcp2_transport_params params;
    ngtcp2_transport_params_default(&params);
    params.initial_max_data = 1 << 20;
    params.initial_max_stream_data_uni = 1 << 16;
    params.initial_max_stream_data_bidi_local = 1 << 16;
    params.initial_max_streams_uni = 3;
    params.max_datagram_frame_size = 65535;
    ngtcp2_cid dcid{.datalen = 18, .data = {}};
    ngtcp2_cid scid{.datalen = 8, .data = {}};
    gnutls_rnd(GNUTLS_RND_NONCE, dcid.data, dcid.datalen);
    gnutls_rnd(GNUTLS_RND_NONCE, scid.data, scid.datalen);
    const auto path = RawPath();
    EXPECT_EQ(ngtcp2_conn_client_new(&conn_, &dcid, &scid, &path, version, &callbacks, &settings,
                                      &params, nullptr, this),
              0);
    ngtcp2_conn_set_tls_native_handle(conn_, tls_);
  }
  ~RawClient() {
    ngtcp2_conn_del(conn_);
    gnutls_deinit(tls_);
    gnutls_certificate_free_credentials(credentials_);
  }
  RawClient(const RawClient &) = delete;
  RawClient &operator=(const RawClient &) = delete;

  // What another client needs to send early data, and has it sent some.
  void Resume(const RawClient &before) {
    ASSERT_EQ(gnutls_session_set_data(tls_, before.ticket.data(), before.ticket.size()), 0);
    Bytes params(256);
    const auto size =
      ngtcp2_conn_encode_0rtt_transport_params2(before.conn_, params.data(), params.size());
    ASSERT_GT(size, 0);
    ASSERT_EQ(ngtcp2_conn_decode_and_set_0rtt_transport_params(conn_, params.data(),
                                                               static_cast<std::size_t>(size)),
              0);
    send_ = true;
  }

  // Has a stream of its own opened with the next Write, with these bytes.
  void Send(Bytes bytes, bool fin) {
    frame = std::move(bytes);
    send_ = true;
    fin_ = fin;
  }

  // The same with a unidirectional one, of which nothing was sent before.
  void SendControl(Bytes bytes) {
    std::int64_t stream = -1;
    ASSERT_EQ(ngtcp2_conn_open_uni_stream(conn_, &stream, nullptr), 0);
    SendMore(static_cast<std::uint64_t>(stream), std::move(bytes), false);
  }

  // More of a stream that Send has opened.
  void SendMore(std::uint64_t stream, Bytes bytes, bool fin) {
    frame = std::move(bytes);
    stream_ = static_cast<std::int64_t>(stream);
    sent_ = 0;
    fin_ = fin;
  }

  // What it sends now.
  std::vector<Bytes> Write() {
    if (std::exchange(send_, false)) {
      EXPECT_EQ(ngtcp2_conn_open_bidi_stream(conn_, &stream_, nullptr), 0);
      sent_ = 0;
    }
    std::vector<Bytes> packets;
    for (;;) {
      Bytes bytes(1200);
      const ngtcp2_vec vec{.base = frame.data() + sent_, .len = frame.size() - sent_};
      ngtcp2_ssize taken = -1;
      ngtcp2_pkt_info pi{};
      ngtcp2_path_storage path;
      ngtcp2_path_storage_zero(&path);
      const auto written = ngtcp2_conn_writev_stream(
        conn_, &path.path, &pi, bytes.data(), bytes.size(), &taken,
        fin_ ? NGTCP2_WRITE_STREAM_FLAG_FIN : NGTCP2_WRITE_STREAM_FLAG_NONE, stream_, &vec,
        stream_ < 0 ? 0 : 1, now);
      if (written <= 0) {
        return packets;
      }
      sent_ += taken > 0 ? static_cast<std::size_t>(taken) : 0;
      if (taken >= 0 && sent_ == frame.size()) {
        stream_ = -1;
      }
      bytes.resize(static_cast<std::size_t>(written));
      packets.push_back(std::move(bytes));
    }
  }

  void Receive(const Bytes &packet) {
    const auto path = RawPath();
    const ngtcp2_pkt_info pi{};
    (void)ngtcp2_conn_read_pkt(conn_, &path, &pi, packet.data(), packet.size(), now);
  }

  // Opens a stream and resets it, and sends nothing else on it.
  void ResetNewStream(std::uint64_t code) {
    std::int64_t stream = -1;
    ASSERT_EQ(ngtcp2_conn_open_bidi_stream(conn_, &stream, nullptr), 0);
    ASSERT_EQ(ngtcp2_conn_shutdown_stream_write(conn_, 0, stream, code), 0);
  }

  void Reset(std::int64_t stream, std::uint64_t code) {
    ASSERT_EQ(ngtcp2_conn_shutdown_stream_write(conn_, 0, stream, code), 0);
  }

  // Sends it as if TLS had something to say.
  void SendCrypto(const Bytes &message) {
    ASSERT_EQ(ngtcp2_conn_submit_crypto_data(conn_, NGTCP2_ENCRYPTION_LEVEL_1RTT, message.data(),
                                             message.size()),
              0);
  }

  // Requests that it may send now.
  [[nodiscard]] std::uint64_t streams_left() const {
    return ngtcp2_conn_get_streams_bidi_left2(conn_);
  }
  [[nodiscard]] bool completed() const { return ngtcp2_conn_get_handshake_completed2(conn_); }
  [[nodiscard]] bool resumed() const { return gnutls_session_is_resumed(tls_) != 0; }
  ngmasque::Nanoseconds now = 1'000'000'000;
  Bytes ticket; // The last one that has come.
  Bytes token;  // Of NEW_TOKEN, the same.
  // What Resume sends on a stream of its own: an empty frame of a type that HTTP/3 reserves.
  Bytes frame{0x21, 0};
  std::map<std::int64_t, Bytes> streams; // What has come on them.
  std::set<std::int64_t> finished;       // Those with FIN.
  std::vector<Bytes> datagrams;
  std::map<std::int64_t, std::uint64_t> reset, stopped; // Their codes.

private:
  ngtcp2_path RawPath() {
    return {.local = {.addr = local_.get(), .addrlen = local_.size()},
            .remote = {.addr = remote_.get(), .addrlen = remote_.size()},
            .user_data = nullptr};
  }

  ngmasque::SocketAddress local_{Local(1000)};
  ngmasque::SocketAddress remote_{Local(443)};
  gnutls_session_t tls_ = nullptr;
  gnutls_certificate_credentials_t credentials_ = nullptr;
  ngtcp2_crypto_conn_ref reference_{};
  ngtcp2_conn *conn_ = nullptr;
  bool send_ = false;
  std::int64_t stream_ = -1; // What is being sent of `frame` is sent there.
  std::size_t sent_ = 0;
  bool fin_ = false;
};

} // namespace quic_test
