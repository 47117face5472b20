/* See pair.h. */

#include "pair.h"

#include <stdlib.h>
#include <string.h>

/* Content repeats itself with a period that is no power of two, so that a byte
   at a wrong offset is a wrong byte. */
#define PERIOD 65521
#define WINDOW (1024 * 1024)

static uint8_t content[PERIOD + PAIR_MAX_BURST];

static ngtcp2_sockaddr_union addr_of(int server, size_t n) {
  ngtcp2_sockaddr_union addr;
  uint8_t last = (uint8_t)(n + 1);

  memset(&addr, 0, sizeof(addr));
  if (n % 2 == 0) {
    addr.in.sin_family = AF_INET;
    addr.in.sin_port = htons(server ? 443 : 1000);
    addr.in.sin_addr.s_addr = htonl((server ? 0xcb007100 : 0xc0000200) + last);
  } else {
    addr.in6.sin6_family = AF_INET6;
    addr.in6.sin6_port = htons(server ? 443 : 1000);
    memcpy(&addr.in6.sin6_addr,
           (uint8_t[16]){0x20, 0x01, 0x0d, 0xb8, (uint8_t)server, [15] = last},
           16);
  }
  return addr;
}

const ngtcp2_sockaddr *pair_addr(int server, size_t n) {
  static ngtcp2_sockaddr_union addrs[2][PAIR_ADDRS];

  addrs[server][n] = addr_of(server, n);
  return &addrs[server][n].sa;
}

ngtcp2_sockaddr_in pair_ipv4(size_t n) { return addr_of(1, n).in; }

ngtcp2_sockaddr_in6 pair_ipv6(size_t n) { return addr_of(1, n).in6; }

ngtcp2_addr pair_address(int server, size_t n) {
  return (ngtcp2_addr){
    .addr = (ngtcp2_sockaddr *)pair_addr(server, n),
    .addrlen = n % 2 ? sizeof(ngtcp2_sockaddr_in6) : sizeof(ngtcp2_sockaddr_in),
  };
}

int pair_find_addr(int server, const ngtcp2_addr *addr) {
  ngtcp2_addr own;

  for (size_t n = 0; n < PAIR_ADDRS; ++n) {
    own = pair_address(server, n);
    if (own.addrlen == addr->addrlen &&
        memcmp(own.addr, addr->addr, own.addrlen) == 0) {
      return (int)n;
    }
  }
  return -1;
}

uint8_t *pair_content(uint64_t offset) { return content + offset % PERIOD; }

/* Callbacks */

static int recv_stream_data_cb(ngtcp2_conn *conn, uint32_t flags,
                               int64_t stream_id, uint64_t offset,
                               const uint8_t *data, size_t datalen,
                               void *user_data, void *stream_user_data) {
  struct endpoint *endpoint = user_data;
  (void)stream_user_data;

  endpoint->stream_id = stream_id;
  if (offset != endpoint->received || datalen > PAIR_MAX_BURST ||
      (datalen && memcmp(data, pair_content(offset), datalen) != 0)) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  endpoint->received += datalen;
  endpoint->fin_received = (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0;
  ngtcp2_conn_extend_max_offset(conn, datalen);
  return ngtcp2_conn_extend_max_stream_offset(conn, stream_id, datalen);
}

static int handshake_confirmed_cb(ngtcp2_conn *conn, void *user_data) {
  (void)conn;

  ((struct endpoint *)user_data)->confirmed = 1;
  return 0;
}

static int handshake_completed_cb(ngtcp2_conn *conn, void *user_data) {
  struct endpoint *endpoint = user_data;
  (void)conn;

  /* A server has nobody to confirm it. */
  endpoint->confirmed |= endpoint->tls.server;
  return 0;
}

static int get_new_connection_id_cb(ngtcp2_conn *conn, ngtcp2_cid *cid,
                                    ngtcp2_stateless_reset_token *token,
                                    size_t cidlen, void *user_data) {
  struct endpoint *endpoint = user_data;
  int rv =
    fake_tls_callbacks().get_new_connection_id2(conn, cid, token, cidlen, NULL);

  endpoint->cids[endpoint->num_cids++ % 64] = *cid;
  return rv;
}

static int remove_connection_id_cb(ngtcp2_conn *conn, const ngtcp2_cid *cid,
                                   void *user_data) {
  (void)conn, (void)cid;

  ++((struct endpoint *)user_data)->num_removed_cids;
  return 0;
}

/* Set-up */

static void init_endpoint(struct pair *pair, struct endpoint *endpoint,
                          int server) {
  *endpoint = (struct endpoint){
    .tls.server = server,
    .pair = pair,
    .callbacks = fake_tls_callbacks(),
    .cidlen = server ? PAIR_SERVER_CID_LEN : PAIR_CLIENT_CID_LEN,
    .stream_id = -1,
  };
  endpoint->callbacks.recv_stream_data = recv_stream_data_cb;
  endpoint->callbacks.handshake_completed = handshake_completed_cb;
  endpoint->callbacks.handshake_confirmed = handshake_confirmed_cb;
  endpoint->callbacks.get_new_connection_id2 = get_new_connection_id_cb;
  endpoint->callbacks.remove_connection_id = remove_connection_id_cb;

  ngtcp2_settings_default(&endpoint->settings);
  endpoint->settings.initial_ts = pair->now;
  ngtcp2_transport_params_default(&endpoint->params);
  endpoint->params.initial_max_data = WINDOW;
  endpoint->params.initial_max_stream_data_bidi_local = WINDOW;
  endpoint->params.initial_max_stream_data_bidi_remote = WINDOW;
  endpoint->params.initial_max_streams_bidi = 1;
  endpoint->params.active_connection_id_limit = 7;
}

void pair_init(struct pair *pair, uint64_t seed) {
  const char *env = getenv("NGMASQUE_SEED");
  uint64_t state = 1;

  for (size_t i = 0; i < PERIOD; ++i) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    content[i] = (uint8_t)(state >> 56);
  }
  memcpy(content + PERIOD, content, PAIR_MAX_BURST);

  *pair = (struct pair){.now = 1 * NGTCP2_SECONDS};
  pair->random = seed ? seed : env ? strtoull(env, NULL, 10) : 1;
  init_endpoint(pair, &pair->client, 0);
  init_endpoint(pair, &pair->server, 1);
}

static const void *as_it_is(const void *object, size_t len) {
  (void)len;

  return object;
}

int pair_start(struct pair *pair,
               const void *(*behind)(const void *object, size_t len)) {
  struct endpoint *client = &pair->client, *server = &pair->server;
  ngtcp2_path path = {.local = pair_address(0, 0),
                      .remote = pair_address(1, 0)};
  ngtcp2_cid original_dcid = {.datalen = 18, .data = {0xa0}};
  ngtcp2_cid client_cid = {.datalen = client->cidlen, .data = {0xb0}};
  ngtcp2_cid server_cid = {.datalen = server->cidlen, .data = {0xc0}};
  int rv;

  behind = behind ? behind : as_it_is;
  rv = ngtcp2_conn_client_new(
    &client->conn, &original_dcid, &client_cid, &path, NGTCP2_PROTO_VER_V1,
    behind(&client->callbacks, sizeof(client->callbacks)),
    behind(&client->settings, sizeof(client->settings)),
    behind(&client->params, sizeof(client->params)), client->mem, client);
  if (rv != 0) {
    return rv;
  }
  server->params.original_dcid = original_dcid;
  server->params.original_dcid_present = 1;
  path = (ngtcp2_path){.local = path.remote, .remote = path.local};
  return ngtcp2_conn_server_new(
    &server->conn, &client_cid, &server_cid, &path, NGTCP2_PROTO_VER_V1,
    behind(&server->callbacks, sizeof(server->callbacks)),
    behind(&server->settings, sizeof(server->settings)),
    behind(&server->params, sizeof(server->params)), server->mem, server);
}

int pair_confirmed(const struct pair *pair) {
  return pair->client.confirmed && pair->server.confirmed;
}

int pair_transferred(const struct pair *pair) {
  return pair->client.fin_received && pair->server.fin_received &&
         pair->client.received == pair->server.size &&
         pair->server.received == pair->client.size;
}

int pair_connect(struct pair *pair) {
  if (pair_start(pair, NULL) != 0 ||
      !pair_run(pair, pair_confirmed, 10 * NGTCP2_SECONDS)) {
    return 0;
  }
  /* Connection IDs and acknowledgements */
  pair_run(pair, NULL, 2 * PAIR_RTT);
  return !pair->client.error && !pair->server.error;
}
