#include "ngtcp2_run.h"

#include "check.h"

#include <algorithm>
#include <vector>

namespace ngtcp2_fuzz {

namespace {

/// The time is short in replays, which run each input once for each of its bytes.
constexpr int kMaxSteps = 200;
/// After so many rounds in one instant a timer must be in the future.  A probe timeout that doubles
/// takes some until it has caught up with a long sleep.
constexpr int kMaxRounds = 64;
constexpr int kMaxPackets = 256;

Options ReadOptions(Script &script) {
  const auto flags = script.Byte();
  const auto more = script.Byte();
  const auto other = script.Byte();
  return {
      .server = (flags & 1) != 0,
      .negotiated = (flags & 0x0E) != 0x0E,
      .confirmed = (flags & 0x10) == 0,
      .zero_length_scid = (more & 7) == 7,
      .zero_length_dcid = (more & 0x38) == 0x38,
      .disable_active_migration = (flags & 0x20) != 0,
      .preferred_address = (flags & 0x40) != 0,
      .active_connection_id_limit = (more & 0x40) != 0 ? 2u : 8u,
      .few_glitches = (more & 0x80) != 0,
      .idle_timeout = (flags & 0x80) == 0,
      .hold_connection_ids = (more & 7) == 6,
      .never_asked = (more & 7) == 5,
      .logged = (other & 1) != 0,
  };
}

} // namespace

Run::Run(Script script)
    : script_{script}, options_{ReadOptions(script_)}, initial_{MakePath(script_.Byte() % 10, 0)},
      writer_{options_.preferred_address && !options_.server ? 2u : 1u},
      oracle_{options_, initial_, kStart} {
  if (const auto fail = script_.Byte(); fail >= 0x80) {
    memory_.fail_at = fail - 0x7Fu;
  }
}

Run::~Run() { CHECK(memory_.live == 0); }

void Run::All() {
  const StoredPath path{initial_};
  const Endpoint endpoint{options_, path.ps.path, now_, *this, memory_};
  if (endpoint.conn() == nullptr) {
    return;
  }
  endpoint_ = &endpoint;
  conn_ = endpoint.conn();
  for (int i = 0; i < kMaxSteps && !script_.Ended() && !over_; ++i) {
    Step();
    // After a fatal error a connection can only be deleted.
    if (!over_) {
      oracle_.Check(*conn_);
    }
  }
}

void Run::Step() {
  const auto what = script_.Byte();
  switch (what % 16) {
  case 0:
  case 1:
  case 2:
  case 3:
  case 4:
  case 5:
    return Read();
  case 6:
  case 7:
    return WriteAll();
  case 8:
    return Write(what >= 0x80);
  case 9:
    return Wait(now_ + script_.Byte() * NGTCP2_MILLISECONDS);
  case 10:
    return Wait(std::min(ngtcp2_conn_get_expiry2(conn_), now_ + 60 * NGTCP2_SECONDS));
  case 11:
    return Wait(now_ + (what / 16) * NGTCP2_SECONDS);
  case 12:
  case 13:
    return options_.server ? ServerCall() : ClientCall();
  case 14:
    return AnyCall();
  default:
    memory_.fail_at = 1u + script_.Byte() % 64;
    memory_.fail_on = what >= 0x80;
  }
}

/// The address of the server and the client's, as the connection sees them.
Path Run::MakePath(std::uint8_t server, std::uint8_t client) const {
  const auto of_server = ServerAddress(server);
  const auto of_client = ClientAddress(client, of_server);
  return options_.server ? Path{.local = of_server, .remote = of_client}
                         : Path{.local = of_client, .remote = of_server};
}

Path Run::ReadPath() {
  const auto choice = script_.Byte();
  switch (choice % 8) {
  case 0:
  case 1:
    return Current();
  case 2:
    return conn_->pv != nullptr ? FromPath(conn_->pv->dcid.ps.path) : Current();
  case 3:
    return oracle_.challenges().empty() ? Current() : oracle_.challenges().back().path;
  case 4:
    return last_sent_.value_or(Current());
  default:
    return MakePath(script_.Byte(), choice / 8);
  }
}

/// A packet, or something like it, arrives.
void Run::Read() {
  const auto path = ReadPath();
  const auto which = script_.Byte();
  const auto &scids = endpoint_->scids();
  const auto &dcid = scids[which % scids.size()];
  std::vector<std::uint8_t> datagram;
  if (which == 0xFF) {
    // A stateless reset.
    datagram.assign(40, 0x40);
    std::ranges::copy(PeerToken(script_.Byte()).data,
                      datagram.end() - NGTCP2_STATELESS_RESET_TOKENLEN);
    oracle_.Receive(path, datagram.size(), {});
  } else {
    if (which == 0xFE) {
      number_ += script_.Byte();
    } else if (which == 0xFD && number_ > 0) {
      --number_;
    }
    const auto frames = writer_.Frames(script_, conn_->pktns.tx.last_pkt_num, oracle_.challenges());
    datagram = Packet(dcid, number_++, key_phase_, frames);
    oracle_.Receive(path, datagram.size(), frames);
  }
  const StoredPath stored{path};
  const ngtcp2_pkt_info info{.ecn = NGTCP2_ECN_NOT_ECT};
  Result(
      ngtcp2_conn_read_pkt(conn_, &stored.ps.path, &info, datagram.data(), datagram.size(), now_));
}

void Run::SentDatagram(const ngtcp2_path &path, ngtcp2_ssize size) {
  last_sent_ = FromPath(path);
  oracle_.Sent(*last_sent_, Bytes{buffer_}.first(static_cast<std::size_t>(size)), buffer_size_);
}

/// One packet, with a stream's data or without.
void Run::Write(bool data) {
  ngtcp2_path_storage ps;
  ngtcp2_path_storage_zero(&ps);
  ngtcp2_pkt_info info;
  ngtcp2_ssize size;
  if (data) {
    static constexpr std::array<std::uint8_t, 4096> kData{};
    std::int64_t stream = (script_.Byte() % 4) * 4 + (options_.server ? 1 : 0);
    ngtcp2_conn_open_bidi_stream(conn_, &stream, nullptr);
    ngtcp2_ssize taken;
    size = ngtcp2_conn_write_stream(conn_, &ps.path, &info, buffer_.data(), buffer_size_, &taken,
                                    NGTCP2_WRITE_STREAM_FLAG_NONE, stream, kData.data(),
                                    kData.size(), now_);
    if (size == NGTCP2_ERR_STREAM_NOT_FOUND || size == NGTCP2_ERR_STREAM_SHUT_WR ||
        size == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
      return;
    }
  } else {
    size = ngtcp2_conn_write_pkt(conn_, &ps.path, &info, buffer_.data(), buffer_size_, now_);
  }
  if (size > 0) {
    SentDatagram(ps.path, size);
    ngtcp2_conn_update_pkt_tx_time(conn_, now_);
  } else {
    Result(static_cast<int>(size));
  }
}

void Run::WriteAll() {
  for (int i = 0; !over_ && !closed_; ++i) {
    CHECK(i < kMaxPackets);
    ngtcp2_path_storage ps;
    ngtcp2_path_storage_zero(&ps);
    ngtcp2_pkt_info info;
    const auto size =
        ngtcp2_conn_write_pkt(conn_, &ps.path, &info, buffer_.data(), buffer_size_, now_);
    if (size <= 0) {
      Result(static_cast<int>(size));
      break;
    }
    SentDatagram(ps.path, size);
  }
  if (!over_) {
    ngtcp2_conn_update_pkt_tx_time(conn_, now_);
  }
}

void Run::Wait(ngtcp2_tstamp until) {
  now_ = std::max(now_, until);
  oracle_.SetTime(now_);
  Settle();
}

/// An event loop in an instant: it must come to rest.
void Run::Settle() {
  for (int i = 0; !over_ && !closed_ && ngtcp2_conn_get_expiry2(conn_) <= now_; ++i) {
    CHECK(i < kMaxRounds);
    if (Result(ngtcp2_conn_handle_expiry(conn_, now_))) {
      WriteAll();
    }
  }
}

/// Whether the connection goes on as if nothing had happened.
bool Run::Result(int rv) {
  switch (rv) {
  case 0:
    return true;
  case NGTCP2_ERR_NOMEM:
    CHECK(memory_.failed);
    over_ = true;
    return false;
  case NGTCP2_ERR_CALLBACK_FAILURE:
    CHECK(callback_failed_);
    over_ = true;
    return false;
  case NGTCP2_ERR_DROP_CONN:
  case NGTCP2_ERR_IDLE_CLOSE:
  case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
    over_ = true;
    return false;
  case NGTCP2_ERR_CLOSING:
  case NGTCP2_ERR_DRAINING:
    closed_ = true;
    return false;
  default:
    CHECK(!ngtcp2_err_is_fatal(rv));
    Close(rv);
    return false;
  }
}

void Run::Close(int rv) {
  if (closed_) {
    return;
  }
  closed_ = true;
  ngtcp2_ccerr error;
  ngtcp2_ccerr_default(&error);
  ngtcp2_ccerr_set_liberr(&error, rv, nullptr, 0);
  ngtcp2_path_storage ps;
  ngtcp2_path_storage_zero(&ps);
  ngtcp2_pkt_info info;
  const auto size = ngtcp2_conn_write_connection_close(conn_, &ps.path, &info, buffer_.data(),
                                                       buffer_size_, &error, now_);
  if (size > 0) {
    SentDatagram(ps.path, size);
  } else {
    // Nothing, or not enough, may be sent now; the application lets go.
    Result(static_cast<int>(size));
    over_ = true;
  }
}

} // namespace ngtcp2_fuzz
