// Dialect rfc9298: RFC 9298 with RFC 9297, and draft-ietf-masque-quic-proxy.  How requests are written
// is in udp_request.h, the capsules for connection IDs in cid_capsule.h.
//
// A request is a tunnel.  Its stream carries capsules: payloads that are in no datagram, and those
// that register connection IDs.
#pragma once

#include "ngmasque/session/cid_capsule.h"
#include "ngmasque/session/client_dialect.h"
#include "ngmasque/session/dialect.h"
#include "ngmasque/session/forwarding_fields.h"
#include "ngmasque/wire/uri_template.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ngmasque {

/// ClientDialect::name of MakeRfc9298Client.
inline constexpr std::string_view kRfc9298Name = "rfc9298";

/// The proxy's side, for one connection.
[[nodiscard]] std::unique_ptr<Dialect> MakeRfc9298(const ProxyOptions &options,
                                                   const HashKey &key);

/// What a client wants of a proxy.
struct Rfc9298ClientOptions {
  UriTemplate uri; ///< An absolute one.
  /// Of whom randomness comes: see HashKey.
  HashKey key{};
  /// Packet transforms that are offered, the preferred one first; none: no forwarding.
  std::vector<Transform> transforms{Transform::kScrambleDt, Transform::kIdentity};
  QuicProxyRevision revision = kNewestRevision;
  bool port_sharing = true; ///< Whether the proxy may use one socket for several connections.
};

/// The client's side, for one connection: a ClientDialectFactory, once its first argument is bound.
/// Null before the proxy's SETTINGS have come, and if it takes no extended CONNECT.
[[nodiscard]] std::unique_ptr<ClientDialect>
MakeRfc9298Client(const Rfc9298ClientOptions &options, const ClientDialectOptions &connection);

namespace rfc9298 {

/// Registrations of connection IDs that are in force at a time, of a tunnel: what MAX_CONNECTION_IDS
/// allows.  One beyond it ends the tunnel.
inline constexpr std::size_t kMaxActiveIds = 64;

/// Virtual connection IDs of one connection ID that the client has not answered yet.  One beyond it
/// ends the tunnel, unless the first of them is of before a move: that one is forgotten.  A client
/// registers again when it has moved, and a proxy that moves itself may move it several times in a
/// round trip.
inline constexpr std::size_t kMaxOffered = 32;

/// Capsules for connection IDs that come before the tunnel has a socket.  One beyond it ends the
/// tunnel.
inline constexpr std::size_t kMaxHeld = 8;

/// The longest virtual connection ID, in bytes: that of QUIC versions 1 and 2.  Longer connection IDs
/// are not forwarded.
inline constexpr std::size_t kMaxVirtualLength = 20;

/// Mappings of one connection ID of the target, each with a virtual connection ID.  One beyond it
/// takes the place of the oldest.
inline constexpr std::size_t kMaxVirtual = 2;

/// What stands before a payload in a datagram.
[[nodiscard]] Prefix DatagramPrefix(StreamId stream);

/// What stands before a payload of `size` bytes in a DATAGRAM capsule.  Error: kTooLarge, above
/// kMaxUdpPayload.
[[nodiscard]] std::expected<Prefix, DropReason> CapsulePrefix(std::size_t size);

/// Reads a datagram; the key is the stream's id.
/// Errors: kMalformed (a connection error, H3_DATAGRAM_ERROR); kBadDatagram (an error of the stream);
/// kUnknownContext.
[[nodiscard]] std::expected<TunnelledPayload, DropReason>
ReadDatagram(std::span<const std::uint8_t> datagram);

/// Which stream a datagram is for, if it says so.
[[nodiscard]] std::optional<StreamId> StreamOf(std::span<const std::uint8_t> datagram);

/// Reads the value of a DATAGRAM capsule.  Errors: kBadDatagram, kUnknownContext.
[[nodiscard]] std::expected<std::span<const std::uint8_t>, DropReason>
ReadPayload(std::span<const std::uint8_t> value);

/// What CapsuleParser is to take.
[[nodiscard]] std::optional<std::size_t> MaxLength(std::uint64_t type);

} // namespace rfc9298
} // namespace ngmasque
