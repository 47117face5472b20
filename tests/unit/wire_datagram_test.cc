// Datagrams of both dialects.

#include "ngmasque/wire/datagram.h"
#include "ngmasque/wire/varint.h"

#include "wire_support.h"

#include <gtest/gtest.h>

#include <array>
#include <optional>

using namespace ngmasque;
using namespace wire_test;

namespace {

using Header = std::array<std::uint8_t, kMaxDatagramHeader>;

Bytes FlowHeader(std::uint64_t flow_id) {
  Header out;
  const auto length = WriteFlowDatagramHeader(flow_id, out);
  return length ? ToBytes(std::span{out}.first(*length)) : Bytes{};
}

Bytes HttpHeader(std::uint64_t stream_id, std::uint64_t context_id) {
  Header out;
  const auto length = WriteHttpDatagramHeader(stream_id, context_id, out);
  return length ? ToBytes(std::span{out}.first(*length)) : Bytes{};
}

template <typename Parsed> std::optional<WireError> ErrorOf(const Parsed &parsed) {
  return parsed ? std::nullopt : std::optional{parsed.error()};
}

} // namespace

TEST(WireFlowDatagram, FlowIdThenPayload) {
  const auto data = Hex("02 c0ffee");
  const auto datagram = ParseFlowDatagram(data);
  ASSERT_TRUE(datagram);
  EXPECT_EQ(datagram->flow_id, 2u);
  EXPECT_EQ(ToBytes(datagram->payload), Hex("c0ffee"));
  EXPECT_EQ(datagram->payload.data(), data.data() + 1) << "a copy was made";
  EXPECT_EQ(FlowHeader(2), Hex("02"));
}

TEST(WireFlowDatagram, FlowIdZeroIsOne) {
  const auto data = Hex("00 01");
  const auto datagram = ParseFlowDatagram(data);
  ASSERT_TRUE(datagram);
  EXPECT_EQ(datagram->flow_id, 0u);
  EXPECT_EQ(ToBytes(datagram->payload), Hex("01"));
}

TEST(WireFlowDatagram, EmptyPayload) {
  const auto datagram = ParseFlowDatagram(Hex("4003"));
  ASSERT_TRUE(datagram);
  EXPECT_EQ(datagram->flow_id, 3u);
  EXPECT_TRUE(datagram->payload.empty());
}

TEST(WireFlowDatagram, EveryTruncationOfTheFlowId) {
  for (const auto *const text : {"", "40", "8000 00", "c000 0000 0000 00"}) {
    const auto data = Hex(text);
    for (std::size_t length = 0; length <= data.size(); ++length) {
      if (length > 0 && data[0] == 0) {
        continue;
      }
      EXPECT_EQ(ErrorOf(ParseFlowDatagram(ToBytes(std::span{data}.first(length)))),
                WireError::kTruncated)
        << text << " " << length;
    }
  }
}

TEST(WireFlowDatagram, LongestPayload) {
  const auto header = FlowHeader(kVarintMax);
  ASSERT_EQ(header.size(), 8u);
  const Bytes longest(kMaxUdpPayload, 1), longer(kMaxUdpPayload + 1, 1);
  const auto fits = Concat({header, longest});
  const auto datagram = ParseFlowDatagram(fits);
  ASSERT_TRUE(datagram);
  EXPECT_EQ(datagram->flow_id, kVarintMax);
  EXPECT_EQ(datagram->payload.size(), kMaxUdpPayload);
  EXPECT_EQ(ErrorOf(ParseFlowDatagram(Concat({header, longer}))), WireError::kTooLong);
}

TEST(WireFlowDatagram, HeaderErrors) {
  Header out;
  EXPECT_EQ(WriteFlowDatagramHeader(kVarintMax + 1, out), std::unexpected(WireError::kTooLarge));
  EXPECT_EQ(WriteFlowDatagramHeader(64, std::span{out}.first(1)),
            std::unexpected(WireError::kNoSpace));
}

TEST(WireFlowDatagram, RoundTrip) {
  Random random{2};
  SCOPED_TRACE(random);
  for (int i = 0; i < 10'000; ++i) {
    const auto flow_id = (random.Next() & kVarintMax) >> random.Below(62);
    const auto payload = random.Some(random.Below(64));
    const auto data = Concat({FlowHeader(flow_id), payload});
    const auto datagram = ParseFlowDatagram(data);
    ASSERT_TRUE(datagram);
    ASSERT_EQ(datagram->flow_id, flow_id);
    ASSERT_EQ(ToBytes(datagram->payload), payload);
  }
}

TEST(WireFlowDatagram, RandomBytesLoseNothing) {
  Random random{3};
  SCOPED_TRACE(random);
  for (int i = 0; i < 10'000; ++i) {
    const auto data = random.Some(random.Below(12));
    const auto id = DecodeVarint(data);
    const auto datagram = ParseFlowDatagram(data);
    ASSERT_EQ(datagram.has_value(), id.has_value());
    if (datagram) {
      ASSERT_EQ(id->length + datagram->payload.size(), data.size());
    }
  }
}

TEST(WireHttpDatagram, StreamThenContextThenPayload) {
  const auto data = Hex("01 00 c0ffee");
  const auto datagram = ParseHttpDatagram(data);
  ASSERT_TRUE(datagram);
  EXPECT_EQ(datagram->stream_id, 4u);
  const auto context = ParseContextDatagram(datagram->payload);
  ASSERT_TRUE(context);
  EXPECT_EQ(context->context_id, kUdpContextId);
  EXPECT_EQ(ToBytes(context->payload), Hex("c0ffee"));
  EXPECT_EQ(HttpHeader(4, kUdpContextId), Hex("01 00"));
}

TEST(WireHttpDatagram, LargestStreamId) {
  //= RFC 9297, section 2.1
  //# Receipt of an HTTP/3 Datagram that includes a larger value MUST be
  //# treated as an HTTP/3 connection error of type H3_DATAGRAM_ERROR (0x33).
  const auto largest = ParseHttpDatagram(Hex("cfff ffff ffff ffff 00"));
  ASSERT_TRUE(largest);
  EXPECT_EQ(largest->stream_id, kVarintMax - 3);
  EXPECT_EQ(ErrorOf(ParseHttpDatagram(Hex("d000 0000 0000 0000 00"))), WireError::kTooLarge);
  EXPECT_EQ(ErrorOf(ParseHttpDatagram(Hex("ffff ffff ffff ffff 00"))), WireError::kTooLarge);
}

TEST(WireHttpDatagram, TooShort) {
  //= RFC 9297, section 2.1
  //# Receipt of a QUIC DATAGRAM frame whose payload is too short to allow
  //# parsing the Quarter Stream ID field MUST be treated as an HTTP/3
  //# connection error of type H3_DATAGRAM_ERROR (0x33).
  EXPECT_EQ(ErrorOf(ParseHttpDatagram({})), WireError::kTruncated);
  EXPECT_EQ(ErrorOf(ParseHttpDatagram(Hex("8000 00"))), WireError::kTruncated);
  const auto data = Hex("00");
  const auto empty = ParseHttpDatagram(data);
  ASSERT_TRUE(empty) << "an empty HTTP datagram is legal";
  EXPECT_EQ(ErrorOf(ParseContextDatagram(empty->payload)), WireError::kTruncated);
  EXPECT_EQ(ErrorOf(ParseContextDatagram(Hex("40"))), WireError::kTruncated);
}

TEST(WireHttpDatagram, OnlyUdpPayloadsAreLimited) {
  const Bytes longer(kMaxUdpPayload + 1, 1);
  EXPECT_EQ(ErrorOf(ParseContextDatagram(Concat({Hex("00"), longer}))), WireError::kTooLong);
  EXPECT_TRUE(ParseContextDatagram(Concat({Hex("00"), Bytes(kMaxUdpPayload, 1)})));
  const auto other = ParseContextDatagram(Concat({Hex("02"), longer}));
  ASSERT_TRUE(other);
  EXPECT_EQ(other->context_id, 2u);
}

TEST(WireHttpDatagram, HeaderErrors) {
  Header out;
  for (const std::uint64_t stream_id : {1, 2, 3, 5}) {
    EXPECT_EQ(WriteHttpDatagramHeader(stream_id, 0, out),
              std::unexpected(WireError::kNotRequestStream));
  }
  EXPECT_EQ(WriteHttpDatagramHeader(kVarintMax + 1, 0, out), std::unexpected(WireError::kTooLarge));
  EXPECT_EQ(WriteHttpDatagramHeader(0, kVarintMax + 1, out), std::unexpected(WireError::kTooLarge));
  EXPECT_EQ(HttpHeader(kVarintMax - 3, kVarintMax).size(), kMaxDatagramHeader);
  for (std::size_t space = 0; space < kMaxDatagramHeader; ++space) {
    EXPECT_EQ(WriteHttpDatagramHeader(kVarintMax - 3, kVarintMax, std::span{out}.first(space)),
              std::unexpected(WireError::kNoSpace));
  }
}

TEST(WireHttpDatagram, RoundTrip) {
  Random random{4};
  SCOPED_TRACE(random);
  for (int i = 0; i < 10'000; ++i) {
    const auto stream_id = (random.Next() & kQuarterStreamIdMax) >> random.Below(60) << 2;
    const auto context_id = (random.Next() & kVarintMax) >> random.Below(62);
    const auto payload = random.Some(random.Below(64));
    const auto data = Concat({HttpHeader(stream_id, context_id), payload});
    const auto datagram = ParseHttpDatagram(data);
    ASSERT_TRUE(datagram);
    ASSERT_EQ(datagram->stream_id, stream_id);
    const auto context = ParseContextDatagram(datagram->payload);
    ASSERT_TRUE(context);
    ASSERT_EQ(context->context_id, context_id);
    ASSERT_EQ(ToBytes(context->payload), payload);
  }
}

TEST(WireDatagram, EveryErrorHasAName) {
  for (const auto error : {WireError::kTruncated, WireError::kTooLarge, WireError::kTooLong,
                           WireError::kNotRequestStream, WireError::kNoSpace}) {
    EXPECT_NE(ErrorName(error), "unknown error");
  }
}
