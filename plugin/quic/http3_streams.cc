// Http3Connection: request streams.

#include "http3_connection_impl.h"

#include <algorithm>
#include <charconv>
#include <ranges>
#include <string>

namespace ngmasque {

using Impl = Http3Connection::Impl;

Impl::Stream *Impl::Find(std::int64_t id) {
  const auto found = streams.find(id);
  return found == streams.end() ? nullptr : &found->second;
}

void Impl::Consume(std::int64_t id, std::size_t bytes) {
  ngtcp2_conn_extend_max_stream_offset(conn, id, bytes);
  ngtcp2_conn_extend_max_offset(conn, bytes);
}

// There is none at a client of which it has not submitted a request.
void Impl::BeginHeaders(std::int64_t id) {
  auto *stream = is_server() ? &streams[id] : Find(id);
  if (stream) {
    TakeFields(*stream);
    stream->field_bytes = 0;
    stream->status = 0;
  }
}

void Impl::OnField(std::int64_t id, std::int32_t token, std::string_view name,
                   std::string_view value) {
  auto *stream = Find(id);
  if (!stream || stream->ended) {
    return;
  }
  // RFC 9114, section 4.2.2.
  constexpr std::size_t kOverhead = 32;
  const auto size = name.size() + value.size() + kOverhead;
  stream->field_bytes += size;
  if (stream->too_large || stream->field_bytes > kMaxFieldBytes ||
      kept_field_bytes + size > kMaxUnfinishedFieldBytes) {
    TakeFields(*stream);
    if (!std::exchange(stream->too_large, true) && !is_server()) {
      refused.emplace_back(id, kH3ExcessiveLoad);
    }
    return;
  }
  if (token == NGHTTP3_QPACK_TOKEN__STATUS) {
    // nghttp3 has seen to it that these are three digits.
    std::from_chars(value.data(), value.data() + value.size(), stream->status);
  }
  stream->fields.push_back({.name = std::string(name), .value = std::string(value)});
  stream->kept_bytes += size;
  kept_field_bytes += size;
}

std::vector<HeaderField> Impl::TakeFields(Stream &stream) {
  kept_field_bytes -= std::exchange(stream.kept_bytes, 0);
  return std::exchange(stream.fields, {});
}

void Impl::EndHeaders(std::int64_t id) {
  auto *stream = Find(id);
  if (!stream || stream->ended) {
    return;
  }
  const auto fields = TakeFields(*stream);
  if (!is_server()) {
    if (!stream->too_large && stream->status / 100 != 1 && handler) {
      handler->OnHeaders(static_cast<StreamId>(id), fields);
    }
    return;
  }
  if (stream->too_large) {
    Refuse(id, 431);
  } else if (!ngtcp2_conn_get_handshake_completed2(conn)) {
    // It was sent in 0-RTT, and may be replayed: RFC 8470, section 5.2.
    Refuse(id, 425);
  } else if (!handler) {
    Refuse(id, 503);
  } else {
    stream->told = true;
    handler->OnHeaders(static_cast<StreamId>(id), fields);
  }
}

// With another status it is the text of an error.
void Impl::OnData(std::int64_t id, std::span<const std::uint8_t> data) {
  if (const auto *stream = Find(id); stream && stream->told && !stream->ended && handler &&
                                     (is_server() || stream->status / 100 == 2) && !data.empty()) {
    handler->OnData(static_cast<StreamId>(id), data);
  }
}

void Impl::EndStream(std::int64_t id, StreamEnd end, std::uint64_t code) {
  auto *stream = Find(id);
  if (!stream) {
    // Reset before a request has begun.  It is the client's until both directions are over.
    if (is_server() && ngtcp2_is_bidi_stream(id)) {
      (void)ngtcp2_conn_shutdown_stream_write(conn, 0, id, kH3RequestCancelled);
    }
    return;
  }
  if (stream->ended) {
    return;
  }
  stream->ended = true;
  TakeFields(*stream);
  // The peer is done with one direction at least, and so with the request: no half of it is kept.
  // An error here means that memory is out; the next packet will say so.
  (void)ngtcp2_conn_shutdown_stream(conn, 0, id,
                                    end == StreamEnd::kRefused ? code : kH3RequestCancelled);
  if (stream->told && !stream->finished && handler) {
    handler->OnStreamClosed(static_cast<StreamId>(id), end, code);
  }
}

void Impl::FinishStream(std::int64_t id) {
  auto *stream = Find(id);
  if (!stream || stream->ended || std::exchange(stream->finished, true)) {
    return;
  }
  TakeFields(*stream);
  if (stream->told && handler) {
    handler->OnStreamClosed(static_cast<StreamId>(id), StreamEnd::kFinished, kH3NoError);
  }
  stream = Find(id);
  if (!stream || stream->ended) {
    return;
  }
  if (stream->answered || stream->status / 100 == 2) {
    stream->fin = true;
    Resume(id, *stream);
  } else if (!is_server() || !stream->told) {
    // There is nobody who could want anything of it.
    stream->ended = true;
    (void)ngtcp2_conn_shutdown_stream_write(conn, 0, id, kH3RequestCancelled);
  }
}

void Impl::Resume(std::int64_t id, Stream &stream) {
  if (!std::exchange(stream.resume, true)) {
    resumed.push_back(id);
  }
  self.OnWantWrite();
}

bool Impl::RemoveStream(std::int64_t id) {
  const auto found = streams.find(id);
  if (found == streams.end()) {
    return false;
  }
  auto &stream = found->second;
  TakeFields(stream);
  const bool tell = stream.told && !stream.ended && !stream.finished;
  stream_gone = stream_gone || stream.room_wanted;
  if (budget) {
    budget->Give(stream.out_bytes);
  }
  streams.erase(found);
  return tell;
}

void Impl::ReleaseStreams() {
  if (budget) {
    for (const auto &[id, stream] : streams) {
      budget->Give(stream.out_bytes);
    }
  }
}

std::expected<void, QuicError> Impl::Submit(std::int64_t id, std::span<const HeaderField> fields,
                                            bool end) {
  std::vector<nghttp3_nv> lines;
  lines.reserve(fields.size());
  for (const auto &field : fields) {
    // RFC 9204, section 7.1.3: credentials get the N bit, and no entry in a table whose hits could
    // be counted.
    const std::uint8_t flags =
      field.name == "proxy-authorization" ? NGHTTP3_NV_FLAG_NEVER_INDEX : NGHTTP3_NV_FLAG_NONE;
    // nghttp3 copies both.
    lines.push_back({.name = reinterpret_cast<const std::uint8_t *>(field.name.data()),
                     .value = reinterpret_cast<const std::uint8_t *>(field.value.data()),
                     .namelen = field.name.size(),
                     .valuelen = field.value.size(),
                     .flags = flags});
  }
  const nghttp3_data_reader reader{.read_data = [](nghttp3_conn *, std::int64_t stream,
                                                   nghttp3_vec *vecs, std::size_t count,
                                                   std::uint32_t *flags, void *user_data, void *) {
    return static_cast<Impl *>(user_data)->GiveData(stream, {vecs, count}, *flags);
  }};
  const auto *body = end ? nullptr : &reader;
  const int rv =
    is_server()
      ? nghttp3_conn_submit_response(h3.get(), id, lines.data(), lines.size(), body)
      : nghttp3_conn_submit_request(h3.get(), id, lines.data(), lines.size(), body, nullptr);
  if (rv != 0) {
    return std::unexpected(QuicError{QuicError::kInternal, nghttp3_strerror(rv)});
  }
  return {};
}

std::expected<void, QuicError> Impl::Respond(std::int64_t id, std::span<const HeaderField> fields,
                                             bool end) {
  if (closed) {
    return std::unexpected(QuicError::kClosed);
  }
  auto *stream = Find(id);
  if (!stream || stream->ended || stream->answered) {
    return std::unexpected(QuicError::kUnknownStream);
  }
  if (auto submitted = Submit(id, fields, end); !submitted) {
    return submitted;
  }
  stream->answered = true;
  stream->fin = stream->finished;
  if (end) {
    stream->ended = true;
    // RFC 9114, section 4.1: the client need not send the rest of the request.  An error here means
    // that memory is out; the next packet will say so.
    (void)ngtcp2_conn_shutdown_stream_read(conn, 0, id, kH3NoError);
  }
  return {};
}

void Impl::Refuse(std::int64_t id, unsigned status) {
  const HeaderField fields[] = {{.name = ":status", .value = std::to_string(status)}};
  if (!Respond(id, fields, true)) {
    EndStream(id, StreamEnd::kRefused, kH3ExcessiveLoad);
  }
}

std::expected<void, QuicError> Impl::AddData(StreamId id, std::span<const std::uint8_t> header,
                                             std::span<const std::uint8_t> payload,
                                             std::size_t max_bytes) {
  if (closed) {
    return std::unexpected(QuicError::kClosed);
  }
  auto *stream = Find(static_cast<std::int64_t>(id));
  if (!stream || stream->ended || stream->fin) {
    return std::unexpected(QuicError::kUnknownStream);
  }
  const auto size = header.size() + payload.size();
  if (size > max_bytes) {
    return std::unexpected(QuicError::kTooLarge);
  }
  const auto taken = size + kStreamPartOverhead;
  if (stream->out_bytes + size > max_bytes || (budget && budget->room() < taken)) {
    if (!is_server()) {
      stream->room_wanted = true;
      room_wanted = true;
    }
    return std::unexpected(QuicError::kFull);
  }
  if (size == 0) {
    return {};
  }
  auto &bytes = stream->out.emplace_back();
  bytes.reserve(size);
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  stream->out_bytes += taken;
  if (budget) {
    budget->Take(taken);
  }
  Resume(static_cast<std::int64_t>(id), *stream);
  return {};
}

nghttp3_ssize Impl::GiveData(std::int64_t id, std::span<nghttp3_vec> out, std::uint32_t &flags) {
  auto *stream = Find(id);
  if (!stream || (stream->given == stream->out.size() && !stream->fin)) {
    return NGHTTP3_ERR_WOULDBLOCK;
  }
  const auto count = std::min(out.size(), stream->out.size() - stream->given);
  for (auto &&[vec, bytes] : std::views::zip(out, stream->out | std::views::drop(stream->given))) {
    vec = {.base = bytes.data(), .len = bytes.size()};
  }
  stream->given += count;
  if (stream->fin && stream->given == stream->out.size()) {
    flags |= NGHTTP3_DATA_FLAG_EOF;
  }
  return static_cast<nghttp3_ssize>(count);
}

void Impl::OnDataAcked(std::int64_t id, std::uint64_t bytes) {
  auto *stream = Find(id);
  if (!stream) {
    return;
  }
  stream->acked += bytes;
  while (stream->given != 0 && stream->acked >= stream->out.front().size()) {
    const auto size = stream->out.front().size();
    stream->acked -= size;
    stream->out_bytes -= size + kStreamPartOverhead;
    if (budget) {
      budget->Give(size + kStreamPartOverhead);
    }
    stream->out.pop_front();
    --stream->given;
  }
}

} // namespace ngmasque
