// What everything in quic/ speaks of: times, packets, and how things end.
#pragma once

#include "ngmasque/routing/types.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace ngmasque {

/// Of any clock that never goes back.
using Nanoseconds = std::uint64_t;

/// No time at all, of Expiry functions.
inline constexpr Nanoseconds kNever = UINT64_MAX;

/// UDP payloads of `segment` bytes each, the last may be shorter.
struct OutgoingBurst {
  FourTuple path;
  unsigned ecn = 0; ///< 0 to 3.
  std::span<const std::uint8_t> data;
  std::size_t segment = 0;
};

/// Takes a burst, all of it.  Returns false if no more should follow now.
using BurstSink = std::function<bool(const OutgoingBurst &)>;

/// What a burst is written to: any fits it, for no UDP payload is larger, nor a chain of them in one
/// call.
inline constexpr std::size_t kBurstBuffer = std::size_t{64} << 10;

/// Why a connection is over.
enum class CloseKind : std::uint8_t {
  kLocal,          ///< Close was called.
  kPeer,           ///< The peer closed it.
  kStatelessReset, ///< The peer does not know it any more.
  kIdleTimeout,
  kHandshakeTimeout,
  kCertificate, ///< The peer's certificate is not acceptable.
  kTls,         ///< The TLS handshake failed otherwise.
  kProtocol,    ///< The peer broke QUIC or HTTP/3.
  kInternal,
};

struct CloseReason {
  CloseKind kind{};
  bool application = false; ///< Whether `code` is one of HTTP/3, and not of QUIC.
  std::uint64_t code = 0;
  std::string text; ///< Printable ASCII, at most some hundred bytes.
};

/// How what the peer sends on a request stream came to its end.
enum class StreamEnd : std::uint8_t {
  kFinished, ///< The peer has sent all, and in order.
  kReset,    ///< The peer has reset it, or does not want to read any more.
  kRefused,  ///< What came was refused here: malformed, or more than kMaxFieldBytes.
};

} // namespace ngmasque
