/* Two connections that are joined by a simulated network: see download.h. */

#include "download.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CID_LEN 18
#define CHUNK 65535
#define MAX_PARAMS 512
/* At one moment in time */
#define MAX_TURNS 1000

struct download_options download_options;
ngtcp2_tstamp now = 1 * NGTCP2_SECONDS;
struct side client, server;
struct sockaddr_in client_addr, server_addrs[NETWORK_ADDRS];
uint64_t packets_at[NETWORK_ADDRS];
uint64_t delivered;
ngtcp2_duration longest_gap;
uint64_t sent_before, lost_before;

static ngtcp2_tstamp last_delivery;
static uint8_t params_for_0rtt[MAX_PARAMS];
static ngtcp2_ssize params_for_0rttlen;

static int recv_stream_data_cb(ngtcp2_conn *conn, uint32_t flags,
                               int64_t stream_id, uint64_t offset,
                               const uint8_t *data, size_t datalen,
                               void *user_data, void *stream_user_data) {
  struct side *side = user_data;
  (void)flags, (void)offset, (void)data, (void)stream_user_data;

  if (side->tls.server) {
    side->stream_id = stream_id;
    return 0;
  }
  if (datalen) {
    if (now - last_delivery > longest_gap) {
      longest_gap = now - last_delivery;
    }
    last_delivery = now;
    delivered += datalen;
  }
  ngtcp2_conn_extend_max_offset(conn, datalen);
  return ngtcp2_conn_extend_max_stream_offset(conn, stream_id, datalen);
}

static int path_validation_cb(ngtcp2_conn *conn, uint32_t flags,
                              const ngtcp2_path *path,
                              const ngtcp2_path *fallback_path,
                              ngtcp2_path_validation_result res,
                              void *user_data) {
  struct side *side = user_data;
  (void)conn, (void)flags, (void)path, (void)fallback_path;

  ++*(res == NGTCP2_PATH_VALIDATION_RESULT_SUCCESS ? &side->validated
                                                   : &side->failed);
  return 0;
}

/* Counts the stream data in each packet that the server sends. */
static void qlog_write_cb(void *user_data, uint32_t flags, const void *data,
                          size_t datalen) {
  struct side *side = user_data;
  const char *frame = data, *end = frame + datalen;
  uint64_t offset, length;
  (void)flags;

  if (!memmem(data, datalen, "transport:packet_sent", 21)) {
    return;
  }
  while ((frame = memmem(frame, (size_t)(end - frame),
                         "{\"frame_type\":\"stream\",", 23))) {
    /* The event ends with a line feed: sscanf does not leave it. */
    if (sscanf(frame,
               "{\"frame_type\":\"stream\",\"stream_id\":%*u,"
               "\"offset\":%" SCNu64 ",\"length\":%" SCNu64,
               &offset, &length) != 2) {
      fputs("A stream frame in the qlog looks different\n", stderr);
      exit(1);
    }
    side->sent += length;
    if (side->sent_offset < offset + length) {
      side->sent_offset = offset + length;
    }
    ++frame;
  }
}

#ifdef NGTCP2_TRANSPORT_PARAMS_SAA
static int select_cb(ngtcp2_conn *conn, ngtcp2_path *dest,
                     const ngtcp2_server_alt_addr *addr, void *user_data) {
  (void)conn, (void)user_data;

  if (addr->ipv4_present) {
    memcpy(dest->remote.addr, &addr->ipv4, sizeof(addr->ipv4));
    dest->remote.addrlen = sizeof(addr->ipv4);
  }
  return 0;
}
#endif

static ngtcp2_ssize write_pkt_cb(ngtcp2_conn *conn, ngtcp2_path *path,
                                 ngtcp2_pkt_info *pi, uint8_t *dest,
                                 size_t destlen, ngtcp2_tstamp ts,
                                 void *user_data) {
  static uint8_t content[CHUNK];
  struct side *side = user_data;
  ngtcp2_vec vec = {content, side->tls.server ? CHUNK : 0};
  uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_NONE;
  int64_t stream_id = -1;
  ngtcp2_ssize nwrite, ndata = -1;

  if (side->tls.server) {
    stream_id = side->stream_id;
  } else if (download_options.request && !side->request_sent &&
             (side->stream_id != -1 ||
              ngtcp2_conn_get_streams_bidi_left2(conn))) {
    if (side->stream_id == -1) {
      check(ngtcp2_conn_open_bidi_stream(conn, &side->stream_id, NULL),
            "open_bidi_stream");
    }
    stream_id = side->stream_id;
    flags = NGTCP2_WRITE_STREAM_FLAG_FIN;
  }
  nwrite = ngtcp2_conn_writev_stream(conn, path, pi, dest, destlen, &ndata,
                                     flags, stream_id, &vec, 1, ts);
  if (nwrite == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
    return ngtcp2_conn_writev_stream(conn, path, pi, dest, destlen, NULL, 0, -1,
                                     NULL, 0, ts);
  }
  if (!side->tls.server && stream_id != -1 && ndata >= 0) {
    side->request_sent = 1;
  }
  return nwrite;
}

static ngtcp2_path path_of(const struct side *side, size_t addr) {
  ngtcp2_addr at_client = {(void *)&client_addr, sizeof(client_addr)};
  ngtcp2_addr at_server = {(void *)&server_addrs[addr], sizeof(client_addr)};

  return side->tls.server ? (ngtcp2_path){at_server, at_client, NULL}
                          : (ngtcp2_path){at_client, at_server, NULL};
}

static void receive(struct side *side) {
  enum direction direction = side->tls.server ? TO_SERVER : TO_CLIENT;
  const struct network_packet *packet;
  ngtcp2_pkt_info pi = {0};
  ngtcp2_path path;
  size_t addr;

  while ((packet = network_receive(direction, &addr, now))) {
    path = path_of(side, addr);
    if (!side->tls.server) {
      ++packets_at[addr];
    }
    check(ngtcp2_conn_read_pkt(side->conn, &path, &pi, packet->data,
                               packet->len, now),
          "read_pkt");
  }
}

static size_t addr_of(const struct side *side, const ngtcp2_path *path) {
  const ngtcp2_addr *addr = side->tls.server ? &path->local : &path->remote;

  for (size_t i = 0; i < NETWORK_ADDRS; ++i) {
    if (memcmp(addr->addr, &server_addrs[i], sizeof(server_addrs[i])) == 0) {
      return i;
    }
  }
  fputs("A packet for an address that the server does not have\n", stderr);
  exit(1);
}

static void transmit(struct side *side) {
  static uint8_t buf[CHUNK];
  enum direction direction = side->tls.server ? TO_CLIENT : TO_SERVER;
  ngtcp2_path_storage path;
  ngtcp2_pkt_info pi;
  size_t size, left;
  ngtcp2_ssize nwrite;

  ngtcp2_path_storage_zero(&path);
  do {
    nwrite = ngtcp2_conn_write_aggregate_pkt(
      side->conn, &path.path, &pi, buf, sizeof(buf), &size, write_pkt_cb, now);
    check(nwrite, "write_aggregate_pkt");
    ngtcp2_conn_update_pkt_tx_time(side->conn, now);
    for (size_t offset = 0; offset < (size_t)nwrite; offset += size) {
      left = (size_t)nwrite - offset;
      network_send(direction, addr_of(side, &path.path), buf + offset,
                   left < size ? left : size, now);
    }
  } while (nwrite);
}

static void turn(struct side *side) {
  receive(side);
  if (ngtcp2_conn_get_expiry2(side->conn) <= now) {
    check(ngtcp2_conn_handle_expiry(side->conn, now), "handle_expiry");
  }
  transmit(side);
}

static void reset_side(struct side *side, int is_server, int early) {
  memset(&side->tls, 0, sizeof(side->tls));
  side->tls.server = is_server;
  side->tls.early = early;
  side->stream_id = -1;
  side->request_sent = 0;
  side->sent = side->sent_offset = 0;
  side->mem = memory_count_mem(&side->memory);
}

void open_connection(size_t addr, int early) {
  ngtcp2_callbacks callbacks = fake_tls_callbacks();
  ngtcp2_cid original_dcid = {.datalen = CID_LEN, .data = {0xa0}};
  ngtcp2_cid client_cid = {.datalen = CID_LEN, .data = {0xb0}};
  ngtcp2_cid server_cid = {.datalen = CID_LEN, .data = {0xc0}};
  ngtcp2_settings settings;
  ngtcp2_transport_params params;
  ngtcp2_path path;

  reset_side(&client, 0, early);
  reset_side(&server, 1, early);
  callbacks.recv_stream_data = recv_stream_data_cb;
  callbacks.path_validation = path_validation_cb;
  ngtcp2_settings_default(&settings);
  settings.initial_ts = now;
  ngtcp2_transport_params_default(&params);
  params.initial_max_data = download_options.window;
  params.initial_max_stream_data_bidi_local = download_options.window;
  params.initial_max_stream_data_bidi_remote = download_options.window;
  params.initial_max_streams_bidi = 1;
  params.active_connection_id_limit = 7;
#ifdef NGTCP2_TRANSPORT_PARAMS_SAA
  if (download_options.callbacks) {
    callbacks.select_server_alt_addr = select_cb;
  }
  params.enable_server_migration = download_options.migration != 0;
#endif
  path = path_of(&client, addr);
  check(ngtcp2_conn_client_new(&client.conn, &original_dcid, &client_cid, &path,
                               NGTCP2_PROTO_VER_V1, &callbacks, &settings,
                               &params, &client.mem, &client),
        "client_new");
#ifdef NGTCP2_TRANSPORT_PARAMS_SAA
  params.enable_server_migration = 0;
#endif
  params.original_dcid = original_dcid;
  params.original_dcid_present = 1;
  settings.qlog_write = download_options.request ? qlog_write_cb : NULL;
  path = path_of(&server, addr);
  check(ngtcp2_conn_server_new(&server.conn, &client_cid, &server_cid, &path,
                               NGTCP2_PROTO_VER_V1, &callbacks, &settings,
                               &params, &server.mem, &server),
        "server_new");
  if (early) {
    check(ngtcp2_conn_decode_and_set_0rtt_transport_params(
            client.conn, params_for_0rtt, (size_t)params_for_0rttlen),
          "decode_and_set_0rtt_transport_params");
  }
}

void remember_params(void) {
  params_for_0rttlen = ngtcp2_conn_encode_0rtt_transport_params2(
    client.conn, params_for_0rtt, sizeof(params_for_0rtt));
  check(params_for_0rttlen, "encode_0rtt_transport_params");
}

void close_connection(void) {
  ngtcp2_conn_info info;

  ngtcp2_conn_get_conn_info(server.conn, &info);
  lost_before += info.pkt_lost;
  sent_before += server.sent;
  ngtcp2_conn_del(client.conn);
  ngtcp2_conn_del(server.conn);
}

static ngtcp2_tstamp earlier(ngtcp2_tstamp a, ngtcp2_tstamp b) {
  return a < b ? a : b;
}

void run_until(ngtcp2_tstamp end) {
  ngtcp2_tstamp before = 0;
  size_t turns = 0;

  for (;;) {
    turn(&client);
    turn(&server);
    if (now >= end) {
      return;
    }
    now = earlier(earlier(network_next(TO_CLIENT), network_next(TO_SERVER)),
                  earlier(ngtcp2_conn_get_expiry2(client.conn),
                          ngtcp2_conn_get_expiry2(server.conn)));
    now = earlier(now, end);
    if (now == before && ++turns == MAX_TURNS) {
      fputs("Time stands still\n", stderr);
      exit(1);
    }
    if (now != before) {
      before = now;
      turns = 0;
    }
  }
}
