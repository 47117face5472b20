// Payloads with a 16-bit length on the request stream.

#include "ngmasque/wire/stream_length.h"

#include "wire_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <variant>

using namespace ngmasque;
using namespace wire_test;

namespace {

Bytes Framed(const Bytes &payload) {
  return Concat({WriteStreamLength(payload.size()).value(), payload});
}

/// What came out of a parser: payloads, and kPayloadTooLong.
using Outcome = std::variant<Bytes, WireError>;

/// Feeds one piece, checks what holds after any, and adds what came out.
void Feed(StreamLengthParser &parser, const Bytes &piece, std::vector<Outcome> &outcomes) {
  std::span<const std::uint8_t> input = piece;
  while (true) {
    const auto payload = parser.Next(input);
    if (payload) {
      outcomes.emplace_back(ToBytes(*payload));
    } else if (payload.error() == WireError::kIncomplete) {
      break;
    } else {
      outcomes.emplace_back(payload.error());
    }
  }
  ASSERT_TRUE(input.empty());
}

/// The outcomes of `stream` cut into pieces of `size` bytes.
std::vector<Outcome> InPieces(const Bytes &stream, std::size_t size, StreamLengthParser &parser) {
  std::vector<Outcome> outcomes;
  std::span<const std::uint8_t> rest = stream;
  while (!rest.empty()) {
    const auto piece = rest.first(std::min(size, rest.size()));
    Feed(parser, ToBytes(piece), outcomes);
    rest = rest.subspan(piece.size());
  }
  return outcomes;
}

} // namespace

TEST(WireStreamLength, NetworkByteOrder) {
  EXPECT_EQ(ToBytes(WriteStreamLength(0).value()), Hex("0000"));
  EXPECT_EQ(ToBytes(WriteStreamLength(1).value()), Hex("0001"));
  EXPECT_EQ(ToBytes(WriteStreamLength(1200).value()), Hex("04b0"));
  EXPECT_EQ(ToBytes(WriteStreamLength(kMaxUdpPayload).value()), Hex("fff7"));
}

TEST(WireStreamLength, TooLongIsNotWritten) {
  for (const auto length : {kMaxUdpPayload + 1, std::size_t{65536}, ~std::size_t{0}}) {
    EXPECT_EQ(WriteStreamLength(length), std::unexpected(WireError::kTooLong));
  }
}

TEST(WireStreamLength, WhatIsForItIfItFitsNoDatagram) {
  std::vector<std::uint8_t> packet(1200, 0x40);
  EXPECT_TRUE(IsForStream(packet));
  EXPECT_TRUE(IsForStream({}));
  packet.push_back(0);
  EXPECT_FALSE(IsForStream(packet));
  packet.front() = 0xc0; // A long header.
  EXPECT_TRUE(IsForStream(packet));
}

TEST(WireStreamLength, InOnePieceWithoutACopy) {
  StreamLengthParser parser;
  const auto stream = Hex("0003 c0ffee 0001 aa");
  std::span<const std::uint8_t> input = stream;
  const auto first = parser.Next(input);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->data(), stream.data() + 2);
  EXPECT_EQ(ToBytes(*first), Hex("c0ffee"));
  EXPECT_EQ(input.size(), 3u);
  const auto second = parser.Next(input);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->data(), stream.data() + 7);
  EXPECT_EQ(ToBytes(*second), Hex("aa"));
  EXPECT_TRUE(input.empty());
  EXPECT_FALSE(parser.Next(input));
  EXPECT_TRUE(parser.AtBoundary());
}

TEST(WireStreamLength, ZeroLengthPayloadsCount) {
  StreamLengthParser parser;
  EXPECT_EQ(InPieces(Hex("0000 0001 aa 0000 0000"), 100, parser),
            (std::vector<Outcome>{Bytes{}, Hex("aa"), Bytes{}, Bytes{}}));
}

TEST(WireStreamLength, NothingIsNothing) {
  StreamLengthParser parser;
  std::span<const std::uint8_t> none;
  EXPECT_EQ(parser.Next(none).error(), WireError::kIncomplete);
  EXPECT_TRUE(parser.AtBoundary());
}

TEST(WireStreamLength, EverySplitInTwo) {
  const auto stream = Concat({Framed(Hex("c0ffee")), Framed({}), Framed(Hex("aabb")), Framed({})});
  const std::vector<Outcome> expected{Hex("c0ffee"), Bytes{}, Hex("aabb"), Bytes{}};
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    StreamLengthParser parser;
    std::vector<Outcome> outcomes;
    Feed(parser, ToBytes(std::span{stream}.first(cut)), outcomes);
    Feed(parser, ToBytes(std::span{stream}.subspan(cut)), outcomes);
    EXPECT_EQ(outcomes, expected) << "cut at " << cut;
    EXPECT_TRUE(parser.AtBoundary());
  }
}

TEST(WireStreamLength, AtBoundaryTellsWhetherAStreamWasCutOff) {
  const auto stream = Concat({Framed(Hex("c0ffee")), Framed({}), Framed(Hex("aa"))});
  for (std::size_t end = 0; end <= stream.size(); ++end) {
    StreamLengthParser parser;
    std::vector<Outcome> outcomes;
    Feed(parser, ToBytes(std::span{stream}.first(end)), outcomes);
    const bool boundary = end == 0 || end == 5 || end == 7 || end == stream.size();
    EXPECT_EQ(parser.AtBoundary(), boundary) << end;
  }
}

TEST(WireStreamLength, LongestPayloadByteByByte) {
  Random random{9};
  SCOPED_TRACE(random);
  const auto payload = random.Some(kMaxUdpPayload);
  StreamLengthParser parser;
  EXPECT_EQ(InPieces(Framed(payload), 1, parser), (std::vector<Outcome>{payload}));
}

TEST(WireStreamLength, TooLongIsSaidAtOnceAndLeftOut) {
  for (const std::size_t length : {kMaxUdpPayload + 1, std::size_t{65535}}) {
    for (const std::size_t size : {1, 7, 100'000}) {
      StreamLengthParser parser;
      std::vector<Outcome> outcomes;
      Feed(parser, Bytes{0xff, static_cast<std::uint8_t>(length)}, outcomes);
      EXPECT_EQ(outcomes, (std::vector<Outcome>{WireError::kTooLong}));
      EXPECT_TRUE(InPieces(Bytes(length - 1, 0), size, parser).empty());
      EXPECT_EQ(parser.buffered(), 0u);
      EXPECT_FALSE(parser.AtBoundary());
      // The last byte of it, and what follows is read again.
      EXPECT_EQ(InPieces(Hex("00 0001 aa"), size, parser), (std::vector<Outcome>{Hex("aa")}));
    }
  }
}

TEST(WireStreamLength, SmallerLimit) {
  StreamLengthParser parser{2};
  const auto stream = Concat({Framed(Hex("aabb")), Framed(Hex("c0ffee")), Framed({})});
  const std::vector<Outcome> expected{Hex("aabb"), WireError::kTooLong, Bytes{}};
  EXPECT_EQ(InPieces(stream, 1, parser), expected);
  EXPECT_EQ(InPieces(stream, 100, parser), expected);
}

TEST(WireStreamLength, LimitOfZeroAndBeyondTheLargest) {
  StreamLengthParser none{0};
  EXPECT_EQ(InPieces(Hex("0000 0001 aa"), 100, none),
            (std::vector<Outcome>{Bytes{}, WireError::kTooLong}));
  StreamLengthParser all{~std::size_t{0}};
  EXPECT_EQ(InPieces(Hex("ffff"), 100, all), (std::vector<Outcome>{WireError::kTooLong}));
}

TEST(WireStreamLength, KeepsOnlyWhatHasArrivedAndNotForLong) {
  StreamLengthParser parser;
  std::vector<Outcome> outcomes;
  Feed(parser, Hex("fff7"), outcomes);
  EXPECT_EQ(parser.buffered(), 0u) << "a length is a promise only";
  Feed(parser, Hex("aabb"), outcomes);
  EXPECT_EQ(parser.buffered(), 2u);
  Feed(parser, Bytes(kMaxUdpPayload - 3), outcomes);
  EXPECT_EQ(parser.buffered(), kMaxUdpPayload - 1);
  EXPECT_TRUE(outcomes.empty());
  Feed(parser, Hex("cc 00"), outcomes);
  EXPECT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(parser.buffered(), 0u);
}

// Whether only its length has come, a part, or all but a byte: the next one is in step.
TEST(WireStreamLength, SkipLeavesOnePayloadOut) {
  const auto first = Framed(Hex("01 02 03"));
  for (std::size_t cut = kStreamLengthSize; cut < first.size(); ++cut) {
    StreamLengthParser parser;
    std::vector<Outcome> outcomes;
    Feed(parser, {first.begin(), first.begin() + cut}, outcomes);
    parser.Skip();
    EXPECT_EQ(parser.buffered(), 0u);
    Feed(parser, Concat({Bytes(first.begin() + cut, first.end()), Framed(Hex("aa"))}), outcomes);
    EXPECT_EQ(outcomes, std::vector<Outcome>{Hex("aa")}) << "after " << cut << " bytes";
    EXPECT_TRUE(parser.AtBoundary());
  }
}

TEST(WireStreamLength, SkipOfWhatWasHandedOutTakesNothingElse) {
  StreamLengthParser parser;
  std::vector<Outcome> outcomes;
  Feed(parser, Hex("0002 01"), outcomes);
  Feed(parser, Hex("02"), outcomes);
  parser.Skip();
  EXPECT_EQ(parser.buffered(), 0u);
  Feed(parser, Framed(Hex("aa")), outcomes);
  EXPECT_EQ(outcomes, (std::vector<Outcome>{Hex("01 02"), Hex("aa")}));
}

TEST(WireStreamLength, RandomStreamsAndSplits) {
  Random random{10};
  SCOPED_TRACE(random);
  for (int i = 0; i < 2000; ++i) {
    const auto limit = random.Below(40);
    std::vector<Outcome> expected;
    Bytes stream;
    for (auto count = random.Below(20); count-- > 0;) {
      const auto payload = random.Some(random.Below(60));
      stream = Concat({stream, Framed(payload)});
      if (payload.size() <= limit) {
        expected.emplace_back(payload);
      } else {
        expected.emplace_back(WireError::kTooLong);
      }
    }
    StreamLengthParser parser{limit};
    std::vector<Outcome> outcomes;
    std::span<const std::uint8_t> rest = stream;
    while (!rest.empty()) {
      const auto piece = rest.first(std::min(rest.size(), random.Below(30)));
      Feed(parser, ToBytes(piece), outcomes);
      rest = rest.subspan(piece.size());
      ASSERT_LE(parser.buffered(), limit);
    }
    ASSERT_EQ(outcomes, expected) << "in round " << i;
    ASSERT_TRUE(parser.AtBoundary());
  }
}

TEST(WireStreamLength, EveryErrorHasAName) {
  for (const auto error : {WireError::kIncomplete, WireError::kTooLong}) {
    EXPECT_NE(ErrorName(error), "unknown error");
  }
}
