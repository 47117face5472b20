/* Every error that the documentation of the two functions names, and that the
   connection is none the worse for it. */

#include <string.h>

#include <CUnit/Basic.h>

#include "watch.h"

#define LONG (60 * NGTCP2_SECONDS)
/* Validations that may fail in a row, and the time until the next one */
#define BURST 4
#define NEXT_ATTEMPT (10 * NGTCP2_SECONDS)

static struct watch watch;
static struct pair *const pair = &watch.pair;

static void start(void) { CU_ASSERT_FATAL(pair_connect(pair)); }

/* The server can still move to |n|. */
static void finish(size_t n) {
  CU_ASSERT_EQUAL(watch_submit(&watch, n, NULL), 0);
  CU_ASSERT(watch_arrive(&watch, n, LONG));
  CU_ASSERT_EQUAL(pair->client.error, 0);
  CU_ASSERT_EQUAL(pair->server.error, 0);
  pair_free(pair);
}

static int submit_to(ngtcp2_conn *conn) {
  ngtcp2_sockaddr_in addr = pair_ipv4(2);

  return ngtcp2_conn_submit_server_alternate_address(conn, &addr, NULL, NULL);
}

static int submit_ipv4(uint32_t addr, uint16_t port) {
  ngtcp2_sockaddr_in ipv4 = {
    .sin_family = AF_INET,
    .sin_port = htons(port),
    .sin_addr.s_addr = htonl(addr),
  };

  return ngtcp2_conn_submit_server_alternate_address(pair->server.conn, &ipv4,
                                                     NULL, NULL);
}

static int submit_ipv6(const char *first, const char *last, uint16_t port) {
  ngtcp2_sockaddr_in6 ipv6 = {.sin6_family = AF_INET6,
                              .sin6_port = htons(port)};
  uint8_t *bytes = (uint8_t *)&ipv6.sin6_addr;

  memcpy(bytes, first, strlen(first));
  memcpy(bytes + 16 - strlen(last), last, strlen(last));
  return ngtcp2_conn_submit_server_alternate_address(pair->server.conn, NULL,
                                                     &ipv6, NULL);
}

static int server_completed(const struct pair *p) {
  return p->server.confirmed;
}

/* One side closes; the other one gets to know. */
static void close_by(struct endpoint *endpoint) {
  uint8_t buf[1500];
  ngtcp2_path_storage ps;
  ngtcp2_pkt_info pi;
  ngtcp2_ccerr ccerr;
  ngtcp2_ssize len;
  struct endpoint *other = endpoint->tls.server ? &pair->client : &pair->server;

  ngtcp2_ccerr_default(&ccerr);
  ngtcp2_path_storage_zero(&ps);
  len = ngtcp2_conn_write_connection_close(endpoint->conn, &ps.path, &pi, buf,
                                           sizeof(buf), &ccerr, pair->now);
  CU_ASSERT_FATAL(len > 0);
  CU_ASSERT_EQUAL(ngtcp2_conn_read_pkt(other->conn,
                                       ngtcp2_conn_get_path2(other->conn), &pi,
                                       buf, (size_t)len, pair->now),
                  NGTCP2_ERR_DRAINING);
}

static void submit_invalid_state(void) {
  /* Before the handshake has completed, and by the client */
  watch_init(&watch, 1);
  CU_ASSERT_EQUAL_FATAL(pair_start(pair, NULL), 0);
  CU_ASSERT_EQUAL(submit_to(pair->server.conn), NGTCP2_ERR_INVALID_STATE);
  pair_run(pair, NULL, PAIR_ONE_WAY_DELAY + NGTCP2_MILLISECONDS);
  CU_ASSERT_EQUAL(submit_to(pair->server.conn), NGTCP2_ERR_INVALID_STATE);
  CU_ASSERT_FATAL(pair_run(pair, server_completed, LONG));
  CU_ASSERT_EQUAL(submit_to(pair->client.conn), NGTCP2_ERR_INVALID_STATE);
  pair_run(pair, NULL, 2 * PAIR_RTT);
  CU_ASSERT_EQUAL(submit_to(pair->client.conn), NGTCP2_ERR_INVALID_STATE);
  CU_ASSERT_PTR_NULL(
    ngtcp2_conn_get_server_alternate_address(pair->client.conn));
  finish(2);

  /* The client has not enabled it. */
  watch_init(&watch, 1);
  pair->client.params.enable_server_migration = 0;
  start();
  CU_ASSERT_EQUAL(submit_to(pair->server.conn), NGTCP2_ERR_INVALID_STATE);
  CU_ASSERT_PTR_NULL(
    ngtcp2_conn_get_server_alternate_address(pair->server.conn));
  pair_free(pair);

  /* Zero-length connection IDs of the server */
  watch_init(&watch, 1);
  pair->server.cidlen = 0;
  start();
  CU_ASSERT_EQUAL(submit_to(pair->server.conn), NGTCP2_ERR_INVALID_STATE);
  pair_free(pair);

  /* Closing, and draining */
  for (int by_server = 0; by_server < 2; ++by_server) {
    watch_init(&watch, 1);
    start();
    close_by(by_server ? &pair->server : &pair->client);
    CU_ASSERT_EQUAL(submit_to(pair->server.conn), NGTCP2_ERR_INVALID_STATE);
    pair_free(pair);
  }
}

static void submit_invalid_argument(void) {
  ngtcp2_sockaddr_in ipv4 = pair_ipv4(2);
  ngtcp2_sockaddr_in6 ipv6 = pair_ipv6(3);

  watch_init(&watch, 1);
  start();
  CU_ASSERT_EQUAL(submit_ipv4(0xcb007103, 0), NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(submit_ipv4(0, 443), NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(submit_ipv4(0x7f000001, 443), NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(submit_ipv4(0xa9fe0001, 443), NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(submit_ipv4(0xe0000001, 443), NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(submit_ipv4(0xffffffff, 443), NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(submit_ipv6("\x20\x01\x0d\xb8", "\x01", 0),
                  NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(submit_ipv6("", "", 443), NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(submit_ipv6("", "\x01", 443), NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(submit_ipv6("", "\xff\xff\xcb\x01\x71\x03", 443),
                  NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(submit_ipv6("\xfe\x80", "\x01", 443),
                  NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(submit_ipv6("\xff\x0e", "\x01", 443),
                  NGTCP2_ERR_INVALID_ARGUMENT);
  ipv4.sin_family = AF_INET6;
  CU_ASSERT_EQUAL(ngtcp2_conn_submit_server_alternate_address(
                    pair->server.conn, &ipv4, NULL, NULL),
                  NGTCP2_ERR_INVALID_ARGUMENT);
  /* One bad family spoils the other. */
  ipv4.sin_family = AF_INET;
  ipv6.sin6_family = AF_INET;
  CU_ASSERT_EQUAL(ngtcp2_conn_submit_server_alternate_address(
                    pair->server.conn, &ipv4, &ipv6, NULL),
                  NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_PTR_NULL(
    ngtcp2_conn_get_server_alternate_address(pair->server.conn));
  finish(2);
}

static void submit_conn_id_blocked(void) {
  watch_init(&watch, 1);
  pair->client.params.active_connection_id_limit = 2;
  start();
  CU_ASSERT_EQUAL_FATAL(watch_submit(&watch, 2, NULL), 0);
  CU_ASSERT_EQUAL(watch_submit(&watch, 4, NULL), NGTCP2_ERR_CONN_ID_BLOCKED);
  /* The failed call has changed nothing. */
  CU_ASSERT_FATAL(watch_arrive(&watch, 2, LONG));
  pair_run(pair, NULL, 4 * PAIR_RTT);
  finish(4);
}

static void submit_held_conn_id(void) {
  watch_init(&watch, 1);
  CU_ASSERT_EQUAL_FATAL(pair_start(pair, NULL), 0);
  ngtcp2_conn_hold_new_connection_id(pair->server.conn, 1);
  CU_ASSERT_FATAL(pair_run(pair, pair_confirmed, LONG));
  pair_run(pair, NULL, 2 * PAIR_RTT);
  CU_ASSERT_FATAL(pair->server.num_cids > 0);
  /* There are some, which the client may not be told of. */
  CU_ASSERT_EQUAL(watch_submit(&watch, 2, NULL), NGTCP2_ERR_CONN_ID_BLOCKED);
  /* What a discarded one is replaced with is asked for by the next packet. */
  CU_ASSERT_EQUAL_FATAL(
    ngtcp2_conn_discard_connection_id(pair->server.conn, &pair->server.cids[0]),
    0);
  watch.fail_new_cid = 1;
  CU_ASSERT_EQUAL(watch_submit(&watch, 2, NULL), NGTCP2_ERR_CONN_ID_BLOCKED);
  watch.fail_new_cid = 0;
  CU_ASSERT_EQUAL(
    ngtcp2_conn_release_connection_id(pair->server.conn, &pair->server.cids[1]),
    0);
  finish(2);
}

static void initiate_invalid_state(void) {
  ngtcp2_tstamp began;
  int attempts = 0;
  ngtcp2_path path = {.local = pair_address(1, 0),
                      .remote = pair_address(1, 2)};

  /* Before the handshake, without an address, by the server, withdrawn */
  watch_init(&watch, 1);
  watch.choice = TAKE_LATER;
  CU_ASSERT_EQUAL_FATAL(pair_start(pair, NULL), 0);
  CU_ASSERT_EQUAL(watch_initiate(&watch, 2), NGTCP2_ERR_INVALID_STATE);
  CU_ASSERT_FATAL(pair_run(pair, pair_confirmed, LONG));
  pair_run(pair, NULL, 2 * PAIR_RTT);
  CU_ASSERT_EQUAL(watch_initiate(&watch, 2), NGTCP2_ERR_INVALID_STATE);
  CU_ASSERT_EQUAL(watch_submit(&watch, 2, NULL), 0);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_initiate_server_migration(pair->server.conn, &path, pair->now),
    NGTCP2_ERR_INVALID_STATE);
  pair_run(pair, NULL, 2 * PAIR_RTT);
  CU_ASSERT_EQUAL(ngtcp2_conn_submit_server_alternate_address(pair->server.conn,
                                                              NULL, NULL, NULL),
                  0);
  pair_run(pair, NULL, 2 * PAIR_RTT);
  CU_ASSERT_EQUAL(watch_initiate(&watch, 2), NGTCP2_ERR_INVALID_STATE);

  /* While another validation runs, and after too many that failed */
  pair->dead[4] = 1;
  CU_ASSERT_EQUAL(watch_submit(&watch, 4, NULL), 0);
  pair_run(pair, NULL, 2 * PAIR_RTT);
  began = pair->now;
  while (watch_initiate(&watch, 4) == 0 && attempts < 10 * BURST) {
    CU_ASSERT_EQUAL(watch_initiate(&watch, 4), NGTCP2_ERR_INVALID_STATE);
    ++attempts;
    while (watch.failed[0] < attempts && !pair->client.error) {
      pair_run(pair, NULL, NGTCP2_MILLISECONDS);
    }
  }
  CU_ASSERT_EQUAL(watch_initiate(&watch, 4), NGTCP2_ERR_RATE_LIMITED);
  CU_ASSERT(attempts >= BURST);
  CU_ASSERT((uint64_t)attempts <= BURST + (pair->now - began) / NEXT_ATTEMPT);
  pair_run(pair, NULL, NEXT_ATTEMPT);
  pair->dead[4] = 0;
  CU_ASSERT_EQUAL(watch_initiate(&watch, 4), 0);
  CU_ASSERT(watch_arrive(&watch, 4, LONG));
  watch.choice = TAKE_IPV4;
  finish(6);
}

static void initiate_invalid_argument(void) {
  watch_init(&watch, 1);
  watch.choice = TAKE_LATER;
  start();
  CU_ASSERT_EQUAL(watch_submit(&watch, 2, NULL), 0);
  pair_run(pair, NULL, PAIR_RTT);
  CU_ASSERT_EQUAL(watch_submit(&watch, 4, NULL), 0);
  pair_run(pair, NULL, PAIR_RTT);
  /* Of no frame, of the last but one, of the other family, the current one */
  CU_ASSERT_EQUAL(watch_initiate(&watch, 6), NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(watch_initiate(&watch, 2), NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(watch_initiate(&watch, 5), NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(watch_submit(&watch, 0, NULL), 0);
  pair_run(pair, NULL, PAIR_RTT);
  CU_ASSERT_EQUAL(watch_initiate(&watch, 0), NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(watch.begun[0], 0);
  watch.choice = TAKE_IPV4;
  finish(2);
}

static void initiate_conn_id_blocked(void) {
  ngtcp2_path path = {.local = pair_address(0, 2),
                      .remote = pair_address(1, 0)};

  watch_init(&watch, 1);
  watch.choice = TAKE_LATER;
  pair->client.params.active_connection_id_limit = 2;
  start();
  CU_ASSERT_EQUAL_FATAL(watch_submit(&watch, 2, NULL), 0);
  /* The client gives the connection ID back, and gets another one. */
  pair_run(pair, NULL, 4 * PAIR_RTT);
  /* It uses that one up for a migration of its own, and gets no other. */
  ngtcp2_conn_hold_new_connection_id(pair->server.conn, 1);
  CU_ASSERT_EQUAL_FATAL(
    ngtcp2_conn_initiate_migration(pair->client.conn, &path, pair->now), 0);
  pair_run(pair, NULL, 10 * PAIR_RTT);
  CU_ASSERT_EQUAL(
    pair_find_addr(0, &ngtcp2_conn_get_path2(pair->client.conn)->local), 2);
  CU_ASSERT_EQUAL(watch_initiate(&watch, 2), NGTCP2_ERR_CONN_ID_BLOCKED);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_release_connection_id(
      pair->server.conn, &pair->server.cids[pair->server.num_cids - 1]),
    0);
  pair_run(pair, NULL, PAIR_RTT);
  CU_ASSERT_EQUAL(watch_initiate(&watch, 2), 0);
  CU_ASSERT(watch_arrive(&watch, 2, LONG));
  pair_free(pair);
}

/* An application that fails ends the connection, and ngtcp2 says so. */
static void callback_failures(void) {
  watch_init(&watch, 1);
  watch.choice = TAKE_LATER;
  start();
  CU_ASSERT_EQUAL(watch_submit(&watch, 2, NULL), 0);
  pair_run(pair, NULL, 2 * PAIR_RTT);
  watch.fail_begin = 1;
  CU_ASSERT_EQUAL(watch_initiate(&watch, 2), NGTCP2_ERR_CALLBACK_FAILURE);
  pair_free(pair);

  watch_init(&watch, 1);
  watch.choice = TAKE_FAILS;
  start();
  CU_ASSERT_EQUAL(watch_submit(&watch, 2, NULL), 0);
  pair_run(pair, NULL, LONG);
  CU_ASSERT_EQUAL(pair->client.error, NGTCP2_ERR_CALLBACK_FAILURE);
  CU_ASSERT_EQUAL(pair->to_server[2].packets, 0);
  pair_free(pair);

  watch_init(&watch, 1);
  watch.fail_ack = 1;
  start();
  CU_ASSERT_EQUAL(watch_submit(&watch, 2, NULL), 0);
  pair_run(pair, NULL, LONG);
  CU_ASSERT_EQUAL(pair->server.error, NGTCP2_ERR_CALLBACK_FAILURE);
  pair_free(pair);
}

void add_error_tests(void) {
  CU_pSuite suite = CU_add_suite("server_migration_errors", NULL, NULL);

  CU_ADD_TEST(suite, submit_invalid_state);
  CU_ADD_TEST(suite, submit_invalid_argument);
  CU_ADD_TEST(suite, submit_conn_id_blocked);
  CU_ADD_TEST(suite, submit_held_conn_id);
  CU_ADD_TEST(suite, initiate_invalid_state);
  CU_ADD_TEST(suite, initiate_invalid_argument);
  CU_ADD_TEST(suite, initiate_conn_id_blocked);
  CU_ADD_TEST(suite, callback_failures);
}
