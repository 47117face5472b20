// RFC 9000, section 16.

#include "ngmasque/wire/varint.h"

#include "wire_support.h"

#include <gtest/gtest.h>

#include <array>

using namespace ngmasque;
using namespace wire_test;

namespace {

/// `value` in an encoding of `length` bytes, whether that is the shortest or not; written down from
/// table 4 of the RFC and not with EncodeVarint().
Bytes EncodingOf(std::uint64_t value, std::size_t length) {
  Bytes bytes(length);
  for (std::size_t i = 0; i < length; ++i) {
    bytes[i] = static_cast<std::uint8_t>(value >> 8 * (length - 1 - i));
  }
  const std::uint8_t prefix = length == 1 ? 0x00 : length == 2 ? 0x40 : length == 4 ? 0x80 : 0xc0;
  bytes[0] = static_cast<std::uint8_t>(bytes[0] | prefix);
  return bytes;
}

constexpr std::array<std::size_t, 4> kLengths{1, 2, 4, 8};

std::uint64_t LargestOf(std::size_t length) { return (std::uint64_t{1} << (8 * length - 2)) - 1; }

Bytes Encoded(std::uint64_t value) {
  std::array<std::uint8_t, kVarintMaxLength> out;
  const auto length = EncodeVarint(value, out);
  return length ? ToBytes(std::span{out}.first(*length)) : Bytes{};
}

} // namespace

TEST(WireVarint, SamplesOfTheRfc) { // RFC 9000, appendix A.1
  EXPECT_EQ(DecodeVarint(Hex("c2197c5eff14e88c")), (Varint{151'288'809'941'952'652, 8}));
  EXPECT_EQ(DecodeVarint(Hex("9d7f3e7d")), (Varint{494'878'333, 4}));
  EXPECT_EQ(DecodeVarint(Hex("7bbd")), (Varint{15'293, 2}));
  EXPECT_EQ(DecodeVarint(Hex("25")), (Varint{37, 1}));
  EXPECT_EQ(DecodeVarint(Hex("4025")), (Varint{37, 2}));
  EXPECT_EQ(Encoded(151'288'809'941'952'652), Hex("c2197c5eff14e88c"));
  EXPECT_EQ(Encoded(494'878'333), Hex("9d7f3e7d"));
  EXPECT_EQ(Encoded(15'293), Hex("7bbd"));
  EXPECT_EQ(Encoded(37), Hex("25"));
}

TEST(WireVarint, SettingOfTheDraft) { // SETTINGS H3_DATAGRAM, id 0x276
  EXPECT_EQ(Encoded(0x276), Hex("4276"));
}

TEST(WireVarint, EdgesOfEachLength) {
  for (const auto length : kLengths) {
    SCOPED_TRACE(length);
    const auto largest = LargestOf(length);
    EXPECT_EQ(VarintLength(largest), length);
    EXPECT_EQ(Encoded(largest), EncodingOf(largest, length));
    const auto next = length == 8 ? 0 : 2 * length;
    EXPECT_EQ(VarintLength(largest + 1), next);
  }
  EXPECT_EQ(VarintLength(0), 1u);
  EXPECT_EQ(LargestOf(8), kVarintMax);
  EXPECT_EQ(VarintLength(~std::uint64_t{0}), 0u);
}

TEST(WireVarint, LongerEncodingsThanNeededAreRead) {
  //= RFC 9000, section 16
  //# Values do not need to be encoded on the minimum number of bytes
  //# necessary, with the sole exception of the Frame Type field
  for (const std::uint64_t value : {0, 1, 63}) {
    for (const auto length : kLengths) {
      EXPECT_EQ(DecodeVarint(EncodingOf(value, length)), (Varint{value, length}));
    }
  }
}

TEST(WireVarint, AllOfOneAndTwoBytes) {
  for (unsigned first = 0; first < 256; ++first) {
    const auto one = static_cast<std::uint8_t>(first);
    const auto alone = DecodeVarint(Bytes{one});
    if (first < 64) {
      EXPECT_EQ(alone, (Varint{first, 1}));
      continue;
    }
    EXPECT_EQ(alone, std::unexpected(WireError::kTruncated));
    for (unsigned second = 0; second < 256 && first < 128; ++second) {
      const auto value = (first & 0x3f) << 8 | second;
      ASSERT_EQ(DecodeVarint(Bytes{one, static_cast<std::uint8_t>(second)}), (Varint{value, 2}));
      ASSERT_EQ(Encoded(value), EncodingOf(value, value < 64 ? 1 : 2));
    }
  }
}

TEST(WireVarint, EveryTruncation) {
  for (const auto length : kLengths) {
    const auto whole = EncodingOf(LargestOf(length), length);
    for (std::size_t cut = 0; cut < length; ++cut) {
      EXPECT_EQ(DecodeVarint(Bytes(whole.begin(), whole.begin() + static_cast<int>(cut))),
                std::unexpected(WireError::kTruncated))
        << cut << " of " << length;
    }
  }
}

TEST(WireVarint, TooLargeIsNotWritten) {
  Bytes out(kVarintMaxLength, 0xaa);
  for (const auto value : {kVarintMax + 1, ~std::uint64_t{0}}) {
    EXPECT_EQ(EncodeVarint(value, out), std::unexpected(WireError::kTooLarge));
  }
  EXPECT_EQ(out, Bytes(kVarintMaxLength, 0xaa));
}

TEST(WireVarint, NoSpaceLeavesTheOutputAlone) {
  for (const auto length : kLengths) {
    Bytes out(length - 1, 0xaa);
    EXPECT_EQ(EncodeVarint(LargestOf(length), out), std::unexpected(WireError::kNoSpace));
    EXPECT_EQ(out, Bytes(length - 1, 0xaa));
  }
}

TEST(WireVarint, BytesBehindAreLeftAlone) {
  for (const auto length : kLengths) {
    Bytes out(kVarintMaxLength + 1, 0xaa);
    ASSERT_EQ(EncodeVarint(LargestOf(length), out), length);
    const auto behind = ToBytes(std::span{out}.subspan(length));
    EXPECT_EQ(behind, Bytes(out.size() - length, 0xaa));
    EXPECT_EQ(DecodeVarint(out), (Varint{LargestOf(length), length}));
  }
}

TEST(WireVarint, RoundTripOfRandomValues) {
  Random random{1};
  SCOPED_TRACE(random);
  for (int i = 0; i < 100'000; ++i) {
    // Shifted: small ones are as likely as large ones.
    const auto value = (random.Next() & kVarintMax) >> random.Below(62);
    const auto bytes = Encoded(value);
    ASSERT_EQ(bytes, EncodingOf(value, VarintLength(value)));
    ASSERT_EQ(DecodeVarint(bytes), (Varint{value, bytes.size()}));
  }
}

TEST(WireVarint, EveryErrorHasAName) {
  for (const auto error : {WireError::kTruncated, WireError::kTooLarge, WireError::kNoSpace}) {
    EXPECT_NE(ErrorName(error), "unknown error");
  }
  EXPECT_EQ(ErrorName(static_cast<WireError>(99)), "unknown error");
}
