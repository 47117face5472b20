/* Links, delays and queues: see network.h. */

#include "network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More than any window that the benchmarks use, and its acknowledgements */
#define QUEUE_LEN 16384
/* IPv4 and UDP */
#define HEADERS 28

/* Packets on their way, oldest first */
struct queue {
  struct network_packet packets[QUEUE_LEN];
  size_t first, count;
};

static struct network_config config;
static struct queue queues[DIRECTIONS][NETWORK_ADDRS];
/* When a link has sent all it was given */
static ngtcp2_tstamp idle[DIRECTIONS][NETWORK_ADDRS];
uint64_t network_dropped;

void network_init(const struct network_config *initial) { config = *initial; }

static ngtcp2_duration transmission_time(uint64_t bytes) {
  return bytes * 8 * NGTCP2_SECONDS / config.bits_per_second;
}

void network_send(enum direction direction, size_t addr, const uint8_t *data,
                  size_t len, ngtcp2_tstamp now) {
  struct queue *queue = &queues[direction][addr];
  ngtcp2_tstamp *link = &idle[direction][config.shared_link ? 0 : addr];
  struct network_packet *packet =
    &queue->packets[(queue->first + queue->count) % QUEUE_LEN];

  if (queue->count == QUEUE_LEN || len > NETWORK_MAX_PACKET) {
    fputs("The queue of packets is too small\n", stderr);
    exit(1);
  }
  if (*link < now) {
    *link = now;
  }
  if (direction == TO_CLIENT && config.buffer &&
      *link - now + transmission_time(len) > transmission_time(config.buffer)) {
    ++network_dropped;
    return;
  }
  *link += transmission_time(len + HEADERS);
  packet->due = *link + config.one_way_delay[addr];
  packet->len = len;
  memcpy(packet->data, data, len);
  ++queue->count;
}

static struct queue *earliest(enum direction direction) {
  struct queue *result = NULL;

  for (size_t i = 0; i < NETWORK_ADDRS; ++i) {
    struct queue *queue = &queues[direction][i];

    if (queue->count && (!result || queue->packets[queue->first].due <
                                      result->packets[result->first].due)) {
      result = queue;
    }
  }
  return result;
}

ngtcp2_tstamp network_next(enum direction direction) {
  const struct queue *queue = earliest(direction);

  return queue ? queue->packets[queue->first].due : UINT64_MAX;
}

const struct network_packet *network_receive(enum direction direction,
                                             size_t *addr, ngtcp2_tstamp now) {
  struct queue *queue = earliest(direction);
  const struct network_packet *packet;

  if (!queue || queue->packets[queue->first].due > now) {
    return NULL;
  }
  packet = &queue->packets[queue->first];
  queue->first = (queue->first + 1) % QUEUE_LEN;
  --queue->count;
  *addr = (size_t)(queue - queues[direction]);
  return packet;
}

void network_clear(void) {
  for (size_t i = 0; i < DIRECTIONS; ++i) {
    for (size_t j = 0; j < NETWORK_ADDRS; ++j) {
      queues[i][j].count = 0;
      idle[i][j] = 0;
    }
  }
}
