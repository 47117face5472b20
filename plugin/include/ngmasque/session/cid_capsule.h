// The capsules for connection IDs of draft-ietf-masque-quic-proxy, in each of its revisions.  What
// they are called here is the newest one's.  Their code points and layouts are in one table, in
// cid_capsule.cc.
#pragma once

#include "ngmasque/routing/connection_id.h"
#include "ngmasque/routing/types.h"
#include "ngmasque/wire/capsule.h"
#include "ngmasque/wire/quic_header.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <vector>

namespace ngmasque {

/// A revision whose code points and layouts are known.  No two share a code point.
enum class QuicProxyRevision : std::uint8_t { k06 = 6, k08 = 8, k09 = 9 };
inline constexpr auto kNewestRevision = QuicProxyRevision::k09;

/// Which capsule; the comments say who sends it.
enum class CidCapsuleKind : std::uint8_t {
  kRegisterClientCid, ///< Client.
  kRegisterTargetCid, ///< Client.
  kAckClientCid,      ///< Proxy.
  kAckClientVcid,     ///< Client.
  kAckTargetCid,      ///< Proxy.
  kRejectClientCid,   ///< Proxy; before revision -09 that is a kCloseClientCid that was not
                      ///< preceded by a kAckClientCid, and is read as such.
  kRejectTargetCid,   ///< The same.
  kCloseClientCid,    ///< Client; in revision -09 the proxy as well.
  kCloseTargetCid,    ///< The same.
  kMaxConnectionIds,  ///< Proxy.
};
inline constexpr std::size_t kCidCapsuleKinds = 10;

/// Why a connection ID is not taken, or given up.  Unknown ones count as kDefault.
enum class CidReason : std::uint8_t { kDefault = 0, kTooShort = 1, kConflict = 2 };

/// A capsule's value; what its kind has no field for is left at its default.
struct CidCapsule {
  CidCapsuleKind kind{};
  CidReason reason{}; ///< kRegister*, kReject*, kClose*; not on the wire before revision -08.
  ConnectionId id{};
  ConnectionId virtual_id{}; ///< kAck*; of zero length if there is none.
  std::optional<ResetToken> token{}; ///< kRegisterTargetCid, kAckClientVcid, kAckTargetCid.
  /// kMaxConnectionIds, as on the wire: see RevisionRules.  0 to 2^62-1.
  std::uint64_t maximum = 0;
  [[nodiscard]] bool operator==(const CidCapsule &) const = default;
};

/// What a capsule type means.
struct CidCapsuleType {
  QuicProxyRevision revision{};
  CidCapsuleKind kind{};
  [[nodiscard]] bool operator==(const CidCapsuleType &) const = default;
};

/// In what else than code points and layouts a revision is different.
struct RevisionRules {
  /// MAX_CONNECTION_IDS before one has come, as on the wire.
  std::uint64_t initial_maximum = 0;
  /// How many registrations a MAX_CONNECTION_IDS of 0 allows: 1 where it is a highest sequence
  /// number, 0 where it is a count.
  std::uint64_t allowed_by_zero = 0;
  /// What MAX_CONNECTION_IDS is at least.
  std::uint64_t least_maximum = 0;
  bool has_reject = false; ///< Otherwise the proxy refuses with CLOSE, and closes nothing else.
  /// Whether to register a connection ID once more uses up no allowance.
  bool repeats_are_free = false;
};
[[nodiscard]] const RevisionRules &RulesOf(QuicProxyRevision revision);

/// Nothing if it is none of these capsules, in whatever revision.
[[nodiscard]] std::optional<CidCapsuleType> FindCidCapsule(std::uint64_t type);

/// The longest value of any of them, in bytes, with each integer in its longest encoding: two
/// connection IDs and a token with their lengths.  Longer ones are malformed.
inline constexpr std::size_t kMaxCidCapsule =
  2 * (kVarintMaxLength + kMaxConnectionIdLength) + kVarintMaxLength + ResetToken{}.size();

/// Reads a capsule's value.  What the maximum of kMaxConnectionIds may be is for the caller to see.
/// Errors: kTruncated, kTrailing, kTooLong (a connection ID above 255 bytes), kResetToken (neither
/// 0 nor 16 bytes).  All of them are H3_DATAGRAM_ERROR of the stream.
[[nodiscard]] std::expected<CidCapsule, WireError>
ParseCidCapsule(CidCapsuleType type, std::span<const std::uint8_t> value);

/// Writes a whole capsule, type and length included; what its kind has no field for in this
/// revision is left out.  kReject* are written as kClose* where the revision has no others, and a
/// maximum above 2^62-1 as that.
[[nodiscard]] std::vector<std::uint8_t> WriteCidCapsule(QuicProxyRevision revision,
                                                        const CidCapsule &capsule);

} // namespace ngmasque
