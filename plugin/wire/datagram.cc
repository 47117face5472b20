#include "ngmasque/wire/datagram.h"

#include "ngmasque/wire/varint.h"

namespace ngmasque {

namespace {

DatagramError FromVarint(VarintError error) {
  switch (error) {
  case VarintError::kTruncated:
    return DatagramError::kTruncated;
  case VarintError::kTooLarge:
    return DatagramError::kIdTooLarge;
  case VarintError::kNoSpace:
    break;
  }
  return DatagramError::kNoSpace;
}

} // namespace

std::string_view ErrorName(DatagramError error) {
  switch (error) {
  case DatagramError::kTruncated:
    return "datagram is too short for its identifiers";
  case DatagramError::kIdTooLarge:
    return "identifier of the datagram is too large";
  case DatagramError::kPayloadTooLong:
    return "payload does not fit a UDP packet";
  case DatagramError::kNotRequestStream:
    return "stream of the datagram is not that of a request";
  case DatagramError::kNoSpace:
    return "no space for the header of the datagram";
  }
  return "unknown error";
}

std::expected<FlowDatagram, DatagramError> ParseFlowDatagram(std::span<const std::uint8_t> data) {
  const auto flow_id = DecodeVarint(data);
  if (!flow_id) {
    return std::unexpected(FromVarint(flow_id.error()));
  }
  const auto payload = data.subspan(flow_id->length);
  if (payload.size() > kMaxUdpPayload) {
    return std::unexpected(DatagramError::kPayloadTooLong);
  }
  return FlowDatagram{.flow_id = flow_id->value, .payload = payload};
}

std::expected<std::size_t, DatagramError> WriteFlowDatagramHeader(std::uint64_t flow_id,
                                                                  std::span<std::uint8_t> out) {
  // No transform_error(): the C++ library of the fuzz targets, libstdc++ 12, does not have it.
  const auto length = EncodeVarint(flow_id, out);
  if (!length) {
    return std::unexpected(FromVarint(length.error()));
  }
  return *length;
}

std::expected<HttpDatagram, DatagramError> ParseHttpDatagram(std::span<const std::uint8_t> data) {
  //= RFC 9297, section 2.1
  //# Receipt of a QUIC DATAGRAM frame whose payload is too short to allow
  //# parsing the Quarter Stream ID field MUST be treated as an HTTP/3
  //# connection error of type H3_DATAGRAM_ERROR (0x33).
  const auto quarter = DecodeVarint(data);
  if (!quarter) {
    return std::unexpected(FromVarint(quarter.error()));
  }
  //= RFC 9297, section 2.1
  //# Receipt of an HTTP/3 Datagram that includes a larger value MUST be
  //# treated as an HTTP/3 connection error of type H3_DATAGRAM_ERROR (0x33).
  if (quarter->value > kQuarterStreamIdMax) {
    return std::unexpected(DatagramError::kIdTooLarge);
  }
  return HttpDatagram{.stream_id = quarter->value * 4, .payload = data.subspan(quarter->length)};
}

std::expected<ContextDatagram, DatagramError>
ParseContextDatagram(std::span<const std::uint8_t> data) {
  const auto context_id = DecodeVarint(data);
  if (!context_id) {
    return std::unexpected(FromVarint(context_id.error()));
  }
  const auto payload = data.subspan(context_id->length);
  if (context_id->value == kUdpContextId && payload.size() > kMaxUdpPayload) {
    return std::unexpected(DatagramError::kPayloadTooLong);
  }
  return ContextDatagram{.context_id = context_id->value, .payload = payload};
}

std::expected<std::size_t, DatagramError> WriteHttpDatagramHeader(std::uint64_t stream_id,
                                                                  std::uint64_t context_id,
                                                                  std::span<std::uint8_t> out) {
  if (stream_id > kVarintMax) {
    return std::unexpected(DatagramError::kIdTooLarge);
  }
  // Requests are on the client-initiated bidirectional streams, whose two lowest bits are zero.
  if (stream_id % 4 != 0) {
    return std::unexpected(DatagramError::kNotRequestStream);
  }
  const auto quarter = EncodeVarint(stream_id / 4, out);
  if (!quarter) {
    return std::unexpected(FromVarint(quarter.error()));
  }
  const auto context = EncodeVarint(context_id, out.subspan(*quarter));
  if (!context) {
    return std::unexpected(FromVarint(context.error()));
  }
  return *quarter + *context;
}

} // namespace ngmasque
