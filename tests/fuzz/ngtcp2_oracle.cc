#include "ngtcp2_oracle.h"

#include "check.h"

#include <algorithm>
#include <map>
#include <utility>

namespace ngtcp2_fuzz {

namespace {

constexpr std::size_t kFullDatagram = 1200;
/// Datagrams of one path validation: two in each round, and a round more each time that the probe
/// timeout has halved since the validation began, which the peer can bring about.
constexpr std::uint64_t kProbes = 24;
// Of the validations of a client: a burst, then one in ten seconds (see lib/ngtcp2_saa.h).
constexpr std::uint64_t kCost = 10 * NGTCP2_SECONDS;
constexpr std::uint64_t kBurst = 4 * kCost;
// That one validation pays for.
constexpr std::uint64_t kPaidProbes = 4;

ChallengeData Data(const ngtcp2_path_challenge_data &data) {
  ChallengeData copy;
  std::ranges::copy(data.data, copy.begin());
  return copy;
}

template <typename Function> bool ForEachFrame(Bytes frames, Function function) {
  while (!frames.empty()) {
    ngtcp2_frame_decoder decoder;
    ngtcp2_frame frame;
    const auto read = ngtcp2_frame_decoder_decode(&decoder, &frame, frames.data(), frames.size());
    if (read <= 0) {
      return false;
    }
    function(frame);
    frames = frames.subspan(static_cast<std::size_t>(read));
  }
  return true;
}

bool IsProbing(const ngtcp2_frame &frame) {
  switch (frame.hd.type) {
  case NGTCP2_FRAME_PATH_CHALLENGE:
  case NGTCP2_FRAME_PATH_RESPONSE:
  case NGTCP2_FRAME_NEW_CONNECTION_ID:
  case NGTCP2_FRAME_PADDING:
    return true;
  default:
    return false;
  }
}

} // namespace

Oracle::Oracle(const Options &options, const Path &initial, ngtcp2_tstamp ts)
    : options_{options}, initial_{initial}, now_{ts}, current_{initial}, tokens_{kBurst},
      tokens_at_{ts} {
  active_[0] = true;
  const auto cid = PeerCid(0);
  Know({cid.data, options.zero_length_dcid ? 0 : cid.datalen}, 0);
  if (options.preferred_address) {
    const auto preferred = PeerCid(1);
    Know({preferred.data, preferred.datalen}, 1);
  }
}

/// If the peer gives one ID two numbers, which a connection does not notice when it has forgotten
/// the first one, nothing holds for it; nor if one ID is the beginning of another one.  Nor for a
/// number that comes again when it shall be retired: the connection does so at once, used or not.
void Oracle::Know(Bytes cid, std::uint64_t seq) {
  std::vector<std::uint8_t> key{cid.begin(), cid.end()};
  if (seq < retire_prior_to_) {
    forgotten_.insert(seq);
  }
  for (auto &[other, number] : known_) {
    if (other == key ? number != seq
                     : std::ranges::equal(Bytes{other}.first(std::min(other.size(), key.size())),
                                          Bytes{key}.first(std::min(other.size(), key.size())))) {
      seq = number = UINT64_MAX;
    }
  }
  known_[std::move(key)] = seq;
}

bool Oracle::Retired(std::uint64_t seq) const {
  return retired_.contains(seq) && !forgotten_.contains(seq);
}

bool Oracle::Proven(const Path &path) const { return path == initial_ || proven_.contains(path); }

bool Oracle::Proven(const Address &remote) const {
  return remote == initial_.remote || proven_remotes_.contains(remote);
}

bool Oracle::Advertised(const Address &local) const {
  return std::ranges::any_of(
      advertised_, [&](const auto &set) { return std::ranges::find(set, local) != set.end(); });
}

/// The others are forgotten after some time.
bool Oracle::Latest(const Address &local) const {
  return !advertised_.empty() &&
         std::ranges::find(advertised_.back(), local) != advertised_.back().end();
}

void Oracle::Receive(const Path &path, std::size_t datagram, Bytes frames) {
  counts_[path].received += datagram;
  ForEachFrame(frames, [&](const ngtcp2_frame &frame) {
    switch (frame.hd.type) {
    case NGTCP2_FRAME_PATH_CHALLENGE:
      allowed_unproven_[path.remote] += kFullDatagram;
      break;
    case NGTCP2_FRAME_PATH_RESPONSE: {
      const auto data = Data(frame.path_response.data);
      const auto it = std::ranges::find(challenges_, data, &Challenge::data);
      if (it != challenges_.end()) {
        proven_.insert(it->path);
        proven_remotes_.insert(it->path.remote);
      }
      break;
    }
    case NGTCP2_FRAME_NEW_CONNECTION_ID: {
      const auto &cid = frame.new_connection_id.cid;
      retire_prior_to_ = std::max(retire_prior_to_, frame.new_connection_id.retire_prior_to);
      Know({cid.data, cid.datalen}, frame.new_connection_id.seq);
      break;
    }
    case NGTCP2_FRAME_SERVER_ALTERNATE_ADDRESS: {
      const auto &address = frame.server_alternate_address;
      Know({address.cid, address.cidlen}, address.seq);
      break;
    }
    }
  });
}

void Oracle::Sent(const Path &path, Bytes datagram, std::size_t buffer) {
  CHECK(!datagram.empty() && datagram.size() <= buffer);
  if ((datagram[0] & 0x80) != 0) {
    // A client that closes and does not know whether the server has the keys for a short header.
    CHECK(!options_.server && !options_.confirmed && Proven(path.remote));
    return;
  }
  bool probing = true;
  ForEachFrame(CheckHeader(path, datagram), [&](const auto &frame) {
    probing = probing && IsProbing(frame);
    switch (frame.hd.type) {
    case NGTCP2_FRAME_PATH_CHALLENGE:
      challenges_.push_back({.data = Data(frame.path_challenge.data), .path = path});
      break;
    case NGTCP2_FRAME_RETIRE_CONNECTION_ID:
      retired_.insert(frame.retire_connection_id.seq);
      break;
    case NGTCP2_FRAME_SERVER_ALTERNATE_ADDRESS:
      CHECK(options_.server && options_.negotiated);
      break;
    }
  });
  if (options_.server) {
    CheckServerDatagram(path, datagram.size(), probing);
  } else {
    CheckClientDatagram(path, datagram.size(), buffer, probing);
  }
}

void Oracle::CheckClientDatagram(const Path &path, std::size_t size, std::size_t buffer,
                                 bool probing) {
  const auto &to = path.remote;
  if (to != initial_.remote) {
    CHECK(!IsForbidden(to));
    CHECK(!IsLoopback(to) || IsLoopback(initial_.remote));
    CHECK(to != path.local);
  }
  if (Proven(to)) {
    return;
  }
  CHECK(probing);
  CHECK(size == kFullDatagram || (buffer < kFullDatagram && size == buffer));
  if (alternate_ == path) {
    Refill();
    CHECK(tokens_ >= kCost / kPaidProbes);
    tokens_ -= kCost / kPaidProbes;
    ++alternate_sent_;
    return;
  }
  sent_unproven_[to] += size;
  CHECK(sent_unproven_[to] <= allowed_unproven_[to]);
}

void Oracle::Refill() {
  tokens_ = std::min(kBurst, tokens_ + (now_ - tokens_at_));
  tokens_at_ = now_;
}

void Oracle::CheckServerDatagram(const Path &path, std::size_t size, bool probing) {
  if (Proven(path)) {
    return;
  }
  auto &counts = counts_[path];
  counts.sent += size;
  CHECK(counts.sent <= 3 * counts.received);
  CHECK(probing || !Latest(path.local) || left_alone_.contains(path));
}

/// Returns the frames.
Bytes Oracle::CheckHeader(const Path &path, Bytes datagram) {
  // How long a connection ID is, is known to the one who has issued it.
  for (const auto &[cid, seq] : known_) {
    const std::size_t header = 1 + cid.size() + (datagram[0] & 3) + 1;
    if (datagram.size() <= header + kTag ||
        !std::ranges::equal(datagram.subspan(1, cid.size()), cid)) {
      continue;
    }
    const auto frames = datagram.subspan(header, datagram.size() - header - kTag);
    if (ForEachFrame(frames, [](const auto &) {})) {
      if (!cid.empty() && seq != UINT64_MAX) {
        CheckDestination(path, cid);
        CHECK(!Retired(seq));
      }
      return frames;
    }
  }
  CHECK(!"a packet for the peer");
  return {};
}

void Oracle::CheckDestination(const Path &path, const std::vector<std::uint8_t> &cid) {
  const auto [it, added] = destinations_.try_emplace(cid, path);
  // RFC 9000, section 9.5: not from more than one local address, nor, unless the peer has moved
  // without a word (NAT rebinding, which a server sees), to more than one remote address.
  CHECK(it->second.local == path.local);
  CHECK(options_.server || it->second.remote == path.remote);
}

void Oracle::Submitted(const std::vector<Address> &addresses) {
  CHECK(options_.server && options_.negotiated && !options_.zero_length_scid);
  for (const auto &address : addresses) {
    CHECK(!IsForbidden(address));
    CHECK(!IsLoopback(address) || IsLoopback(current_.remote));
  }
  if (advertised_.size() == NGTCP2_SAA_MAX_ADVERTISED) {
    advertised_.pop_front();
  }
  advertised_.push_back(addresses);
}

void Oracle::BeginValidation(std::uint32_t flags, const Path &path) {
  if (running_ && options_.server && *running_ == path) {
    // Once more, because a whole datagram could not be sent before.
    return;
  }
  CHECK(!running_);
  running_ = path;
  if (options_.server) {
    CHECK((flags & NGTCP2_PATH_VALIDATION_FLAG_SERVER_ALT_ADDR) == 0 || Advertised(path.local) ||
          options_.preferred_address);
    return;
  }
  allowed_unproven_[path.remote] += kProbes * kFullDatagram;
  if ((flags & NGTCP2_PATH_VALIDATION_FLAG_SERVER_ALT_ADDR) != 0) {
    CHECK(options_.negotiated);
    Refill();
    CHECK(tokens_ >= kCost);
    alternate_ = path;
    alternate_sent_ = 0;
  }
}

void Oracle::EndValidation(std::uint32_t flags, const Path &path,
                           ngtcp2_path_validation_result result) {
  if (running_ == path) {
    running_.reset();
    alternate_.reset();
  } else {
    // A path that was validated before is used at once, and validated meanwhile.
    CHECK((flags & NGTCP2_PATH_VALIDATION_FLAG_SERVER_ALT_ADDR) != 0 && Proven(path));
  }
  if (result != NGTCP2_PATH_VALIDATION_RESULT_SUCCESS) {
    return;
  }
  CHECK(Proven(path));
  if (!options_.server && (flags & NGTCP2_PATH_VALIDATION_FLAG_SERVER_ALT_ADDR) != 0) {
    Refill();
    tokens_ = std::min(kBurst, tokens_ + alternate_sent_ * (kCost / kPaidProbes));
  }
}

void Oracle::CidStatus(ngtcp2_connection_id_status_type type, std::uint64_t seq) {
  if (options_.zero_length_dcid) {
    return;
  }
  if (type == NGTCP2_CONNECTION_ID_STATUS_TYPE_ACTIVATE) {
    // A connection ID that was kept when its path was left may become active again.
    CHECK(!std::exchange(active_[seq], true));
  } else {
    CHECK(active_.contains(seq) && active_[seq]);
    active_[seq] = false;
  }
}

void Oracle::Offered(const ngtcp2_server_alt_addr &addresses) {
  CHECK(!options_.server && options_.negotiated);
  CHECK(addresses.ipv4_present || addresses.ipv6_present);
}

void Oracle::Check(const ngtcp2_conn &conn) {
  CheckCurrentPath(conn);
  CheckValidation(conn);
  CheckSourceCids(conn);
  CheckCongestionStates(conn);
  if (!options_.zero_length_dcid) {
    CheckDestinationCids(conn);
  }
  CheckQueue(conn);
}

void Oracle::CheckCurrentPath(const ngtcp2_conn &conn) {
  const auto path = FromPath(conn.dcid.current.ps.path);
  if (!options_.server) {
    CHECK(Proven(path.remote));
  } else if (!Proven(path)) {
    // A server never goes by itself to an address that it has advertised.  The client may show up there from an address
    // of its own in the packet which brings the PATH_RESPONSE.
    CHECK(path.local == current_.local || !Latest(path.local) || Proven(Path{path.local, current_.remote}));
    left_alone_.insert(path);
  }
  current_ = path;
}

void Oracle::CheckValidation(const ngtcp2_conn &conn) const {
  const auto *pv = conn.pv;
  CHECK(running_.has_value() == (pv != nullptr && (pv->flags & NGTCP2_PV_FLAG_DONT_CARE) == 0));
  CHECK(!running_ || *running_ == FromPath(pv->dcid.ps.path));
  if (conn.saa == nullptr) {
    return;
  }
  CHECK(options_.negotiated && conn.saa->rlim.tokens <= NGTCP2_SAA_BURST);
  CHECK(!conn.saa->rate_limited || conn.saa->pending);
  CHECK(!options_.server || !conn.saa->pending);
}

void Oracle::CheckSourceCids(const ngtcp2_conn &conn) const {
  const auto &scid = conn.scid;
  std::size_t held = 0;
  std::size_t retired = 0;
  for (auto it = ngtcp2_ksl_begin(&scid.set); !ngtcp2_ksl_it_end(&it); ngtcp2_ksl_it_next(&it)) {
    const auto *one = static_cast<const ngtcp2_scid *>(ngtcp2_ksl_it_get(&it));
    held += (one->flags & NGTCP2_SCID_FLAG_HELD) != 0 ? 1 : 0;
    retired += (one->flags & NGTCP2_SCID_FLAG_RETIRED) != 0 ? 1 : 0;
    CHECK((one->flags & NGTCP2_SCID_FLAG_HELD) != 0 || one->seq <= scid.last_seq);
  }
  CHECK(held <= scid.num_in_flight && retired == scid.num_retired);
  const std::size_t pool = conn.saa != nullptr ? NGTCP2_SAA_MAX_SCID_POOL_SIZE : NGTCP2_MAX_SCID_POOL_SIZE;
  CHECK(ngtcp2_ksl_len(&scid.set) <= pool + 1);
  CHECK(ngtcp2_ksl_len(&scid.set) <= options_.active_connection_id_limit + retired);
  CHECK(scid.num_in_flight <= pool);
}

// Every packet that is on the way counts for the congestion state of one path.
void Oracle::CheckCongestionStates(const ngtcp2_conn &conn) const {
  const auto &rtb = conn.pktns.rtb;
  std::map<std::uint32_t, std::uint64_t> in_flight;
  for (auto it = ngtcp2_rtb_head(&rtb); !ngtcp2_ksl_it_end(&it); ngtcp2_ksl_it_next(&it)) {
    const auto *sent = static_cast<const ngtcp2_rtb_entry *>(ngtcp2_ksl_it_get(&it));
    if ((sent->flags & NGTCP2_RTB_ENTRY_FLAG_LOST_RETRANSMITTED) == 0) {
      in_flight[sent->cc_id] += sent->pktlen;
    }
  }
  CHECK(rtb.cc_bytes_in_flight == in_flight[conn.rst.cc_id]);
  CHECK(conn.cstat.bytes_in_flight >= rtb.cc_bytes_in_flight);
  std::set<std::uint32_t> ids{conn.rst.cc_id};
  for (const auto *state = ngtcp2_conn_get_cc_states(&conn); state != nullptr; state = state->next) {
    CHECK(ids.insert(state->rst.cc_id).second && ids.size() <= NGTCP2_CC_STATE_MAX + 1);
    CHECK(state->bytes_in_flight == in_flight[state->rst.cc_id]);
  }
}

void Oracle::CheckDestinationCids(const ngtcp2_conn &conn) const {
  const auto &dtr = conn.dcid.dtr;
  std::set<std::uint64_t> seqs{conn.dcid.current.seq};
  const auto add = [&](auto *ring) {
    for (std::size_t i = 0; i < ngtcp2_ringbuf_len(ring); ++i) {
      CHECK(seqs.insert(static_cast<const ngtcp2_dcid *>(ngtcp2_ringbuf_get(ring, i))->seq).second);
    }
  };
  add(&dtr.unused.rb);
  add(&dtr.bound.rb);
  if (conn.pv != nullptr) {
    seqs.insert(conn.pv->dcid.seq);
    if ((conn.pv->flags & NGTCP2_PV_FLAG_FALLBACK_PRESENT) != 0) {
      seqs.insert(conn.pv->fallback_dcid.seq);
    }
  }
  // None is lost: what the peer has issued is in one of these places, or given back.
  // A connection that has more to give back than it remembers, or gets more than it allows, ends with an error.
  const bool overflow = dtr.retire_unacked.len == dtr.retire_unacked.max || seqs.size() == 8;
  for (const auto &[cid, seq] : known_) {
    CHECK(overflow || seq == UINT64_MAX || !ngtcp2_gaptr_is_pushed(&conn.dcid.seqgap, seq, 1) ||
          seqs.contains(seq) || retired_.contains(seq) || forgotten_.contains(seq) ||
          ngtcp2_dcidtr_check_retired_seq_tracked(&dtr, seq));
  }
  // What the connection has said it would accept.
  CHECK(seqs.size() <= 8);
  CHECK(std::ranges::none_of(seqs, [&](auto seq) { return Retired(seq); }));
  CHECK(dtr.retire_unacked.len <= dtr.retire_unacked.max);
}

void Oracle::CheckQueue(const ngtcp2_conn &conn) const {
  std::size_t addresses = 0;
  std::size_t frames = 0;
  for (const auto *chain = conn.pktns.tx.frq; chain != nullptr; chain = chain->next) {
    ++frames;
    addresses += chain->fr.hd.type == NGTCP2_FRAME_SERVER_ALTERNATE_ADDRESS ? 1 : 0;
  }
  CHECK(addresses <= 2 * NGTCP2_SAA_MAX_SCID_POOL_SIZE && frames <= 256);
}

} // namespace ngtcp2_fuzz
