/* See watch.h. */

#include "watch.h"

#include <stdlib.h>
#include <string.h>

static struct watch *watch_of(void *user_data) {
  return ((struct endpoint *)user_data)->pair->user;
}

static int side_of(void *user_data) {
  return ((struct endpoint *)user_data)->tls.server;
}

static int select_cb(ngtcp2_conn *conn, ngtcp2_path *dest,
                     const ngtcp2_server_alt_addr *addr, void *user_data) {
  struct watch *watch = watch_of(user_data);
  ngtcp2_addr client = pair_address(0, 1);

  ++watch->selects;
  watch->shown = *addr;
  watch->preset += pair_find_addr(0, &dest->local) ==
                   pair_find_addr(0, &ngtcp2_conn_get_path2(conn)->local);
  switch (watch->choice) {
  case TAKE_FAILS:
    return NGTCP2_ERR_CALLBACK_FAILURE;
  case TAKE_LATER:
    return 0;
  case TAKE_IPV4:
  case TAKE_IPV6:
    break;
  }
  /* What is offered, if it is not what is wanted */
  if (addr->ipv6_present &&
      (watch->choice == TAKE_IPV6 || !addr->ipv4_present)) {
    memcpy(dest->remote.addr, &addr->ipv6, sizeof(addr->ipv6));
    dest->remote.addrlen = sizeof(addr->ipv6);
  } else if (addr->ipv4_present) {
    memcpy(dest->remote.addr, &addr->ipv4, sizeof(addr->ipv4));
    dest->remote.addrlen = sizeof(addr->ipv4);
    client = pair_address(0, 0);
  }
  memcpy(dest->local.addr, client.addr, client.addrlen);
  dest->local.addrlen = client.addrlen;
  return 0;
}

static int ack_cb(ngtcp2_conn *conn, uint64_t seq, void *user_data) {
  struct watch *watch = watch_of(user_data);
  (void)conn;

  if (watch->fail_ack) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  watch->acked[watch->num_acked++ % WATCH_MAX_ACKS] = seq;
  return 0;
}

static int begin_cb(ngtcp2_conn *conn, uint32_t flags, const ngtcp2_path *path,
                    const ngtcp2_path *fallback_path, void *user_data) {
  struct watch *watch = watch_of(user_data);
  int side = side_of(user_data);
  (void)conn, (void)fallback_path;

  if (watch->fail_begin) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  if (!(flags & NGTCP2_PATH_VALIDATION_FLAG_SERVER_ALT_ADDR)) {
    ++watch->others[side];
    return 0;
  }
  ++watch->begun[side];
  watch->validating[side] =
    pair_find_addr(1, side ? &path->local : &path->remote);
  return 0;
}

static int validated_cb(ngtcp2_conn *conn, uint32_t flags,
                        const ngtcp2_path *path,
                        const ngtcp2_path *fallback_path,
                        ngtcp2_path_validation_result res, void *user_data) {
  struct watch *watch = watch_of(user_data);
  int side = side_of(user_data);
  (void)conn, (void)path, (void)fallback_path;

  if (!(flags & NGTCP2_PATH_VALIDATION_FLAG_SERVER_ALT_ADDR)) {
    return 0;
  }
  switch (res) {
  case NGTCP2_PATH_VALIDATION_RESULT_SUCCESS:
    ++watch->succeeded[side];
    break;
  case NGTCP2_PATH_VALIDATION_RESULT_FAILURE:
    ++watch->failed[side];
    break;
  case NGTCP2_PATH_VALIDATION_RESULT_ABORTED:
    ++watch->aborted[side];
    break;
  }
  return 0;
}

static int new_cid_cb(ngtcp2_conn *conn, ngtcp2_cid *cid,
                      ngtcp2_stateless_reset_token *token, size_t cidlen,
                      void *user_data) {
  struct endpoint *endpoint = user_data;

  if (watch_of(user_data)->fail_new_cid) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  return endpoint->default_new_cid(conn, cid, token, cidlen, user_data);
}

static int remove_cid_cb(ngtcp2_conn *conn, const ngtcp2_cid *cid,
                         void *user_data) {
  (void)conn, (void)cid;

  if (watch_of(user_data)->fail_remove_cid) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  ++((struct endpoint *)user_data)->num_removed_cids;
  return 0;
}

/* Memory */

static int fails(struct watch *watch) {
  if (watch->mem_left < 0 || watch->fail_mem == 0) {
    return 0;
  }
  if (watch->mem_left > 0) {
    --watch->mem_left;
    return 0;
  }
  --watch->fail_mem;
  ++watch->mem_failed;
  return 1;
}

static void *malloc_cb(size_t size, void *user_data) {
  return fails(user_data) ? NULL : malloc(size);
}

static void free_cb(void *ptr, void *user_data) {
  (void)user_data;

  free(ptr);
}

static void *calloc_cb(size_t nmemb, size_t size, void *user_data) {
  return fails(user_data) ? NULL : calloc(nmemb, size);
}

static void *realloc_cb(void *ptr, size_t size, void *user_data) {
  return fails(user_data) ? NULL : realloc(ptr, size);
}

void watch_init(struct watch *watch, uint64_t seed) {
  *watch = (struct watch){
    .mem = {watch, malloc_cb, free_cb, calloc_cb, realloc_cb},
    .mem_left = -1,
  };
  pair_init(&watch->pair, seed);
  watch->pair.user = watch;
  for (int server = 0; server < 2; ++server) {
    struct endpoint *endpoint =
      server ? &watch->pair.server : &watch->pair.client;

    endpoint->mem = &watch->mem;
    endpoint->default_new_cid = endpoint->callbacks.get_new_connection_id2;
    endpoint->callbacks.get_new_connection_id2 = new_cid_cb;
    endpoint->callbacks.remove_connection_id = remove_cid_cb;
    endpoint->callbacks.begin_path_validation = begin_cb;
    endpoint->callbacks.path_validation = validated_cb;
  }
  watch->pair.client.callbacks.select_server_alt_addr = select_cb;
  watch->pair.server.callbacks.ack_server_alt_addr = ack_cb;
  watch->pair.client.params.enable_server_migration = 1;
}

int watch_submit(struct watch *watch, size_t n, uint64_t *pseq) {
  ngtcp2_sockaddr_in ipv4 = pair_ipv4(n);
  ngtcp2_sockaddr_in6 ipv6 = pair_ipv6(n);

  return ngtcp2_conn_submit_server_alternate_address(
    watch->pair.server.conn, n % 2 ? NULL : &ipv4, n % 2 ? &ipv6 : NULL, pseq);
}

int watch_initiate(struct watch *watch, size_t n) {
  ngtcp2_path path = {
    .local = pair_address(0, n % 2),
    .remote = pair_address(1, n),
  };

  return ngtcp2_conn_initiate_server_migration(watch->pair.client.conn, &path,
                                               watch->pair.now);
}

int watch_at(const struct watch *watch, size_t n) {
  return pair_find_addr(
           1, &ngtcp2_conn_get_path2(watch->pair.client.conn)->remote) ==
           (int)n &&
         pair_find_addr(
           1, &ngtcp2_conn_get_path2(watch->pair.server.conn)->local) == (int)n;
}

static size_t wanted;

static int arrived(const struct pair *pair) {
  return watch_at(pair->user, wanted);
}

int watch_arrive(struct watch *watch, size_t n, ngtcp2_duration limit) {
  wanted = n;
  return pair_run(&watch->pair, arrived, limit);
}
