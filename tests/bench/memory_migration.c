/* A download over a simulated network, whose server moves between two addresses
   or whose client opens a new connection instead.  One process, virtual time,
   no cryptography, no randomness: exact numbers, the same in every run.
   `migration` builds and runs it, and README.md says what the numbers mean.

   Built against unpatched ngtcp2 it does the same, but for MODE_MOVE. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "download.h"

/* The download has found its rate when the first move comes. */
#define WARM_UP (2 * NGTCP2_SECONDS)

enum mode {
  MODE_NONE,
  /* The server announces its other address. */
  MODE_MOVE,
  /* The server tells the client, which closes the connection, opens one to the
     other address and asks there for what it lacks, after a full handshake or
     with 0-RTT. */
  MODE_RECONNECT,
  MODE_RESUME,
};

static struct {
  uint64_t mode, start, rate, rate_b, rtt_a, rtt_b, shared_link, port_only, buffer, window,
    period, seconds, request, moves, callbacks, negotiate;
} options = {
  .rate = 50000000,
  .rtt_a = 20000,
  .rtt_b = 20000,
  .window = 1 << 20,
  .period = 1000,
  .seconds = 60,
  .request = 1,
  .moves = UINT64_MAX,
  .callbacks = 1,
};

static const struct {
  const char *name;
  uint64_t *value;
} option_list[] = {
  {"mode", &options.mode},   /* enum mode */
  {"start", &options.start}, /* index of the server's first address */
  {"rate", &options.rate},   /* bits per second */
  {"rate_b", &options.rate_b}, /* 0: the same */
  {"rtt_a", &options.rtt_a}, /* microseconds */
  {"rtt_b", &options.rtt_b}, /* microseconds */
  {"shared_link", &options.shared_link},
  {"port_only", &options.port_only}, /* the addresses differ in their port */
  {"buffer", &options.buffer},       /* bytes; 0: as much as it takes */
  {"window", &options.window},       /* flow control, bytes */
  {"period", &options.period},       /* milliseconds from move to move */
  {"seconds", &options.seconds},     /* after the warm-up */
  {"request", &options.request},     /* 0: the connection is idle */
  {"moves", &options.moves},         /* at most */
  /* 0: neither side has the callbacks of server migration */
  {"callbacks", &options.callbacks},
  {"negotiate", &options.negotiate}, /* as if with MODE_MOVE */
};

/* Index of the server's current address, or of the one it has announced */
static size_t target;

/* Returns nonzero if it has to be tried again later. */
static int move(void) {
  size_t next = (target + 1) % NETWORK_ADDRS;

#ifdef NGTCP2_TRANSPORT_PARAMS_SAA
  if (options.mode == MODE_MOVE) {
    ngtcp2_sockaddr_in addr;
    int rv;

    memcpy(&addr, &server_addrs[next], sizeof(addr));
    rv = ngtcp2_conn_submit_server_alternate_address(server.conn, &addr, NULL,
                                                     NULL);
    if (rv == NGTCP2_ERR_CONN_ID_BLOCKED) {
      return 1;
    }
    check(rv, "submit_server_alternate_address");
    target = next;
    return 0;
  }
#endif
  target = next;
  network_clear();
  close_connection();
  open_connection(target, options.mode == MODE_RESUME);
  return 0;
}

static void print_memory(const char *when) {
  printf("\"memory_%s\": [%" PRIu64 ", %" PRIu64 "],\n", when,
         client.memory.current, server.memory.current);
}

int main(int argc, char **argv) {
  struct network_config network;
  uint64_t moves, done = 0, waits = 0, start_delivered, start_sent, start_lost;
  ngtcp2_tstamp start, next_move;
  ngtcp2_conn_info info;

  for (int i = 1; i < argc; ++i) {
    size_t j = 0, count = sizeof(option_list) / sizeof(option_list[0]);
    const char *value = strchr(argv[i], '=');

    while (j < count && value &&
           (strncmp(argv[i], option_list[j].name, (size_t)(value - argv[i])) ||
            option_list[j].name[value - argv[i]])) {
      ++j;
    }
    if (!value || j == count) {
      fprintf(stderr, "memory_migration: unknown option %s\n", argv[i]);
      return 2;
    }
    *option_list[j].value = strtoull(value + 1, NULL, 10);
  }

  network = (struct network_config){
    .bits_per_second = {options.rate,
                        options.rate_b ? options.rate_b : options.rate},
    .one_way_delay = {options.rtt_a * NGTCP2_MICROSECONDS / 2,
                      options.rtt_b * NGTCP2_MICROSECONDS / 2},
    .shared_link = (int)options.shared_link,
    .buffer = options.buffer,
  };
  network_init(&network);
  client_addr.sin_family = AF_INET;
  client_addr.sin_port = htons(1000);
  client_addr.sin_addr.s_addr = htonl(0xc6336401); /* 198.51.100.1 */
  for (size_t i = 0; i < NETWORK_ADDRS; ++i) {
    server_addrs[i].sin_family = AF_INET;
    server_addrs[i].sin_port = htons((uint16_t)(443 + i));
    server_addrs[i].sin_addr.s_addr = htonl(
      0xcb007101 + (options.port_only ? 0 : (uint32_t)i)); /* 203.0.113. */
  }

  printf("{\n");
  download_options = (struct download_options){
    .window = options.window,
    .request = options.request != 0,
    .callbacks = options.callbacks != 0,
    .migration = options.mode == MODE_MOVE || options.negotiate,
  };
  target = options.start;
  open_connection(target, 0);
  print_memory("new");
  run_until(now + WARM_UP);
  print_memory("warm");
  remember_params();

  start = now;
  start_delivered = delivered;
  start_sent = server.sent;
  ngtcp2_conn_get_conn_info(server.conn, &info);
  start_lost = info.pkt_lost;
  printf("\"gaps_ns\": [");
  for (moves = 0; moves < options.seconds * 1000 / options.period; ++moves) {
    next_move = start + (moves + 1) * options.period * NGTCP2_MILLISECONDS;
    longest_gap = 0;
    if (options.mode >= MODE_RECONNECT) {
      /* The client learns it after half a round trip. */
      run_until(now + network.one_way_delay[target]);
    }
    if (moves < options.moves) {
      while (options.mode != MODE_NONE && now < next_move && move()) {
        ++waits;
        run_until(now + NGTCP2_MILLISECONDS);
      }
      done += now < next_move;
    }
    run_until(next_move);
    printf("%s%" PRIu64, moves ? ", " : "", longest_gap);
  }
  ngtcp2_conn_get_conn_info(server.conn, &info);
  printf("],\n\"delivered\": %" PRIu64 ",\n\"seconds\": %.9f,\n",
         delivered - start_delivered,
         (double)(now - start) / (double)NGTCP2_SECONDS);
  /* Of what was sent, all that the client did not need */
  printf("\"sent_again\": %" PRIu64 ",\n\"thrown_away\": %" PRIu64 ",\n",
         server.sent - server.sent_offset,
         options.mode >= MODE_RECONNECT ? sent_before + server.sent - delivered
                                        : 0);
  printf("\"sent\": %" PRIu64 ",\n", sent_before + server.sent - start_sent);
  printf("\"packets_lost\": %" PRIu64 ",\n\"packets_dropped\": %" PRIu64 ",\n",
         lost_before + info.pkt_lost - start_lost, network_dropped);
  printf("\"dropped_at_return\": %" PRIu64 ",\n\"excess_at_return\": %" PRIu64
         ",\n",
         network_dropped_at_return, network_excess_at_return);
  printf("\"moves\": %" PRIu64 ",\n\"waits\": %" PRIu64 ",\n",
         options.mode == MODE_NONE ? 0 : done, waits);
  printf("\"validated\": [%" PRIu64 ", %" PRIu64 "],\n", client.validated,
         server.validated);
  printf("\"failed\": [%" PRIu64 ", %" PRIu64 "],\n", client.failed,
         server.failed);
  printf("\"packets_at\": [%" PRIu64 ", %" PRIu64 "],\n", packets_at[0],
         packets_at[1]);
  print_memory("end");
  printf("\"memory_peak\": [%" PRIu64 ", %" PRIu64 "]\n}\n", client.memory.peak,
         server.memory.peak);
  close_connection();
  return 0;
}
