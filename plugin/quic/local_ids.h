// The connection IDs that a server chooses for itself.
#pragma once

#include "ngmasque/routing/siphash.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include <ngtcp2/ngtcp2.h>

namespace ngmasque {

/// Fills its argument with unpredictable bytes; false if there are none.
using RandomSource = std::function<bool(std::span<std::uint8_t>)>;

/// 256 bits from the system's random source, never sent to a peer.
using QuicSecret = std::array<std::uint8_t, 32>;

/// Draws connection IDs of one length.  They are random but for their first byte, in which only who
/// has the key can read a worker's number.
///
/// Workers that share a port need it: a client may come from another address at any time, and then
/// the system may hand its packets to another worker, which has nothing but the connection ID to
/// find out whose they are.
//= RFC 9000, section 5.1
//# Connection IDs MUST NOT contain any information that can be used by an external observer (that
//# is, one that does not cooperate with the issuer) to correlate them with other connection IDs for
//# the same connection.
//
// A number that all IDs of a connection show would be such information, hence the key.  It is not
// there against forgery: whoever changes an ID reaches another worker, and no connection.
class LocalIds {
public:
  /// Shorter ones have too few random bytes for an ID that nobody guesses.
  static constexpr std::size_t kMinLength = 9;

  /// All workers of a port have to have the same.
  struct Secrets {
    HashKey worker; ///< For nothing else: what is hashed with it is seen by everybody.
    QuicSecret reset{};
  };

  /// `length`: of the IDs in bytes, kMinLength to 20.
  LocalIds(std::size_t length, const Secrets &secrets, RandomSource random);

  /// Fills `id`, of length() bytes, with a new ID.  Returns false if the random source fails, or
  /// `id` is of another length.
  [[nodiscard]] bool Draw(std::uint8_t worker, std::span<std::uint8_t> id) const;

  /// The worker that has drawn the ID, if one has: those of others give any number.  Nothing for
  /// another length.
  [[nodiscard]] std::optional<std::uint8_t> WorkerOf(std::span<const std::uint8_t> id) const;

  /// The token of stateless resets for an ID of up to 20 bytes, RFC 9000, section 10.3.2.  The same
  /// as long as the secret is.  Nothing if GnuTLS fails.
  [[nodiscard]] std::optional<ngtcp2_stateless_reset_token>
  ResetToken(std::span<const std::uint8_t> id) const;

  [[nodiscard]] std::size_t length() const { return length_; }
  [[nodiscard]] const QuicSecret &reset_secret() const { return secrets_.reset; }

private:
  [[nodiscard]] std::uint8_t Mask(std::span<const std::uint8_t> random) const;

  std::size_t length_;
  Secrets secrets_;
  RandomSource random_;
};

} // namespace ngmasque
