/* Server migration as two applications see it. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <CUnit/Basic.h>

#include "watch.h"

#define MIB ((uint64_t)1024 * 1024)
#define LONG (60 * NGTCP2_SECONDS)
/* NGTCP2_SAA_MAX_ADVERTISED and what a validation sends are not in the API, but
   documented. */
#define MAX_PROBES 4
#define PROBE_LEN 1200

static struct watch watch;
static struct pair *const pair = &watch.pair;

static const ngtcp2_server_alt_addr *get(int server) {
  return ngtcp2_conn_get_server_alternate_address(server ? pair->server.conn
                                                         : pair->client.conn);
}

static int same_ipv4(const ngtcp2_server_alt_addr *addr, size_t n) {
  ngtcp2_sockaddr_in wanted = pair_ipv4(n);

  return addr && addr->ipv4_present &&
         memcmp(&addr->ipv4, &wanted, sizeof(wanted)) == 0;
}

static int same_ipv6(const ngtcp2_server_alt_addr *addr, size_t n) {
  ngtcp2_sockaddr_in6 wanted = pair_ipv6(n);

  return addr && addr->ipv6_present &&
         memcmp(&addr->ipv6, &wanted, sizeof(wanted)) == 0;
}

static void start(void) { CU_ASSERT_FATAL(pair_connect(pair)); }

static void finish(void) {
  CU_ASSERT_EQUAL(pair->client.error, 0);
  CU_ASSERT_EQUAL(pair->server.error, 0);
  CU_ASSERT_EQUAL(pair->strays, 0);
  pair_free(pair);
}

static void negotiation(void) {
  static const uint8_t parameter[] = {0x8c, 0x50, 0x6b, 0xb6, 0x00};

  watch_init(&watch, 1);
  pair->needle = parameter;
  pair->needlelen = sizeof(parameter);
  /* "If server sets this field, it is ignored." */
  pair->server.params.enable_server_migration = 1;
  start();
  CU_ASSERT(pair->found[0] > 0);
  CU_ASSERT_EQUAL(pair->found[1], 0);
  CU_ASSERT_EQUAL(ngtcp2_conn_get_remote_transport_params2(pair->server.conn)
                    ->enable_server_migration,
                  1);
  CU_ASSERT_EQUAL(ngtcp2_conn_get_remote_transport_params2(pair->client.conn)
                    ->enable_server_migration,
                  0);
  CU_ASSERT_PTR_NULL(get(0));
  CU_ASSERT_PTR_NULL(get(1));
  finish();
}

static void move_to_ipv4(void) {
  uint64_t seq = 0;

  watch_init(&watch, 1);
  start();
  CU_ASSERT_EQUAL_FATAL(watch_submit(&watch, 2, &seq), 0);
  CU_ASSERT(seq > 0);
  CU_ASSERT_PTR_NOT_NULL_FATAL(get(1));
  CU_ASSERT_EQUAL(get(1)->seq, seq);
  CU_ASSERT(same_ipv4(get(1), 2));
  CU_ASSERT_FALSE(get(1)->ipv6_present);
  CU_ASSERT_PTR_NULL(get(0));

  CU_ASSERT_FATAL(watch_arrive(&watch, 2, LONG));
  pair_run(pair, NULL, 3 * PAIR_RTT);
  CU_ASSERT_EQUAL(watch.selects, 1);
  CU_ASSERT_EQUAL(watch.preset, 1);
  CU_ASSERT_EQUAL(watch.shown.seq, seq);
  CU_ASSERT(same_ipv4(&watch.shown, 2));
  CU_ASSERT_FALSE(watch.shown.ipv6_present);
  CU_ASSERT_PTR_NOT_NULL_FATAL(get(0));
  CU_ASSERT_EQUAL(get(0)->seq, seq);
  CU_ASSERT(same_ipv4(get(0), 2));
  CU_ASSERT_EQUAL(watch.num_acked, 1);
  CU_ASSERT_EQUAL(watch.acked[0], seq);
  /* Both sides are told, with the flag. */
  for (int side = 0; side < 2; ++side) {
    CU_ASSERT_EQUAL(watch.begun[side], 1);
    CU_ASSERT_EQUAL(watch.validating[side], 2);
    CU_ASSERT_EQUAL(watch.succeeded[side], 1);
    CU_ASSERT_EQUAL(watch.failed[side] + watch.aborted[side], 0);
    CU_ASSERT_EQUAL(watch.others[side], 0);
  }
  finish();
}

static void choice_of_family(void) {
  ngtcp2_sockaddr_in ipv4 = pair_ipv4(2);
  ngtcp2_sockaddr_in6 ipv6 = pair_ipv6(3);

  watch_init(&watch, 1);
  watch.choice = TAKE_IPV6;
  start();
  CU_ASSERT_EQUAL_FATAL(ngtcp2_conn_submit_server_alternate_address(
                          pair->server.conn, &ipv4, &ipv6, NULL),
                        0);
  CU_ASSERT(same_ipv4(get(1), 2) && same_ipv6(get(1), 3));
  CU_ASSERT_FATAL(watch_arrive(&watch, 3, LONG));
  CU_ASSERT(same_ipv4(&watch.shown, 2) && same_ipv6(&watch.shown, 3));
  CU_ASSERT_EQUAL(pair->to_server[2].packets, 0);
  /* The other one of the same frame, by hand */
  pair_run(pair, NULL, 3 * PAIR_RTT);
  CU_ASSERT_EQUAL(watch_initiate(&watch, 2), 0);
  CU_ASSERT(watch_arrive(&watch, 2, LONG));
  finish();
}

static void deferred(void) {
  watch_init(&watch, 1);
  watch.choice = TAKE_LATER;
  start();
  CU_ASSERT_EQUAL_FATAL(watch_submit(&watch, 2, NULL), 0);
  pair_run(pair, NULL, LONG);
  CU_ASSERT_EQUAL(watch.selects, 1);
  CU_ASSERT(watch_at(&watch, 0));
  CU_ASSERT_EQUAL(pair->to_server[2].packets, 0);
  CU_ASSERT(same_ipv4(get(0), 2));

  CU_ASSERT_EQUAL_FATAL(watch_initiate(&watch, 2), 0);
  CU_ASSERT(watch_arrive(&watch, 2, LONG));
  CU_ASSERT_EQUAL(watch.selects, 1);
  finish();
}

static void without_callback(void) {
  watch_init(&watch, 1);
  pair->client.callbacks.select_server_alt_addr = NULL;
  pair->server.callbacks.ack_server_alt_addr = NULL;
  start();
  CU_ASSERT_EQUAL_FATAL(watch_submit(&watch, 4, NULL), 0);
  pair_run(pair, NULL, LONG);
  CU_ASSERT(watch_at(&watch, 0));
  CU_ASSERT_EQUAL(pair->to_server[4].packets, 0);
  CU_ASSERT(same_ipv4(get(0), 4));
  CU_ASSERT_EQUAL_FATAL(watch_initiate(&watch, 4), 0);
  CU_ASSERT(watch_arrive(&watch, 4, LONG));
  finish();
}

static void withdrawal(void) {
  uint64_t first, second;

  watch_init(&watch, 1);
  watch.choice = TAKE_LATER;
  start();
  CU_ASSERT_EQUAL_FATAL(watch_submit(&watch, 2, &first), 0);
  pair_run(pair, NULL, PAIR_RTT);
  CU_ASSERT(same_ipv4(get(0), 2));
  CU_ASSERT_EQUAL_FATAL(ngtcp2_conn_submit_server_alternate_address(
                          pair->server.conn, NULL, NULL, &second),
                        0);
  CU_ASSERT(second > first);
  pair_run(pair, NULL, PAIR_RTT);
  for (int side = 0; side < 2; ++side) {
    CU_ASSERT_PTR_NOT_NULL_FATAL(get(side));
    CU_ASSERT_EQUAL(get(side)->seq, second);
    CU_ASSERT_FALSE(get(side)->ipv4_present || get(side)->ipv6_present);
  }
  CU_ASSERT_EQUAL(watch.selects, 1);
  CU_ASSERT_EQUAL(watch_initiate(&watch, 2), NGTCP2_ERR_INVALID_STATE);
  pair_run(pair, NULL, LONG);
  CU_ASSERT_EQUAL(pair->to_server[2].packets, 0);

  /* While it is being validated, too; and the next address is welcome. */
  watch.choice = TAKE_IPV4;
  pair->dead[2] = 1;
  CU_ASSERT_EQUAL_FATAL(watch_submit(&watch, 2, NULL), 0);
  pair_run(pair, NULL, PAIR_RTT);
  CU_ASSERT_EQUAL(watch.begun[0], 1);
  CU_ASSERT_EQUAL_FATAL(ngtcp2_conn_submit_server_alternate_address(
                          pair->server.conn, NULL, NULL, NULL),
                        0);
  pair_run(pair, NULL, PAIR_RTT);
  CU_ASSERT_EQUAL(watch.aborted[0], 1);
  CU_ASSERT(watch_at(&watch, 0));
  CU_ASSERT_EQUAL_FATAL(watch_submit(&watch, 4, NULL), 0);
  CU_ASSERT(watch_arrive(&watch, 4, LONG));
  finish();
}

static void dead_address(void) {
  watch_init(&watch, 1);
  pair->server.size = 2 * MIB;
  pair->dead[2] = 1;
  start();
  CU_ASSERT_EQUAL_FATAL(watch_submit(&watch, 2, NULL), 0);
  CU_ASSERT(pair_run(pair, pair_transferred, LONG));
  pair_run(pair, NULL, LONG);
  CU_ASSERT_EQUAL(watch.failed[0], 1);
  CU_ASSERT_EQUAL(watch.begun[0], 1);
  CU_ASSERT_EQUAL(watch.begun[1], 0);
  CU_ASSERT(watch_at(&watch, 0));
  /* All that a server can make a client send to a victim */
  CU_ASSERT(pair->to_server[2].packets > 0);
  CU_ASSERT(pair->to_server[2].packets <= MAX_PROBES);
  CU_ASSERT_EQUAL(pair->to_server[2].bytes,
                  pair->to_server[2].packets * PROBE_LEN);

  /* It comes back to life, and is tried again. */
  pair->dead[2] = 0;
  CU_ASSERT_EQUAL_FATAL(watch_initiate(&watch, 2), 0);
  CU_ASSERT(watch_arrive(&watch, 2, LONG));
  finish();
}

static void superseded(void) {
  watch_init(&watch, 1);
  pair->dead[2] = 1;
  start();
  CU_ASSERT_EQUAL_FATAL(watch_submit(&watch, 2, NULL), 0);
  pair_run(pair, NULL, PAIR_RTT);
  CU_ASSERT_EQUAL(watch.validating[0], 2);
  CU_ASSERT_EQUAL_FATAL(watch_submit(&watch, 4, NULL), 0);
  CU_ASSERT(watch_arrive(&watch, 4, LONG));
  CU_ASSERT_EQUAL(watch.selects, 2);
  finish();
}

/* The client's own address is none to move to, whether the application chooses it
   at once or later. */
static void refused(void) {
  ngtcp2_sockaddr_in own;
  ngtcp2_path path = {.local = pair_address(0, 0),
                      .remote = pair_address(0, 0)};

  watch_init(&watch, 1);
  start();
  memcpy(&own, pair_addr(0, 0), sizeof(own));
  CU_ASSERT_EQUAL_FATAL(ngtcp2_conn_submit_server_alternate_address(
                          pair->server.conn, &own, NULL, NULL),
                        0);
  pair_run(pair, NULL, LONG);
  CU_ASSERT_EQUAL(watch.selects, 1);
  CU_ASSERT_EQUAL(watch.begun[0], 0);
  CU_ASSERT_PTR_NOT_NULL_FATAL(get(0));
  CU_ASSERT(get(0)->ipv4_present &&
            memcmp(&get(0)->ipv4, &own, sizeof(own)) == 0);
  CU_ASSERT_EQUAL(
    ngtcp2_conn_initiate_server_migration(pair->client.conn, &path, pair->now),
    NGTCP2_ERR_INVALID_ARGUMENT);
  finish();
}

static void hundred_moves(void) {
  static const int addrs[] = {2, 1, 4, 3, 0, 6, 5};
  uint64_t before;

  watch_init(&watch, 1);
  pair->client.size = 4 * MIB;
  pair->server.size = 24 * MIB;
  start();
  for (size_t i = 0; i < 100; ++i) {
    before = pair->client.received;
    CU_ASSERT_EQUAL_FATAL(watch_submit(&watch, addrs[i % 7], NULL), 0);
    CU_ASSERT_FATAL(watch_arrive(&watch, addrs[i % 7], LONG));
    pair_run(pair, NULL, 2 * PAIR_RTT);
    CU_ASSERT(pair->client.received > before);
  }
  /* They were moves of a connection with something to do. */
  CU_ASSERT(!pair->client.fin_received);
  CU_ASSERT(pair_run(pair, pair_transferred, LONG));
  CU_ASSERT_EQUAL(watch.succeeded[0], 100);
  CU_ASSERT_EQUAL(watch.succeeded[1], 100);
  CU_ASSERT_EQUAL(watch.num_acked, 100);
  finish();
}

static void bad_network_once(uint64_t seed) {
  static const int addrs[] = {2, 1, 4, 0};
  int moves = 0;

  watch_init(&watch, seed);
  pair->client.size = MIB;
  pair->server.size = 4 * MIB;
  start();
  pair->loss = 50;
  pair->duplication = 20;
  pair->reordering = 50;
  for (size_t i = 0; i < 20 && !pair->client.error && !pair->server.error;
       ++i) {
    /* No connection ID may be free for a moment; a validation may fail. */
    if (watch_submit(&watch, addrs[i % 4], NULL) == 0) {
      moves += watch_arrive(&watch, addrs[i % 4], 10 * NGTCP2_SECONDS);
    }
    pair_run(pair, NULL, PAIR_RTT);
  }
  CU_ASSERT(moves >= 10);
  CU_ASSERT(pair_run(pair, pair_transferred, 10 * LONG));
  /* What may be doubtful at the end is no longer so when nothing is lost. */
  pair->loss = pair->duplication = pair->reordering = 0;
  CU_ASSERT_EQUAL(watch_submit(&watch, 6, NULL), 0);
  CU_ASSERT(watch_arrive(&watch, 6, LONG));
  finish();
}

static void bad_network(void) {
  uint64_t seed;

  watch_init(&watch, 0);
  seed = watch.pair.random;
  printf("Seeds from %" PRIu64 " on; NGMASQUE_SEED is another first one\n",
         seed);
  for (uint64_t i = 0; i < 4; ++i) {
    bad_network_once(seed + i);
  }
}

void add_migration_tests(void) {
  CU_pSuite suite = CU_add_suite("server_migration", NULL, NULL);

  CU_ADD_TEST(suite, negotiation);
  CU_ADD_TEST(suite, move_to_ipv4);
  CU_ADD_TEST(suite, choice_of_family);
  CU_ADD_TEST(suite, deferred);
  CU_ADD_TEST(suite, without_callback);
  CU_ADD_TEST(suite, withdrawal);
  CU_ADD_TEST(suite, dead_address);
  CU_ADD_TEST(suite, superseded);
  CU_ADD_TEST(suite, refused);
  CU_ADD_TEST(suite, hundred_moves);
  CU_ADD_TEST(suite, bad_network);
}
