#ifndef DOWNLOAD_H
#define DOWNLOAD_H

#include <netinet/in.h>

#include <ngtcp2/ngtcp2.h>

#include "fake_tls.h"
#include "memory_count.h"
#include "network.h"

/* A download that does not end, between two connections in one process, over
   the simulated network.  There is one at a time. */

struct side {
  /* First: fake_tls.c wants it there. */
  struct fake_tls tls;
  ngtcp2_conn *conn;
  struct memory_count memory;
  ngtcp2_mem mem;
  int64_t stream_id;
  int request_sent;
  /* Server: end of the stream data that was sent, and all of it */
  uint64_t sent_offset, sent;
  /* Path validations */
  uint64_t validated, failed;
};

struct download_options {
  /* Flow control, bytes */
  uint64_t window;
  /* The client asks for data, or the connection is idle. */
  int request;
  /* Both sides have the callbacks of server migration. */
  int callbacks;
  /* The client sends enable_server_migration. */
  int migration;
};

extern struct download_options download_options;
extern ngtcp2_tstamp now;
extern struct side client, server;
extern struct sockaddr_in client_addr, server_addrs[NETWORK_ADDRS];
/* By address of the server */
extern uint64_t packets_at[NETWORK_ADDRS];
/* What the client has received, and the longest time without anything new.  Who
   sets the latter to 0 begins to measure. */
extern uint64_t delivered;
extern ngtcp2_duration longest_gap;
/* Of connections that were closed: stream data sent, packets declared lost */
extern uint64_t sent_before, lost_before;

/* Opens a connection to the address |addr|; |early|: with 0-RTT, for which
   remember_params() has to have been called while another one was open. */
void open_connection(size_t addr, int early);
void remember_params(void);
/* Without a word to the peer */
void close_connection(void);

/* Lets time pass. */
void run_until(ngtcp2_tstamp end);

#endif /* DOWNLOAD_H */
