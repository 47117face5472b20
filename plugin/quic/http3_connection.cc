#include "ngmasque/quic/http3_connection.h"

#include "http3_connection_impl.h"

#include <array>
#include <cstdint>
#include <utility>

namespace ngmasque {

namespace {

constexpr std::size_t kMaxQpackBlockedStreams = 64;
constexpr std::size_t kQpackTable = 4096;

} // namespace

bool Http3Connection::Impl::OpenH3() {
  nghttp3_settings settings;
  nghttp3_settings_default(&settings);
  settings.max_field_section_size = kMaxFieldBytes;
  settings.qpack_max_dtable_capacity = kQpackTable;
  settings.qpack_blocked_streams = kMaxQpackBlockedStreams;
  settings.h3_datagram = features.datagrams;
  settings.h3_datagram_draft05 = features.draft_datagrams;
  settings.enable_connect_protocol = is_server() && features.connect_protocol;

  nghttp3_conn *raw = nullptr;
  const auto &callbacks = H3Callbacks();
  const int rv =
    is_server() ? nghttp3_conn_server_new(&raw, &callbacks, &settings, nghttp3_mem_default(), this)
                : nghttp3_conn_client_new(&raw, &callbacks, &settings, nghttp3_mem_default(), this);
  if (!Check(rv)) {
    return false;
  }
  h3.reset(raw);
  if (is_server()) {
    nghttp3_conn_set_max_client_streams_bidi(
      raw, ngtcp2_conn_get_local_transport_params2(conn)->initial_max_streams_bidi);
  }

  std::array<std::int64_t, 3> ids{}; // Control, QPACK encoder, QPACK decoder.
  for (auto &id : ids) {
    if (ngtcp2_conn_open_uni_stream(conn, &id, nullptr) != 0) {
      Fail(kH3GeneralProtocolError, "the peer allows no control streams");
      return false;
    }
  }
  return Check(nghttp3_conn_bind_control_stream(raw, ids[0])) &&
         Check(nghttp3_conn_bind_qpack_streams(raw, ids[1], ids[2]));
}

void Http3Connection::Impl::Fail(std::uint64_t code, std::string_view text) {
  if (!failure) {
    failure = {.code = code, .text = std::string(text)};
    self.OnFailure();
  }
}

void Http3Connection::Impl::FailH3(int error) {
  Fail(nghttp3_err_infer_quic_app_error_code(error), nghttp3_strerror(error));
}

bool Http3Connection::Impl::Check(int rv) {
  if (rv != 0) {
    FailH3(rv);
  }
  return rv == 0;
}

Http3Connection::Http3Connection(Role role, const Http3Features &features,
                                 const QueueBounds &bounds)
  : impl_(std::make_unique<Impl>(*this, role, features, bounds)) {}
Http3Connection::~Http3Connection() = default;

void Http3Connection::SetHandler(Handler *handler) { impl_->handler = handler; }

void Http3Connection::Attach(ngtcp2_conn *conn) { impl_->conn = conn; }

bool Http3Connection::Open() { return impl_->OpenH3(); }

bool Http3Connection::is_server() const { return impl_->is_server(); }

bool Http3Connection::RecvStreamData(std::int64_t stream, bool fin,
                                     std::span<const std::uint8_t> data) {
  auto &impl = *impl_;
  if (!impl.h3) {
    return true;
  }
  const auto read = nghttp3_conn_read_stream2(impl.h3.get(), stream, data.data(), data.size(), fin,
                                              ngtcp2_conn_get_timestamp(impl.conn));
  if (read < 0) {
    impl.FailH3(static_cast<int>(read));
    return false;
  }
  impl.Consume(stream, static_cast<std::size_t>(read));
  // Not from within nghttp3, which may be in the middle of decoding them.
  for (const auto &[id, code] : std::exchange(impl.refused, {})) {
    impl.EndStream(id, StreamEnd::kRefused, code);
  }
  for (const auto id : std::exchange(impl.rejected, {})) {
    impl.EndStream(id, StreamEnd::kReset, kH3RequestRejected);
  }
  return true;
}

bool Http3Connection::AckedStreamData(std::int64_t stream, std::uint64_t size) {
  return !impl_->h3 || impl_->Check(nghttp3_conn_add_ack_offset(impl_->h3.get(), stream, size));
}

bool Http3Connection::StreamClosed(std::int64_t stream, std::uint64_t code) {
  auto &impl = *impl_;
  if (!impl.h3) {
    return true;
  }
  const int rv = nghttp3_conn_close_stream(impl.h3.get(), stream, code);
  if (rv != 0 && rv != NGHTTP3_ERR_STREAM_NOT_FOUND) {
    impl.FailH3(rv);
    return false;
  }
  // As many as before; a peer may open streams of types that are ignored.
  if (!ngtcp2_conn_is_local_stream2(impl.conn, stream)) {
    if (ngtcp2_is_bidi_stream(stream)) {
      ngtcp2_conn_extend_max_streams_bidi(impl.conn, 1);
    } else {
      ngtcp2_conn_extend_max_streams_uni(impl.conn, 1);
    }
  }
  if (impl.RemoveStream(stream) && impl.handler) {
    impl.handler->OnStreamClosed(static_cast<StreamId>(stream), StreamEnd::kReset, code);
  }
  return true;
}

bool Http3Connection::StreamReset(std::int64_t stream, std::uint64_t code) {
  auto &impl = *impl_;
  if (!impl.h3) {
    return true;
  }
  if (!impl.Check(nghttp3_conn_shutdown_stream_read(impl.h3.get(), stream))) {
    return false;
  }
  impl.EndStream(stream, StreamEnd::kReset, code);
  return true;
}

bool Http3Connection::StreamStopSending(std::int64_t stream) {
  return !impl_->h3 || impl_->Check(nghttp3_conn_shutdown_stream_read(impl_->h3.get(), stream));
}

// A server that refuses asks for the end of the request before its response, which is still wanted:
// RFC 9114, section 4.1.
void Http3Connection::RecvStopSending(std::int64_t stream, std::uint64_t code) {
  if (const auto *found = impl_->Find(stream);
      found && (impl_->is_server() || found->status / 100 == 2)) {
    impl_->EndStream(stream, StreamEnd::kReset, code);
  }
}

void Http3Connection::ExtendMaxRemoteStreams(std::uint64_t max) {
  if (impl_->h3 && impl_->is_server()) {
    nghttp3_conn_set_max_client_streams_bidi(impl_->h3.get(), max);
  }
}

bool Http3Connection::ExtendMaxStreamData(std::int64_t stream) {
  return !impl_->h3 || impl_->Check(nghttp3_conn_unblock_stream(impl_->h3.get(), stream));
}

bool Http3Connection::RecvDatagram(std::span<const std::uint8_t> datagram) {
  ++impl_->statistics.datagrams_received;
  const auto error = impl_->handler ? impl_->handler->OnDatagram(datagram) : 0;
  if (error != 0) {
    impl_->Fail(error, "malformed datagram");
  }
  return error == 0;
}

std::ptrdiff_t Http3Connection::WritePacket(ngtcp2_path *path, ngtcp2_pkt_info *pi,
                                            std::span<std::uint8_t> out, Nanoseconds now,
                                            bool fill) {
  return impl_->WritePacket(path, pi, out, now, fill);
}

bool Http3Connection::waits() const {
  return !impl_->datagrams.empty() || !impl_->resumed.empty() || (impl_->h3 && !impl_->h3.idle());
}

bool Http3Connection::ResumeStreams() {
  for (const auto id : std::exchange(impl_->resumed, {})) {
    if (auto *stream = impl_->Find(id); stream && std::exchange(stream->resume, false)) {
      if (!impl_->Check(nghttp3_conn_resume_stream(impl_->h3.get(), id))) {
        return false;
      }
    }
  }
  return true;
}

void Http3Connection::DeliverHttp3() {
  auto &impl = *impl_;
  if (impl.handler && std::exchange(impl.tell_settings, false)) {
    impl.handler->OnSettings(*impl.peer_settings);
  }
  if (std::exchange(impl.tell_going_away, false) && impl.handler) {
    impl.handler->OnGoAway();
  }
  if (impl.room_wanted && impl.TakeRoom() && impl.handler) {
    impl.handler->OnWritable();
  }
}

void Http3Connection::AnnounceGoAway() {
  if (impl_->h3) {
    (void)impl_->Check(nghttp3_conn_submit_shutdown_notice(impl_->h3.get()));
    OnWantWrite();
  }
}

bool Http3Connection::GoAway() {
  OnWantWrite();
  return impl_->h3 && impl_->Check(nghttp3_conn_shutdown(impl_->h3.get()));
}

bool Http3Connection::drained() const {
  return impl_->h3 && nghttp3_conn_is_drained(impl_->h3.get()) != 0;
}

void Http3Connection::CloseHttp3() { impl_->closed = true; }

const std::optional<Http3Connection::Failure> &Http3Connection::failure() const {
  return impl_->failure;
}

std::expected<StreamId, QuicError>
Http3Connection::SubmitRequest(std::span<const HeaderField> fields) {
  auto &impl = *impl_;
  if (impl.closed) {
    return std::unexpected(QuicError::kClosed);
  }
  if (!impl.h3 || !ngtcp2_conn_get_handshake_completed2(impl.conn)) {
    return std::unexpected(QuicError::kNotReady);
  }
  if (impl.going_away) {
    return std::unexpected(QuicError::kGoingAway);
  }
  std::int64_t id = 0;
  if (const int rv = ngtcp2_conn_open_bidi_stream(impl.conn, &id, nullptr); rv != 0) {
    return std::unexpected(rv == NGTCP2_ERR_STREAM_ID_BLOCKED ? QuicError::kStreamsBlocked
                                                              : QuicError::kInternal);
  }
  if (auto submitted = impl.Submit(id, fields, false); !submitted) {
    (void)ngtcp2_conn_shutdown_stream(impl.conn, 0, id, kH3RequestCancelled);
    return std::unexpected(std::move(submitted.error()));
  }
  impl.streams[id].told = true;
  impl.fresh_request = true;
  OnWantWrite();
  return static_cast<StreamId>(id);
}

std::expected<void, QuicError>
Http3Connection::Respond(StreamId stream, std::span<const HeaderField> fields, bool end) {
  auto responded = impl_->Respond(static_cast<std::int64_t>(stream), fields, end);
  OnWantWrite();
  return responded;
}

bool Http3Connection::answered(StreamId stream) const {
  const auto *found = impl_->Find(static_cast<std::int64_t>(stream));
  return found && found->answered;
}

void Http3Connection::CloseStream(StreamId stream, std::uint64_t code) {
  const auto id = static_cast<std::int64_t>(stream);
  auto *found = impl_->Find(id);
  if (impl_->closed || !found || found->ended) {
    return;
  }
  found->ended = true;
  impl_->TakeFields(*found);
  nghttp3_conn_shutdown_stream_write(impl_->h3.get(), id);
  // An error here means that memory is out; the next packet will say so.
  (void)ngtcp2_conn_shutdown_stream(impl_->conn, 0, id, code);
  OnWantWrite();
}

std::expected<void, QuicError>
Http3Connection::SendDatagram(DatagramQueue::Key tunnel, std::span<const std::uint8_t> header,
                              std::span<const std::uint8_t> payload) {
  auto &impl = *impl_;
  if (impl.closed) {
    return std::unexpected(QuicError::kClosed);
  }
  const auto size = header.size() + payload.size();
  // 0 is also that there are none, or not yet.
  if (const auto max = impl.h3 ? impl.MaxDatagram() : 0; max == 0 || size > max) {
    return std::unexpected(!impl.h3 || !ngtcp2_conn_get_handshake_completed2(impl.conn)
                             ? QuicError::kNotReady
                           : datagrams() ? QuicError::kTooLarge
                                         : QuicError::kNoDatagrams);
  }
  const auto waiting = impl.datagrams.waiting(tunnel);
  if (waiting.datagrams >= impl.bounds.datagrams_per_tunnel ||
      waiting.bytes + size + DatagramQueue::kOverhead > impl.bounds.bytes_per_tunnel ||
      !impl.datagrams.Push(tunnel, header, payload)) {
    if (!impl.is_server()) {
      impl.full.insert(tunnel);
      impl.room_wanted = true;
    }
    return std::unexpected(QuicError::kFull);
  }
  OnWantWrite();
  return {};
}

std::expected<void, QuicError> Http3Connection::SendData(StreamId stream,
                                                         std::span<const std::uint8_t> header,
                                                         std::span<const std::uint8_t> payload) {
  return impl_->AddData(stream, header, payload, kMaxStreamBytes);
}

std::expected<void, QuicError>
Http3Connection::SendMessage(StreamId stream, std::span<const std::uint8_t> message) {
  return impl_->AddData(stream, {}, message, kMaxStreamMessageBytes);
}

void Http3Connection::ShareWith(std::shared_ptr<ByteBudget> budget) {
  impl_->ReleaseStreams();
  impl_->datagrams.ShareWith(budget);
  impl_->budget = std::move(budget);
}

std::size_t Http3Connection::max_datagram() const { return impl_->MaxDatagram(); }

bool Http3Connection::datagrams() const {
  const auto *params = ngtcp2_conn_get_remote_transport_params2(impl_->conn);
  return ngtcp2_conn_get_handshake_completed2(impl_->conn) && params &&
         params->max_datagram_frame_size != 0;
}

std::optional<PeerSettings> Http3Connection::peer_settings() const { return impl_->peer_settings; }

const Http3Connection::Statistics &Http3Connection::statistics() const { return impl_->statistics; }

} // namespace ngmasque
