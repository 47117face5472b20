/* Connection IDs that are held back, and the idle timer. */

#include <string.h>

#include <CUnit/Basic.h>

#include "watch.h"

#define LONG (60 * NGTCP2_SECONDS)

static struct watch watch;
static struct pair *const pair = &watch.pair;
static struct endpoint *const server = &watch.pair.server;

/* From now on, counts the packets that have |cid| in them. */
static void look_for(const ngtcp2_cid *cid) {
  pair->needle = cid->data;
  pair->needlelen = cid->datalen;
  pair->found[0] = pair->found[1] = 0;
}

static int has_scid(const ngtcp2_cid *cid) {
  ngtcp2_cid cids[64];
  size_t n = ngtcp2_conn_get_scid2(server->conn, NULL);

  CU_ASSERT_FATAL(n <= 64);
  ngtcp2_conn_get_scid2(server->conn, cids);
  for (size_t i = 0; i < n; ++i) {
    if (ngtcp2_cid_eq(&cids[i], cid)) {
      return 1;
    }
  }
  return 0;
}

/* Both sides get to write; the first time they have something to. */
static void transfer(void) {
  pair->client.size += 1000;
  server->size += 1000;
  pair_run(pair, NULL, 3 * PAIR_RTT);
}

/* A server that holds back all connection IDs */
static void start(void) {
  watch_init(&watch, 1);
  watch.choice = TAKE_LATER;
  CU_ASSERT_EQUAL_FATAL(pair_start(pair, NULL), 0);
  ngtcp2_conn_hold_new_connection_id(server->conn, 1);
  CU_ASSERT_FATAL(pair_run(pair, pair_confirmed, LONG));
  pair_run(pair, NULL, 2 * PAIR_RTT);
  /* As many as without it: the client's limit counts its first one, too. */
  CU_ASSERT_EQUAL_FATAL(server->num_cids, 6);
}

static void finish(void) {
  CU_ASSERT_EQUAL(pair->client.error, 0);
  CU_ASSERT_EQUAL(server->error, 0);
  pair_free(pair);
}

static int client_migrates(void) {
  ngtcp2_path path = {.local = pair_address(0, 2),
                      .remote = pair_address(1, 0)};

  return ngtcp2_conn_initiate_migration(pair->client.conn, &path, pair->now);
}

static void default_behaviour(void) {
  watch_init(&watch, 1);
  CU_ASSERT_FATAL(pair_connect(pair));
  CU_ASSERT_EQUAL(server->num_cids, 6);
  /* Sent already: nothing is held back. */
  for (size_t i = 0; i < server->num_cids; ++i) {
    CU_ASSERT_EQUAL(
      ngtcp2_conn_release_connection_id(server->conn, &server->cids[i]),
      NGTCP2_ERR_INVALID_ARGUMENT);
    CU_ASSERT_EQUAL(
      ngtcp2_conn_discard_connection_id(server->conn, &server->cids[i]),
      NGTCP2_ERR_INVALID_ARGUMENT);
  }
  CU_ASSERT_EQUAL(client_migrates(), 0);
  finish();
}

static void hold_and_release(void) {
  ngtcp2_cid unknown = {.datalen = PAIR_SERVER_CID_LEN, .data = {1}};

  start();
  CU_ASSERT(has_scid(&server->cids[3]));
  look_for(&server->cids[3]);
  transfer();
  CU_ASSERT_EQUAL(pair->found[1], 0);
  CU_ASSERT_EQUAL(client_migrates(), NGTCP2_ERR_CONN_ID_BLOCKED);

  CU_ASSERT_EQUAL(ngtcp2_conn_release_connection_id(server->conn, &unknown),
                  NGTCP2_ERR_INVALID_ARGUMENT);
  /* In any order, each once */
  CU_ASSERT_EQUAL(
    ngtcp2_conn_release_connection_id(server->conn, &server->cids[3]), 0);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_release_connection_id(server->conn, &server->cids[3]),
    NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_discard_connection_id(server->conn, &server->cids[3]),
    NGTCP2_ERR_INVALID_ARGUMENT);
  pair_run(pair, NULL, PAIR_RTT);
  CU_ASSERT_EQUAL(pair->found[1], 1);
  CU_ASSERT_EQUAL(client_migrates(), 0);
  pair_run(pair, NULL, 4 * PAIR_RTT);
  /* It is what the client writes to now. */
  CU_ASSERT(pair->found[0] > 0);

  /* The default again: the one that replaces the client's old one is sent at
     once, and what is held back stays so. */
  ngtcp2_conn_hold_new_connection_id(server->conn, 0);
  transfer();
  look_for(&server->cids[1]);
  transfer();
  CU_ASSERT_EQUAL(pair->found[1], 0);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_release_connection_id(server->conn, &server->cids[1]), 0);
  pair_run(pair, NULL, PAIR_RTT);
  CU_ASSERT_EQUAL(pair->found[1], 1);
  finish();
}

static void restore_default(void) {
  start();
  ngtcp2_conn_hold_new_connection_id(server->conn, 0);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_discard_connection_id(server->conn, &server->cids[0]), 0);
  look_for(&server->cids[6]);
  transfer();
  CU_ASSERT_EQUAL_FATAL(server->num_cids, 7);
  look_for(&server->cids[6]);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_release_connection_id(server->conn, &server->cids[6]),
    NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(client_migrates(), 0);
  finish();
}

static void discard(void) {
  ngtcp2_cid unknown = {.datalen = PAIR_SERVER_CID_LEN, .data = {1}};

  start();
  look_for(&server->cids[2]);
  CU_ASSERT_EQUAL(ngtcp2_conn_discard_connection_id(server->conn, &unknown),
                  NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(server->num_removed_cids, 0);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_discard_connection_id(server->conn, &server->cids[2]), 0);
  CU_ASSERT_EQUAL(server->num_removed_cids, 1);
  CU_ASSERT_FALSE(has_scid(&server->cids[2]));
  CU_ASSERT_EQUAL(
    ngtcp2_conn_discard_connection_id(server->conn, &server->cids[2]),
    NGTCP2_ERR_INVALID_ARGUMENT);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_release_connection_id(server->conn, &server->cids[2]),
    NGTCP2_ERR_INVALID_ARGUMENT);
  /* A replacement is asked for when something is written, and held back. */
  CU_ASSERT_EQUAL(server->num_cids, 6);
  transfer();
  CU_ASSERT_EQUAL(server->num_cids, 7);
  CU_ASSERT_EQUAL(pair->found[1], 0);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_release_connection_id(server->conn, &server->cids[6]), 0);

  /* As often as one likes */
  for (size_t i = 0; i < 20; ++i) {
    ngtcp2_cid *cid = &server->cids[i ? 6 + i : 0];

    CU_ASSERT_EQUAL(ngtcp2_conn_discard_connection_id(server->conn, cid), 0);
    transfer();
    CU_ASSERT_EQUAL_FATAL(server->num_cids, 8 + i);
  }
  watch.fail_remove_cid = 1;
  CU_ASSERT_EQUAL(
    ngtcp2_conn_discard_connection_id(server->conn, &server->cids[1]),
    NGTCP2_ERR_CALLBACK_FAILURE);
  finish();
}

/* An address is advertised with a connection ID that the client may know. */
static void advertise(void) {
  uint64_t seq;

  start();
  CU_ASSERT_EQUAL(watch_submit(&watch, 2, NULL), NGTCP2_ERR_CONN_ID_BLOCKED);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_release_connection_id(server->conn, &server->cids[4]), 0);
  look_for(&server->cids[4]);
  CU_ASSERT_EQUAL(watch_submit(&watch, 2, &seq), 0);
  /* They are numbered when they are released; 0 was that of the handshake. */
  CU_ASSERT_EQUAL(seq, 1);
  pair_run(pair, NULL, PAIR_RTT);
  CU_ASSERT(pair->found[1] > 0);
  /* A client that waits gives it back, and needs another one. */
  CU_ASSERT_EQUAL(watch_initiate(&watch, 2), NGTCP2_ERR_CONN_ID_BLOCKED);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_release_connection_id(server->conn, &server->cids[3]), 0);
  pair_run(pair, NULL, 2 * PAIR_RTT);
  CU_ASSERT_EQUAL(watch_initiate(&watch, 2), 0);
  CU_ASSERT(watch_arrive(&watch, 2, LONG));
  finish();
}

static void zero_length(void) {
  watch_init(&watch, 1);
  server->cidlen = 0;
  CU_ASSERT_EQUAL_FATAL(pair_start(pair, NULL), 0);
  ngtcp2_conn_hold_new_connection_id(server->conn, 1);
  CU_ASSERT(pair_run(pair, pair_confirmed, LONG));
  CU_ASSERT_EQUAL(server->num_cids, 0);
  finish();
}

static void idle_timer(void) {
  ngtcp2_conn *conn;
  ngtcp2_tstamp idle;
  uint64_t sent;

  watch_init(&watch, 1);
  pair->client.params.max_idle_timeout = 30 * NGTCP2_SECONDS;
  CU_ASSERT_FATAL(pair_connect(pair));
  pair_run(pair, NULL, 10 * NGTCP2_SECONDS);
  conn = pair->client.conn;
  idle = ngtcp2_conn_get_expiry2(conn);
  CU_ASSERT_FATAL(idle > pair->now && idle < UINT64_MAX);
  sent = pair->to_server[0].packets;

  /* An old activity changes nothing, a new one postpones the end. */
  ngtcp2_conn_restart_idle_timer(conn, 1);
  CU_ASSERT_EQUAL(ngtcp2_conn_get_expiry2(conn), idle);
  ngtcp2_conn_restart_idle_timer(conn, pair->now);
  CU_ASSERT_EQUAL(ngtcp2_conn_get_expiry2(conn),
                  pair->now + 30 * NGTCP2_SECONDS);
  pair_write(&pair->client);
  CU_ASSERT_EQUAL(pair->to_server[0].packets, sent);
  CU_ASSERT_EQUAL(ngtcp2_conn_handle_expiry(conn, idle), 0);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_handle_expiry(conn, pair->now + 30 * NGTCP2_SECONDS),
    NGTCP2_ERR_IDLE_CLOSE);
  finish();
}

void add_connection_id_tests(void) {
  CU_pSuite suite = CU_add_suite("connection_ids", NULL, NULL);

  CU_ADD_TEST(suite, default_behaviour);
  CU_ADD_TEST(suite, hold_and_release);
  CU_ADD_TEST(suite, restore_default);
  CU_ADD_TEST(suite, discard);
  CU_ADD_TEST(suite, advertise);
  CU_ADD_TEST(suite, zero_length);
  suite = CU_add_suite("idle_timer", NULL, NULL);
  CU_ADD_TEST(suite, idle_timer);
}
