// The fields that negotiate QUIC-aware proxying: Proxy-QUIC-Forwarding and Proxy-QUIC-Port-Sharing
// of draft-ietf-masque-quic-proxy, and Capsule-Protocol of RFC 9297.
#pragma once

#include "ngmasque/routing/scramble.h"
#include "ngmasque/session/authority.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque {

/// A packet transform that is known here.
enum class Transform : std::uint8_t { kIdentity, kScrambleDt };
[[nodiscard]] std::string_view TransformName(Transform transform);
/// Nothing if there is none of that name.
[[nodiscard]] std::optional<Transform> FindTransform(std::string_view name);
/// Whether each side has to tell the other one its key.
[[nodiscard]] constexpr bool NeedsKey(Transform transform) {
  return transform == Transform::kScrambleDt;
}

/// What a client offers.
struct ForwardingOffer {
  bool forwarding = false; ///< The value of the field.
  /// Of accept-transform those that are known here, the preferred one first, each once.
  std::vector<Transform> transforms;
  std::optional<ScrambleKey> key; ///< scramble-key
  [[nodiscard]] bool operator==(const ForwardingOffer &) const = default;
};

/// What a proxy answers.
struct ForwardingAnswer {
  bool forwarding = false;
  /// As it came, as nobody may take one that was not offered.
  std::optional<std::string> transform;
  std::optional<ScrambleKey> key;
  [[nodiscard]] bool operator==(const ForwardingAnswer &) const = default;
};

/// Read a message's Proxy-QUIC-Forwarding.  Nothing if it is absent, is not a Boolean Item, came
/// twice, or is one of those that are to be ignored: an offer of `?1` without accept-transform.
/// Parameters that are not the side's are ignored, and so are those of another type than they have
/// to be: a transform that is no String, a scramble-key that is no Byte Sequence of 32 bytes.
/// Whether a transform lacks its key is for the caller to see.
[[nodiscard]] std::optional<ForwardingOffer> ReadOffer(std::span<const HeaderField> fields);
[[nodiscard]] std::optional<ForwardingAnswer> ReadAnswer(std::span<const HeaderField> fields);

/// The fields of a message.  The keys are written where a transform that needs one is.  Forwarding
/// without a transform that can be written is no forwarding: `?0`.
[[nodiscard]] HeaderField OfferField(const ForwardingOffer &offer);
[[nodiscard]] HeaderField AnswerField(const ForwardingAnswer &answer);

/// Read Proxy-QUIC-Port-Sharing and Capsule-Protocol: whether it is there and `?1`.  Anything else,
/// several lines included, is false (RFC 9297, section 3.4: not a Boolean Item is to be ignored).
[[nodiscard]] bool ReadPortSharing(std::span<const HeaderField> fields);
[[nodiscard]] bool ReadCapsuleProtocol(std::span<const HeaderField> fields);

[[nodiscard]] HeaderField PortSharingField(bool port_sharing);
[[nodiscard]] HeaderField CapsuleProtocolField();

} // namespace ngmasque
