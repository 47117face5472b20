// What the routing tables know of connections, sockets and addresses: names for them.
#pragma once

#include "ngmasque/routing/siphash.h"

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>

namespace ngmasque {

/// A QUIC connection between a client and the proxy.  The number is the caller's; it must not be
/// used again while the connection is known here.
enum class OuterConnection : std::uint64_t {};

/// A server-facing socket: one UDP 4-tuple between the proxy and a target.  The number is the
/// caller's (a file descriptor will do); it must not be used again while it is known here.
enum class SocketId : std::uint64_t {};

/// A QUIC stream id of an outer connection, 0 to 2^62-1: that of a CONNECT-UDP request.
using StreamId = std::uint64_t;

/// A stateless reset token: RFC 9000, section 10.3.
using ResetToken = std::array<std::uint8_t, 16>;

/// What ends with one has so many bytes at least.
inline constexpr std::size_t kMinStatelessReset = 21;

/// One CONNECT-UDP request.
struct StreamKey {
  OuterConnection connection{};
  StreamId stream{};
  [[nodiscard]] auto operator<=>(const StreamKey &) const = default;
};

/// One end of a UDP 4-tuple.
struct Endpoint {
  std::array<std::uint8_t, 16> address{}; ///< IPv6, or IPv4-mapped (::ffff:a.b.c.d).
  std::uint32_t scope = 0;                ///< The interface of a link-local address, otherwise 0.
  std::uint16_t port = 0;                 ///< In host byte order.
  [[nodiscard]] auto operator<=>(const Endpoint &) const = default;
};

//= draft-00, section 2.4
//# Two sockets conflict if and only if all members of the 4-tuple (local IP address, local UDP
//# port, remote IP address, and remote UDP port) are identical.
struct FourTuple {
  Endpoint local;
  Endpoint remote;
  [[nodiscard]] auto operator<=>(const FourTuple &) const = default;
};

/// For unordered containers.  Keyed, because a peer has 65,535 ports and as many addresses as it
/// likes to choose from.
class FourTupleHash {
public:
  explicit FourTupleHash(const HashKey &key) : key_(key) {}
  [[nodiscard]] std::size_t operator()(const FourTuple &tuple) const noexcept;

private:
  HashKey key_;
};

} // namespace ngmasque
