// Http3Client: callbacks of ngtcp2.

#include "http3_impl.h"

#include <algorithm>

#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2_crypto.h>

namespace ngmasque {

namespace {

using Impl = Http3Client::Impl;

Impl &Self(void *user_data) { return *static_cast<Impl *>(user_data); }

int Result(bool good) { return good ? 0 : NGTCP2_ERR_CALLBACK_FAILURE; }

void Rand(std::uint8_t *out, std::size_t size, const ngtcp2_rand_ctx *) {
  // For what need not be secret; GnuTLS ends the process rather than to fail here.
  (void)gnutls_rnd(GNUTLS_RND_NONCE, out, size);
}

int OnRxKey(ngtcp2_conn *, ngtcp2_encryption_level level, void *user_data) {
  return level == NGTCP2_ENCRYPTION_LEVEL_1RTT ? Result(Self(user_data).OpenH3()) : 0;
}

int OnHandshakeCompleted(ngtcp2_conn *conn, void *user_data) {
  auto &self = Self(user_data);
  const auto *params = ngtcp2_conn_get_remote_transport_params2(conn);
  // RFC 9000, section 10.1: the smaller one of the two holds, and 0 is none.
  auto idle = static_cast<ngtcp2_duration>(self.options.idle_timeout.count());
  if (params->max_idle_timeout != 0 && (idle == 0 || params->max_idle_timeout < idle)) {
    idle = params->max_idle_timeout;
  }
  const auto keep_alive = self.options.keep_alive
                            ? static_cast<ngtcp2_duration>(self.options.keep_alive->count())
                            : idle / 3;
  self.keep_alive = keep_alive == 0 ? UINT64_MAX : keep_alive;
  ngtcp2_conn_set_keep_alive_timeout(conn, self.keep_alive);
  self.handshake_done = true;
  self.tell_ready = true;
  return 0;
}

int OnStreamData(ngtcp2_conn *, std::uint32_t flags, std::int64_t id, std::uint64_t,
                 const std::uint8_t *data, std::size_t size, void *user_data, void *) {
  return Result(
    Self(user_data).ReadStream(id, (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0, {data, size}));
}

int OnStreamAcked(ngtcp2_conn *, std::int64_t id, std::uint64_t, std::uint64_t size,
                  void *user_data, void *) {
  auto &self = Self(user_data);
  if (const int rv = nghttp3_conn_add_ack_offset(self.h3.get(), id, size); rv != 0) {
    self.FailH3(rv);
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  return 0;
}

int OnStreamClose(ngtcp2_conn *, std::uint32_t flags, std::int64_t id, std::uint64_t code,
                  void *user_data, void *) {
  const bool has_code = (flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET) != 0;
  return Result(Self(user_data).OnQuicStreamClosed(id, has_code ? code : kH3NoError));
}

// RESET_STREAM has come.
int OnStreamReset(ngtcp2_conn *, std::int64_t id, std::uint64_t, std::uint64_t code,
                  void *user_data, void *) {
  auto &self = Self(user_data);
  if (const int rv = nghttp3_conn_shutdown_stream_read(self.h3.get(), id); rv != 0) {
    self.FailH3(rv);
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  self.EndStream(id, StreamEnd::kReset, code);
  return 0;
}

// We have stopped reading.
int OnReadStopped(ngtcp2_conn *, std::int64_t id, std::uint64_t, void *user_data, void *) {
  auto &self = Self(user_data);
  if (const int rv = nghttp3_conn_shutdown_stream_read(self.h3.get(), id); rv != 0) {
    self.FailH3(rv);
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  return 0;
}

// STOP_SENDING has come.  With a refusal it comes before the response, which is still wanted: RFC
// 9114, section 4.1.
int OnStopSending(ngtcp2_conn *, std::int64_t id, std::uint64_t code, void *user_data, void *) {
  auto &self = Self(user_data);
  if (const auto *stream = self.Find(id); stream && stream->status / 100 == 2) {
    self.EndStream(id, StreamEnd::kReset, code);
  }
  return 0;
}

int OnStreamWindow(ngtcp2_conn *, std::int64_t id, std::uint64_t, void *user_data, void *) {
  auto &self = Self(user_data);
  return Result(!self.h3 || nghttp3_conn_unblock_stream(self.h3.get(), id) == 0);
}

int OnMoreStreams(ngtcp2_conn *, std::uint64_t, void *user_data) {
  Self(user_data).tell_streams = true;
  return 0;
}

int OnDatagram(ngtcp2_conn *, std::uint32_t, const std::uint8_t *data, std::size_t size,
               void *user_data) {
  auto &self = Self(user_data);
  ++self.statistics.datagrams_received;
  self.handler.OnDatagram({data, size});
  return 0;
}

int OnNewLocalId(ngtcp2_conn *, ngtcp2_cid *cid, ngtcp2_stateless_reset_token *token,
                 std::size_t size, void *user_data) {
  auto &self = Self(user_data);
  // ngtcp2 asks for the length of the first one.
  return Result(size == kLocalIdLength && self.DrawLocalId(*cid) &&
                ngtcp2_crypto_generate_stateless_reset_token(token->data, self.reset_secret.data(),
                                                             self.reset_secret.size(), cid) == 0);
}

int OnRetiredLocalId(ngtcp2_conn *, const ngtcp2_cid *cid, void *user_data) {
  Self(user_data).handler.OnRetiredLocalId(*ConnectionId::From({cid->data, cid->datalen}));
  return 0;
}

int OnPathValidation(ngtcp2_conn *, std::uint32_t, const ngtcp2_path *, const ngtcp2_path *,
                     ngtcp2_path_validation_result, void *user_data) {
  // Whatever has come of it: Deliver looks at which path is in use.
  Self(user_data).tell_path = true;
  return 0;
}

int OnStatelessReset(ngtcp2_conn *, const ngtcp2_pkt_stateless_reset2 *, void *user_data) {
  Self(user_data).stateless_reset = true;
  return 0;
}

ngtcp2_callbacks MakeCallbacks() {
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
  callbacks.rand = Rand;
  callbacks.recv_rx_key = OnRxKey;
  callbacks.handshake_completed = OnHandshakeCompleted;
  callbacks.recv_stream_data = OnStreamData;
  callbacks.acked_stream_data_offset = OnStreamAcked;
  callbacks.stream_close = OnStreamClose;
  callbacks.stream_reset = OnStreamReset;
  callbacks.stream_stop_sending = OnReadStopped;
  callbacks.recv_stop_sending = OnStopSending;
  callbacks.extend_max_stream_data = OnStreamWindow;
  callbacks.extend_max_local_streams_bidi = OnMoreStreams;
  callbacks.recv_datagram = OnDatagram;
  callbacks.get_new_connection_id2 = OnNewLocalId;
  callbacks.remove_connection_id = OnRetiredLocalId;
  callbacks.path_validation = OnPathValidation;
  callbacks.recv_stateless_reset2 = OnStatelessReset;
  return callbacks;
}

} // namespace

const ngtcp2_callbacks &Http3Client::Impl::QuicCallbacks() {
  static const ngtcp2_callbacks callbacks = MakeCallbacks();
  return callbacks;
}

} // namespace ngmasque
