#ifndef FAKE_TLS_H
#define FAKE_TLS_H

#include <ngtcp2/ngtcp2.h>

#define FAKE_TLS_MAX_MESSAGE 1024

/* The shortest exchange that gives ngtcp2 what it asks for: transport
   parameters with a length before them, and keys that encrypt nothing.  All
   "random" numbers come from one fixed sequence.  The user_data of a connection
   with these callbacks must begin with a struct fake_tls. */
struct fake_tls {
  int server;
  /* Both sides: the client has been here before and sends 0-RTT packets.  It has
     to call ngtcp2_conn_decode_and_set_0rtt_transport_params(). */
  int early;
  uint8_t data[FAKE_TLS_MAX_MESSAGE];
  size_t len;
};

ngtcp2_callbacks fake_tls_callbacks(void);

/* Ends the program with a message when |rv| is an error of ngtcp2. */
void check(ngtcp2_ssize rv, const char *what);

#endif /* FAKE_TLS_H */
