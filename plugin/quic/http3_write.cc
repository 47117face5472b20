// Http3Connection: packets.

#include "http3_connection_impl.h"

#include "ngmasque/quic/packet_size.h"
#include "ngmasque/wire/varint.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

using Impl = Http3Connection::Impl;

std::size_t Impl::MaxDatagram() const {
  return ngtcp2_conn_get_handshake_completed2(conn) ? ngmasque::MaxDatagram(conn) : 0;
}

// Since it was queued, the packets may have become smaller: another path takes less, or the peer's
// connection ID is longer.
void Impl::DropTooLarge(std::size_t max_datagram) {
  while (!datagrams.empty() && datagrams.Front().size() > max_datagram) {
    OnDropped(datagrams.front_tunnel(), datagrams.Front(), QuicError::kTooLarge);
    datagrams.Pop();
  }
}

void Impl::OnDropped(DatagramQueue::Key tunnel, std::span<const std::uint8_t> datagram,
                     QuicError::Code reason) {
  if (handler) {
    handler->OnDatagramDropped(tunnel, datagram, reason);
  }
}

// A stream that the peer does not read is in nobody else's way.
bool Impl::TakeRoom() {
  const bool room_for_all = datagrams.bytes() <= bounds.bytes - bounds.bytes_per_tunnel;
  bool room = room_for_all && std::erase_if(full, [this](DatagramQueue::Key tunnel) {
                                const auto waiting = datagrams.waiting(tunnel);
                                return waiting.datagrams <= bounds.datagrams_per_tunnel / 2 &&
                                       waiting.bytes <= bounds.bytes_per_tunnel / 2;
                              }) != 0;
  room_wanted = !full.empty();
  for (auto &[id, stream] : streams) {
    if (stream.room_wanted && (stream.ended || stream.fin || stream.out_bytes <= kMaxStreamBytes / 2)) {
      stream.room_wanted = false;
      room = true;
    }
    room_wanted = room_wanted || stream.room_wanted;
  }
  return std::exchange(stream_gone, false) || room;
}

// A packet is filled with what streams and datagrams have.  ngtcp2 may not be asked anything while
// it is half full, hence max_datagram.
ngtcp2_ssize Impl::WritePacket(ngtcp2_path *path, ngtcp2_pkt_info *pi, std::span<std::uint8_t> out,
                               ngtcp2_tstamp now, bool fill) {
  const auto max_datagram = datagrams.empty() ? 0 : MaxDatagram();
  // What `out` has less than a packet of full size, which max_datagram is of, or more.
  const auto full = ngtcp2_conn_get_path_max_tx_udp_payload_size2(conn);
  const auto limit = max_datagram - std::min(max_datagram, full - std::min(full, out.size()));
  std::size_t taken = 0; // By datagrams and their frames.
  bool streams_now = fresh_request || streams_first;
  bool streams_left = h3 && !h3.idle();
  bool has_datagram = false;
  bool has_stream = false;

  for (;;) {
    DropTooLarge(max_datagram);
    if (!datagrams.empty() && !(streams_now && streams_left)) {
      const auto front = datagrams.Front();
      const bool last = datagrams.size() == 1;
      const auto next = last ? 0 : datagrams.NextSize();
      taken += 1 + VarintLength(front.size()) + front.size();
      const bool more = streams_left || (!last && taken + next <= limit);
      int accepted = 0;
      // Without more, ngtcp2 need not be asked again only to say that there is no room.
      std::uint32_t flags =
        more ? NGTCP2_WRITE_DATAGRAM_FLAG_MORE : NGTCP2_WRITE_DATAGRAM_FLAG_NONE;
      // Others follow in the next packet, and only packets of one size can share a system call.
      const bool even = !more && (last || (next == front.size() && IsNearlyFull(taken, limit)));
      if (fill ? has_datagram || !last : !even) {
        flags |= NGTCP2_WRITE_DATAGRAM_FLAG_PADDING;
      }
      // ngtcp2 does not write to it.
      const ngtcp2_vec vec{.base = const_cast<std::uint8_t *>(front.data()), .len = front.size()};
      const auto written = ngtcp2_conn_writev_datagram(conn, path, pi, out.data(), out.size(),
                                                       &accepted, flags, 0, &vec, 1, now);
      if (accepted) {
        datagrams.Pop();
        ++statistics.datagrams_sent;
        streams_first = !has_stream; // The next packet is the others'.
        has_datagram = true;
        streams_now = true; // Whatever is left of this one is theirs, too.
      }
      if (written == NGTCP2_ERR_WRITE_MORE) {
        continue;
      }
      return written;
    }

    std::int64_t id = -1;
    int fin = 0;
    std::array<nghttp3_vec, 16> vecs;
    nghttp3_ssize count = 0;
    const bool asked = streams_left && ngtcp2_conn_get_max_data_left2(conn) != 0;
    if (asked) {
      count = nghttp3_conn_writev_stream(h3.get(), &id, &fin, vecs.data(), vecs.size());
      if (count < 0) {
        FailH3(static_cast<int>(count));
        return NGTCP2_ERR_CALLBACK_FAILURE;
      }
    }
    if (id == -1) {
      fresh_request = false;
      if (asked) {
        h3.SetIdle();
      }
      streams_left = false;
      if (!datagrams.empty()) {
        continue;
      }
    }

    ngtcp2_ssize taken = -1;
    const std::uint32_t flags =
      (id == -1 ? NGTCP2_WRITE_STREAM_FLAG_NONE : NGTCP2_WRITE_STREAM_FLAG_MORE) |
      (fin ? NGTCP2_WRITE_STREAM_FLAG_FIN : NGTCP2_WRITE_STREAM_FLAG_NONE);
    const auto written = ngtcp2_conn_writev_stream(
      conn, path, pi, out.data(), out.size(), &taken, flags, id,
      reinterpret_cast<const ngtcp2_vec *>(vecs.data()), static_cast<std::size_t>(count), now);
    if (taken >= 0 && id != -1) {
      streams_first = has_datagram;
      has_stream = true;
      if (const int rv =
            nghttp3_conn_add_write_offset(h3.get(), id, static_cast<std::size_t>(taken));
          rv != 0) {
        FailH3(rv);
        return NGTCP2_ERR_CALLBACK_FAILURE;
      }
    }
    if (written == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
      nghttp3_conn_block_stream(h3.get(), id);
    } else if (written == NGTCP2_ERR_STREAM_SHUT_WR) {
      nghttp3_conn_shutdown_stream_write(h3.get(), id);
    } else if (written != NGTCP2_ERR_WRITE_MORE) {
      return written;
    }
  }
}

} // namespace ngmasque
