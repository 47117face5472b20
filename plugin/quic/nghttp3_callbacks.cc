// Http3Connection: callbacks of nghttp3.

#include "http3_connection_impl.h"

#include <string_view>

namespace ngmasque {

namespace {

using Impl = Http3Connection::Impl;

Impl &Self(void *user_data) { return *static_cast<Impl *>(user_data); }

std::string_view Text(const nghttp3_rcbuf *buffer) {
  const auto bytes = nghttp3_rcbuf_get_buf(buffer);
  return {reinterpret_cast<const char *>(bytes.base), bytes.len};
}

int OnBeginHeaders(nghttp3_conn *, std::int64_t id, void *user_data, void *) {
  Self(user_data).BeginHeaders(id);
  return 0;
}

int OnHeader(nghttp3_conn *, std::int64_t id, std::int32_t token, nghttp3_rcbuf *name,
             nghttp3_rcbuf *value, std::uint8_t, void *user_data, void *) {
  Self(user_data).OnField(id, token, Text(name), Text(value));
  return 0;
}

int OnEndHeaders(nghttp3_conn *, std::int64_t id, int, void *user_data, void *) {
  Self(user_data).EndHeaders(id);
  return 0;
}

int OnRecvData(nghttp3_conn *, std::int64_t id, const std::uint8_t *data, std::size_t size,
               void *user_data, void *) {
  auto &self = Self(user_data);
  self.Consume(id, size);
  self.OnData(id, {data, size});
  return 0;
}

int OnDeferredConsume(nghttp3_conn *, std::int64_t id, std::size_t size, void *user_data, void *) {
  Self(user_data).Consume(id, size);
  return 0;
}

int OnEndStream(nghttp3_conn *, std::int64_t id, void *user_data, void *) {
  Self(user_data).FinishStream(id);
  return 0;
}

int OnStopSending(nghttp3_conn *, std::int64_t id, std::uint64_t code, void *user_data, void *) {
  const int rv = ngtcp2_conn_shutdown_stream_read(Self(user_data).conn, 0, id, code);
  return rv == 0 ? 0 : NGHTTP3_ERR_CALLBACK_FAILURE;
}

// After OnStopSending: the message is malformed, or a field of it too large.
int OnResetStream(nghttp3_conn *, std::int64_t id, std::uint64_t code, void *user_data, void *) {
  auto &self = Self(user_data);
  self.refused.emplace_back(id, code);
  const int rv = ngtcp2_conn_shutdown_stream_write(self.conn, 0, id, code);
  return rv == 0 ? 0 : NGHTTP3_ERR_CALLBACK_FAILURE;
}

int OnAcked(nghttp3_conn *, std::int64_t id, std::uint64_t bytes, void *user_data, void *) {
  Self(user_data).OnDataAcked(id, bytes);
  return 0;
}

//= RFC 9114, section 5.2
//# Endpoints MUST NOT initiate new requests or promise new pushes on the connection after receipt of
//# a GOAWAY frame from the peer.
//
// It comes twice where the peer lets those come that are on their way.  What a client's says is of
// pushes, which there are none of.
int OnShutdown(nghttp3_conn *, std::int64_t id, void *user_data) {
  auto &self = Self(user_data);
  self.tell_going_away = self.tell_going_away || !self.going_away;
  self.going_away = true;
  if (!self.is_server()) {
    for (auto stream = self.streams.lower_bound(id); stream != self.streams.end(); ++stream) {
      self.rejected.push_back(stream->first);
    }
  }
  return 0;
}

int OnSettings(nghttp3_conn *, const nghttp3_proto_settings *settings, void *user_data) {
  auto &self = Self(user_data);
  self.peer_settings = {.datagrams = settings->h3_datagram != 0,
                        .draft_datagrams = settings->h3_datagram_draft05 != 0,
                        .connect_protocol = settings->enable_connect_protocol != 0};
  self.tell_settings = true;
  // draft-schinazi-quic-h3-datagram-05: 1 without the transport parameter is a connection error.
  // RFC 9297 does not say so, but such a peer takes datagrams and takes none (RFC 9221, section 3).
  // The transport parameter without the setting is tolerated.
  const auto *params = ngtcp2_conn_get_remote_transport_params2(self.conn);
  if ((self.peer_settings->datagrams || self.peer_settings->draft_datagrams) &&
      (!params || params->max_datagram_frame_size == 0)) {
    self.Fail(kH3SettingsError, "H3_DATAGRAM without max_datagram_frame_size");
    return NGHTTP3_ERR_CALLBACK_FAILURE;
  }
  return 0;
}

nghttp3_callbacks MakeCallbacks() {
  nghttp3_callbacks callbacks{};
  callbacks.acked_stream_data = OnAcked;
  callbacks.recv_data = OnRecvData;
  callbacks.deferred_consume = OnDeferredConsume;
  callbacks.begin_headers = OnBeginHeaders;
  callbacks.recv_header = OnHeader;
  callbacks.end_headers = OnEndHeaders;
  callbacks.stop_sending = OnStopSending;
  callbacks.end_stream = OnEndStream;
  callbacks.reset_stream = OnResetStream;
  callbacks.shutdown = OnShutdown;
  callbacks.recv_settings2 = OnSettings;
  return callbacks;
}

} // namespace

const nghttp3_callbacks &Impl::H3Callbacks() {
  static const nghttp3_callbacks callbacks = MakeCallbacks();
  return callbacks;
}

} // namespace ngmasque
