// What a server does with packets that are of no connection.
#pragma once

#include "local_ids.h"

#include "ngmasque/quic/types.h"
#include "ngmasque/session/token_bucket.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include <ngtcp2/ngtcp2.h>

namespace ngmasque {

/// Accepts Initial packets, and answers others without any state: RFC 9000, sections 6, 8.1 and
/// 10.3.
///
/// Whoever floods it, from whatever addresses, costs no memory, and no answer is larger than the
/// packet that it answers.  How many there are is bounded by two budgets.  Retry has its own: it is
/// what clients get in through while there is a flood, and must not be used up by packets that are
/// cheaper to forge, those of unknown connections and versions.
class Acceptor {
public:
  struct Options {
    std::uint8_t worker = 0; ///< In the connection IDs that Retry packets choose.
    /// From so many handshakes in progress on clients have to show by Retry that they are at their
    /// address.
    std::size_t retry_from = 200;
    bool always_retry = false;
    /// From so many on clients are refused, whatever they show.
    std::size_t max_handshakes = 2'000;
    /// Answers per second other than Retry, and as many at once; 0 for no bound.
    std::uint64_t answers_per_second = 1'000;
    /// Retry packets per second, and as many at once; 0 for no bound.
    std::uint64_t retries_per_second = 10'000;
    /// Whether what follows the first byte of a short header, kForeignLength bytes at least, is a
    /// connection ID that was given out with ForeignResetToken and is of nothing any more.  Null: none.
    std::function<bool(std::span<const std::uint8_t>)> is_foreign = nullptr;
  };
  /// Connection IDs that are not of `ids`, but for which the server has tokens, are longer or as long.
  static constexpr std::size_t kForeignLength = 16;

  /// One round trip, however slow, and lost packets.
  static constexpr Nanoseconds kRetryTokenLifetime = 10'000'000'000;
  //= RFC 9000, section 8.1.3
  //# Thus, a token SHOULD have an expiration time, which could be either an explicit expiration
  //# time or an issued timestamp that can be used to dynamically calculate the expiration time.
  //
  /// How long a client need not show its address again: an hour.  So long a token may be replayed,
  /// from the same address.
  static constexpr Nanoseconds kNewTokenLifetime = 3'600'000'000'000;

  /// What packets are answered with.
  enum class AnswerKind : std::uint8_t {
    kVersionNegotiation,
    kRetry,
    kInvalidToken, ///< CONNECTION_CLOSE.
    kRefused,      ///< CONNECTION_CLOSE with CONNECTION_REFUSED.
    kReset,        ///< The last one.
  };
  static constexpr std::size_t kAnswerKinds = std::size_t(AnswerKind::kReset) + 1;

  /// Why they are not.
  enum class DropReason : std::uint8_t {
    kMalformed,   ///< What the version's header should look like it does not.
    kTooShort,    ///< Less than 1200 bytes that should begin a connection.
    kNotInitial,  ///< Long headers that begin none.
    kNoReset,     ///< Less than what a reset could answer.
    kOtherWorker, ///< The connection ID is that of another worker, if of anybody.
    kBudget,
    kInternal, ///< No random bytes, or no cryptography.  The last one.
  };
  static constexpr std::size_t kDropReasons = std::size_t(DropReason::kInternal) + 1;

  struct Drop {
    DropReason reason;
  };
  /// To be sent back where the packet came from.
  struct Answer {
    AnswerKind kind;
    std::span<const std::uint8_t> bytes; ///< In the caller's buffer.
  };
  /// A connection begins.
  struct Accept {
    /// Its token points into the packet, and is empty unless it validates the client's address.
    ngtcp2_pkt_hd header;
    ngtcp2_token_type token_type; ///< UNKNOWN if there is none.
    /// The first Destination Connection ID, if the client answers a Retry: that of `header` is the
    /// one that the Retry has chosen.
    std::optional<ngtcp2_cid> original_dcid;
    std::size_t packet_size; ///< Of the UDP payload, in bytes.
  };
  using Result = std::variant<Drop, Answer, Accept>;

  /// What answers need of the caller's buffer, in bytes.
  static constexpr std::size_t kMinBuffer = 1200;

  /// `ids` has to outlive it.  `token_secret`: for address validation tokens, of all workers the
  /// same; nobody else may have it.
  Acceptor(const Options &options, const LocalIds &ids, const QuicSecret &token_secret,
           RandomSource random);

  /// Decides on a UDP payload for a connection ID that is unknown.  `handshakes`: how many are in
  /// progress.  `buffer`: of kMinBuffer bytes at least.
  [[nodiscard]] Result OnPacket(const FourTuple &path, std::span<const std::uint8_t> packet,
                                std::size_t handshakes, std::span<std::uint8_t> buffer,
                                Nanoseconds now);

  /// Writes a Retry, for a packet that OnPacket has accepted: ngtcp2 may find that there has to be
  /// one (NGTCP2_ERR_RETRY).  Answers with it or drops.
  [[nodiscard]] Result Retry(const FourTuple &path, const ngtcp2_pkt_hd &header,
                             std::span<std::uint8_t> buffer, Nanoseconds now);

  /// The token of a NEW_TOKEN frame for a client that has shown its address.  Nothing if GnuTLS
  /// fails.
  [[nodiscard]] std::optional<std::vector<std::uint8_t>> NewToken(const Endpoint &remote,
                                                                  Nanoseconds now) const;

  /// The token of stateless resets for such a connection ID, of kForeignLength bytes at least: that of
  /// what it begins with, as a packet does not say how long it is.  Nothing if GnuTLS fails.
  [[nodiscard]] std::optional<ngtcp2_stateless_reset_token>
  ForeignResetToken(std::span<const std::uint8_t> id) const {
    return ids_.ResetToken(id.first(kForeignLength));
  }

  /// How often each has happened.
  [[nodiscard]] std::uint64_t accepted() const { return accepted_; }
  [[nodiscard]] std::uint64_t answered(AnswerKind kind) const {
    return answered_[static_cast<std::size_t>(kind)];
  }
  [[nodiscard]] std::uint64_t dropped(DropReason reason) const {
    return dropped_[static_cast<std::size_t>(reason)];
  }

private:
  struct Token;

  [[nodiscard]] Token Verify(const FourTuple &path, const ngtcp2_pkt_hd &header,
                             Nanoseconds now) const;
  [[nodiscard]] Result OnInitial(const FourTuple &path, std::span<const std::uint8_t> packet,
                                 std::size_t handshakes, std::span<std::uint8_t> buffer,
                                 Nanoseconds now);
  [[nodiscard]] Result NegotiateVersion(const ngtcp2_version_cid &packet,
                                        std::span<std::uint8_t> buffer, Nanoseconds now);
  [[nodiscard]] Result Reset(std::span<const std::uint8_t> packet, std::span<std::uint8_t> buffer,
                             Nanoseconds now);
  [[nodiscard]] Result Close(const ngtcp2_pkt_hd &header, AnswerKind kind,
                             std::span<std::uint8_t> buffer, Nanoseconds now);
  /// Counts it.  `written`: what the function that wrote it returned.
  [[nodiscard]] Result Answered(AnswerKind kind, std::span<const std::uint8_t> buffer,
                                ngtcp2_ssize written);
  [[nodiscard]] Result Dropped(DropReason reason);

  Options options_;
  const LocalIds &ids_;
  QuicSecret secret_;
  RandomSource random_;
  TokenBucket answers_;
  TokenBucket retries_;
  std::uint64_t accepted_ = 0;
  std::array<std::uint64_t, kAnswerKinds> answered_{};
  std::array<std::uint64_t, kDropReasons> dropped_{};
};

} // namespace ngmasque
