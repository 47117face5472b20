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
/* Who has sent nothing from an address for so long has been elsewhere. */
#define AWAY (300 * NGTCP2_MILLISECONDS)
static struct {
  ngtcp2_tstamp last, since;
  uint64_t visits, waited;
} visits[NETWORK_ADDRS];
uint64_t network_dropped, network_dropped_at_return, network_excess_at_return;

void network_init(const struct network_config *initial) { config = *initial; }

static ngtcp2_duration transmission_time(size_t addr, uint64_t bytes) {
  return bytes * 8 * NGTCP2_SECONDS / config.bits_per_second[addr];
}

/* Called when the server sends from |addr|.  Returns nonzero if it has been there
   before, and is back for less than a round trip. */
static int at_return(size_t addr, ngtcp2_tstamp now) {
  if (!visits[addr].visits || now - visits[addr].last > AWAY) {
    ++visits[addr].visits;
    visits[addr].since = now;
  }
  visits[addr].last = now;
  return visits[addr].visits > 1 &&
         now - visits[addr].since < 2 * config.one_way_delay[addr];
}

/* Called when |waiting| is in front of a packet that the server sends. */
static void note_waiting(size_t addr, int returned, ngtcp2_duration waiting) {
  uint64_t bytes = waiting * config.bits_per_second[addr] / 8 / NGTCP2_SECONDS;

  if (bytes <= visits[addr].waited) {
    return;
  }
  if (!returned) {
    visits[addr].waited = bytes;
  } else if (network_excess_at_return < bytes - visits[addr].waited) {
    network_excess_at_return = bytes - visits[addr].waited;
  }
}

void network_send(enum direction direction, size_t addr, const uint8_t *data,
                  size_t len, ngtcp2_tstamp now) {
  struct queue *queue = &queues[direction][addr];
  ngtcp2_tstamp *link = &idle[direction][config.shared_link ? 0 : addr];
  struct network_packet *packet =
    &queue->packets[(queue->first + queue->count) % QUEUE_LEN];
  int returned = direction == TO_CLIENT && at_return(addr, now);

  if (queue->count == QUEUE_LEN || len > NETWORK_MAX_PACKET) {
    fputs("The queue of packets is too small\n", stderr);
    exit(1);
  }
  if (*link < now) {
    *link = now;
  }
  if (direction == TO_CLIENT) {
    if (config.buffer && *link - now + transmission_time(addr, len) >
                           transmission_time(addr, config.buffer)) {
      ++network_dropped;
      network_dropped_at_return += (uint64_t)returned;
      return;
    }
    note_waiting(addr, returned, *link - now);
  }
  *link += transmission_time(addr, len + HEADERS);
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
