// The first two bytes are the limit of a payload (when the first is below 128; else there is none)
// and how the rest, a stream, is cut into pieces.  However that is, the same has to come out.

#include "ngmasque/wire/stream_length.h"

#include "check.h"

#include <algorithm>
#include <optional>
#include <vector>

using namespace ngmasque;

namespace {

/// What came out: payloads; nothing for one that was too long.
using Outcomes = std::vector<std::optional<std::vector<std::uint8_t>>>;

struct Result {
  Outcomes outcomes;
  bool at_boundary = true;
  [[nodiscard]] bool operator==(const Result &) const = default;
};

/// Straight from the format's description, for the whole stream at once.
Result Reference(std::span<const std::uint8_t> stream, std::size_t limit) {
  Result result;
  while (stream.size() >= 2) {
    const auto length = std::size_t{stream[0]} * 256 + stream[1];
    const bool whole = stream.size() - 2 >= length;
    if (length > limit) {
      result.outcomes.emplace_back(std::nullopt);
    } else if (whole) {
      const auto payload = stream.subspan(2, length);
      result.outcomes.emplace_back(std::in_place, payload.begin(), payload.end());
    }
    if (!whole) {
      break;
    }
    stream = stream.subspan(2 + length);
  }
  result.at_boundary = stream.empty();
  return result;
}

/// `cut` is the generator of the pieces' sizes.
Result InPieces(std::span<const std::uint8_t> stream, std::size_t limit, std::uint32_t cut) {
  Result result;
  StreamLengthParser parser{limit};
  while (!stream.empty()) {
    cut = cut * 1664525 + 1013904223;
    // A copy of its own: a view that outlives its piece is seen.
    const auto piece = stream.first(std::min<std::size_t>(1 + (cut >> 24) % 61, stream.size()));
    const std::vector<std::uint8_t> copy(piece.begin(), piece.end());
    std::span<const std::uint8_t> input = copy;
    while (true) {
      const auto payload = parser.Next(input);
      if (payload) {
        result.outcomes.emplace_back(std::in_place, payload->begin(), payload->end());
      } else if (payload.error() == WireError::kTooLong) {
        result.outcomes.emplace_back(std::nullopt);
      } else {
        break;
      }
    }
    CHECK(input.empty());
    CHECK(parser.buffered() <= limit);
    stream = stream.subspan(piece.size());
  }
  result.at_boundary = parser.AtBoundary();
  return result;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  if (size < 2) {
    return 0;
  }
  const auto limit = data[0] < 128 ? data[0] : kMaxUdpPayload;
  const std::span<const std::uint8_t> stream{data + 2, size - 2};
  CHECK(InPieces(stream, limit, data[1]) == Reference(stream, limit));
  return 0;
}
