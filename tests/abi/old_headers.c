/* Compiled with the headers of the unpatched ngtcp2, linked with the patched
   library: a program that has never heard of server migration keeps working.

   What it gives ngtcp2 has the sizes of the old structs.  Whatever the library
   would read or write behind them shows: there are 0xff bytes there, which
   would be a pointer to nothing and a switched-on option, and with
   AddressSanitizer there is nothing at all. */

#define _GNU_SOURCE /* memmem, RTLD_DEFAULT */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../api/pair.h"

#ifdef NGTCP2_PATH_VALIDATION_FLAG_SERVER_ALT_ADDR
#  error "These are not the old headers."
#endif
#if NGTCP2_CALLBACKS_VERSION != NGTCP2_CALLBACKS_V4 ||                         \
  NGTCP2_TRANSPORT_PARAMS_VERSION != NGTCP2_TRANSPORT_PARAMS_V1
#  error "Which release is this?"
#endif

#define DOWNLOAD (4 * 1024 * 1024)
#define UPLOAD (256 * 1024)
/* More than any new member */
#define GARBAGE 512

static int failures;

static void expect(int ok, const char *what) {
  printf("%s - %s\n", ok ? "ok" : "not ok", what);
  failures += !ok;
}

/* How much of a struct of this size is members.  There is room behind the last
   transport parameter in the old struct already, and the new one went there. */
static size_t used(size_t len) {
  _Static_assert(sizeof(ngtcp2_transport_params) != sizeof(ngtcp2_settings) &&
                   sizeof(ngtcp2_transport_params) !=
                     sizeof(ngtcp2_callbacks) &&
                   sizeof(ngtcp2_transport_params) != sizeof(ngtcp2_conn_info),
                 "tell them apart in another way");

  return len == sizeof(ngtcp2_transport_params)
           ? offsetof(ngtcp2_transport_params, version_info_present) + 1
           : len;
}

static void *blocks[16];
static size_t num_blocks;

static void *block(size_t len) {
  if (num_blocks == 16) {
    abort();
  }
  return blocks[num_blocks++] = malloc(len);
}

static void free_blocks(void) {
  while (num_blocks) {
    free(blocks[--num_blocks]);
  }
}

static const void *before_the_end(const void *object, size_t len) {
  return memcpy(block(len), object, len);
}

static const void *before_garbage(const void *object, size_t len) {
  uint8_t *copy = block(len + GARBAGE);

  memset(copy, 0xff, len + GARBAGE);
  return memcpy(copy, object, used(len));
}

static int untouched(const void *object, size_t len) {
  const uint8_t *bytes = object;

  for (size_t i = used(len); i < len + GARBAGE; ++i) {
    if (bytes[i] != 0xff) {
      return 0;
    }
  }
  return 1;
}

/* ngtcp2 writes these, and must not write more than there is. */
static void check_written(ngtcp2_conn *conn) {
  static const uint8_t zero;
  ngtcp2_settings *settings = block(sizeof(*settings) + GARBAGE);
  ngtcp2_transport_params *params = block(sizeof(*params) + GARBAGE);
  ngtcp2_transport_params *decoded = block(sizeof(*decoded) + GARBAGE);
  ngtcp2_conn_info *info = block(sizeof(*info) + GARBAGE);
  uint8_t buf[256];
  ngtcp2_ssize len;

  memset(settings, 0xff, sizeof(*settings) + GARBAGE);
  memset(params, 0xff, sizeof(*params) + GARBAGE);
  memset(decoded, 0xff, sizeof(*decoded) + GARBAGE);
  memset(info, 0xff, sizeof(*info) + GARBAGE);
  ngtcp2_settings_default(settings);
  ngtcp2_transport_params_default(params);
  params->initial_max_data = 4711;
  params->version_info_present = 0;
  len = ngtcp2_transport_params_encode(buf, sizeof(buf), params);
  /* This bit is what an encoder would have looked at. */
  expect(len > 0 && !memmem(buf, (size_t)len, "\x8c\x50\x6b\xb6", 4),
         "no new transport parameter is encoded");
  expect(len > 0 &&
           ngtcp2_transport_params_decode(decoded, buf, (size_t)len) == 0 &&
           decoded->initial_max_data == 4711,
         "transport parameters are decoded");
  /* enable_server_migration behind them */
  memcpy(buf + len, "\x8c\x50\x6b\xb6", 4);
  buf[len + 4] = zero;
  expect(ngtcp2_transport_params_decode(decoded, buf, (size_t)len + 5) == 0,
         "the new transport parameter is no error");
  ngtcp2_conn_get_conn_info(conn, info);
  expect(untouched(settings, sizeof(*settings)) &&
           untouched(params, sizeof(*params)) &&
           untouched(decoded, sizeof(*decoded)) &&
           untouched(info, sizeof(*info)),
         "nothing is written behind old structs");
  free_blocks();
}

static void check_library(ngtcp2_conn *server) {
  ngtcp2_sockaddr_in addr = pair_ipv4(2);
  int (*submit)(ngtcp2_conn *, const ngtcp2_sockaddr_in *,
                const ngtcp2_sockaddr_in6 *, uint64_t *);

  *(void **)&submit =
    dlsym(RTLD_DEFAULT, "ngtcp2_conn_submit_server_alternate_address");
  expect(submit != NULL, "the library is the patched one");
  expect(submit &&
           submit(server, &addr, NULL, NULL) == NGTCP2_ERR_INVALID_STATE,
         "its server knows that this client cannot be moved");
}

static void run(const char *how,
                const void *(*behind)(const void *object, size_t len)) {
  static const uint8_t parameter[] = {0x8c, 0x50, 0x6b, 0xb6};
  static struct pair pair;

  printf("# structs %s\n", how);
  pair_init(&pair, 1);
  pair.client.size = UPLOAD;
  pair.server.size = DOWNLOAD;
  pair.needle = parameter;
  pair.needlelen = sizeof(parameter);
  expect(pair_start(&pair, behind) == 0, "connections are made");
  /* ngtcp2 has its own copies now. */
  free_blocks();
  expect(pair_run(&pair, pair_transferred, 60 * NGTCP2_SECONDS),
         "every byte arrives, in both directions");
  expect(pair.found[0] == 0 && pair.found[1] == 0,
         "the parameter is on no wire");
  check_library(pair.server.conn);
  check_written(pair.client.conn);
  pair_free(&pair);
}

int main(void) {
  printf("1..18\n");
  run("before the end of memory", before_the_end);
  run("before garbage", before_garbage);
  return failures != 0;
}
