/* What ngtcp2 needs from TLS, without TLS: see fake_tls.h. */

#include "fake_tls.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAG_LEN 16

void check(ngtcp2_ssize rv, const char *what) {
  if (rv < 0) {
    fprintf(stderr, "%s: %s\n", what, ngtcp2_strerror((int)rv));
    exit(1);
  }
}

/* Cryptography that does nothing, at the lengths of AES-128-GCM.  Its tag is the
   nonce: a packet whose packet number was expanded wrongly is not accepted. */

static const ngtcp2_crypto_ctx crypto_ctx = {
  .aead.max_overhead = TAG_LEN,
  .max_encryption = UINT64_MAX,
  .max_decryption_failure = UINT64_MAX,
};
static const ngtcp2_crypto_aead_ctx aead_ctx;
static const ngtcp2_crypto_cipher_ctx hp_ctx;
static const uint8_t secret[32];
static const uint8_t iv[12];

static int encrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                      const ngtcp2_crypto_aead_ctx *ctx,
                      const uint8_t *plaintext, size_t plaintextlen,
                      const uint8_t *nonce, size_t noncelen, const uint8_t *aad,
                      size_t aadlen) {
  (void)aead, (void)ctx, (void)aad, (void)aadlen;

  if (plaintextlen && plaintext != dest) {
    memcpy(dest, plaintext, plaintextlen);
  }
  memset(dest + plaintextlen, 0, TAG_LEN);
  memcpy(dest + plaintextlen, nonce, noncelen);
  return 0;
}

static int decrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                      const ngtcp2_crypto_aead_ctx *ctx,
                      const uint8_t *ciphertext, size_t ciphertextlen,
                      const uint8_t *nonce, size_t noncelen, const uint8_t *aad,
                      size_t aadlen) {
  (void)aead, (void)ctx, (void)aad, (void)aadlen;

  if (ciphertextlen < TAG_LEN ||
      memcmp(ciphertext + ciphertextlen - TAG_LEN, nonce, noncelen) != 0) {
    return NGTCP2_ERR_DECRYPT;
  }
  memmove(dest, ciphertext, ciphertextlen - TAG_LEN);
  return 0;
}

static int hp_mask_cb(uint8_t *dest, const ngtcp2_crypto_cipher *hp,
                      const ngtcp2_crypto_cipher_ctx *ctx,
                      const uint8_t *sample) {
  (void)hp, (void)ctx, (void)sample;

  memset(dest, 0, NGTCP2_HP_MASKLEN);
  return 0;
}

static int update_key_cb(ngtcp2_conn *conn, uint8_t *rx_secret,
                         uint8_t *tx_secret, ngtcp2_crypto_aead_ctx *rx_ctx,
                         uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx_ctx,
                         uint8_t *tx_iv, const uint8_t *current_rx_secret,
                         const uint8_t *current_tx_secret, size_t secretlen,
                         void *user_data) {
  (void)conn, (void)current_rx_secret, (void)current_tx_secret, (void)user_data;

  memset(rx_secret, 0, secretlen);
  memset(tx_secret, 0, secretlen);
  memset(rx_iv, 0, sizeof(iv));
  memset(tx_iv, 0, sizeof(iv));
  *rx_ctx = aead_ctx;
  *tx_ctx = aead_ctx;
  return 0;
}

static void delete_aead_ctx_cb(ngtcp2_conn *conn, ngtcp2_crypto_aead_ctx *ctx,
                               void *user_data) {
  (void)conn, (void)ctx, (void)user_data;
}

static void delete_hp_ctx_cb(ngtcp2_conn *conn, ngtcp2_crypto_cipher_ctx *ctx,
                             void *user_data) {
  (void)conn, (void)ctx, (void)user_data;
}

/* Numbers that are different from each other and the same in every run */

static uint8_t next_byte(void) {
  static uint64_t state = 1;

  state = state * 6364136223846793005U + 1442695040888963407U;
  return (uint8_t)(state >> 56);
}

static void fill(uint8_t *dest, size_t len) {
  for (size_t i = 0; i < len; ++i) {
    dest[i] = next_byte();
  }
}

static void rand_cb(uint8_t *dest, size_t destlen,
                    const ngtcp2_rand_ctx *rand_ctx) {
  (void)rand_ctx;

  fill(dest, destlen);
}

static int get_new_connection_id_cb(ngtcp2_conn *conn, ngtcp2_cid *cid,
                                    ngtcp2_stateless_reset_token *token,
                                    size_t cidlen, void *user_data) {
  (void)conn, (void)user_data;

  cid->datalen = cidlen;
  fill(cid->data, cidlen);
  fill(token->data, sizeof(token->data));
  return 0;
}

static int get_path_challenge_data_cb(ngtcp2_conn *conn,
                                      ngtcp2_path_challenge_data *data,
                                      void *user_data) {
  (void)conn, (void)user_data;

  fill(data->data, sizeof(data->data));
  return 0;
}

/* Handshake */

static void install_initial_keys(ngtcp2_conn *conn) {
  ngtcp2_conn_set_initial_crypto_ctx(conn, &crypto_ctx);
  check(ngtcp2_conn_install_initial_key(conn, &aead_ctx, iv, &hp_ctx, &aead_ctx,
                                        iv, &hp_ctx, sizeof(iv)),
        "install_initial_key");
}

static void install_handshake_keys(ngtcp2_conn *conn) {
  ngtcp2_conn_set_crypto_ctx(conn, &crypto_ctx);
  check(ngtcp2_conn_install_rx_handshake_key(conn, &aead_ctx, iv, sizeof(iv),
                                             &hp_ctx),
        "install_rx_handshake_key");
  check(ngtcp2_conn_install_tx_handshake_key(conn, &aead_ctx, iv, sizeof(iv),
                                             &hp_ctx),
        "install_tx_handshake_key");
}

static void install_rx_key(ngtcp2_conn *conn) {
  check(ngtcp2_conn_install_rx_key(conn, secret, sizeof(secret), &aead_ctx, iv,
                                   sizeof(iv), &hp_ctx),
        "install_rx_key");
}

static void install_tx_key(ngtcp2_conn *conn) {
  check(ngtcp2_conn_install_tx_key(conn, secret, sizeof(secret), &aead_ctx, iv,
                                   sizeof(iv), &hp_ctx),
        "install_tx_key");
}

/* A message is its length in two bytes and the transport parameters. */
static void send_message(ngtcp2_conn *conn, ngtcp2_encryption_level level) {
  uint8_t buf[FAKE_TLS_MAX_MESSAGE];
  ngtcp2_ssize len =
    ngtcp2_conn_encode_local_transport_params2(conn, buf + 2, sizeof(buf) - 2);

  check(len, "encode_local_transport_params");
  buf[0] = (uint8_t)(len >> 8);
  buf[1] = (uint8_t)len;
  check(ngtcp2_conn_submit_crypto_data(conn, level, buf, (size_t)len + 2),
        "submit_crypto_data");
}

static void install_early_key(ngtcp2_conn *conn) {
  ngtcp2_conn_set_0rtt_crypto_ctx(conn, &crypto_ctx);
  check(ngtcp2_conn_install_0rtt_key(conn, &aead_ctx, iv, sizeof(iv), &hp_ctx),
        "install_0rtt_key");
}

static int client_initial_cb(ngtcp2_conn *conn, void *user_data) {
  struct fake_tls *tls = user_data;

  install_initial_keys(conn);
  if (tls->early) {
    install_early_key(conn);
  }
  send_message(conn, NGTCP2_ENCRYPTION_LEVEL_INITIAL);
  return 0;
}

static int recv_client_initial_cb(ngtcp2_conn *conn, const ngtcp2_cid *dcid,
                                  void *user_data) {
  (void)dcid, (void)user_data;

  install_initial_keys(conn);
  return 0;
}

static int recv_crypto_data_cb(ngtcp2_conn *conn,
                               ngtcp2_encryption_level level, uint64_t offset,
                               const uint8_t *data, size_t datalen,
                               void *user_data) {
  struct fake_tls *tls = user_data;
  size_t len;
  (void)offset;

  assert(tls->len + datalen <= sizeof(tls->data));
  memcpy(tls->data + tls->len, data, datalen);
  tls->len += datalen;

  if (tls->len < 2) {
    return 0;
  }
  len = (size_t)(tls->data[0] << 8 | tls->data[1]);
  if (tls->len < 2 + len) {
    return 0;
  }
  tls->len = 0;

  if (level == NGTCP2_ENCRYPTION_LEVEL_INITIAL) {
    if (tls->server) {
      check(ngtcp2_conn_decode_and_set_remote_transport_params(
              conn, tls->data + 2, len),
            "decode_and_set_remote_transport_params");
      if (tls->early) {
        install_early_key(conn);
      }
      send_message(conn, NGTCP2_ENCRYPTION_LEVEL_INITIAL);
      install_handshake_keys(conn);
      send_message(conn, NGTCP2_ENCRYPTION_LEVEL_HANDSHAKE);
      install_tx_key(conn);
    } else {
      install_handshake_keys(conn);
    }
    return 0;
  }

  if (!tls->server) {
    check(ngtcp2_conn_decode_and_set_remote_transport_params(
            conn, tls->data + 2, len),
          "decode_and_set_remote_transport_params");
    send_message(conn, NGTCP2_ENCRYPTION_LEVEL_HANDSHAKE);
    install_tx_key(conn);
  }
  install_rx_key(conn);
  ngtcp2_conn_tls_handshake_completed(conn);
  return 0;
}

static int recv_retry_cb(ngtcp2_conn *conn, const ngtcp2_pkt_hd *hd,
                         void *user_data) {
  (void)conn, (void)hd, (void)user_data;

  return NGTCP2_ERR_CALLBACK_FAILURE;
}

static int version_negotiation_cb(ngtcp2_conn *conn, uint32_t version,
                                  const ngtcp2_cid *client_dcid,
                                  void *user_data) {
  (void)conn, (void)version, (void)client_dcid, (void)user_data;

  return NGTCP2_ERR_CALLBACK_FAILURE;
}

ngtcp2_callbacks fake_tls_callbacks(void) {
  return (ngtcp2_callbacks){
    .client_initial = client_initial_cb,
    .recv_client_initial = recv_client_initial_cb,
    .recv_crypto_data = recv_crypto_data_cb,
    .recv_retry = recv_retry_cb,
    .version_negotiation = version_negotiation_cb,
    .encrypt = encrypt_cb,
    .decrypt = decrypt_cb,
    .hp_mask = hp_mask_cb,
    .update_key = update_key_cb,
    .delete_crypto_aead_ctx = delete_aead_ctx_cb,
    .delete_crypto_cipher_ctx = delete_hp_ctx_cb,
    .rand = rand_cb,
    .get_new_connection_id2 = get_new_connection_id_cb,
    .get_path_challenge_data2 = get_path_challenge_data_cb,
  };
}
