#include "ngmasque/wire/datagram.h"

#include "ngmasque/wire/varint.h"

namespace ngmasque {

std::expected<FlowDatagram, WireError> ParseFlowDatagram(std::span<const std::uint8_t> data) {
  const auto flow_id = DecodeVarint(data);
  if (!flow_id) {
    return std::unexpected(flow_id.error());
  }
  const auto payload = data.subspan(flow_id->length);
  if (payload.size() > kMaxUdpPayload) {
    return std::unexpected(WireError::kTooLong);
  }
  return FlowDatagram{.flow_id = flow_id->value, .payload = payload};
}

std::expected<std::size_t, WireError> WriteFlowDatagramHeader(std::uint64_t flow_id,
                                                              std::span<std::uint8_t> out) {
  return EncodeVarint(flow_id, out);
}

std::expected<HttpDatagram, WireError> ParseHttpDatagram(std::span<const std::uint8_t> data) {
  //= RFC 9297, section 2.1
  //# Receipt of a QUIC DATAGRAM frame whose payload is too short to allow
  //# parsing the Quarter Stream ID field MUST be treated as an HTTP/3
  //# connection error of type H3_DATAGRAM_ERROR (0x33).
  const auto quarter = DecodeVarint(data);
  if (!quarter) {
    return std::unexpected(quarter.error());
  }
  //= RFC 9297, section 2.1
  //# Receipt of an HTTP/3 Datagram that includes a larger value MUST be
  //# treated as an HTTP/3 connection error of type H3_DATAGRAM_ERROR (0x33).
  if (quarter->value > kQuarterStreamIdMax) {
    return std::unexpected(WireError::kTooLarge);
  }
  return HttpDatagram{.stream_id = quarter->value * 4, .payload = data.subspan(quarter->length)};
}

std::expected<ContextDatagram, WireError> ParseContextDatagram(std::span<const std::uint8_t> data) {
  const auto context_id = DecodeVarint(data);
  if (!context_id) {
    return std::unexpected(context_id.error());
  }
  const auto payload = data.subspan(context_id->length);
  if (context_id->value == kUdpContextId && payload.size() > kMaxUdpPayload) {
    return std::unexpected(WireError::kTooLong);
  }
  return ContextDatagram{.context_id = context_id->value, .payload = payload};
}

std::expected<std::size_t, WireError> WriteHttpDatagramHeader(std::uint64_t stream_id,
                                                              std::uint64_t context_id,
                                                              std::span<std::uint8_t> out) {
  if (stream_id > kVarintMax) {
    return std::unexpected(WireError::kTooLarge);
  }
  // Requests are on the client-initiated bidirectional streams, whose two lowest bits are zero.
  if (stream_id % 4 != 0) {
    return std::unexpected(WireError::kNotRequestStream);
  }
  const auto quarter = EncodeVarint(stream_id / 4, out);
  if (!quarter) {
    return std::unexpected(quarter.error());
  }
  const auto context = EncodeVarint(context_id, out.subspan(*quarter));
  if (!context) {
    return std::unexpected(context.error());
  }
  return *quarter + *context;
}

} // namespace ngmasque
