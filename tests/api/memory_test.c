/* Out of memory: every call says so or does without, and nothing is lost by it.
 */

#include <CUnit/Basic.h>

#include "watch.h"

#define LONG (60 * NGTCP2_SECONDS)
/* More frames than are allocated ahead */
#define MANY 4096

static struct watch watch;
static struct pair *const pair = &watch.pair;

/* From now on nothing can be allocated; queues frames until the server's memory
   for them is used up, too. */
static void use_up_frames(void) {
  static const uint8_t token[] = {1, 2, 3};
  int rv = 0;

  watch.mem_left = 0;
  watch.fail_mem = MANY;
  for (size_t i = 0; i < MANY && rv == 0; ++i) {
    rv = ngtcp2_conn_submit_new_token(pair->server.conn, token, sizeof(token));
  }
  CU_ASSERT_EQUAL(rv, NGTCP2_ERR_NOMEM);
}

static void submit(void) {
  watch_init(&watch, 1);
  CU_ASSERT_FATAL(pair_connect(pair));
  use_up_frames();
  CU_ASSERT_EQUAL(watch_submit(&watch, 2, NULL), NGTCP2_ERR_NOMEM);
  CU_ASSERT_PTR_NULL(
    ngtcp2_conn_get_server_alternate_address(pair->server.conn));
  watch.fail_mem = 0;
  CU_ASSERT_EQUAL(watch_submit(&watch, 2, NULL), 0);
  CU_ASSERT(watch_arrive(&watch, 2, LONG));
  pair_free(pair);
}

static void release(void) {
  const ngtcp2_cid *cid = &pair->server.cids[0];

  watch_init(&watch, 1);
  CU_ASSERT_EQUAL_FATAL(pair_start(pair, NULL), 0);
  ngtcp2_conn_hold_new_connection_id(pair->server.conn, 1);
  CU_ASSERT_FATAL(pair_run(pair, pair_confirmed, LONG));
  pair_run(pair, NULL, 2 * PAIR_RTT);
  use_up_frames();
  CU_ASSERT_EQUAL(ngtcp2_conn_release_connection_id(pair->server.conn, cid),
                  NGTCP2_ERR_NOMEM);
  watch.fail_mem = 0;
  /* It is still held back. */
  CU_ASSERT_EQUAL(ngtcp2_conn_release_connection_id(pair->server.conn, cid), 0);
  CU_ASSERT_EQUAL(watch_submit(&watch, 2, NULL), 0);
  CU_ASSERT(watch_arrive(&watch, 2, LONG));
  pair_free(pair);
}

static void initiate(void) {
  watch_init(&watch, 1);
  watch.choice = TAKE_LATER;
  CU_ASSERT_FATAL(pair_connect(pair));
  CU_ASSERT_EQUAL(watch_submit(&watch, 2, NULL), 0);
  pair_run(pair, NULL, PAIR_RTT);
  watch.mem_left = 0;
  watch.fail_mem = MANY;
  CU_ASSERT_EQUAL(watch_initiate(&watch, 2), NGTCP2_ERR_NOMEM);
  CU_ASSERT_EQUAL(watch.begun[0], 0);
  watch.fail_mem = 0;
  pair_free(pair);
}

/* One allocation after the other fails while the server moves there and back.
 */
static void each_allocation(void) {
  long n;

  for (n = 0;; ++n) {
    watch_init(&watch, 1);
    pair->server.size = 32 * 1024;
    CU_ASSERT_FATAL(pair_connect(pair));
    watch.mem_left = n;
    watch.fail_mem = 1;
    for (size_t addr = 2; addr < 8; addr += 2) {
      int rv = watch_submit(&watch, addr, NULL);

      CU_ASSERT(rv == 0 || rv == NGTCP2_ERR_NOMEM);
      if (rv == 0) {
        watch_arrive(&watch, addr, LONG);
      }
    }
    CU_ASSERT(pair->client.error == 0 ||
              pair->client.error == NGTCP2_ERR_NOMEM);
    CU_ASSERT(pair->server.error == 0 ||
              pair->server.error == NGTCP2_ERR_NOMEM);
    if (!watch.mem_failed) {
      CU_ASSERT(watch_at(&watch, 6));
      pair_free(pair);
      break;
    }
    pair_free(pair);
  }
  /* There were some. */
  CU_ASSERT(n > 5);
}

void add_memory_tests(void) {
  CU_pSuite suite = CU_add_suite("out_of_memory", NULL, NULL);

  CU_ADD_TEST(suite, submit);
  CU_ADD_TEST(suite, initiate);
  CU_ADD_TEST(suite, release);
  CU_ADD_TEST(suite, each_allocation);
}
