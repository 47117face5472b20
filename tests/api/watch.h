#ifndef WATCH_H
#define WATCH_H

#include "pair.h"

/* A pair whose client can be moved, and what the callbacks say about it.  This
   is an application: it decides, and it watches. */

enum watch_choice { TAKE_IPV4, TAKE_IPV6, TAKE_LATER, TAKE_FAILS };

#define WATCH_MAX_ACKS 256

struct watch {
  struct pair pair;
  enum watch_choice choice;
  /* Calls of select_server_alt_addr, what it was shown last, and whether the
     local address was preset to the current one each time */
  int selects, preset;
  ngtcp2_server_alt_addr shown;
  /* Path validations by side (0 is the client), all with the flag for server
     migration, and those without it */
  int begun[2], succeeded[2], failed[2], aborted[2], others[2];
  /* The number of the server's address of the last one that was begun */
  int validating[2];
  uint64_t acked[WATCH_MAX_ACKS];
  size_t num_acked;
  /* What the callbacks shall fail at */
  int fail_begin, fail_ack, fail_new_cid, fail_remove_cid;
  /* Allocations: how many succeed until |fail_mem| ones fail; -1: all do */
  ngtcp2_mem mem;
  long mem_left, fail_mem, mem_failed;
};

/* Seed as for pair_init() */
void watch_init(struct watch *watch, uint64_t seed);

/* Advertises address |n| of the server; 0 or an error of ngtcp2 */
int watch_submit(struct watch *watch, size_t n, uint64_t *pseq);
/* The deferred way to it */
int watch_initiate(struct watch *watch, size_t n);
/* Both sides use address |n| of the server now. */
int watch_at(const struct watch *watch, size_t n);
/* Lets time pass until that is so, or |limit| is over */
int watch_arrive(struct watch *watch, size_t n, ngtcp2_duration limit);

/* The suites */
void add_migration_tests(void);
void add_error_tests(void);
void add_memory_tests(void);
void add_connection_id_tests(void);

#endif /* WATCH_H */
