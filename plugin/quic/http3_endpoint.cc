#include "ngmasque/quic/http3_endpoint.h"

#include "http3_endpoint_impl.h"

#include "ngmasque/quic/packet_size.h"
#include "ngmasque/wire/quic_header.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace ngmasque {

namespace {

using Impl = Http3Endpoint::Impl;

// More than one call of WritePackets should not hold the caller up for; Expiry says that there is
// more.
constexpr int kMaxBursts = 16;

// How much later a connection is woken than at the end of a pause after packets (pacing), if nothing
// waits for it: most pauses are over within microseconds, and each would cost three system calls.
// What else ngtcp2 has to do is due after the pause, and its timers have steps of a millisecond.
constexpr Nanoseconds kPauseSlack = 1'000'000;

// What Linux takes as one call with UDP_SEGMENT: that many packets, and one UDP payload's worth of
// bytes over IPv4.
constexpr std::size_t kMaxSegments = 64;
constexpr std::size_t kMaxBurstBytes = 65507;

bool SameBytes(const ngtcp2_addr &a, const ngtcp2_addr &b) {
  return a.addrlen == b.addrlen && std::memcmp(a.addr, b.addr, a.addrlen) == 0;
}

bool SamePath(const ngtcp2_path &a, const ngtcp2_path &b) {
  return SameBytes(a.remote, b.remote) && SameBytes(a.local, b.local);
}

} // namespace

FourTuple ToFourTuple(const ngtcp2_path &path) {
  // ngtcp2 hands back what it was given: IPv4 or IPv6.
  return {.local = ToEndpoint(path.local.addr).value_or(Endpoint{}),
          .remote = ToEndpoint(path.remote.addr).value_or(Endpoint{})};
}

/// Packets in a row in the buffer, of `segment` bytes each but for the last one, and one behind them.
struct Impl::Run {
  Run() {
    ngtcp2_path_storage_zero(&path);
    ngtcp2_path_storage_zero(&other);
  }

  ngtcp2_path_storage path;
  ngtcp2_pkt_info pi{};
  std::size_t size = 0; // 0: there are none.
  std::size_t segment = 0;
  ngtcp2_path_storage other; // Of the one behind.
  ngtcp2_pkt_info other_pi{};
};

// As ngtcp2_conn_write_aggregate_pkt2 does, for which the packets would have to be as large as the path
// takes: what is padded has to be encrypted, decrypted and read.
ngtcp2_ssize Impl::WriteRun(Run &run, Nanoseconds now) {
  // Not that of the path: a probe is larger.
  const auto packet = ngtcp2_conn_get_max_tx_udp_payload_size2(conn.get());
  const auto of_path = ngtcp2_conn_get_path_max_tx_udp_payload_size2(conn.get());
  const auto room =
    std::max(packet, std::min(ngtcp2_conn_get_send_quantum2(conn.get()), kMaxBurstBytes));
  const auto first =
    self.WritePacket(&run.path.path, &run.pi, buffer.first(packet), now, false);
  if (first <= 0) {
    return first;
  }
  run.size = run.segment = static_cast<std::size_t>(first);
  const bool joins =
    run.segment == of_path || (ngtcp2_conn_get_handshake_completed2(conn.get()) &&
                               run.segment < of_path && IsNearlyFull(run.segment, of_path));
  for (std::size_t packets = 1;
       joins && packets < kMaxSegments && run.size + run.segment <= room; ++packets) {
    const auto next = self.WritePacket(&run.other.path, &run.other_pi,
                                       buffer.subspan(run.size, run.segment), now);
    if (next <= 0 || run.other_pi.ecn != run.pi.ecn || !SamePath(run.other.path, run.path.path)) {
      return next;
    }
    run.size += static_cast<std::size_t>(next);
    if (static_cast<std::size_t>(next) < run.segment) {
      break;
    }
  }
  return 0;
}

void Impl::WriteBursts(Nanoseconds now, const BurstSink &sink) {
  if (!self.ResumeStreams()) {
    Fail(NGTCP2_ERR_CALLBACK_FAILURE);
    return;
  }
  for (int burst = 0; burst < kMaxBursts; ++burst) {
    Run run;
    const auto written = WriteRun(run, now);
    if (written < 0) {
      Fail(static_cast<int>(written));
      return;
    }
    const auto expiry = ngtcp2_conn_get_expiry2(conn.get());
    ngtcp2_conn_update_pkt_tx_time(conn.get(), now);
    if (const auto paced = ngtcp2_conn_get_expiry2(conn.get()); paced < expiry) {
      pause_end = paced;
    }
    if (run.size != 0 && std::exchange(ping, false)) {
      ngtcp2_conn_set_keep_alive_timeout(conn.get(), keep_alive);
    }
    if (run.size == 0 || !sink({.path = ToFourTuple(run.path.path),
                                .ecn = run.pi.ecn,
                                .data = buffer.first(run.size),
                                .segment = run.segment})) {
      return;
    }
    // It has been written, so it leaves even if it is the only one.
    if (written != 0 && !sink({.path = ToFourTuple(run.other.path),
                               .ecn = run.other_pi.ecn,
                               .data = buffer.subspan(run.size, static_cast<std::size_t>(written)),
                               .segment = static_cast<std::size_t>(written)})) {
      return;
    }
  }
}

// A client goes nowhere before it has validated the path; a server's mind is ValidatedPaths.
void Impl::OnPathValidated(const FourTuple &path, bool success) {
  tell_path = true;
  if (success && role == Role::kServer && path == ToFourTuple(*ngtcp2_conn_get_path2(conn.get()))) {
    validated.Add(path);
  }
}

void Impl::OnFrame() {
  if (!arrival || moves.Knows(arrival->path, arrival->id)) {
    return;
  }
  const auto id = ConnectionId::From(arrival->id); // None of ours is longer than it can be.
  if (id && moves.OnFrame(arrival->path, *id, self.path()) && handler) {
    told_path = {}; // Whatever comes of it, where it ends is told.
    handler->OnMigrating();
  }
}

void Impl::Deliver() {
  if (state == State::kOpen) {
    // Back to a path that was validated before a connection goes without a callback.
    if (role == Role::kServer || server_migration || std::exchange(tell_path, false)) {
      const auto path = ToFourTuple(*ngtcp2_conn_get_path2(conn.get()));
      const bool usable = role == Role::kClient || validated.Use(path);
      moves.OnPath(path);
      if (usable && std::exchange(told_path, path) != path && handler) {
        handler->OnPathChanged(path);
      }
    }
    self.Deliver();
    self.DeliverHttp3();
  }
  if (state == State::kClosed && std::exchange(tell_closed, false) && handler) {
    auto *last = handler;
    self.SetHandler(nullptr); // It may be gone afterwards.
    last->OnClosed(reason);
  }
}

Http3Endpoint::Http3Endpoint(Role role, const Http3Features &features, const QueueBounds &bounds)
  : Http3Connection(role, features, bounds), impl_(std::make_unique<Impl>(*this, role)) {}
Http3Endpoint::~Http3Endpoint() = default;

void Http3Endpoint::SetHandler(Handler *handler) {
  impl_->handler = handler;
  Http3Connection::SetHandler(handler);
}

std::uint64_t Http3Endpoint::packets_received() const {
  ngtcp2_conn_info info;
  ngtcp2_conn_get_conn_info2(impl_->conn.get(), &info);
  return info.pkt_recv;
}

FourTuple Http3Endpoint::path() const {
  return ToFourTuple(*ngtcp2_conn_get_path2(impl_->conn.get()));
}

void Http3Endpoint::Receive(const FourTuple &path, unsigned ecn,
                            std::span<const std::uint8_t> packet, Nanoseconds now) {
  if (impl_->state != Impl::State::kOpen) {
    return;
  }
  QuicPath quic_path(path);
  const auto raw_path = quic_path.get();
  const ngtcp2_pkt_info pi{.ecn = static_cast<std::uint8_t>(ecn)};
  bool elsewhere = false;
  if (const auto id = PacketDcid(packet, kLocalIdLength); impl_->role == Role::kServer && id) {
    const auto &arrival = impl_->arrival.emplace(path, *id);
    elsewhere = !impl_->moves.Knows(path, arrival.id) && this->path() != path;
  }
  if (const int rv =
        ngtcp2_conn_read_pkt(impl_->conn.get(), &raw_path, &pi, packet.data(), packet.size(), now);
      rv != 0) {
    impl_->Fail(rv);
  }
  if (elsewhere && this->path() == path) {
    impl_->OnFrame(); // It may have none for HTTP/3.
  }
  impl_->arrival.reset();
  impl_->Deliver();
}

void Http3Endpoint::HandleExpiry(Nanoseconds now) {
  if (impl_->state != Impl::State::kOpen) {
    return;
  }
  if (const int rv = ngtcp2_conn_handle_expiry(impl_->conn.get(), now); rv != 0) {
    impl_->Fail(rv);
  }
  impl_->Deliver();
}

Nanoseconds Http3Endpoint::Expiry() const {
  switch (impl_->state) {
  case Impl::State::kOpen: {
    const auto expiry = ngtcp2_conn_get_expiry2(impl_->conn.get());
    return expiry == impl_->pause_end && !waits() ? expiry + kPauseSlack : expiry;
  }
  case Impl::State::kClosePacket: return 0;
  case Impl::State::kClosed: return kNever;
  }
  std::unreachable();
}

void Http3Endpoint::WritePackets(Nanoseconds now, const BurstSink &sink) {
  if (impl_->state == Impl::State::kOpen) {
    impl_->WriteBursts(now, sink);
  }
  if (impl_->state == Impl::State::kClosePacket) {
    impl_->WriteClose(now, sink);
  }
  impl_->Deliver();
}

// ngtcp2 writes a PING of its own accord only.
void Http3Endpoint::Ping() {
  if (impl_->state == Impl::State::kOpen &&
      ngtcp2_conn_get_handshake_completed2(impl_->conn.get())) {
    impl_->ping = true;
    ngtcp2_conn_set_keep_alive_timeout(impl_->conn.get(), 1);
    OnWantWrite();
  }
}

void Http3Endpoint::Close(std::uint64_t code, Nanoseconds now, const BurstSink &sink) {
  impl_->FailLocal(code);
  impl_->tell_closed = false;
  if (impl_->state == Impl::State::kClosePacket) {
    impl_->WriteClose(now, sink);
  }
}

} // namespace ngmasque
