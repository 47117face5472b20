// Dialect draft-00: how payloads are marked, in datagrams and on streams.

#include "ngmasque/session/draft00.h"

#include "ngmasque/wire/datagram.h"

#include <algorithm>

namespace ngmasque::draft00 {

Prefix DatagramPrefix(FlowId flow) {
  Prefix prefix;
  const auto length = WriteFlowDatagramHeader(flow, prefix.bytes);
  prefix.size = static_cast<std::uint8_t>(length.value_or(0));
  return prefix;
}

std::expected<TunnelledPayload, DropReason> ReadDatagram(std::span<const std::uint8_t> datagram) {
  const auto read = ParseFlowDatagram(datagram);
  if (!read) {
    return std::unexpected(read.error() == WireError::kTooLong ? DropReason::kTooLong
                                                               : DropReason::kMalformed);
  }
  return TunnelledPayload{.key = read->flow_id, .payload = read->payload};
}

StreamPayload NextPayload(StreamLengthParser &parser, std::span<const std::uint8_t> &input) {
  const auto payload = parser.Next(input);
  if (payload) {
    return *payload;
  }
  if (payload.error() == WireError::kIncomplete) {
    return std::nullopt;
  }
  return std::unexpected(DropReason::kTooLong);
}

std::expected<Prefix, DropReason> StreamPrefix(std::size_t size) {
  const auto length = WriteStreamLength(size);
  if (!length) {
    return std::unexpected(DropReason::kTooLarge);
  }
  Prefix prefix{.size = static_cast<std::uint8_t>(length->size())};
  std::ranges::copy(*length, prefix.bytes.begin());
  return prefix;
}

} // namespace ngmasque::draft00
