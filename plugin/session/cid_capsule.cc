// The capsules for connection IDs: bytes <-> values.

#include "ngmasque/session/cid_capsule.h"

#include "ngmasque/wire/varint.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

namespace {

using enum CidCapsuleKind;

constexpr auto kNoType = kVarintMax + 1;

/// All that is a revision's own.
struct Revision {
  QuicProxyRevision revision{};
  bool has_reason = false;
  RevisionRules rules;
  /// By CidCapsuleKind.
  std::array<std::uint64_t, kCidCapsuleKinds> types{};
};

constexpr std::array kRevisions{
  Revision{
    .revision = QuicProxyRevision::k06,
    .has_reason = false,
    .rules = {.initial_maximum = 1,
              .allowed_by_zero = 1,
              .least_maximum = 1,
              .has_reject = false,
              .repeats_are_free = false},
    .types = {0xffe600, 0xffe601, 0xffe602, 0xffe603, 0xffe604, // REGISTER_*, ACK_*
              kNoType, kNoType, 0xffe605, 0xffe606, 0xffe607},  // CLOSE_*, MAX_CONNECTION_IDS
  },
  Revision{
    .revision = QuicProxyRevision::k08,
    .has_reason = true,
    .rules = {.initial_maximum = 2,
              .allowed_by_zero = 0,
              .least_maximum = 3,
              .has_reject = false,
              .repeats_are_free = false},
    .types = {0xffe700, 0xffe701, 0xffe702, 0xffe703, 0xffe704,
              kNoType, kNoType, 0xffe705, 0xffe706, 0xffe707},
  },
  Revision{
    .revision = QuicProxyRevision::k09,
    .has_reason = true,
    .rules = {.initial_maximum = 2,
              .allowed_by_zero = 0,
              .least_maximum = 3,
              .has_reject = true,
              .repeats_are_free = true},
    .types = {0xffe800, 0xffe801, 0xffe802, 0xffe803, 0xffe804,
              0xffe805, 0xffe806, 0xffe807, 0xffe808, 0xffe809},
  },
};
static_assert(std::ranges::any_of(kRevisions, [](const Revision &revision) {
  return revision.revision == kNewestRevision;
}));

/// The fields of a capsule, in the order in which they come.
struct Layout {
  bool reason = false; ///< In revisions that have it.
  bool id = false;
  bool id_to_end = false; ///< Without a length of its own.
  bool virtual_id = false;
  bool token = false;
  bool maximum = false;
};

/// By CidCapsuleKind; the same in all revisions but for the reason.
constexpr std::array<Layout, kCidCapsuleKinds> kLayouts{{
  {.reason = true, .id = true, .id_to_end = true},      // REGISTER_CLIENT_CID
  {.reason = true, .id = true, .token = true},          // REGISTER_TARGET_CID
  {.id = true, .virtual_id = true},                     // ACK_CLIENT_CID
  {.id = true, .virtual_id = true, .token = true},      // ACK_CLIENT_VCID
  {.id = true, .virtual_id = true, .token = true},      // ACK_TARGET_CID
  {.reason = true, .id = true, .id_to_end = true},      // REJECT_CLIENT_CID
  {.reason = true, .id = true, .id_to_end = true},      // REJECT_TARGET_CID
  {.reason = true, .id = true, .id_to_end = true},      // CLOSE_CLIENT_CID
  {.reason = true, .id = true, .id_to_end = true},      // CLOSE_TARGET_CID
  {.maximum = true},                                    // MAX_CONNECTION_IDS
}};

const Revision &Find(QuicProxyRevision revision) {
  const auto *const found = std::ranges::find(kRevisions, revision, &Revision::revision);
  return found != kRevisions.end() ? *found : kRevisions.back();
}

Layout LayoutOf(const Revision &revision, CidCapsuleKind kind) {
  auto layout = kLayouts[std::to_underlying(kind)];
  layout.reason = layout.reason && revision.has_reason;
  return layout;
}

CidReason ToReason(std::uint64_t value) {
  switch (value) {
  case std::to_underlying(CidReason::kTooShort): return CidReason::kTooShort;
  case std::to_underlying(CidReason::kConflict): return CidReason::kConflict;
  default: return CidReason::kDefault;
  }
}

/// Takes fields off the front of a value.  The first error stays, and nothing is left after it.
class Reader {
public:
  explicit Reader(std::span<const std::uint8_t> value) : rest_(value) {}

  std::uint64_t Integer() {
    const auto integer = DecodeVarint(rest_);
    if (!integer) {
      Fail(integer.error());
      return 0;
    }
    rest_ = rest_.subspan(integer->length);
    return integer->value;
  }

  ConnectionId Id(std::uint64_t length) {
    if (length > kMaxConnectionIdLength) {
      Fail(WireError::kTooLong);
      return {};
    }
    return ConnectionId::From(Bytes(static_cast<std::size_t>(length))).value_or(ConnectionId{});
  }

  std::optional<ResetToken> Token(std::uint64_t length) {
    ResetToken token{};
    if (length == 0) {
      return std::nullopt;
    }
    if (length != token.size()) {
      Fail(WireError::kResetToken);
      return std::nullopt;
    }
    std::ranges::copy(Bytes(token.size()), token.begin());
    return token;
  }

  std::size_t left() const { return rest_.size(); }
  std::optional<WireError> error() const { return error_; }

private:
  std::span<const std::uint8_t> Bytes(std::size_t length) {
    //= RFC 9297, section 3.3
    //# In particular, redundant length encodings MUST be verified to be self-consistent.
    if (length > rest_.size()) {
      Fail(WireError::kTruncated);
      return {};
    }
    const auto bytes = rest_.first(length);
    rest_ = rest_.subspan(length);
    return bytes;
  }

  void Fail(WireError error) {
    error_ = error_ ? error_ : error;
    rest_ = {};
  }

  std::span<const std::uint8_t> rest_;
  std::optional<WireError> error_;
};

void AppendInteger(std::vector<std::uint8_t> &out, std::uint64_t value) {
  std::array<std::uint8_t, kVarintMaxLength> bytes{};
  const auto length = EncodeVarint(std::min(value, kVarintMax), bytes).value_or(0);
  out.insert(out.end(), bytes.begin(), bytes.begin() + length);
}

void AppendBytes(std::vector<std::uint8_t> &out, std::span<const std::uint8_t> bytes) {
  AppendInteger(out, bytes.size());
  out.insert(out.end(), bytes.begin(), bytes.end());
}

} // namespace

const RevisionRules &RulesOf(QuicProxyRevision revision) { return Find(revision).rules; }

std::optional<CidCapsuleType> FindCidCapsule(std::uint64_t type) {
  if (type >= kNoType) {
    return std::nullopt;
  }
  for (const auto &[revision, has_reason, rules, types] : kRevisions) {
    const auto *const found = std::ranges::find(types, type);
    if (found != types.end()) {
      return CidCapsuleType{.revision = revision,
                            .kind = static_cast<CidCapsuleKind>(found - types.begin())};
    }
  }
  return std::nullopt;
}

std::expected<CidCapsule, WireError> ParseCidCapsule(CidCapsuleType type,
                                                     std::span<const std::uint8_t> value) {
  const auto layout = LayoutOf(Find(type.revision), type.kind);
  CidCapsule capsule{.kind = type.kind, .id = {}, .virtual_id = {}, .token = {}};
  Reader reader{value};
  if (layout.reason) {
    capsule.reason = ToReason(reader.Integer());
  }
  if (layout.id) {
    capsule.id = reader.Id(layout.id_to_end ? reader.left() : reader.Integer());
  }
  if (layout.virtual_id) {
    capsule.virtual_id = reader.Id(reader.Integer());
  }
  if (layout.token) {
    //= draft-ietf-masque-quic-proxy, section 5.4
    //# Clients receiving a zero-length stateless reset token MUST ignore it.
    //
    //= draft-ietf-masque-quic-proxy, section 5.5
    //# Proxies receiving a zero-length stateless reset token MUST ignore it.
    capsule.token = reader.Token(reader.Integer());
  }
  if (layout.maximum) {
    capsule.maximum = reader.Integer();
  }
  //= RFC 9297, section 3.3
  //# A Capsule payload that contains additional bytes
  //# after the identified fields or a Capsule payload that terminates
  //# before the end of the identified fields MUST be treated as it if were
  //# a malformed or incomplete message.
  if (const auto error = reader.error()) {
    return std::unexpected(*error);
  }
  if (reader.left() != 0) {
    return std::unexpected(WireError::kTrailing);
  }
  return capsule;
}

//= RFC 9297, section 3.3
//# Each Capsule's payload MUST contain exactly the fields identified in its description.
std::vector<std::uint8_t> WriteCidCapsule(QuicProxyRevision revision, const CidCapsule &capsule) {
  const auto &own = Find(revision);
  auto kind = capsule.kind;
  if (!own.rules.has_reject) {
    kind = kind == kRejectClientCid   ? kCloseClientCid
           : kind == kRejectTargetCid ? kCloseTargetCid
                                      : kind;
  }
  const auto layout = LayoutOf(own, kind);
  std::vector<std::uint8_t> value;
  if (layout.reason) {
    AppendInteger(value, std::to_underlying(capsule.reason));
  }
  if (layout.id_to_end) {
    const auto bytes = capsule.id.bytes();
    value.insert(value.end(), bytes.begin(), bytes.end());
  } else if (layout.id) {
    AppendBytes(value, capsule.id.bytes());
  }
  if (layout.virtual_id) {
    AppendBytes(value, capsule.virtual_id.bytes());
  }
  if (layout.token) {
    AppendBytes(value, capsule.token ? std::span<const std::uint8_t>(*capsule.token)
                                     : std::span<const std::uint8_t>{});
  }
  if (layout.maximum) {
    AppendInteger(value, capsule.maximum);
  }

  std::vector<std::uint8_t> out;
  out.reserve(kMaxCapsuleHeader + value.size());
  AppendInteger(out, own.types[std::to_underlying(kind)]);
  AppendBytes(out, value);
  return out;
}

} // namespace ngmasque
