#ifndef PAIR_H
#define PAIR_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#include <ngtcp2/ngtcp2.h>

#include "../bench/fake_tls.h"

/* A client and a server of ngtcp2 in one process, with a network between them
   and a clock of their own: no sockets, no waiting, nothing is encrypted, and
   everything happens again when it is run again.  It needs nothing that
   unpatched ngtcp2 does not have.

   Set up with pair_init(); change callbacks, settings, params, lengths of
   connection IDs and the network as the test needs it; pair_start().  The
   user_data of both connections is their struct endpoint. */

/* IPv4 addresses have even numbers, IPv6 addresses odd ones. */
#define PAIR_ADDRS 8
/* Packets on their way.  More are dropped, as by a router. */
#define PAIR_MAX_PACKETS 8192
#define PAIR_ONE_WAY_DELAY (10 * NGTCP2_MILLISECONDS)
#define PAIR_RTT (2 * PAIR_ONE_WAY_DELAY)
#define PAIR_CLIENT_CID_LEN 8
#define PAIR_SERVER_CID_LEN 18

struct pair;

struct endpoint {
  struct fake_tls tls; /* first: see fake_tls.h */
  struct pair *pair;
  ngtcp2_conn *conn;
  ngtcp2_callbacks callbacks;
  ngtcp2_settings settings;
  ngtcp2_transport_params params;
  const ngtcp2_mem *mem;
  size_t cidlen;
  /* One bidirectional stream, which the client opens: bytes to send, sent and
     received, and the end of what is received */
  int64_t stream_id;
  uint64_t size, sent, received;
  int fin_sent, fin_received;
  int confirmed;
  /* The connection IDs that ngtcp2 has asked for, latest last, and given back
   */
  ngtcp2_cid cids[64];
  size_t num_cids, num_removed_cids;
  ngtcp2_get_new_connection_id2 default_new_cid; /* for the test's own */
  /* What ended the connection, or 0 */
  int error;
};

/* What one address of the server was sent */
struct pair_counter {
  uint64_t packets, bytes, largest;
};

struct packet;

struct pair {
  struct endpoint client, server;
  ngtcp2_tstamp now;
  struct pair_counter to_server[PAIR_ADDRS];
  /* Packets to an address that nobody has */
  uint64_t strays;
  /* Packets that have the bytes |needle| in them, by sender: server or not */
  const uint8_t *needle;
  size_t needlelen;
  uint64_t found[2];
  /* The network: parts per thousand that are lost, doubled and overtaken, and
     the server's addresses that do not answer */
  unsigned loss, duplication, reordering;
  int dead[PAIR_ADDRS];
  uint64_t random;
  struct packet *queue;
  size_t queue_len;
  ngtcp2_tstamp link_idle[2];
  /* Whatever the test needs in its callbacks */
  void *user;
};

/* Seed 0 is that of the environment, NGMASQUE_SEED, or 1. */
void pair_init(struct pair *pair, uint64_t seed);

/* Creates the two connections; returns 0 or an error of ngtcp2.  |behind| may
   be NULL: it is asked for the place where a struct that ngtcp2 is given shall
   be (see tests/abi). */
int pair_start(struct pair *pair,
               const void *(*behind)(const void *object, size_t len));
void pair_free(struct pair *pair);

/* Lets time pass until |done| returns nonzero, one side has an error, or
   |limit| is over.  Returns what |done| does.  |done| may be NULL. */
int pair_run(struct pair *pair, int (*done)(const struct pair *pair),
             ngtcp2_duration limit);

/* For |done|: the handshake is confirmed; both sides have received all. */
int pair_confirmed(const struct pair *pair);
int pair_transferred(const struct pair *pair);

/* pair_start(), the handshake and what follows it; nonzero if all went well */
int pair_connect(struct pair *pair);

/* Sends what is to be sent now, without the other side */
void pair_write(struct endpoint *endpoint);

/* Address |n| of the server or the client */
const ngtcp2_sockaddr *pair_addr(int server, size_t n);
ngtcp2_sockaddr_in pair_ipv4(size_t n);
ngtcp2_sockaddr_in6 pair_ipv6(size_t n);
ngtcp2_addr pair_address(int server, size_t n);
/* The number of the address of the server or the client, or -1 */
int pair_find_addr(int server, const ngtcp2_addr *addr);

/* What any stream has at |offset|, PAIR_MAX_BURST bytes */
#define PAIR_MAX_BURST 16384
uint8_t *pair_content(uint64_t offset);

#endif /* PAIR_H */
