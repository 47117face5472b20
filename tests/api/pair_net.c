/* The network of a pair, and what the endpoints write to it: see pair.h. */

#ifndef _GNU_SOURCE
#  define _GNU_SOURCE /* memmem */
#endif

#include "pair.h"

#include <stdlib.h>
#include <string.h>

#define MAX_PACKET 1500
/* 20 Mbit/s: packets do not arrive in one heap. */
#define NANOSECONDS_PER_BYTE 400

struct packet {
  ngtcp2_tstamp due;
  struct endpoint *to;
  ngtcp2_sockaddr_union from_addr, to_addr;
  socklen_t addrlen;
  size_t len;
  uint8_t data[MAX_PACKET];
  struct packet *next;
};

static int happens(struct pair *pair, unsigned per_thousand) {
  pair->random = pair->random * 6364136223846793005U + 1442695040888963407U;
  return (pair->random >> 33) % 1000 < per_thousand;
}

static void enqueue(struct pair *pair, struct packet *packet, int back) {
  ngtcp2_tstamp *idle = &pair->link_idle[packet->to->tls.server];
  struct packet **place = &pair->queue;

  *idle = (*idle > pair->now ? *idle : pair->now) +
          packet->len * NANOSECONDS_PER_BYTE;
  packet->due = *idle + PAIR_ONE_WAY_DELAY + (back ? PAIR_ONE_WAY_DELAY : 0);
  while (*place && (*place)->due <= packet->due) {
    place = &(*place)->next;
  }
  packet->next = *place;
  *place = packet;
  ++pair->queue_len;
}

static void send_packet(struct endpoint *from, const ngtcp2_path *path,
                        const uint8_t *data, size_t len) {
  struct pair *pair = from->pair;
  int server = from->tls.server;
  int n = pair_find_addr(!server, &path->remote);
  int copies = 1 + happens(pair, pair->duplication);
  struct packet *packet;

  if (pair->needle && memmem(data, len, pair->needle, pair->needlelen)) {
    ++pair->found[server];
  }
  if (n == -1 || pair_find_addr(server, &path->local) == -1) {
    ++pair->strays;
    return;
  }
  if (!server) {
    ++pair->to_server[n].packets;
    pair->to_server[n].bytes += len;
    if (len > pair->to_server[n].largest) {
      pair->to_server[n].largest = len;
    }
  }
  if (pair->dead[server ? pair_find_addr(1, &path->local) : n] ||
      happens(pair, pair->loss)) {
    return;
  }
  for (; copies && pair->queue_len < PAIR_MAX_PACKETS && len <= MAX_PACKET;
       --copies) {
    packet = malloc(sizeof(*packet));
    if (!packet) {
      abort();
    }
    packet->to = server ? &pair->client : &pair->server;
    packet->addrlen = path->local.addrlen;
    memcpy(&packet->from_addr, path->local.addr, path->local.addrlen);
    memcpy(&packet->to_addr, path->remote.addr, path->remote.addrlen);
    packet->len = len;
    memcpy(packet->data, data, len);
    enqueue(pair, packet, happens(pair, pair->reordering));
  }
}

static void deliver(struct pair *pair, struct packet *packet) {
  struct endpoint *to = packet->to;
  ngtcp2_path path = {
    .local = {.addr = &packet->to_addr.sa, .addrlen = packet->addrlen},
    .remote = {.addr = &packet->from_addr.sa, .addrlen = packet->addrlen},
  };
  ngtcp2_pkt_info pi = {0};

  if (!to->error) {
    to->error = ngtcp2_conn_read_pkt(to->conn, &path, &pi, packet->data,
                                     packet->len, pair->now);
  }
}

/* What the stream has to send; returns the stream or -1. */
static int64_t next_data(struct endpoint *endpoint, ngtcp2_vec *vec,
                         uint32_t *flags) {
  uint64_t left = endpoint->size - endpoint->sent;

  if (endpoint->fin_sent || !endpoint->confirmed) {
    return -1;
  }
  if (endpoint->stream_id == -1 &&
      (endpoint->tls.server ||
       ngtcp2_conn_open_bidi_stream(endpoint->conn, &endpoint->stream_id,
                                    NULL) != 0)) {
    return -1;
  }
  vec->base = pair_content(endpoint->sent);
  vec->len = left < PAIR_MAX_BURST ? (size_t)left : PAIR_MAX_BURST;
  if (vec->len == left) {
    *flags |= NGTCP2_WRITE_STREAM_FLAG_FIN;
  }
  return endpoint->stream_id;
}

static ngtcp2_ssize write_packet(struct endpoint *endpoint, ngtcp2_path *path,
                                 uint8_t *buf) {
  uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_NONE;
  ngtcp2_tstamp now = endpoint->pair->now;
  ngtcp2_pkt_info pi;
  ngtcp2_vec vec;
  ngtcp2_ssize ndata = -1, nwrite;
  int64_t stream_id = next_data(endpoint, &vec, &flags);

  nwrite = ngtcp2_conn_writev_stream(endpoint->conn, path, &pi, buf, MAX_PACKET,
                                     &ndata, flags, stream_id, &vec,
                                     stream_id == -1 ? 0 : 1, now);
  if (nwrite == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
    return ngtcp2_conn_writev_stream(endpoint->conn, path, &pi, buf, MAX_PACKET,
                                     NULL, NGTCP2_WRITE_STREAM_FLAG_NONE, -1,
                                     NULL, 0, now);
  }
  if (ndata >= 0) {
    endpoint->sent += (uint64_t)ndata;
    endpoint->fin_sent = (flags & NGTCP2_WRITE_STREAM_FLAG_FIN) &&
                         endpoint->sent == endpoint->size;
  }
  return nwrite;
}

void pair_write(struct endpoint *endpoint) {
  uint8_t buf[MAX_PACKET];
  ngtcp2_path_storage ps;
  ngtcp2_ssize nwrite;

  ngtcp2_path_storage_zero(&ps);
  while (!endpoint->error &&
         (nwrite = write_packet(endpoint, &ps.path, buf)) != 0) {
    if (nwrite < 0) {
      endpoint->error = (int)nwrite;
      return;
    }
    send_packet(endpoint, &ps.path, buf, (size_t)nwrite);
  }
  if (!endpoint->error) {
    ngtcp2_conn_update_pkt_tx_time(endpoint->conn, endpoint->pair->now);
  }
}

static ngtcp2_tstamp turn(struct endpoint *endpoint) {
  ngtcp2_tstamp now = endpoint->pair->now;

  if (!endpoint->error && ngtcp2_conn_get_expiry2(endpoint->conn) <= now) {
    endpoint->error = ngtcp2_conn_handle_expiry(endpoint->conn, now);
  }
  pair_write(endpoint);
  return endpoint->error ? UINT64_MAX : ngtcp2_conn_get_expiry2(endpoint->conn);
}

int pair_run(struct pair *pair, int (*done)(const struct pair *pair),
             ngtcp2_duration limit) {
  ngtcp2_tstamp end = pair->now + limit, next, other;
  struct packet *packet;

  for (;;) {
    while (pair->queue && pair->queue->due <= pair->now) {
      packet = pair->queue;
      pair->queue = packet->next;
      --pair->queue_len;
      deliver(pair, packet);
      free(packet);
    }
    next = turn(&pair->client);
    other = turn(&pair->server);
    if (done && done(pair)) {
      return 1;
    }
    next = other < next ? other : next;
    next = pair->queue && pair->queue->due < next ? pair->queue->due : next;
    if (next > end || pair->client.error || pair->server.error) {
      pair->now = pair->client.error || pair->server.error ? pair->now : end;
      return 0;
    }
    /* A timer that is due only when the next packet may be sent */
    pair->now = next > pair->now ? next : pair->now + 1;
  }
}

void pair_free(struct pair *pair) {
  struct packet *next;

  ngtcp2_conn_del(pair->client.conn);
  ngtcp2_conn_del(pair->server.conn);
  for (; pair->queue; pair->queue = next) {
    next = pair->queue->next;
    free(pair->queue);
  }
  *pair = (struct pair){0};
}
