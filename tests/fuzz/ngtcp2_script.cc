#include "ngtcp2_script.h"

#include <algorithm>
#include <array>

namespace ngtcp2_fuzz {

namespace {

/// What fits into a datagram of the peer.
constexpr std::size_t kMaxFrames = 1400;
constexpr std::uint64_t kMaxInteger = (std::uint64_t{1} << 62) - 1;

} // namespace

std::uint8_t Script::Byte() {
  const auto taken = Take(1);
  return taken.empty() ? 0 : taken[0];
}

std::uint64_t Script::Number() {
  std::uint64_t value = 0;
  for (const auto byte : Take(8)) {
    value = value << 8 | byte;
  }
  return value & kMaxInteger;
}

Bytes Script::Take(std::size_t size) {
  const auto taken = rest_.first(std::min(size, rest_.size()));
  rest_ = rest_.subspan(taken.size());
  return taken;
}

std::vector<std::uint8_t> FrameWriter::Frames(Script &script, std::int64_t last_sent,
                                              const std::vector<Challenge> &challenges) {
  out_.clear();
  for (int left = script.Byte() % 4; left >= 0; --left) {
    One(script, last_sent, challenges);
  }
  out_.resize(std::min(out_.size(), kMaxFrames));
  return out_;
}

void FrameWriter::One(Script &script, std::int64_t last_sent,
                      const std::vector<Challenge> &challenges) {
  switch (const auto kind = script.Byte() % 16; kind) {
  case 0:
  case 1:
    return ServerAlternateAddress(script);
  case 2:
    return NewConnectionId(script);
  case 3: // RETIRE_CONNECTION_ID
    Integer(NGTCP2_FRAME_RETIRE_CONNECTION_ID);
    return Integer(script.Byte());
  case 4: { // PATH_CHALLENGE
    const std::array<std::uint8_t, 8> data{script.Byte()};
    Integer(NGTCP2_FRAME_PATH_CHALLENGE);
    return Append(data);
  }
  case 5:
  case 6:
    return PathResponse(script, challenges);
  case 7:
  case 8:
    return Ack(script, last_sent);
  case 9:
    return Stream(script);
  case 10:
    return Integer(NGTCP2_FRAME_HANDSHAKE_DONE);
  case 11: // As long as a probe.
    return out_.resize(std::max<std::size_t>(out_.size(), 1160));
  case 12:
  case 13:
    return Integer(NGTCP2_FRAME_PING);
  case 14:
    return Other(script);
  default:
    return Append(script.Take(script.Byte()));
  }
}

void FrameWriter::Integer(std::uint64_t value) {
  std::array<std::uint8_t, 8> bytes;
  const auto *end = ngtcp2_put_uvarint(bytes.data(), std::min(value, kMaxInteger));
  Append({bytes.data(), end});
}

/// Mostly the next one, or one of the first; seldom any.
std::uint64_t FrameWriter::Seq(Script &script) {
  const auto choice = script.Byte();
  if (choice < 0x80) {
    return next_seq_++;
  }
  return choice == 0xFF ? script.Number() : choice & 0x1F;
}

/// Length, ID and token; the right ones, unless the script wants something else.
void FrameWriter::ConnectionId(Script &script, std::uint64_t seq) {
  const auto choice = script.Byte();
  auto cid = PeerCid(seq);
  auto token = PeerToken(seq);
  switch (choice) {
  case 0xFF:
    cid = PeerCid(seq + 1);
    break;
  case 0xFE:
    token = PeerToken(seq + 1);
    break;
  case 0xFD:
    cid.datalen = script.Byte() % (NGTCP2_MAX_CIDLEN + 1);
    // Not the beginning of another one.
    cid.data[0] = static_cast<std::uint8_t>(0xA0 + cid.datalen);
    break;
  }
  out_.push_back(static_cast<std::uint8_t>(cid.datalen));
  Append({cid.data, cid.datalen});
  Append(token.data);
}

void FrameWriter::ServerAlternateAddress(Script &script) {
  const auto seq = Seq(script);
  Integer(NGTCP2_FRAME_SERVER_ALTERNATE_ADDRESS);
  Integer(seq);
  std::array<std::uint8_t, 6> v4{};
  std::array<std::uint8_t, 18> v6{};
  // Two addresses; if they are of one family, the second one holds.  0 for none.
  for (int i = 0; i < 2; ++i) {
    const auto choice = script.Byte();
    if (choice == 0) {
      continue;
    }
    const auto address = ServerAddress(choice - 1);
    const std::array<std::uint8_t, 2> port{static_cast<std::uint8_t>(address.port >> 8),
                                           static_cast<std::uint8_t>(address.port)};
    if (address.v6) {
      std::ranges::copy(port, std::ranges::copy(address.ip, v6.begin()).out);
    } else {
      std::ranges::copy(port, std::copy_n(address.ip.begin(), 4, v4.begin()));
    }
  }
  Append(v4);
  Append(v6);
  ConnectionId(script, seq);
}

void FrameWriter::NewConnectionId(Script &script) {
  const auto seq = Seq(script);
  Integer(NGTCP2_FRAME_NEW_CONNECTION_ID);
  Integer(seq);
  const auto retire = script.Byte();
  Integer(retire == 0xFF  ? seq + 1
          : retire < 0xC0 ? 0
                          : std::min<std::uint64_t>(seq, retire - 0xC0));
  ConnectionId(script, seq);
}

/// To the last challenge, to an earlier one, or to none.
void FrameWriter::PathResponse(Script &script, const std::vector<Challenge> &challenges) {
  const auto choice = script.Byte();
  ChallengeData data{choice};
  if (choice < challenges.size()) {
    data = challenges[challenges.size() - 1 - choice].data;
  }
  Integer(NGTCP2_FRAME_PATH_RESPONSE);
  Append(data);
}

/// Of all packets, of the last one, of all but the last one, or of any one.
void FrameWriter::Ack(Script &script, std::int64_t last_sent) {
  const auto choice = script.Byte();
  if (last_sent < 0) {
    return Integer(NGTCP2_FRAME_PING);
  }
  const auto last = static_cast<std::uint64_t>(last_sent);
  std::uint64_t largest = last;
  std::uint64_t range = last;
  if (choice == 1) {
    range = 0;
  } else if (choice == 2) {
    largest = range = last == 0 ? 0 : last - 1;
  } else if (choice > 2) {
    largest = choice - 3u;
    range = 0;
  }
  Integer(NGTCP2_FRAME_ACK);
  Integer(largest);
  Integer(0);
  Integer(0);
  Integer(range);
}

void FrameWriter::Stream(Script &script) {
  Integer(NGTCP2_FRAME_STREAM | NGTCP2_STREAM_OFF_BIT | NGTCP2_STREAM_LEN_BIT |
          (script.Byte() & 1));
  Integer(script.Byte() % 16);
  Integer(script.Byte());
  const std::size_t size = script.Byte();
  Integer(size);
  out_.resize(out_.size() + size);
}

void FrameWriter::Other(Script &script) {
  switch (script.Byte() % 8) {
  case 0:
    Integer(NGTCP2_FRAME_MAX_DATA);
    return Integer(script.Number());
  case 1:
    Integer(NGTCP2_FRAME_MAX_STREAMS_BIDI);
    return Integer(script.Byte());
  case 2:
    Integer(NGTCP2_FRAME_STOP_SENDING);
    Integer(script.Byte() % 16);
    return Integer(0);
  case 3:
    Integer(NGTCP2_FRAME_RESET_STREAM);
    Integer(script.Byte() % 16);
    Integer(0);
    return Integer(script.Byte());
  case 4: {
    const std::array<std::uint8_t, 3> datagram{NGTCP2_FRAME_DATAGRAM_LEN, 1, 0};
    return Append(datagram);
  }
  case 5: {
    const std::array<std::uint8_t, 3> token{NGTCP2_FRAME_NEW_TOKEN, 1, 0};
    return Append(token);
  }
  case 6: {
    const std::array<std::uint8_t, 4> close{NGTCP2_FRAME_CONNECTION_CLOSE, 0, 0, 0};
    return Append(close);
  }
  default:
    return Integer(NGTCP2_FRAME_DATA_BLOCKED), Integer(0);
  }
}

std::vector<std::uint8_t> Packet(const ngtcp2_cid &dcid, std::uint32_t number, bool key_phase,
                                 Bytes frames) {
  std::vector<std::uint8_t> packet{static_cast<std::uint8_t>(0x43 | (key_phase ? 0x04 : 0))};
  packet.insert(packet.end(), dcid.data, dcid.data + dcid.datalen);
  for (int shift = 24; shift >= 0; shift -= 8) {
    packet.push_back(static_cast<std::uint8_t>(number >> shift));
  }
  packet.insert(packet.end(), frames.begin(), frames.end());
  packet.resize(packet.size() + kTag);
  return packet;
}

} // namespace ngtcp2_fuzz
