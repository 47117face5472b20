// A connection of ngtcp2 that has just finished its handshake, with no cryptography at all: packets
// are in the clear, and an authentication tag is 16 zero bytes.
#pragma once

#include "ngtcp2_lib.h"

#include <cstdint>
#include <vector>

namespace ngtcp2_fuzz {

inline constexpr std::size_t kTag = 16;
/// The length of the connection IDs on both sides, if there are any.
inline constexpr std::size_t kCidSize = 8;

/// The ID with this sequence number that the peer gives to the connection, and its token.  Number 0
/// is that of the handshake.
ngtcp2_cid PeerCid(std::uint64_t seq);
ngtcp2_stateless_reset_token PeerToken(std::uint64_t seq);

struct Options {
  bool server = false;
  /// The client has sent enable_server_migration.
  bool negotiated = true;
  bool confirmed = true;
  bool zero_length_scid = false;
  bool zero_length_dcid = false;
  /// Both are what the server sends.
  bool disable_active_migration = false;
  bool preferred_address = false;
  /// What the peer sends, 2 to 8; ours is 8.
  std::uint64_t active_connection_id_limit = 8;
  bool few_glitches = false;
  bool idle_timeout = true;
  bool hold_connection_ids = false;
  /// The client's application does not want to be asked.
  bool never_asked = false;
  /// It writes a log and a qlog, which takes most of the time.
  bool logged = false;
};

/// What the connection tells, and asks, its application.
struct Application {
  virtual ~Application() = default;
  virtual void BeginValidation(std::uint32_t flags, const ngtcp2_path &path) = 0;
  virtual void EndValidation(std::uint32_t flags, const ngtcp2_path &path,
                             ngtcp2_path_validation_result result) = 0;
  virtual void CidStatus(ngtcp2_connection_id_status_type type, std::uint64_t seq) = 0;
  virtual void PreferredAddress(ngtcp2_path &to, const ngtcp2_preferred_addr &address) = 0;
  // If one of these returns false, the callback fails.
  virtual bool SelectAddress(ngtcp2_path &to, const ngtcp2_server_alt_addr &address) = 0;
  virtual bool AddressAcked(std::uint64_t seq) = 0;
  /// Whether there is a connection ID to be had.
  virtual bool MayIssue() = 0;
};

/// malloc() that fails on demand and counts.
struct Memory {
  Memory();
  bool MayAllocate();

  ngtcp2_mem mem{};
  std::size_t live = 0;
  /// The allocation with this number fails, counted from 1; 0 for none.
  std::size_t fail_at = 0;
  /// So do those after it.
  bool fail_on = false;
  /// One has failed.
  bool failed = false;
};

class Endpoint {
public:
  /// conn() is nullptr if memory did not suffice.
  Endpoint(const Options &options, const ngtcp2_path &path, ngtcp2_tstamp ts,
           Application &application, Memory &memory);
  ~Endpoint();
  Endpoint(const Endpoint &) = delete;
  Endpoint &operator=(const Endpoint &) = delete;

  ngtcp2_conn *conn() const { return conn_; }
  /// The connection IDs that the connection has issued, in that order; the handshake's is first.
  const std::vector<ngtcp2_cid> &scids() const { return scids_; }
  Application &application() const { return application_; }

  // For the callbacks.
  std::uint64_t Random();
  ngtcp2_cid NewCid(std::size_t size);

private:
  bool Handshake(const Options &options, ngtcp2_tstamp ts);

  ngtcp2_conn *conn_ = nullptr;
  Application &application_;
  std::vector<ngtcp2_cid> scids_;
  std::uint64_t random_ = 0;
};

} // namespace ngtcp2_fuzz
