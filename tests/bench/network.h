#ifndef NETWORK_H
#define NETWORK_H

#include <stddef.h>
#include <stdint.h>

#include <ngtcp2/ngtcp2.h>

/* A simulated network between one client address and NETWORK_ADDRS addresses of
   a server, in virtual time.  In either direction a path is a link, which sends
   one packet after the other, and a delay after it. */

#define NETWORK_ADDRS 2
#define NETWORK_MAX_PACKET 1500

enum direction { TO_CLIENT, TO_SERVER, DIRECTIONS };

struct network_config {
  uint64_t bits_per_second[NETWORK_ADDRS];
  ngtcp2_duration one_way_delay[NETWORK_ADDRS];
  /* Nonzero: all addresses are behind the same link, or else each has its own */
  int shared_link;
  /* Bytes that may wait for a link to the client; 0: any number */
  uint64_t buffer;
};

struct network_packet {
  ngtcp2_tstamp due;
  size_t len;
  uint8_t data[NETWORK_MAX_PACKET];
};

void network_init(const struct network_config *config);

/* Packets that found no room in a buffer */
extern uint64_t network_dropped;

/* In the first round trip after the server has come back to an address: packets
   that found no room in the buffer there, and most bytes that waited for the
   link beyond what had waited there before */
extern uint64_t network_dropped_at_return, network_excess_at_return;

void network_send(enum direction direction, size_t addr, const uint8_t *data,
                  size_t len, ngtcp2_tstamp now);

/* When the next packet arrives, or UINT64_MAX */
ngtcp2_tstamp network_next(enum direction direction);

/* Returns the next packet that has arrived by now, or NULL.  It is valid until
   the next call. */
const struct network_packet *network_receive(enum direction direction,
                                             size_t *addr, ngtcp2_tstamp now);

/* Loses everything that is on its way. */
void network_clear(void);

#endif /* NETWORK_H */
