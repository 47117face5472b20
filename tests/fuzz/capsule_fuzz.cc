// The first byte is how the rest, a stream of capsules, is cut into pieces.  However that is, the
// same has to come out.  Capsules for connection IDs are read, and what could be read is written
// and read again as the same.

#include "ngmasque/session/cid_capsule.h"
#include "ngmasque/wire/capsule.h"

#include "check.h"

#include <algorithm>
#include <optional>
#include <vector>

using namespace ngmasque;

namespace {

/// Small, so that there are some that are too long.
constexpr std::size_t kMaxDatagram = 40;

std::optional<std::size_t> MaxLength(std::uint64_t type) {
  if (type == kDatagramCapsule) {
    return kMaxDatagram;
  }
  return FindCidCapsule(type) ? std::optional(kMaxCidCapsule) : std::nullopt;
}

/// What came out: a capsule, or without a value one that was too long.
struct Outcome {
  std::optional<std::uint64_t> type;
  std::vector<std::uint8_t> value;
  [[nodiscard]] bool operator==(const Outcome &) const = default;
};

struct Result {
  std::vector<Outcome> outcomes;
  bool at_boundary = true;
  [[nodiscard]] bool operator==(const Result &) const = default;
};

/// Straight from the format's description, for the whole stream at once.
Result Reference(std::span<const std::uint8_t> stream) {
  Result result;
  while (!stream.empty()) {
    result.at_boundary = false;
    const auto type = DecodeVarint(stream);
    const auto length =
      type ? DecodeVarint(stream.subspan(type->length)) : std::unexpected(WireError::kTruncated);
    if (!length) {
      break;
    }
    const auto rest = stream.subspan(type->length + length->length);
    const bool whole = rest.size() >= length->value;
    const auto limit = MaxLength(type->value);
    if (limit && length->value > *limit) {
      result.outcomes.emplace_back();
    } else if (limit && whole) {
      result.outcomes.push_back(
        {.type = type->value,
         .value = {rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(length->value)}});
    }
    if (!whole) {
      break;
    }
    stream = rest.subspan(static_cast<std::size_t>(length->value));
    result.at_boundary = true;
  }
  return result;
}

/// `cut` is the generator of the pieces' sizes.
Result InPieces(std::span<const std::uint8_t> stream, std::uint32_t cut) {
  Result result;
  CapsuleParser parser{MaxLength};
  while (!stream.empty()) {
    cut = cut * 1664525 + 1013904223;
    // A copy of its own: a view that outlives its piece is seen.
    const auto piece = stream.first(std::min<std::size_t>(1 + (cut >> 24) % 61, stream.size()));
    const std::vector<std::uint8_t> copy(piece.begin(), piece.end());
    std::span<const std::uint8_t> input = copy;
    while (true) {
      const auto capsule = parser.Next(input);
      if (capsule) {
        result.outcomes.push_back(
          {.type = capsule->type, .value = {capsule->value.begin(), capsule->value.end()}});
      } else if (capsule.error() == WireError::kTooLong) {
        result.outcomes.emplace_back();
      } else {
        break;
      }
    }
    CHECK(input.empty());
    CHECK(parser.buffered() <= kMaxCidCapsule);
    stream = stream.subspan(piece.size());
  }
  result.at_boundary = parser.AtBoundary();
  return result;
}

/// Leaves out, before each piece, whatever is there: the stream stays in step, so that what comes
/// out are some of the capsules.
void Skipping(std::span<const std::uint8_t> stream, const Result &all, std::uint32_t cut) {
  CapsuleParser parser{MaxLength};
  auto next = all.outcomes.begin();
  while (!stream.empty()) {
    cut = cut * 1664525 + 1013904223;
    auto piece = stream.first(std::min<std::size_t>(1 + (cut >> 24) % 61, stream.size()));
    stream = stream.subspan(piece.size());
    parser.Skip();
    CHECK(parser.buffered() == 0);
    while (true) {
      const auto capsule = parser.Next(piece);
      if (!capsule && capsule.error() == WireError::kIncomplete) {
        break;
      }
      const auto is_it = [&](const Outcome &outcome) {
        return capsule ? outcome.type == capsule->type &&
                           std::ranges::equal(outcome.value, capsule->value)
                       : !outcome.type;
      };
      next = std::find_if(next, all.outcomes.end(), is_it);
      CHECK(next != all.outcomes.end());
      ++next;
    }
  }
  CHECK(parser.AtBoundary() == all.at_boundary);
}

void Cid(CidCapsuleType type, std::span<const std::uint8_t> value) {
  const auto capsule = ParseCidCapsule(type, value);
  if (!capsule) {
    CHECK(capsule.error() == WireError::kTruncated || capsule.error() == WireError::kTrailing ||
          capsule.error() == WireError::kTooLong || capsule.error() == WireError::kResetToken);
    return;
  }
  CHECK(capsule->kind == type.kind);
  const auto written = WriteCidCapsule(type.revision, *capsule);
  CapsuleParser parser{MaxLength};
  std::span<const std::uint8_t> input = written;
  const auto again = parser.Next(input);
  CHECK(again && input.empty() && parser.AtBoundary());
  CHECK(FindCidCapsule(again->type) == type);
  CHECK(ParseCidCapsule(type, again->value) == *capsule);
  // Written, it has the shortest integers.
  CHECK(again->value.size() <= value.size());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  if (size < 1) {
    return 0;
  }
  const std::span<const std::uint8_t> stream{data + 1, size - 1};
  const auto result = Reference(stream);
  CHECK(InPieces(stream, data[0]) == result);
  Skipping(stream, result, data[0]);
  for (const auto &[type, value] : result.outcomes) {
    if (const auto cid = type ? FindCidCapsule(*type) : std::nullopt) {
      Cid(*cid, value);
    }
  }
  return 0;
}
