// RFC 8999: what is the same in all versions of QUIC.

#include "ngmasque/wire/quic_header.h"

#include "wire_support.h"

#include <gtest/gtest.h>

#include <optional>

using namespace ngmasque;
using namespace wire_test;

namespace {

Bytes LongPacket(std::uint8_t first, std::uint32_t version, std::span<const std::uint8_t> dcid,
                 std::span<const std::uint8_t> scid, std::span<const std::uint8_t> rest) {
  const auto byte = [](std::size_t value) { return static_cast<std::uint8_t>(value); };
  return Concat({Bytes{first, byte(version >> 24), byte(version >> 16), byte(version >> 8),
                       byte(version), byte(dcid.size())},
                 dcid, Bytes{byte(scid.size())}, scid, rest});
}

template <typename Parsed> std::optional<WireError> ErrorOf(const Parsed &parsed) {
  return parsed ? std::nullopt : std::optional{parsed.error()};
}

} // namespace

TEST(WireQuicHeader, FormIsTheFirstBitAlone) {
  for (unsigned first = 0; first < 256; ++first) {
    EXPECT_EQ(PeekHeaderForm(Bytes{static_cast<std::uint8_t>(first)}),
              first < 128 ? HeaderForm::kShort : HeaderForm::kLong);
  }
  EXPECT_EQ(PeekHeaderForm({}), std::unexpected(WireError::kEmpty));
}

TEST(WireQuicHeader, InitialOfVersion1) { // The beginning of RFC 9001, appendix A.2.
  const auto packet = Hex("c3 00000001 08 8394c8f03e515708 00 00449e 00000002");
  const auto header = ParseLongHeader(packet);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->version, 1u);
  EXPECT_EQ(ToBytes(header->dcid), Hex("8394c8f03e515708"));
  EXPECT_TRUE(header->scid.empty());
  EXPECT_EQ(ToBytes(header->rest), Hex("00449e00000002"));
  EXPECT_EQ(header->dcid.data(), packet.data() + 6) << "a copy was made";
}

TEST(WireQuicHeader, VersionNegotiation) { // RFC 8999, section 6.
  const auto packet = Hex("80 00000000 00 02 abcd 00000001 6b3343cf");
  const auto header = ParseLongHeader(packet);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->version, kVersionNegotiation);
  EXPECT_TRUE(header->dcid.empty());
  EXPECT_EQ(ToBytes(header->scid), Hex("abcd"));
  EXPECT_EQ(ToBytes(header->rest), Hex("00000001 6b3343cf"));
}

// The second bit, which version 1 sets, is anything; so is the version.
TEST(WireQuicHeader, AnyFirstByteAndVersion) {
  for (unsigned first = 0x80; first < 256; ++first) {
    for (const std::uint32_t version : {0u, 1u, 0x6b3343cfu, 0xff00001du, 0xffffffffu}) {
      const auto packet =
        LongPacket(static_cast<std::uint8_t>(first), version, Hex("01"), Hex("0203"), Hex("04"));
      const auto header = ParseLongHeader(packet);
      ASSERT_TRUE(header);
      EXPECT_EQ(header->version, version);
      EXPECT_EQ(ToBytes(header->dcid), Hex("01"));
      EXPECT_EQ(ToBytes(header->scid), Hex("0203"));
      EXPECT_EQ(ToBytes(header->rest), Hex("04"));
    }
  }
}

TEST(WireQuicHeader, ConnectionIdsOfAllLengths) {
  Random random{5};
  SCOPED_TRACE(random);
  for (std::size_t length = 0; length <= kMaxConnectionIdLength; ++length) {
    const auto dcid = random.Some(length);
    const auto scid = random.Some(kMaxConnectionIdLength - length);
    const auto packet = LongPacket(0x80, 1, dcid, scid, {});
    const auto header = ParseLongHeader(packet);
    ASSERT_TRUE(header);
    EXPECT_EQ(ToBytes(header->dcid), dcid);
    EXPECT_EQ(ToBytes(header->scid), scid);
    EXPECT_TRUE(header->rest.empty());
  }
  const auto longest = random.Some(kMaxConnectionIdLength);
  const auto packet = LongPacket(0xff, 0xdeadbeef, longest, longest, longest);
  const auto header = ParseLongHeader(packet);
  ASSERT_TRUE(header);
  EXPECT_EQ(ToBytes(header->dcid), longest);
  EXPECT_EQ(ToBytes(header->scid), longest);
  EXPECT_EQ(ToBytes(header->rest), longest);
}

TEST(WireQuicHeader, EveryTruncationOfALongHeader) {
  Random random{6};
  SCOPED_TRACE(random);
  for (const auto &[dcid, scid] : {std::pair{0, 0}, {8, 8}, {20, 0}, {0, 20}, {255, 255}}) {
    const auto whole = LongPacket(0xc0, 1, random.Some(static_cast<std::size_t>(dcid)),
                                  random.Some(static_cast<std::size_t>(scid)), {});
    ASSERT_TRUE(ParseLongHeader(whole));
    for (std::size_t length = 0; length < whole.size(); ++length) {
      EXPECT_EQ(ErrorOf(ParseLongHeader(ToBytes(std::span{whole}.first(length)))),
                length == 0 ? WireError::kEmpty : WireError::kTruncated)
        << length << " of " << whole.size();
    }
  }
}

TEST(WireQuicHeader, ShortHeader) {
  const auto packet = Hex("40 31323334 99");
  const auto dcid = ShortHeaderDcid(packet, 4);
  ASSERT_TRUE(dcid);
  EXPECT_EQ(ToBytes(*dcid), Hex("31323334"));
  EXPECT_EQ(dcid->data(), packet.data() + 1) << "a copy was made";
}

TEST(WireQuicHeader, ShortHeaderOfEachLengthAndTruncation) {
  Random random{7};
  SCOPED_TRACE(random);
  for (const std::size_t length : {0, 1, 8, 20, 21, 255}) {
    const auto id = random.Some(length);
    const auto whole = Concat({Hex("00"), id});
    const auto dcid = ShortHeaderDcid(whole, length);
    ASSERT_TRUE(dcid);
    EXPECT_EQ(ToBytes(*dcid), id);
    for (std::size_t cut = 0; cut < whole.size(); ++cut) {
      EXPECT_EQ(ErrorOf(ShortHeaderDcid(ToBytes(std::span{whole}.first(cut)), length)),
                cut == 0 ? WireError::kEmpty : WireError::kTruncated);
    }
    EXPECT_EQ(ErrorOf(ShortHeaderDcid(whole, ~std::size_t{0})), WireError::kTruncated);
  }
}

TEST(WireQuicHeader, TheOtherForm) {
  EXPECT_EQ(ErrorOf(ParseLongHeader(Hex("7f 00000001 00 00"))), WireError::kWrongForm);
  EXPECT_EQ(ErrorOf(ShortHeaderDcid(Hex("80 31323334"), 4)), WireError::kWrongForm);
  EXPECT_EQ(ErrorOf(ShortHeaderDcid(Hex("80"), 0)), WireError::kWrongForm);
}

TEST(WireQuicHeader, RandomBytesAreAllAccountedFor) {
  Random random{8};
  SCOPED_TRACE(random);
  for (int i = 0; i < 50'000; ++i) {
    auto packet = random.Some(1 + random.Below(40));
    if (packet.size() > 5 && random.Below(2) == 0) {
      packet[5] &= 0x1f; // Otherwise few have both connection IDs.
    }
    if (const auto header = ParseLongHeader(packet)) {
      ASSERT_EQ(7 + header->dcid.size() + header->scid.size() + header->rest.size(), packet.size());
      ASSERT_EQ(LongPacket(packet[0], header->version, header->dcid, header->scid, header->rest),
                packet);
    } else {
      ASSERT_EQ(header.error() == WireError::kWrongForm, packet[0] < 0x80);
    }
  }
}

TEST(WireQuicHeader, EveryErrorHasAName) {
  for (const auto error : {WireError::kEmpty, WireError::kTruncated, WireError::kWrongForm}) {
    EXPECT_NE(ErrorName(error), "unknown error");
  }
}
