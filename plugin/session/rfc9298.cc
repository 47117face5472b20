// Dialect rfc9298: how payloads are marked, in datagrams and in capsules.

#include "ngmasque/session/rfc9298.h"

#include "ngmasque/wire/capsule.h"
#include "ngmasque/wire/datagram.h"
#include "ngmasque/wire/varint.h"

namespace ngmasque::rfc9298 {

Prefix DatagramPrefix(StreamId stream) {
  Prefix prefix;
  const auto length = WriteHttpDatagramHeader(stream, kUdpContextId, prefix.bytes);
  prefix.size = static_cast<std::uint8_t>(length.value_or(0));
  return prefix;
}

std::expected<Prefix, DropReason> CapsulePrefix(std::size_t size) {
  //= RFC 9298, section 5
  //# Therefore, endpoints MUST NOT send HTTP Datagrams with a UDP Proxying Payload field longer
  //# than 65527 using Context ID zero.
  if (size > kMaxUdpPayload) {
    return std::unexpected(DropReason::kTooLarge);
  }
  Prefix prefix;
  const auto header =
    WriteCapsuleHeader(kDatagramCapsule, VarintLength(kUdpContextId) + size, prefix.bytes);
  const auto context =
    EncodeVarint(kUdpContextId, std::span(prefix.bytes).subspan(header.value_or(0)));
  prefix.size = static_cast<std::uint8_t>(header.value_or(0) + context.value_or(0));
  return prefix;
}

std::expected<std::span<const std::uint8_t>, DropReason>
ReadPayload(std::span<const std::uint8_t> value) {
  const auto read = ParseContextDatagram(value);
  if (!read) {
    return std::unexpected(DropReason::kBadDatagram);
  }
  //= RFC 9298, section 5
  //# If an HTTP/3 Datagram that carries an unknown Context ID is received, the receiver SHALL either
  //# drop that datagram silently or buffer it temporarily (on the order of a round trip) while
  //# awaiting the registration of the corresponding Context ID.
  if (read->context_id != kUdpContextId) {
    return std::unexpected(DropReason::kUnknownContext);
  }
  return read->payload;
}

std::expected<TunnelledPayload, DropReason> ReadDatagram(std::span<const std::uint8_t> datagram) {
  const auto read = ParseHttpDatagram(datagram);
  if (!read) {
    return std::unexpected(DropReason::kMalformed);
  }
  return ReadPayload(read->payload).transform([&](std::span<const std::uint8_t> payload) {
    return TunnelledPayload{.key = read->stream_id, .payload = payload};
  });
}

std::optional<StreamId> StreamOf(std::span<const std::uint8_t> datagram) {
  const auto read = ParseHttpDatagram(datagram);
  return read ? std::optional(read->stream_id) : std::nullopt;
}

std::optional<std::size_t> MaxLength(std::uint64_t type) {
  if (type == kDatagramCapsule) {
    return kVarintMaxLength + kMaxUdpPayload;
  }
  return FindCidCapsule(type).transform([](CidCapsuleType) { return kMaxCidCapsule; });
}

} // namespace ngmasque::rfc9298
