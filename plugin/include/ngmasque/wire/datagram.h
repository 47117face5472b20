// What is inside QUIC DATAGRAM frames (RFC 9221) of an HTTP/3 connection, in both dialects:
//
//     draft-00  flow id (varint), UDP payload
//               draft-schinazi-quic-h3-datagram-05 and draft-ietf-masque-connect-udp-00
//     rfc9298   quarter stream id (varint), context id (varint), UDP payload
//               RFC 9297, section 2.1, and RFC 9298, section 5
//
// Parsers return views into their input.  Writers write what stands before the payload, for that
// follows from where it is; after an error the output may be written in part.
#pragma once

#include "ngmasque/wire/error.h"
#include "ngmasque/wire/quic_header.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

namespace ngmasque {

/// The largest quarter stream id: 2^60 - 1.
inline constexpr std::uint64_t kQuarterStreamIdMax = (std::uint64_t{1} << 60) - 1;

/// The context id of UDP payloads: RFC 9298, section 4.
inline constexpr std::uint64_t kUdpContextId = 0;

/// The longest of the headers that are written here: two integers.
inline constexpr std::size_t kMaxDatagramHeader = 16;

/// A datagram of dialect draft-00.
struct FlowDatagram {
  std::uint64_t flow_id = 0; ///< 0 to 2^62-1; even ones are the client's, odd ones the server's.
  std::span<const std::uint8_t> payload; ///< 0 to kMaxUdpPayload bytes.
};

/// Reads a datagram of dialect draft-00.
/// Errors: kTruncated (a connection error, H3_GENERAL_PROTOCOL_ERROR), kTooLong (drop it).
[[nodiscard]] std::expected<FlowDatagram, WireError>
ParseFlowDatagram(std::span<const std::uint8_t> data);

/// Writes what stands before the payload in dialect draft-00; returns its length, 1 to 8 bytes.
/// Errors: kTooLarge, kNoSpace.
[[nodiscard]] std::expected<std::size_t, WireError>
WriteFlowDatagramHeader(std::uint64_t flow_id, std::span<std::uint8_t> out);

/// An HTTP/3 datagram of RFC 9297.
struct HttpDatagram {
  std::uint64_t stream_id = 0;           ///< Of the request: 4 times the quarter stream id.
  std::span<const std::uint8_t> payload; ///< The HTTP Datagram Payload: see ContextDatagram.
};

/// The payload of an HTTP datagram or DATAGRAM capsule of RFC 9298.
struct ContextDatagram {
  std::uint64_t context_id = 0;          ///< 0 to 2^62-1.
  std::span<const std::uint8_t> payload; ///< With kUdpContextId 0 to kMaxUdpPayload bytes.
};

/// Reads an HTTP/3 datagram.
/// Errors: kTruncated and kTooLarge, both connection errors: H3_DATAGRAM_ERROR.
[[nodiscard]] std::expected<HttpDatagram, WireError>
ParseHttpDatagram(std::span<const std::uint8_t> data);

/// Reads the payload of an HTTP datagram.
/// Errors: kTruncated (the stream is to be aborted), kTooLong (the same; only with
/// kUdpContextId, for other contexts are none of our business).
[[nodiscard]] std::expected<ContextDatagram, WireError>
ParseContextDatagram(std::span<const std::uint8_t> data);

/// Writes what stands before the payload in dialect rfc9298; returns its length, 2 to 16 bytes.
/// Errors: kNotRequestStream, kTooLarge, kNoSpace.
[[nodiscard]] std::expected<std::size_t, WireError>
WriteHttpDatagramHeader(std::uint64_t stream_id, std::uint64_t context_id,
                        std::span<std::uint8_t> out);

} // namespace ngmasque
