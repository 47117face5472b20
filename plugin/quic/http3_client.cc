#include "ngmasque/quic/http3_client.h"

#include "http3_impl.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

FourTuple ToFourTuple(const ngtcp2_path &path) {
  // ngtcp2 hands back what it was given: IPv4 or IPv6.
  return {.local = ToEndpoint(path.local.addr).value_or(Endpoint{}),
          .remote = ToEndpoint(path.remote.addr).value_or(Endpoint{})};
}

Http3Client::Http3Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Http3Client::~Http3Client() = default;

std::expected<std::unique_ptr<Http3Client>, QuicError>
Http3Client::Create(Options options, const FourTuple &path, Handler &handler, Nanoseconds now) {
  auto impl = std::make_unique<Impl>(std::move(options), handler);
  if (auto opened = impl->Open(path, now); !opened) {
    return std::unexpected(std::move(opened.error()));
  }
  impl->told_path = path;
  return std::unique_ptr<Http3Client>(new Http3Client(std::move(impl)));
}

std::uint64_t Http3Client::packets_received() const {
  ngtcp2_conn_info info;
  ngtcp2_conn_get_conn_info2(impl_->conn.get(), &info);
  return info.pkt_recv;
}

void Http3Client::Receive(const FourTuple &path, unsigned ecn, std::span<const std::uint8_t> packet,
                          Nanoseconds now) {
  if (impl_->state != Impl::State::kOpen) {
    return;
  }
  QuicPath quic_path(path);
  const auto raw_path = quic_path.get();
  const ngtcp2_pkt_info pi{.ecn = static_cast<std::uint8_t>(ecn)};
  if (const int rv =
        ngtcp2_conn_read_pkt(impl_->conn.get(), &raw_path, &pi, packet.data(), packet.size(), now);
      rv != 0) {
    impl_->Fail(rv);
  }
  impl_->Deliver();
}

void Http3Client::HandleExpiry(Nanoseconds now) {
  if (impl_->state != Impl::State::kOpen) {
    return;
  }
  if (const int rv = ngtcp2_conn_handle_expiry(impl_->conn.get(), now); rv != 0) {
    impl_->Fail(rv);
  }
  impl_->Deliver();
}

Nanoseconds Http3Client::Expiry() const {
  switch (impl_->state) {
  case Impl::State::kOpen: return ngtcp2_conn_get_expiry2(impl_->conn.get());
  case Impl::State::kClosePacket: return 0;
  case Impl::State::kClosed: return kNever;
  }
  std::unreachable();
}

void Http3Client::WritePackets(Nanoseconds now, const BurstSink &sink) {
  if (impl_->state == Impl::State::kOpen) {
    impl_->WriteBursts(now, sink);
  }
  if (impl_->state == Impl::State::kClosePacket) {
    impl_->WriteClose(now, sink);
  }
  impl_->Deliver();
}

std::expected<StreamId, QuicError>
Http3Client::SubmitRequest(std::span<const HeaderField> fields) {
  auto &impl = *impl_;
  if (impl.state != Impl::State::kOpen) {
    return std::unexpected(QuicError::kClosed);
  }
  if (!impl.handshake_done || !impl.h3) {
    return std::unexpected(QuicError::kNotReady);
  }
  if (impl.going_away) {
    return std::unexpected(QuicError::kGoingAway);
  }
  std::int64_t id = 0;
  if (const int rv = ngtcp2_conn_open_bidi_stream(impl.conn.get(), &id, nullptr); rv != 0) {
    return std::unexpected(rv == NGTCP2_ERR_STREAM_ID_BLOCKED ? QuicError::kStreamsBlocked
                                                              : QuicError::kInternal);
  }

  std::vector<nghttp3_nv> lines;
  lines.reserve(fields.size());
  for (const auto &field : fields) {
    // nghttp3 copies both.
    lines.push_back({.name = reinterpret_cast<const std::uint8_t *>(field.name.data()),
                     .value = reinterpret_cast<const std::uint8_t *>(field.value.data()),
                     .namelen = field.name.size(),
                     .valuelen = field.value.size(),
                     .flags = NGHTTP3_NV_FLAG_NONE});
  }
  const nghttp3_data_reader reader{.read_data = [](nghttp3_conn *, std::int64_t stream,
                                                   nghttp3_vec *vecs, std::size_t count,
                                                   std::uint32_t *, void *user_data, void *) {
    return static_cast<Impl *>(user_data)->GiveData(stream, {vecs, count});
  }};
  if (nghttp3_conn_submit_request(impl.h3.get(), id, lines.data(), lines.size(), &reader,
                                  nullptr) != 0) {
    (void)ngtcp2_conn_shutdown_stream(impl.conn.get(), 0, id, kH3RequestCancelled);
    return std::unexpected(QuicError::kInternal);
  }
  impl.streams.try_emplace(id);
  impl.fresh_request = true;
  return static_cast<StreamId>(id);
}

void Http3Client::CloseStream(StreamId stream, std::uint64_t code) {
  const auto id = static_cast<std::int64_t>(stream);
  auto *found = impl_->Find(id);
  if (impl_->state != Impl::State::kOpen || !found || found->ended) {
    return;
  }
  found->ended = true;
  found->fields.clear();
  nghttp3_conn_shutdown_stream_write(impl_->h3.get(), id);
  // An error here means that memory is out; the next packet will say so.
  (void)ngtcp2_conn_shutdown_stream(impl_->conn.get(), 0, id, code);
}

std::expected<void, QuicError> Http3Client::SendDatagram(DatagramQueue::Key tunnel,
                                                         std::span<const std::uint8_t> header,
                                                         std::span<const std::uint8_t> payload) {
  auto &impl = *impl_;
  if (impl.state != Impl::State::kOpen) {
    return std::unexpected(QuicError::kClosed);
  }
  if (!impl.handshake_done) {
    return std::unexpected(QuicError::kNotReady);
  }
  if (!datagrams()) {
    return std::unexpected(QuicError::kNoDatagrams);
  }
  const auto size = header.size() + payload.size();
  if (size > impl.MaxDatagram()) {
    return std::unexpected(QuicError::kTooLarge);
  }
  const auto waiting = impl.datagrams.waiting(tunnel);
  if (waiting.datagrams >= kMaxQueuedDatagrams ||
      waiting.bytes + size + DatagramQueue::kOverhead > kMaxQueuedDatagramBytes ||
      !impl.datagrams.Push(tunnel, header, payload)) {
    impl.full.insert(tunnel);
    impl.room_wanted = true;
    return std::unexpected(QuicError::kFull);
  }
  return {};
}

std::expected<void, QuicError> Http3Client::SendData(StreamId stream,
                                                     std::span<const std::uint8_t> header,
                                                     std::span<const std::uint8_t> payload) {
  return impl_->AddData(stream, header, payload, kMaxStreamBytes);
}

std::expected<void, QuicError>
Http3Client::SendMessage(StreamId stream, std::span<const std::uint8_t> message) {
  return impl_->AddData(stream, {}, message, kMaxStreamMessageBytes);
}

std::size_t Http3Client::max_datagram() const { return impl_->MaxDatagram(); }

bool Http3Client::datagrams() const {
  const auto *params = ngtcp2_conn_get_remote_transport_params2(impl_->conn.get());
  return impl_->handshake_done && params && params->max_datagram_frame_size != 0;
}

std::optional<bool> Http3Client::peer_h3_datagram() const { return impl_->peer_h3_datagram; }

std::expected<void, QuicError> Http3Client::Migrate(const Endpoint &local, Nanoseconds now) {
  if (impl_->state != Impl::State::kOpen) {
    return std::unexpected(QuicError::kClosed);
  }
  QuicPath quic_path({.local = local, .remote = path().remote});
  const auto raw_path = quic_path.get();
  const auto *params = ngtcp2_conn_get_remote_transport_params2(impl_->conn.get());
  if (impl_->handshake_done && params && params->disable_active_migration) {
    return std::unexpected(QuicError::kNotSupported);
  }
  switch (ngtcp2_conn_initiate_migration(impl_->conn.get(), &raw_path, now)) {
  case 0: return {};
  case NGTCP2_ERR_INVALID_STATE: return std::unexpected(QuicError::kNotReady);
  case NGTCP2_ERR_CONN_ID_BLOCKED: return std::unexpected(QuicError::kNotSupported);
  default: return std::unexpected(QuicError::kInternal);
  }
}

// ngtcp2 writes a PING of its own accord only.
void Http3Client::Ping() {
  if (impl_->state == Impl::State::kOpen && impl_->handshake_done) {
    impl_->ping = true;
    ngtcp2_conn_set_keep_alive_timeout(impl_->conn.get(), 1);
  }
}

void Http3Client::Close(std::uint64_t code, Nanoseconds now, const BurstSink &sink) {
  if (impl_->state == Impl::State::kOpen) {
    ngtcp2_ccerr_set_application_error(&impl_->close_error, code, nullptr, 0);
    impl_->state = Impl::State::kClosePacket;
  }
  impl_->tell_closed = false;
  if (impl_->state == Impl::State::kClosePacket) {
    impl_->WriteClose(now, sink);
  }
}

FourTuple Http3Client::path() const {
  return ToFourTuple(*ngtcp2_conn_get_path2(impl_->conn.get()));
}

const Http3Client::Statistics &Http3Client::statistics() const { return impl_->statistics; }

} // namespace ngmasque
