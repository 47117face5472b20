// The input of the connection target, read from the front, and the packets that it describes.
#pragma once

#include "ngtcp2_endpoint.h"
#include "ngtcp2_oracle.h"

#include <cstdint>
#include <span>
#include <vector>

namespace ngtcp2_fuzz {

/// Gives zeros when it is at its end.
class Script {
public:
  explicit Script(Bytes data) : rest_{data} {}

  bool Ended() const { return rest_.empty(); }
  std::uint8_t Byte();
  std::uint64_t Number();
  Bytes Take(std::size_t size);

private:
  Bytes rest_;
};

/// What the peer knows and remembers while it writes frames.
class FrameWriter {
public:
  explicit FrameWriter(std::uint64_t first_new_seq) : next_seq_{first_new_seq} {}

  /// One to four frames.  `last_sent` is the number of the last packet of the connection, and
  /// `challenges` are those of the connection.
  std::vector<std::uint8_t> Frames(Script &script, std::int64_t last_sent,
                                   const std::vector<Challenge> &challenges);

private:
  void One(Script &script, std::int64_t last_sent, const std::vector<Challenge> &challenges);
  void Integer(std::uint64_t value);
  void Append(Bytes bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  std::uint64_t Seq(Script &script);
  void ConnectionId(Script &script, std::uint64_t seq);
  void ServerAlternateAddress(Script &script);
  void NewConnectionId(Script &script);
  void PathResponse(Script &script, const std::vector<Challenge> &challenges);
  void Ack(Script &script, std::int64_t last_sent);
  void Stream(Script &script);
  void Other(Script &script);

  std::vector<std::uint8_t> out_;
  std::uint64_t next_seq_;
};

/// A 1-RTT packet.
std::vector<std::uint8_t> Packet(const ngtcp2_cid &dcid, std::uint32_t number, bool key_phase,
                                 Bytes frames);

} // namespace ngtcp2_fuzz
