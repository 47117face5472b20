// Http3Client: request streams, and callbacks of nghttp3.

#include "http3_impl.h"

#include <algorithm>
#include <charconv>
#include <ranges>

namespace ngmasque {

namespace {

using Impl = Http3Client::Impl;

Impl &Self(void *user_data) { return *static_cast<Impl *>(user_data); }

std::string_view Text(const nghttp3_rcbuf *buffer) {
  const auto bytes = nghttp3_rcbuf_get_buf(buffer);
  return {reinterpret_cast<const char *>(bytes.base), bytes.len};
}

int OnBeginHeaders(nghttp3_conn *, std::int64_t id, void *user_data, void *) {
  if (auto *stream = Self(user_data).Find(id)) {
    stream->fields.clear();
    stream->field_bytes = 0;
    stream->status = 0;
  }
  return 0;
}

int OnHeader(nghttp3_conn *, std::int64_t id, std::int32_t token, nghttp3_rcbuf *name,
             nghttp3_rcbuf *value, std::uint8_t, void *user_data, void *) {
  Self(user_data).OnField(id, token, Text(name), Text(value));
  return 0;
}

int OnEndHeaders(nghttp3_conn *, std::int64_t id, int, void *user_data, void *) {
  Self(user_data).OnFieldsEnd(id);
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
  Self(user_data).EndStream(id, StreamEnd::kFinished, kH3NoError);
  return 0;
}

int OnStopSending(nghttp3_conn *, std::int64_t id, std::uint64_t code, void *user_data, void *) {
  const int rv = ngtcp2_conn_shutdown_stream_read(Self(user_data).conn.get(), 0, id, code);
  return rv == 0 ? 0 : NGHTTP3_ERR_CALLBACK_FAILURE;
}

// After OnStopSending: the response is malformed, or a field of it too large.
int OnResetStream(nghttp3_conn *, std::int64_t id, std::uint64_t code, void *user_data, void *) {
  auto &self = Self(user_data);
  self.refused.emplace_back(id, code);
  const int rv = ngtcp2_conn_shutdown_stream_write(self.conn.get(), 0, id, code);
  return rv == 0 ? 0 : NGHTTP3_ERR_CALLBACK_FAILURE;
}

int OnAcked(nghttp3_conn *, std::int64_t id, std::uint64_t bytes, void *user_data, void *) {
  Self(user_data).OnDataAcked(id, bytes);
  return 0;
}

int OnShutdown(nghttp3_conn *, std::int64_t, void *user_data) {
  auto &self = Self(user_data);
  self.going_away = true;
  self.tell_going_away = true;
  return 0;
}

int OnSettings(nghttp3_conn *, const nghttp3_proto_settings *settings, void *user_data) {
  auto &self = Self(user_data);
  self.peer_h3_datagram = settings->h3_datagram_draft05 != 0;
  // draft-schinazi-quic-h3-datagram-05: 1 without the transport parameter is a connection error.
  // The transport parameter without the setting is tolerated.
  const auto *params = ngtcp2_conn_get_remote_transport_params2(self.conn.get());
  if (*self.peer_h3_datagram && (!params || params->max_datagram_frame_size == 0)) {
    self.SetH3Error(kH3SettingsError, "H3_DATAGRAM without max_datagram_frame_size");
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

Impl::Stream *Impl::Find(std::int64_t id) {
  const auto found = streams.find(id);
  return found == streams.end() ? nullptr : &found->second;
}

void Impl::Consume(std::int64_t id, std::size_t bytes) {
  ngtcp2_conn_extend_max_stream_offset(conn.get(), id, bytes);
  ngtcp2_conn_extend_max_offset(conn.get(), bytes);
}

bool Impl::ReadStream(std::int64_t id, bool fin, std::span<const std::uint8_t> data) {
  const auto read = nghttp3_conn_read_stream2(h3.get(), id, data.data(), data.size(), fin,
                                              ngtcp2_conn_get_timestamp(conn.get()));
  if (read < 0) {
    FailH3(static_cast<int>(read));
    return false;
  }
  Consume(id, static_cast<std::size_t>(read));
  // Not from within nghttp3, which may be in the middle of decoding them.
  for (const auto &[stream, code] : std::exchange(refused, {})) {
    EndStream(stream, StreamEnd::kRefused, code);
  }
  return true;
}

bool Impl::OnQuicStreamClosed(std::int64_t id, std::uint64_t code) {
  if (h3) {
    const int rv = nghttp3_conn_close_stream(h3.get(), id, code);
    if (rv != 0 && rv != NGHTTP3_ERR_STREAM_NOT_FOUND) {
      FailH3(rv);
      return false;
    }
  }
  if (const auto found = streams.find(id); found != streams.end()) {
    const bool ended = found->second.ended;
    stream_gone = stream_gone || found->second.room_wanted;
    streams.erase(found);
    if (!ended) {
      handler.OnStreamClosed(static_cast<StreamId>(id), StreamEnd::kFinished, code);
    }
  }
  return true;
}

void Impl::EndStream(std::int64_t id, StreamEnd end, std::uint64_t code) {
  auto *stream = Find(id);
  if (!stream || stream->ended) {
    return;
  }
  stream->ended = true;
  stream->fields.clear();
  // The peer is done with one direction at least, and so with the request: no half of it is kept.
  // An error here means that memory is out; the next packet will say so.
  (void)(end == StreamEnd::kFinished
           ? ngtcp2_conn_shutdown_stream_write(conn.get(), 0, id, kH3RequestCancelled)
           : ngtcp2_conn_shutdown_stream(conn.get(), 0, id,
                                         end == StreamEnd::kRefused ? code : kH3RequestCancelled));
  handler.OnStreamClosed(static_cast<StreamId>(id), end, code);
}

void Impl::OnField(std::int64_t id, std::int32_t token, std::string_view name,
                   std::string_view value) {
  auto *stream = Find(id);
  if (!stream || stream->ended) {
    return;
  }
  // RFC 9114, section 4.2.2.
  constexpr std::size_t kOverhead = 32;
  stream->field_bytes += name.size() + value.size() + kOverhead;
  if (stream->field_bytes > kMaxResponseBytes) {
    stream->fields.clear();
    if (!std::exchange(stream->too_large, true)) {
      refused.emplace_back(id, kH3ExcessiveLoad);
    }
    return;
  }
  if (token == NGHTTP3_QPACK_TOKEN__STATUS) {
    // nghttp3 has seen to it that these are three digits.
    std::from_chars(value.data(), value.data() + value.size(), stream->status);
  }
  stream->fields.push_back({.name = std::string(name), .value = std::string(value)});
}

void Impl::OnFieldsEnd(std::int64_t id) {
  auto *stream = Find(id);
  if (!stream || stream->ended) {
    return;
  }
  const auto fields = std::exchange(stream->fields, {});
  if (!stream->too_large && stream->status / 100 != 1) {
    handler.OnResponse(static_cast<StreamId>(id), fields);
  }
}

// With another status it is the text of an error.
void Impl::OnData(std::int64_t id, std::span<const std::uint8_t> data) {
  if (const auto *stream = Find(id);
      stream && !stream->ended && stream->status / 100 == 2 && !data.empty()) {
    handler.OnData(static_cast<StreamId>(id), data);
  }
}

std::expected<void, QuicError> Impl::AddData(StreamId id, std::span<const std::uint8_t> header,
                                             std::span<const std::uint8_t> payload,
                                             std::size_t max_bytes) {
  if (state != State::kOpen) {
    return std::unexpected(QuicError::kClosed);
  }
  auto *stream = Find(static_cast<std::int64_t>(id));
  if (!stream || stream->ended) {
    return std::unexpected(QuicError::kUnknownStream);
  }
  const auto size = header.size() + payload.size();
  if (size > max_bytes) {
    return std::unexpected(QuicError::kTooLarge);
  }
  if (stream->out_bytes + size > max_bytes) {
    stream->room_wanted = true;
    room_wanted = true;
    return std::unexpected(QuicError::kFull);
  }
  if (size == 0) {
    return {};
  }
  auto &bytes = stream->out.emplace_back();
  bytes.reserve(size);
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  stream->out_bytes += size;
  stream->resume = true;
  return {};
}

nghttp3_ssize Impl::GiveData(std::int64_t id, std::span<nghttp3_vec> out) {
  auto *stream = Find(id);
  if (!stream || stream->given == stream->out.size()) {
    return NGHTTP3_ERR_WOULDBLOCK;
  }
  const auto count = std::min(out.size(), stream->out.size() - stream->given);
  for (auto &&[vec, bytes] : std::views::zip(out, stream->out | std::views::drop(stream->given))) {
    vec = {.base = bytes.data(), .len = bytes.size()};
  }
  stream->given += count;
  return static_cast<nghttp3_ssize>(count);
}

void Impl::OnDataAcked(std::int64_t id, std::uint64_t bytes) {
  auto *stream = Find(id);
  if (!stream) {
    return;
  }
  stream->acked += bytes;
  while (stream->given != 0 && stream->acked >= stream->out.front().size()) {
    stream->acked -= stream->out.front().size();
    stream->out_bytes -= stream->out.front().size();
    stream->out.pop_front();
    --stream->given;
  }
}

} // namespace ngmasque
