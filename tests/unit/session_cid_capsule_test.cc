// The capsules for connection IDs, in each revision.

#include "ngmasque/session/cid_capsule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace ngmasque {
namespace {

using Bytes = std::vector<std::uint8_t>;
using enum CidCapsuleKind;
using enum QuicProxyRevision;

constexpr std::array kRevisions{k06, k08, k09};
constexpr std::array kKinds{kRegisterClientCid, kRegisterTargetCid, kAckClientCid,
                            kAckClientVcid,     kAckTargetCid,      kRejectClientCid,
                            kRejectTargetCid,   kCloseClientCid,    kCloseTargetCid,
                            kMaxConnectionIds};
static_assert(kKinds.size() == kCidCapsuleKinds);

// From hexadecimal digits; spaces are left out.
Bytes Hex(std::string_view text) {
  std::string digits(text);
  std::erase(digits, ' ');
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes.push_back(static_cast<std::uint8_t>(std::stoul(digits.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

Bytes operator+(Bytes a, const Bytes &b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

ConnectionId Id(const Bytes &bytes) { return ConnectionId::From(bytes).value(); }

constexpr ResetToken kToken{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr std::string_view kTokenHex = "000102030405060708090a0b0c0d0e0f";

// A capsule with all that its kind can have.
CidCapsule Full(CidCapsuleKind kind) {
  CidCapsule capsule{.kind = kind, .id = {}, .virtual_id = {}, .token = {}};
  if (kind == kMaxConnectionIds) {
    capsule.maximum = 300;
    return capsule;
  }
  capsule.id = Id(Hex("c0ffee"));
  const bool is_ack = kind == kAckClientCid || kind == kAckClientVcid || kind == kAckTargetCid;
  if (is_ack) {
    capsule.virtual_id = Id(Hex("a1b2c3d4"));
  } else {
    capsule.reason = CidReason::kConflict;
  }
  if (kind == kRegisterTargetCid || kind == kAckClientVcid || kind == kAckTargetCid) {
    capsule.token = kToken;
  }
  return capsule;
}

// One for each kind and revision.
struct Example {
  QuicProxyRevision revision{};
  CidCapsuleKind kind{};
  std::uint64_t type = 0;
  std::string value; // Of Full(kind), in hexadecimal.
};

std::vector<Example> Examples() {
  const std::string token(kTokenHex), to_end = "c0ffee", id = "03 c0ffee",
                    pair = id + "04 a1b2c3d4";
  return {
    {k06, kRegisterClientCid, 0xffe600, to_end},
    {k06, kRegisterTargetCid, 0xffe601, id + "10" + token},
    {k06, kAckClientCid, 0xffe602, pair},
    {k06, kAckClientVcid, 0xffe603, pair + "10" + token},
    {k06, kAckTargetCid, 0xffe604, pair + "10" + token},
    {k06, kCloseClientCid, 0xffe605, to_end},
    {k06, kCloseTargetCid, 0xffe606, to_end},
    {k06, kMaxConnectionIds, 0xffe607, "412c"},
    {k08, kRegisterClientCid, 0xffe700, "02" + to_end},
    {k08, kRegisterTargetCid, 0xffe701, "02" + id + "10" + token},
    {k08, kAckClientCid, 0xffe702, pair},
    {k08, kAckClientVcid, 0xffe703, pair + "10" + token},
    {k08, kAckTargetCid, 0xffe704, pair + "10" + token},
    {k08, kCloseClientCid, 0xffe705, "02" + to_end},
    {k08, kCloseTargetCid, 0xffe706, "02" + to_end},
    {k08, kMaxConnectionIds, 0xffe707, "412c"},
    {k09, kRegisterClientCid, 0xffe800, "02" + to_end},
    {k09, kRegisterTargetCid, 0xffe801, "02" + id + "10" + token},
    {k09, kAckClientCid, 0xffe802, pair},
    {k09, kAckClientVcid, 0xffe803, pair + "10" + token},
    {k09, kAckTargetCid, 0xffe804, pair + "10" + token},
    {k09, kRejectClientCid, 0xffe805, "02" + to_end},
    {k09, kRejectTargetCid, 0xffe806, "02" + to_end},
    {k09, kCloseClientCid, 0xffe807, "02" + to_end},
    {k09, kCloseTargetCid, 0xffe808, "02" + to_end},
    {k09, kMaxConnectionIds, 0xffe809, "412c"},
  };
}

// What is on the wire in this revision: no reason before -08.
CidCapsule OnWire(QuicProxyRevision revision, CidCapsule capsule) {
  if (revision == k06) {
    capsule.reason = {};
  }
  return capsule;
}

Bytes Whole(std::uint64_t type, const Bytes &value) {
  Bytes header(kMaxCapsuleHeader);
  header.resize(WriteCapsuleHeader(type, value.size(), header).value());
  return header + value;
}

std::expected<CidCapsule, WireError> Parse(QuicProxyRevision revision, CidCapsuleKind kind,
                                           const Bytes &value) {
  return ParseCidCapsule({.revision = revision, .kind = kind}, value);
}

TEST(CidCapsule, TypesSayRevisionAndKind) {
  const auto examples = Examples();
  for (const auto &[revision, kind, type, value] : examples) {
    EXPECT_EQ(FindCidCapsule(type), (CidCapsuleType{.revision = revision, .kind = kind}));
  }
  // No others around them.
  std::size_t found = 0;
  for (std::uint64_t type = 0xffe000; type < 0xfff000; ++type) {
    found += FindCidCapsule(type).has_value();
  }
  EXPECT_EQ(found, examples.size());
  for (const auto type : {kDatagramCapsule, std::uint64_t{1}, kVarintMax, kVarintMax + 1,
                          ~std::uint64_t{0}}) {
    EXPECT_FALSE(FindCidCapsule(type)) << type;
  }
}

TEST(CidCapsule, ExampleOfEachKind) {
  for (const auto &[revision, kind, type, value] : Examples()) {
    SCOPED_TRACE(type);
    const auto expected = OnWire(revision, Full(kind));
    EXPECT_EQ(Parse(revision, kind, Hex(value)), expected);
    EXPECT_EQ(WriteCidCapsule(revision, Full(kind)), Whole(type, Hex(value)));
  }
}

TEST(CidCapsule, RejectIsCloseWhereThereIsNone) {
  for (const auto revision : {k06, k08}) {
    EXPECT_EQ(WriteCidCapsule(revision, Full(kRejectClientCid)),
              WriteCidCapsule(revision, Full(kCloseClientCid)));
    EXPECT_EQ(WriteCidCapsule(revision, Full(kRejectTargetCid)),
              WriteCidCapsule(revision, Full(kCloseTargetCid)));
  }
  EXPECT_NE(WriteCidCapsule(k09, Full(kRejectClientCid)),
            WriteCidCapsule(k09, Full(kCloseClientCid)));
}

//= draft-ietf-masque-quic-proxy, section 5
//# The initial maximum is 1, allowing the client to send 2 registrations,
//# one with sequence number 0 and another with sequence number 1. A proxy MUST NOT
//# send a MAX_CONNECTION_IDS capsule with a value less than 1.
TEST(CidCapsule, RulesOfTheRevisionThatHasSequenceNumbers) {
  const auto &rules = RulesOf(k06);
  EXPECT_EQ(rules.initial_maximum, 1u);
  EXPECT_EQ(rules.initial_maximum + rules.allowed_by_zero, 2u) << "registrations at first";
  EXPECT_EQ(rules.least_maximum, 1u);
  EXPECT_FALSE(rules.has_reject);
  EXPECT_FALSE(rules.repeats_are_free);
}

TEST(CidCapsule, RulesOfTheRevisionsThatCount) {
  for (const auto revision : {k08, k09}) {
    const auto &rules = RulesOf(revision);
    EXPECT_EQ(rules.initial_maximum, 2u);
    EXPECT_EQ(rules.initial_maximum + rules.allowed_by_zero, 2u) << "registrations at first";
    EXPECT_EQ(rules.least_maximum, 3u);
    EXPECT_EQ(rules.has_reject, revision == k09);
    EXPECT_EQ(rules.repeats_are_free, revision == k09);
  }
}

//= RFC 9297, section 3.3
//# Each Capsule's payload MUST contain exactly the fields identified in
//# its description.  A Capsule payload that contains additional bytes
//# after the identified fields or a Capsule payload that terminates
//# before the end of the identified fields MUST be treated as it if were
//# a malformed or incomplete message.
TEST(CidCapsule, EveryTruncation) {
  for (const auto &[revision, kind, type, value] : Examples()) {
    const auto whole = Hex(value);
    // A connection ID without a length is shorter instead; all other fields are missed.
    const bool to_end = whole.size() <= 4 && kind != kMaxConnectionIds;
    const std::size_t before_id = revision == k06 ? 0 : 1;
    for (std::size_t end = 0; end < whole.size(); ++end) {
      const auto parsed = Parse(revision, kind, {whole.begin(), whole.begin() + end});
      if (to_end && end >= before_id) {
        ASSERT_TRUE(parsed) << type;
        EXPECT_EQ(parsed->id.size(), end - before_id);
      } else {
        EXPECT_EQ(parsed, std::unexpected(WireError::kTruncated)) << type << " at " << end;
      }
    }
  }
}

TEST(CidCapsule, BytesBehindTheLastField) {
  int checked = 0;
  for (const auto &[revision, kind, type, value] : Examples()) {
    if (Hex(value).size() > 4 || kind == kMaxConnectionIds) {
      EXPECT_EQ(Parse(revision, kind, Hex(value) + Bytes{0}),
                std::unexpected(WireError::kTrailing))
        << type;
      ++checked;
    }
  }
  EXPECT_EQ(checked, 3 * 5);
}

//= RFC 9297, section 3.3
//# In particular, redundant length
//# encodings MUST be verified to be self-consistent.
TEST(CidCapsule, LengthsBehindTheEnd) {
  for (const auto *value : {"04 c0ffee", "03 c0ffee 01", "03 c0ffee 40ff", "80000004 c0ffee",
                            "03 c0ffee 04 a1b2c3"}) {
    EXPECT_EQ(Parse(k09, kAckClientCid, Hex(value)), std::unexpected(WireError::kTruncated))
      << value;
  }
}

TEST(CidCapsule, ConnectionIdsOfAllLengths) {
  for (const auto revision : kRevisions) {
    for (std::size_t length = 0; length <= 255; ++length) {
      const auto id = Id(Bytes(length, 0xab));
      for (const auto kind : kKinds) {
        auto capsule = OnWire(revision, Full(kind));
        if (kind == kMaxConnectionIds) {
          continue;
        }
        capsule.id = id;
        if (!capsule.virtual_id.empty()) {
          capsule.virtual_id = id;
        }
        const auto written = WriteCidCapsule(revision, capsule);
        ASSERT_LE(written.size(), kMaxCapsuleHeader + kMaxCidCapsule);
        CapsuleParser parser{[](std::uint64_t type) -> std::optional<std::size_t> {
          return FindCidCapsule(type) ? std::optional(kMaxCidCapsule) : std::nullopt;
        }};
        std::span<const std::uint8_t> input = written;
        const auto read = parser.Next(input);
        ASSERT_TRUE(read && parser.AtBoundary() && input.empty());
        const auto type = FindCidCapsule(read->type);
        ASSERT_TRUE(type);
        EXPECT_EQ(type->revision, revision);
        capsule.kind = type->kind; // A refusal may have become a CLOSE.
        EXPECT_EQ(ParseCidCapsule(*type, read->value), capsule);
      }
    }
  }
}

TEST(CidCapsule, ConnectionIdsThatAreTooLong) {
  for (const auto revision : kRevisions) {
    const Bytes reason(revision == k06 ? 0 : 1, 0), long_id(256, 0xab);
    for (const auto kind : {kRegisterClientCid, kCloseClientCid, kCloseTargetCid}) {
      EXPECT_EQ(Parse(revision, kind, reason + long_id), std::unexpected(WireError::kTooLong));
    }
    EXPECT_EQ(Parse(revision, kRegisterTargetCid, reason + Hex("4100") + long_id + Hex("00")),
              std::unexpected(WireError::kTooLong));
    for (const auto kind : {kAckClientCid, kAckClientVcid, kAckTargetCid}) {
      EXPECT_EQ(Parse(revision, kind, Hex("4100") + long_id + Hex("00 00")),
                std::unexpected(WireError::kTooLong));
      EXPECT_EQ(Parse(revision, kind, Hex("00 4100") + long_id + Hex("00")),
                std::unexpected(WireError::kTooLong));
      // A length above all that is there is not cut to fewer bits.
      EXPECT_EQ(Parse(revision, kind, Hex("c000000100000000 00 00")),
                std::unexpected(WireError::kTooLong));
    }
  }
}

//= draft-ietf-masque-quic-proxy, section 5.4
//# Proxies choosing
//# not to support stateless resets MAY set the length to zero.
//
//= draft-ietf-masque-quic-proxy, section 5.4
//# Clients receiving a zero-length stateless reset token MUST ignore it.
//
//= draft-ietf-masque-quic-proxy, section 5.5
//# Proxies receiving a zero-length stateless reset token MUST ignore it.
TEST(CidCapsule, ResetTokensHaveNoneOrSixteenBytes) {
  for (const auto revision : kRevisions) {
    for (const auto kind : {kRegisterTargetCid, kAckClientVcid, kAckTargetCid}) {
      auto capsule = OnWire(revision, Full(kind));
      capsule.token.reset();
      const auto written = WriteCidCapsule(revision, capsule);
      const Bytes value(written.begin() + 5, written.end()); // Behind type and length.
      EXPECT_EQ(Parse(revision, kind, value), capsule);

      const Bytes front(value.begin(), value.end() - 1);
      for (std::uint8_t length = 1; length < 64; ++length) {
        const auto parsed = Parse(revision, kind, front + Bytes{length} + Bytes(length, 1));
        EXPECT_EQ(parsed.has_value(), length == 16) << int{length};
        EXPECT_TRUE(parsed || parsed.error() == WireError::kResetToken) << int{length};
      }
      EXPECT_EQ(Parse(revision, kind, front + Hex("ffffffffffffffff")),
                std::unexpected(WireError::kResetToken));
    }
  }
}

TEST(CidCapsule, UnknownReasonsAreTheDefault) {
  for (const auto &[reason, meaning] :
       {std::pair{"00", CidReason::kDefault}, {"01", CidReason::kTooShort},
        {"02", CidReason::kConflict}, {"03", CidReason::kDefault}, {"4102", CidReason::kDefault},
        {"c000000100000002", CidReason::kDefault}, {"4002", CidReason::kConflict}}) {
    const auto parsed = Parse(k09, kRejectClientCid, Hex(reason) + Hex("c0ffee"));
    ASSERT_TRUE(parsed) << reason;
    EXPECT_EQ(parsed->reason, meaning) << reason;
    EXPECT_EQ(parsed->id, Id(Hex("c0ffee"))) << reason;
  }
}

TEST(CidCapsule, LongestValueHasTheLongestIntegers) {
  const auto value = Hex("c0000000000000ff") + Bytes(255, 1) + Hex("c0000000000000ff") +
                     Bytes(255, 2) + Hex("c000000000000010") + Bytes(16, 3);
  EXPECT_EQ(value.size(), kMaxCidCapsule);
  const auto parsed = Parse(k09, kAckTargetCid, value);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->id, Id(Bytes(255, 1)));
  EXPECT_EQ(parsed->virtual_id, Id(Bytes(255, 2)));
  EXPECT_EQ(parsed->token->front(), 3);
}

TEST(CidCapsule, MaximaOfAllSizes) {
  for (const auto revision : kRevisions) {
    for (const auto maximum : {std::uint64_t{0}, std::uint64_t{63}, std::uint64_t{64}, kVarintMax,
                               kVarintMax + 1}) {
      auto capsule = Full(kMaxConnectionIds);
      capsule.maximum = maximum;
      const auto written = WriteCidCapsule(revision, capsule);
      const auto parsed = Parse(revision, kMaxConnectionIds, {written.begin() + 5, written.end()});
      ASSERT_TRUE(parsed);
      EXPECT_EQ(parsed->maximum, std::min(maximum, kVarintMax));
    }
  }
}

} // namespace
} // namespace ngmasque
