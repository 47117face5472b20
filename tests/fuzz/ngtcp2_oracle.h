// What must hold for a connection whatever its peer and its application do.  It knows what went in
// and out, and believes nothing that the library says about it.
#pragma once

#include "ngtcp2_addresses.h"
#include "ngtcp2_endpoint.h"

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

namespace ngtcp2_fuzz {

using Bytes = std::span<const std::uint8_t>;
using ChallengeData = std::array<std::uint8_t, 8>;

struct Challenge {
  ChallengeData data;
  Path path;
};

class Oracle {
public:
  Oracle(const Options &options, const Path &initial, ngtcp2_tstamp ts);

  void SetTime(ngtcp2_tstamp ts) { now_ = ts; }

  /// Before the connection gets the frames of a packet in a datagram of this size; no frames if it
  /// is not a packet that the connection can read.
  void Receive(const Path &path, std::size_t datagram, Bytes frames);
  /// A datagram that the connection has written into a buffer of this size.
  void Sent(const Path &path, Bytes datagram, std::size_t buffer);
  void Submitted(const std::vector<Address> &addresses);

  void BeginValidation(std::uint32_t flags, const Path &path);
  void EndValidation(std::uint32_t flags, const Path &path, ngtcp2_path_validation_result result);
  void CidStatus(ngtcp2_connection_id_status_type type, std::uint64_t seq);
  void Offered(const ngtcp2_server_alt_addr &addresses);

  /// After each step.
  void Check(const ngtcp2_conn &conn);

  /// PATH_CHALLENGE frames that the connection has sent.
  const std::vector<Challenge> &challenges() const { return challenges_; }

private:
  struct Counts {
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
  };

  bool Retired(std::uint64_t seq) const;
  bool Proven(const Path &path) const;
  bool Proven(const Address &remote) const;
  bool Advertised(const Address &local) const;
  bool Latest(const Address &local) const;
  void Refill();
  void CheckClientDatagram(const Path &path, std::size_t size, std::size_t buffer, bool probing);
  void CheckServerDatagram(const Path &path, std::size_t size, bool probing);
  void Know(Bytes cid, std::uint64_t seq);
  Bytes CheckHeader(const Path &path, Bytes datagram);
  void CheckDestination(const Path &path, const std::vector<std::uint8_t> &cid);
  void CheckCurrentPath(const ngtcp2_conn &conn);
  void CheckValidation(const ngtcp2_conn &conn) const;
  void CheckSourceCids(const ngtcp2_conn &conn) const;
  void CheckCongestionStates(const ngtcp2_conn &conn) const;
  void CheckDestinationCids(const ngtcp2_conn &conn) const;
  void CheckQueue(const ngtcp2_conn &conn) const;

  Options options_;
  Path initial_;
  ngtcp2_tstamp now_;
  std::vector<Challenge> challenges_;
  /// Paths, and with them remote addresses, from which the answer to a challenge came.
  std::set<Path> proven_;
  std::set<Address> proven_remotes_;
  std::map<Path, Counts> counts_;
  // Of a client: what an address has got before it was proven, and why.
  std::map<Address, std::uint64_t> sent_unproven_;
  std::map<Address, std::uint64_t> allowed_unproven_;
  /// The connection IDs that the peer has issued.
  std::map<std::vector<std::uint8_t>, std::uint64_t> known_;
  /// Where each of them has been sent to.
  std::map<std::vector<std::uint8_t>, Path> destinations_;
  /// Sequence numbers in RETIRE_CONNECTION_ID frames that the connection has sent.
  std::set<std::uint64_t> retired_;
  std::set<std::uint64_t> forgotten_;
  std::uint64_t retire_prior_to_ = 0;
  std::map<std::uint64_t, bool> active_;
  /// Of a server: the last ones that were submitted, and the path when it was submitted or before.
  std::deque<std::vector<Address>> advertised_;
  std::set<Path> left_alone_;
  Path current_;
  /// The alternate address that a client validates, and the datagrams that it has sent there.
  std::optional<Path> alternate_;
  std::uint64_t alternate_sent_ = 0;
  /// In units of one token per nanosecond.
  std::uint64_t tokens_;
  ngtcp2_tstamp tokens_at_;
  /// The path that is being validated, unless nobody waits for the result.
  std::optional<Path> running_;
};

} // namespace ngtcp2_fuzz
