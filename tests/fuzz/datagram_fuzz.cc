// The input is a datagram of either dialect; its header is written and read again.

#include "ngmasque/wire/datagram.h"

#include "check.h"

#include <array>
#include <vector>

using namespace ngmasque;

namespace {

using Bytes = std::span<const std::uint8_t>;

/// The header, then the payload.
std::vector<std::uint8_t> Joined(Bytes header, Bytes payload) {
  std::vector<std::uint8_t> all(header.begin(), header.end());
  all.insert(all.end(), payload.begin(), payload.end());
  return all;
}

bool Same(Bytes a, Bytes b) {
  return std::vector(a.begin(), a.end()) == std::vector(b.begin(), b.end());
}

void Flow(Bytes data) {
  const auto datagram = ParseFlowDatagram(data);
  if (!datagram) {
    CHECK(datagram.error() == WireError::kTruncated || datagram.error() == WireError::kTooLong);
    return;
  }
  // The payload is the end of the input.
  CHECK(datagram->payload.data() + datagram->payload.size() == data.data() + data.size());
  std::array<std::uint8_t, kMaxDatagramHeader> out;
  const auto length = WriteFlowDatagramHeader(datagram->flow_id, out);
  CHECK(length && *length + datagram->payload.size() <= data.size());
  const auto again = Joined(std::span{out}.first(*length), datagram->payload);
  const auto reread = ParseFlowDatagram(again);
  CHECK(reread && reread->flow_id == datagram->flow_id && Same(reread->payload, datagram->payload));
}

void Http(Bytes data) {
  const auto datagram = ParseHttpDatagram(data);
  if (!datagram) {
    CHECK(datagram.error() == WireError::kTruncated || datagram.error() == WireError::kTooLarge);
    return;
  }
  CHECK(datagram->stream_id % 4 == 0);
  const auto context = ParseContextDatagram(datagram->payload);
  if (!context) {
    CHECK(context.error() == WireError::kTruncated || context.error() == WireError::kTooLong);
    return;
  }
  CHECK(context->payload.data() + context->payload.size() == data.data() + data.size());
  std::array<std::uint8_t, kMaxDatagramHeader> out;
  const auto length = WriteHttpDatagramHeader(datagram->stream_id, context->context_id, out);
  CHECK(length && *length + context->payload.size() <= data.size());
  const auto again = Joined(std::span{out}.first(*length), context->payload);
  const auto reread = ParseHttpDatagram(again);
  CHECK(reread && reread->stream_id == datagram->stream_id);
  const auto reread_context = ParseContextDatagram(reread->payload);
  CHECK(reread_context && reread_context->context_id == context->context_id);
  CHECK(Same(reread_context->payload, context->payload));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  Flow({data, size});
  Http({data, size});
  return 0;
}
