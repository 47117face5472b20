// Why packets of inner connections do not get any further.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ngmasque {

/// Why a packet was dropped, by a client or a proxy.
enum class DropReason : std::uint8_t {
  // It is no tunnel's.
  kUnknownConnectionId, ///< Nobody has registered it on the shared socket.
  kUnknownFlow,         ///< Of a flow or stream that is not there, and too much to be kept for it.
  kUnknownContext,      ///< Its context ID is none of UDP payloads: RFC 9298, section 4.
  kUnknownSocket,
  kMalformed,   ///< Its header, or that of the datagram that it is in, is cut off.
  kBadDatagram, ///< It breaks the rules of its tunnel, which has ended because of it.
  kWrongSource, ///< It did not come from the target.
  // It is a tunnel's.
  kNoTunnel,    ///< At a client: the tunnel is over.
  kTooLong,     ///< Longer than a UDP payload can be: kMaxUdpPayload.
  kRateLimited, ///< ProxyOptions::max_bytes_per_second_per_client
  kLoop,        ///< It goes round between proxies that forward to each other: LoopWatch.
  kQueueFull,   ///< Too much is waiting on the way between client and proxy already.
  kTooLarge,    ///< It does not fit the path, or neither the datagrams between client and proxy nor
                ///< the stream (IsForStream): never cut.
  kBlocked,     ///< The socket or the system has no room.
  kUnreachable, ///< There is no way to where it goes.
  kSendError,   ///< The system refused to send it, for another reason.
};
inline constexpr std::size_t kDropReasons = 16;

/// The reason in words, for logs and statistics.
[[nodiscard]] std::string_view ReasonName(DropReason reason);

/// How many packets were dropped, by DropReason.
using Drops = std::array<std::uint64_t, kDropReasons>;

} // namespace ngmasque
