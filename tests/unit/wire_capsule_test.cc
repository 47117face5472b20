// Capsules on a request's data stream.

#include "ngmasque/wire/capsule.h"

#include "wire_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <variant>

using namespace ngmasque;
using namespace wire_test;

namespace {

// Types of the tests, as if each had a definition of its own; all others are unknown.
constexpr std::uint64_t kShort = 0x17, kLong = 0xffe800, kEmptyOnly = kVarintMax;

std::optional<std::size_t> MaxLength(std::uint64_t type) {
  switch (type) {
  case kDatagramCapsule: return 65535;
  case kShort: return 4;
  case kLong: return 100'000;
  case kEmptyOnly: return 0;
  default: return std::nullopt;
  }
}

struct Whole {
  std::uint64_t type = 0;
  Bytes value;
  [[nodiscard]] bool operator==(const Whole &) const = default;
};

/// What came out of a parser: capsules, and kTooLong.
using Outcome = std::variant<Whole, WireError>;
using Outcomes = std::vector<Outcome>;

Bytes Header(std::uint64_t type, std::uint64_t length) {
  Bytes header(kMaxCapsuleHeader);
  header.resize(WriteCapsuleHeader(type, length, header).value());
  return {header.begin(), header.end()};
}

Bytes Written(std::uint64_t type, const Bytes &value) {
  return Concat({Header(type, value.size()), value});
}

/// Feeds one piece, checks what holds after any, and adds what came out.
void Feed(CapsuleParser &parser, const Bytes &piece, Outcomes &outcomes) {
  std::span<const std::uint8_t> input = piece;
  while (true) {
    const auto capsule = parser.Next(input);
    if (capsule) {
      outcomes.emplace_back(Whole{.type = capsule->type, .value = ToBytes(capsule->value)});
    } else if (capsule.error() == WireError::kIncomplete) {
      break;
    } else {
      outcomes.emplace_back(capsule.error());
    }
  }
  ASSERT_TRUE(input.empty());
}

Outcomes InPieces(const Bytes &stream, std::size_t size, CapsuleParser &parser) {
  Outcomes outcomes;
  std::span<const std::uint8_t> rest = stream;
  while (!rest.empty()) {
    const auto piece = rest.first(std::min(size, rest.size()));
    Feed(parser, ToBytes(piece), outcomes);
    rest = rest.subspan(piece.size());
  }
  return outcomes;
}

/// The same, with a parser of its own, whole and byte by byte.
void ExpectOutcomes(const Bytes &stream, const Outcomes &expected, bool at_boundary = true) {
  for (const std::size_t size : {1, 2, 3, 1'000'000}) {
    CapsuleParser parser{MaxLength};
    EXPECT_EQ(InPieces(stream, size, parser), expected) << "pieces of " << size;
    EXPECT_EQ(parser.AtBoundary(), at_boundary) << "pieces of " << size;
  }
}

} // namespace

TEST(WireCapsule, HeadersAreTwoShortestIntegers) {
  EXPECT_EQ(Header(0, 0), Hex("00 00"));
  EXPECT_EQ(Header(0, 63), Hex("00 3f"));
  EXPECT_EQ(Header(kShort, 64), Hex("17 4040"));
  EXPECT_EQ(Header(kLong, 1200), Hex("80ffe800 44b0"));
  EXPECT_EQ(Header(kVarintMax, kVarintMax), Hex("ffffffffffffffff ffffffffffffffff"));
}

TEST(WireCapsule, HeadersThatCannotBeWrittenChangeNothing) {
  for (const auto &[type, length] : {std::pair{kVarintMax + 1, std::uint64_t{0}},
                                     std::pair{std::uint64_t{0}, kVarintMax + 1}}) {
    Bytes out(kMaxCapsuleHeader, 0xaa);
    EXPECT_EQ(WriteCapsuleHeader(type, length, out), std::unexpected(WireError::kTooLarge));
    EXPECT_EQ(out, Bytes(kMaxCapsuleHeader, 0xaa));
  }
  for (std::size_t size = 0; size < 6; ++size) {
    Bytes out(size, 0xaa);
    EXPECT_EQ(WriteCapsuleHeader(kLong, 1200, out), std::unexpected(WireError::kNoSpace));
    EXPECT_EQ(out, Bytes(size, 0xaa));
  }
  Bytes enough(6);
  EXPECT_EQ(WriteCapsuleHeader(kLong, 1200, enough), 6u);
}

TEST(WireCapsule, InOnePieceWithoutACopy) {
  CapsuleParser parser{MaxLength};
  const auto stream = Hex("00 03 c0ffee 17 01 aa");
  std::span<const std::uint8_t> input = stream;
  const auto first = parser.Next(input);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->type, kDatagramCapsule);
  EXPECT_EQ(first->value.data(), stream.data() + 2);
  EXPECT_EQ(ToBytes(first->value), Hex("c0ffee"));
  EXPECT_EQ(input.size(), 3u);
  const auto second = parser.Next(input);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->type, kShort);
  EXPECT_EQ(second->value.data(), stream.data() + 7);
  EXPECT_EQ(ToBytes(second->value), Hex("aa"));
  EXPECT_EQ(parser.Next(input).error(), WireError::kIncomplete);
  EXPECT_TRUE(parser.AtBoundary());
}

// A value that lies in one piece is not copied if its header came before.
TEST(WireCapsule, HeaderInAnotherPieceThanTheValue) {
  CapsuleParser parser{MaxLength};
  Outcomes outcomes;
  Feed(parser, Hex("17 03"), outcomes);
  const auto value = Hex("c0ffee");
  std::span<const std::uint8_t> input = value;
  const auto capsule = parser.Next(input);
  ASSERT_TRUE(capsule);
  EXPECT_EQ(capsule->value.data(), value.data());
  EXPECT_EQ(parser.buffered(), 0u);
}

TEST(WireCapsule, ZeroLengthValues) {
  ExpectOutcomes(Hex("00 00 17 00 00 01 aa 00 00"),
                 {Whole{0, {}}, Whole{kShort, {}}, Whole{0, Hex("aa")}, Whole{0, {}}});
  ExpectOutcomes(Concat({Header(kEmptyOnly, 0), Header(kEmptyOnly, 1), Hex("aa")}),
                 {Whole{kEmptyOnly, {}}, WireError::kTooLong});
}

TEST(WireCapsule, NothingIsNothing) {
  CapsuleParser parser{MaxLength};
  std::span<const std::uint8_t> none;
  EXPECT_EQ(parser.Next(none).error(), WireError::kIncomplete);
  EXPECT_TRUE(parser.AtBoundary());
}

//= RFC 9000, section 16
//# Values do not need to be encoded on the minimum number of bytes
//# necessary, with the sole exception of the Frame Type field
TEST(WireCapsule, LongerEncodingsThanNeeded) {
  const Outcomes expected{Whole{kShort, Hex("aabb")}};
  for (const auto *type : {"17", "4017", "80000017", "c000000000000017"}) {
    for (const auto *length : {"02", "4002", "80000002", "c000000000000002"}) {
      ExpectOutcomes(Concat({Hex(type), Hex(length), Hex("aabb")}), expected);
    }
  }
}

TEST(WireCapsule, EverySplitInTwo) {
  const auto stream = Concat({Written(kLong, Hex("c0ffee")), Written(0, {}),
                              Hex("4017 80000002 aabb"), Written(0x29, Hex("0102")),
                              Written(0x29, {}), Written(0, Hex("cc"))});
  const Outcomes expected{Whole{kLong, Hex("c0ffee")}, Whole{0, {}}, Whole{kShort, Hex("aabb")},
                          Whole{0, Hex("cc")}};
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    CapsuleParser parser{MaxLength};
    Outcomes outcomes;
    Feed(parser, ToBytes(std::span{stream}.first(cut)), outcomes);
    Feed(parser, ToBytes(std::span{stream}.subspan(cut)), outcomes);
    EXPECT_EQ(outcomes, expected) << "cut at " << cut;
    EXPECT_TRUE(parser.AtBoundary());
  }
}

//= RFC 9297, section 3.3
//# If the receive side of a stream carrying Capsules is terminated
//# cleanly (for example, in HTTP/3 this is defined as receiving a QUIC
//# STREAM frame with the FIN bit set) and the last Capsule on the stream
//# was truncated, this MUST be treated as if it were a malformed or
//# incomplete message.
TEST(WireCapsule, AtBoundaryTellsWhetherAStreamWasCutOff) {
  // Known, unknown, too long, and of no length, each with integers of several bytes.
  const std::array parts{Written(kLong, Hex("c0ffee")), Written(0x4029, Hex("0102")),
                         Written(kShort, Hex("0102030405")), Hex("4017 4000")};
  Bytes stream;
  std::vector<std::size_t> ends{0};
  for (const auto &part : parts) {
    stream = Concat({stream, part});
    ends.push_back(stream.size());
  }
  for (std::size_t end = 0; end <= stream.size(); ++end) {
    CapsuleParser parser{MaxLength};
    Outcomes outcomes;
    Feed(parser, ToBytes(std::span{stream}.first(end)), outcomes);
    EXPECT_EQ(parser.AtBoundary(), std::ranges::find(ends, end) != ends.end()) << end;
  }
}

//= RFC 9297, section 3.2
//# Endpoints that receive a Capsule with an unknown Capsule Type MUST
//# silently drop that Capsule and skip over it to parse the next
//# Capsule.
TEST(WireCapsule, UnknownTypesAreLeftOut) {
  for (const std::uint64_t type : {std::uint64_t{1}, std::uint64_t{0x29}, kVarintMax - 1}) {
    for (const std::size_t length : {0, 1, 63, 64, 70'000}) {
      ExpectOutcomes(Concat({Written(type, Bytes(length)), Written(0, Hex("aa"))}),
                     {Whole{0, Hex("aa")}});
    }
  }
}

TEST(WireCapsule, UnknownOnesOfWhateverLengthTakeNoMemory) {
  for (const auto length : {kVarintMax, std::uint64_t{1} << 32, (std::uint64_t{1} << 32) - 1}) {
    CapsuleParser parser{MaxLength};
    Outcomes outcomes;
    Feed(parser, Header(0x29, length), outcomes);
    EXPECT_FALSE(parser.AtBoundary());
    for (int i = 0; i < 20; ++i) {
      Feed(parser, Bytes(50'000, 0), outcomes);
      ASSERT_EQ(parser.buffered(), 0u);
    }
    EXPECT_TRUE(outcomes.empty());
    EXPECT_FALSE(parser.AtBoundary());
  }
}

// What is said of the length must not be cut to 32 bits anywhere.
TEST(WireCapsule, KnownOnesOfTheLargestLengthAreTooLong) {
  for (const auto length : {kVarintMax, std::uint64_t{1} << 32, std::uint64_t{65536}}) {
    CapsuleParser parser{MaxLength};
    Outcomes outcomes;
    Feed(parser, Header(0, length), outcomes);
    EXPECT_EQ(outcomes, Outcomes{WireError::kTooLong});
    Feed(parser, Bytes(60'000, 0), outcomes);
    EXPECT_EQ(outcomes.size(), 1u);
    EXPECT_EQ(parser.buffered(), 0u);
    EXPECT_FALSE(parser.AtBoundary());
  }
}

//= RFC 9297, section 3.5
//# If an incoming DATAGRAM Capsule has a length that is known to
//# be so large as to not be usable, the implementation SHOULD discard
//# the Capsule without buffering its contents into memory.
TEST(WireCapsule, TooLongIsSaidAtOnceAndLeftOut) {
  for (const std::size_t size : {1, 7, 100'000}) {
    CapsuleParser parser{MaxLength};
    Outcomes outcomes;
    Feed(parser, Hex("00 8001"), outcomes);
    EXPECT_TRUE(outcomes.empty()) << "the length is not known yet";
    Feed(parser, Hex("0000"), outcomes);
    EXPECT_EQ(outcomes, Outcomes{WireError::kTooLong});
    EXPECT_TRUE(InPieces(Bytes(65535, 0), size, parser).empty());
    EXPECT_EQ(parser.buffered(), 0u);
    EXPECT_FALSE(parser.AtBoundary());
    // The last byte of it, and what follows is read again.
    EXPECT_EQ(InPieces(Hex("00 00 01 aa"), size, parser), (Outcomes{Whole{0, Hex("aa")}}));
  }
}

TEST(WireCapsule, LimitsAreThoseOfTheType) {
  ExpectOutcomes(Concat({Written(kShort, Bytes(4)), Written(kShort, Bytes(5)),
                         Written(kLong, Bytes(100'000)), Written(kLong, Bytes(100'001)),
                         Written(kShort, {})}),
                 {Whole{kShort, Bytes(4)}, WireError::kTooLong, Whole{kLong, Bytes(100'000)},
                  WireError::kTooLong, Whole{kShort, {}}});
}

TEST(WireCapsule, LongestOneByteByByte) {
  Random random{31};
  SCOPED_TRACE(random);
  const auto value = random.Some(100'000);
  CapsuleParser parser{MaxLength};
  EXPECT_EQ(InPieces(Written(kLong, value), 1, parser), (Outcomes{Whole{kLong, value}}));
}

TEST(WireCapsule, KeepsOnlyWhatHasArrivedAndNotForLong) {
  CapsuleParser parser{MaxLength};
  Outcomes outcomes;
  Feed(parser, Header(kLong, 100'000), outcomes);
  EXPECT_EQ(parser.buffered(), 0u) << "a length is a promise only";
  Feed(parser, Hex("aabb"), outcomes);
  EXPECT_EQ(parser.buffered(), 2u);
  Feed(parser, Bytes(99'997), outcomes);
  EXPECT_EQ(parser.buffered(), 99'999u);
  EXPECT_TRUE(outcomes.empty());
  Feed(parser, Hex("cc 00"), outcomes);
  EXPECT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(parser.buffered(), 0u);
}

// Whether only its header has come, a part, or all but a byte: the next one is in step.
TEST(WireCapsule, SkipLeavesOneCapsuleOut) {
  const auto first = Written(kShort, Hex("01 02 03"));
  for (std::size_t cut = 2; cut < first.size(); ++cut) {
    CapsuleParser parser{MaxLength};
    Outcomes outcomes;
    Feed(parser, {first.begin(), first.begin() + static_cast<std::ptrdiff_t>(cut)}, outcomes);
    parser.Skip();
    EXPECT_EQ(parser.buffered(), 0u);
    EXPECT_FALSE(parser.AtBoundary());
    Feed(parser, ToBytes(std::span{first}.subspan(cut)), outcomes);
    Feed(parser, Written(0, Hex("aa")), outcomes);
    EXPECT_EQ(outcomes, (Outcomes{Whole{0, Hex("aa")}})) << "after " << cut << " bytes";
    EXPECT_TRUE(parser.AtBoundary());
  }
}

TEST(WireCapsule, SkipBeforeALengthIsKnownTakesNothing) {
  const auto first = Hex("80000017 4001 aa");
  for (std::size_t cut = 0; cut < 6; ++cut) {
    CapsuleParser parser{MaxLength};
    Outcomes outcomes;
    Feed(parser, {first.begin(), first.begin() + static_cast<std::ptrdiff_t>(cut)}, outcomes);
    parser.Skip();
    Feed(parser, ToBytes(std::span{first}.subspan(cut)), outcomes);
    EXPECT_EQ(outcomes, (Outcomes{Whole{kShort, Hex("aa")}})) << "after " << cut << " bytes";
  }
}

TEST(WireCapsule, SkipOfWhatWasHandedOutTakesNothingElse) {
  CapsuleParser parser{MaxLength};
  Outcomes outcomes;
  Feed(parser, Hex("17 02 01"), outcomes);
  const auto rest = Hex("02 17 01");
  std::span<const std::uint8_t> input = rest;
  ASSERT_TRUE(parser.Next(input));
  EXPECT_EQ(parser.buffered(), 2u);
  parser.Skip();
  EXPECT_EQ(parser.buffered(), 0u);
  EXPECT_EQ(parser.Next(input).error(), WireError::kIncomplete);
  Feed(parser, Hex("aa"), outcomes);
  EXPECT_EQ(outcomes, (Outcomes{Whole{kShort, Hex("aa")}}));
}

TEST(WireCapsule, RandomStreamsAndSplits) {
  Random random{32};
  SCOPED_TRACE(random);
  constexpr std::array<std::uint64_t, 5> types{kDatagramCapsule, kShort, kLong, kEmptyOnly, 0x29};
  for (int i = 0; i < 2000; ++i) {
    Outcomes expected;
    Bytes stream;
    for (auto count = random.Below(20); count-- > 0;) {
      const auto type = types[random.Below(types.size())];
      const auto value = random.Some(random.Below(random.Below(2) == 0 ? 8 : 200));
      stream = Concat({stream, Written(type, value)});
      const auto limit = MaxLength(type);
      if (limit && value.size() <= *limit) {
        expected.emplace_back(Whole{.type = type, .value = value});
      } else if (limit) {
        expected.emplace_back(WireError::kTooLong);
      }
    }
    CapsuleParser parser{MaxLength};
    Outcomes outcomes;
    std::span<const std::uint8_t> rest = stream;
    while (!rest.empty()) {
      const auto piece = rest.first(std::min(rest.size(), random.Below(30)));
      Feed(parser, ToBytes(piece), outcomes);
      rest = rest.subspan(piece.size());
      ASSERT_LE(parser.buffered(), 200u);
    }
    ASSERT_EQ(outcomes, expected) << "in round " << i;
    ASSERT_TRUE(parser.AtBoundary());
  }
}

TEST(WireCapsule, EveryErrorHasAName) {
  for (const auto error : {WireError::kIncomplete, WireError::kTooLong, WireError::kTooLarge,
                           WireError::kNoSpace, WireError::kResetToken, WireError::kTemplate}) {
    EXPECT_NE(ErrorName(error), "unknown error");
  }
}
