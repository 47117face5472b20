/* One download between two ngtcp2 connections in one process: no socket, no
   clock, no randomness, no cryptography.  It uses public API only and does
   exactly the same in every run, so that two builds of libngtcp2 can be
   compared by instructions to the last digit.  callgrind-download builds and
   runs it; client_turn() and server_turn() are what it counts. */

#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ngtcp2/ngtcp2.h>

#include "fake_tls.h"

#define ONE_WAY_DELAY (5 * NGTCP2_MILLISECONDS)
/* A link of 1 Gbit/s.  Packets do not arrive in one heap, so that the receiver
   acknowledges as it does on a real network. */
#define NANOSECONDS_PER_BYTE 8
#define WINDOW (4 * 1024 * 1024)
#define CID_LEN 18
/* More than a window of packets and their acknowledgements. */
#define QUEUE_LEN 16384
#define MAX_PACKET 1500
#define MAX_BURST 65535

struct packet {
  ngtcp2_tstamp due;
  size_t len;
  uint8_t data[MAX_PACKET];
};

/* Packets on their way, oldest first. */
struct queue {
  struct packet packets[QUEUE_LEN];
  size_t first, count;
  uint64_t total;
  /* When the link has sent all of them */
  ngtcp2_tstamp idle;
};

struct side {
  struct fake_tls tls;
  ngtcp2_conn *conn;
  ngtcp2_path path;
  struct queue *in, *out;
  int64_t stream_id;
  int request_sent, done;
  /* Server: bytes that remain to be sent; client: to be received */
  uint64_t left;
};

static ngtcp2_tstamp now = 1 * NGTCP2_SECONDS;
static struct queue to_client, to_server;
static struct side client, server;
static uint8_t content[MAX_BURST];

/* The client opens a stream and ends it, the server fills it. */

static int recv_stream_data_cb(ngtcp2_conn *conn, uint32_t flags,
                               int64_t stream_id, uint64_t offset,
                               const uint8_t *data, size_t datalen,
                               void *user_data, void *stream_user_data) {
  struct side *side = user_data;
  (void)offset, (void)data, (void)stream_user_data;

  if (side->tls.server) {
    side->stream_id = stream_id;
    return 0;
  }

  side->left -= datalen;
  side->done = (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0;
  ngtcp2_conn_extend_max_offset(conn, datalen);
  return ngtcp2_conn_extend_max_stream_offset(conn, stream_id, datalen);
}

/* Fills |vec| with what the side has to send and returns the stream or -1. */
static int64_t next_data(struct side *side, ngtcp2_vec *vec, uint32_t *flags) {
  vec->base = content;
  vec->len = 0;

  if (side->tls.server) {
    if (side->stream_id == -1 || side->done) {
      return -1;
    }
    vec->len = side->left < MAX_BURST ? (size_t)side->left : MAX_BURST;
  } else {
    if (side->request_sent || !ngtcp2_conn_get_streams_bidi_left2(side->conn)) {
      return -1;
    }
    if (side->stream_id == -1) {
      check(ngtcp2_conn_open_bidi_stream(side->conn, &side->stream_id, NULL),
            "open_bidi_stream");
    }
  }
  if (!side->tls.server || vec->len == side->left) {
    *flags |= NGTCP2_WRITE_STREAM_FLAG_FIN;
  }
  return side->stream_id;
}

static ngtcp2_ssize write_pkt_cb(ngtcp2_conn *conn, ngtcp2_path *path,
                                 ngtcp2_pkt_info *pi, uint8_t *dest,
                                 size_t destlen, ngtcp2_tstamp ts,
                                 void *user_data) {
  struct side *side = user_data;
  uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_NONE;
  ngtcp2_vec vec;
  ngtcp2_ssize ndata;
  int64_t stream_id = next_data(side, &vec, &flags);
  ngtcp2_ssize nwrite = ngtcp2_conn_writev_stream(
    conn, path, pi, dest, destlen, &ndata, flags, stream_id, &vec, 1, ts);

  if (nwrite == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
    return ngtcp2_conn_writev_stream(conn, path, pi, dest, destlen, NULL,
                                     NGTCP2_WRITE_STREAM_FLAG_NONE, -1, NULL, 0,
                                     ts);
  }
  if (stream_id != -1 && ndata >= 0) {
    if (side->tls.server) {
      side->left -= (uint64_t)ndata;
      side->done = side->left == 0;
    } else {
      side->request_sent = 1;
    }
  }
  return nwrite;
}

static void receive(struct side *side) {
  ngtcp2_pkt_info pi = {0};

  for (; side->in->count && side->in->packets[side->in->first].due <= now;
       --side->in->count) {
    struct packet *packet = &side->in->packets[side->in->first];

    check(ngtcp2_conn_read_pkt(side->conn, &side->path, &pi, packet->data,
                               packet->len, now),
          "read_pkt");
    side->in->first = (side->in->first + 1) % QUEUE_LEN;
  }
}

static void enqueue(struct queue *queue, const uint8_t *data, size_t len) {
  struct packet *packet =
    &queue->packets[(queue->first + queue->count) % QUEUE_LEN];

  if (queue->count == QUEUE_LEN || len > MAX_PACKET) {
    fputs("The queue of packets is too small\n", stderr);
    exit(1);
  }
  queue->idle = (queue->idle > now ? queue->idle : now) +
                len * NANOSECONDS_PER_BYTE;
  packet->due = queue->idle + ONE_WAY_DELAY;
  packet->len = len;
  memcpy(packet->data, data, len);
  ++queue->count;
  ++queue->total;
}

static void transmit(struct side *side) {
  static uint8_t buf[MAX_BURST];
  ngtcp2_path_storage path;
  ngtcp2_pkt_info pi;
  size_t size, offset, left;
  ngtcp2_ssize nwrite;

  ngtcp2_path_storage_zero(&path);
  for (;;) {
    nwrite = ngtcp2_conn_write_aggregate_pkt(
      side->conn, &path.path, &pi, buf, sizeof(buf), &size, write_pkt_cb, now);
    check(nwrite, "write_aggregate_pkt");
    if (nwrite == 0) {
      return;
    }
    for (offset = 0; offset < (size_t)nwrite; offset += size) {
      left = (size_t)nwrite - offset;
      enqueue(side->out, buf + offset, left < size ? left : size);
    }
  }
}

static void turn(struct side *side) {
  receive(side);
  if (ngtcp2_conn_get_expiry2(side->conn) <= now) {
    check(ngtcp2_conn_handle_expiry(side->conn, now), "handle_expiry");
  }
  transmit(side);
}

/* Not static and never inlined: callgrind has to find them by name. */
void client_turn(void);
void server_turn(void);
__attribute__((noinline)) void client_turn(void) { turn(&client); }
__attribute__((noinline)) void server_turn(void) { turn(&server); }

static ngtcp2_tstamp next_event(const struct side *side) {
  ngtcp2_tstamp expiry = ngtcp2_conn_get_expiry2(side->conn);

  if (side->in->count && side->in->packets[side->in->first].due < expiry) {
    return side->in->packets[side->in->first].due;
  }
  return expiry;
}

static void setup(uint64_t size) {
  static struct sockaddr_in addrs[2];
  ngtcp2_callbacks callbacks = fake_tls_callbacks();
  ngtcp2_cid original_dcid = {.datalen = CID_LEN, .data = {0xa0}};
  ngtcp2_cid client_cid = {.datalen = CID_LEN, .data = {0xb0}};
  ngtcp2_cid server_cid = {.datalen = CID_LEN, .data = {0xc0}};
  ngtcp2_settings settings;
  ngtcp2_transport_params params;

  for (size_t i = 0; i < 2; ++i) {
    addrs[i].sin_family = AF_INET;
    addrs[i].sin_port = htons((uint16_t)(1000 + i));
    addrs[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  client.path.local.addr = server.path.remote.addr = (void *)&addrs[0];
  client.path.remote.addr = server.path.local.addr = (void *)&addrs[1];
  client.path.local.addrlen = client.path.remote.addrlen = sizeof(addrs[0]);
  server.path.local.addrlen = server.path.remote.addrlen = sizeof(addrs[0]);
  client.in = server.out = &to_client;
  client.out = server.in = &to_server;
  client.stream_id = server.stream_id = -1;
  client.left = server.left = size;
  server.tls.server = 1;

  callbacks.recv_stream_data = recv_stream_data_cb;
  ngtcp2_settings_default(&settings);
  settings.initial_ts = now;
  ngtcp2_transport_params_default(&params);
  params.initial_max_data = WINDOW;
  params.initial_max_stream_data_bidi_local = WINDOW;
  params.initial_max_stream_data_bidi_remote = WINDOW;
  params.initial_max_streams_bidi = 1;
  params.active_connection_id_limit = 7;

  check(ngtcp2_conn_client_new(&client.conn, &original_dcid, &client_cid,
                               &client.path, NGTCP2_PROTO_VER_V1, &callbacks,
                               &settings, &params, NULL, &client),
        "client_new");
  params.original_dcid = original_dcid;
  params.original_dcid_present = 1;
  check(ngtcp2_conn_server_new(&server.conn, &client_cid, &server_cid,
                               &server.path, NGTCP2_PROTO_VER_V1, &callbacks,
                               &settings, &params, NULL, &server),
        "server_new");
}

int main(int argc, char **argv) {
  ngtcp2_tstamp a, b;

  if (argc != 2) {
    fputs("Usage: memory_download BYTES\n", stderr);
    return 2;
  }
  setup(strtoull(argv[1], NULL, 10));

  while (!client.done) {
    client_turn();
    server_turn();
    a = next_event(&client);
    b = next_event(&server);
    now = a < b ? a : b;
    if (now == UINT64_MAX) {
      fputs("Nothing is left to wait for\n", stderr);
      return 1;
    }
  }
  printf("{\"packets_to_client\": %" PRIu64 ", \"packets_to_server\": %" PRIu64
         ", \"missing\": %" PRIu64 "}\n",
         to_client.total, to_server.total, client.left);
  ngtcp2_conn_del(client.conn);
  ngtcp2_conn_del(server.conn);
  return client.left != 0;
}
