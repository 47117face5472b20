// The fields that negotiate QUIC-aware proxying: fields <-> values.

#include "ngmasque/session/forwarding_fields.h"

#include "ngmasque/wire/structured_field.h"

#include <algorithm>
#include <array>
#include <utility>
#include <variant>

namespace ngmasque {

namespace {

constexpr std::string_view kForwardingField = "proxy-quic-forwarding";
constexpr std::string_view kPortSharingField = "proxy-quic-port-sharing";
constexpr std::string_view kCapsuleProtocolField = "capsule-protocol";

constexpr std::string_view kAcceptTransform = "accept-transform";
constexpr std::string_view kTransform = "transform";
constexpr std::string_view kScrambleKey = "scramble-key";

struct Name {
  Transform transform{};
  std::string_view name;
};
constexpr std::array kNames{
  Name{.transform = Transform::kIdentity, .name = "identity"},
  // "scramble" is for the transform of the final document.
  //
  //= draft-ietf-masque-quic-proxy, section 6.3.2
  //# Deployments that implement the version of the `scramble` transform defined in this document
  //# MUST use the value "scramble-dt".
  Name{.transform = Transform::kScrambleDt, .name = "scramble-dt"},
};

// The one line of a field, if it is an Item with a Boolean.
//
//= draft-ietf-masque-quic-proxy, section 3
//# "Proxy-QUIC-Forwarding" is an Item Structured Header. Its value MUST be a Boolean.
//
//= draft-ietf-masque-quic-proxy, section 4
//# "Proxy-QUIC-Port-Sharing" is an Item Structured Header. Its value MUST be a Boolean.
//
//= RFC 9297, section 3.4
//# Receivers MUST ignore unknown parameters.
std::optional<sf::Item> ReadBoolean(std::span<const HeaderField> fields, std::string_view name) {
  const std::string *line = nullptr;
  for (const auto &field : fields) {
    if (field.name != name) {
      continue;
    }
    if (line) {
      return std::nullopt;
    }
    line = &field.value;
  }
  auto item = line ? sf::ParseItem(*line) : std::unexpected(WireError::kEmpty);
  if (!item || !std::holds_alternative<sf::Boolean>(item->value)) {
    return std::nullopt;
  }
  return *std::move(item);
}

bool IsTrue(std::span<const HeaderField> fields, std::string_view name) {
  const auto item = ReadBoolean(fields, name);
  return item && std::get<sf::Boolean>(item->value);
}

// Null if it is absent or of another type.
template <typename Type>
const Type *FindTyped(const sf::Parameters &parameters, std::string_view key) {
  const auto *const value = sf::FindParameter(parameters, key);
  return value ? std::get_if<Type>(value) : nullptr;
}

std::optional<ScrambleKey> ReadKey(const sf::Parameters &parameters) {
  ScrambleKey key;
  const auto *const bytes = FindTyped<sf::ByteSequence>(parameters, kScrambleKey);
  if (!bytes || bytes->size() != key.size()) {
    return std::nullopt;
  }
  std::ranges::copy(*bytes, key.begin());
  return key;
}

std::string_view Trimmed(std::string_view text) {
  const auto first = std::min(text.find_first_not_of(' '), text.size());
  text.remove_prefix(first);
  return text.substr(0, text.find_last_not_of(' ') + 1);
}

// Those that are known, each in the place where it comes first.
std::vector<Transform> ReadTransforms(std::string_view list) {
  std::vector<Transform> transforms;
  while (!list.empty()) {
    const auto name = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), name.size() + 1));
    const auto transform = FindTransform(Trimmed(name));
    if (transform && std::ranges::find(transforms, *transform) == transforms.end()) {
      transforms.push_back(*transform);
    }
  }
  return transforms;
}

// `?0` if it cannot be written.
HeaderField Field(std::string_view name, bool value, sf::Parameters parameters = {}) {
  auto text = sf::SerializeItem({.value = value, .parameters = std::move(parameters)});
  return {.name = std::string(name), .value = text ? *std::move(text) : std::string("?0")};
}

//= draft-ietf-masque-quic-proxy, section 6.3.2
//# When offering or selecting this transform, the client and server each generate the key that they
//# will use to encrypt scrambled packets and MUST add it to the "Proxy-QUIC-Forwarding" header in
//# an `sf-binary` parameter named "scramble-key".
sf::Parameters Parameters(std::string_view name, std::string value,
                          const std::optional<ScrambleKey> &key) {
  sf::Parameters parameters;
  parameters.push_back({.key = std::string(name), .value = std::move(value)});
  if (key) {
    parameters.push_back({.key = std::string(kScrambleKey),
                          .value = sf::ByteSequence(key->begin(), key->end())});
  }
  return parameters;
}

} // namespace

std::string_view TransformName(Transform transform) {
  const auto *const found = std::ranges::find(kNames, transform, &Name::transform);
  return found != kNames.end() ? found->name : std::string_view{};
}

std::optional<Transform> FindTransform(std::string_view name) {
  const auto *const found = std::ranges::find(kNames, name, &Name::name);
  return found != kNames.end() ? std::optional(found->transform) : std::nullopt;
}

std::optional<ForwardingOffer> ReadOffer(std::span<const HeaderField> fields) {
  const auto item = ReadBoolean(fields, kForwardingField);
  if (!item) {
    return std::nullopt;
  }
  ForwardingOffer offer{.forwarding = std::get<sf::Boolean>(item->value),
                        .transforms = {},
                        .key = ReadKey(item->parameters)};
  const auto *const accepted = FindTyped<sf::String>(item->parameters, kAcceptTransform);
  //= draft-ietf-masque-quic-proxy, section 3
  //# If the proxy receives a
  //# "Proxy-QUIC-Forwarding" header with a value of "?1" and without the "accept-transform"
  //# parameter, it MUST ignore the header and respond as if the client had not sent the
  //# "Proxy-QUIC-Forwarding" header.
  if (offer.forwarding && !accepted) {
    return std::nullopt;
  }
  if (accepted) {
    offer.transforms = ReadTransforms(*accepted);
  }
  return offer;
}

std::optional<ForwardingAnswer> ReadAnswer(std::span<const HeaderField> fields) {
  const auto item = ReadBoolean(fields, kForwardingField);
  if (!item) {
    return std::nullopt;
  }
  ForwardingAnswer answer{.forwarding = std::get<sf::Boolean>(item->value),
                          .transform = {},
                          .key = ReadKey(item->parameters)};
  //= draft-ietf-masque-quic-proxy, section 3
  //# Clients MUST ignore receipt of an "accept-transform" parameter and servers MUST ignore receipt
  //# of a "transform" parameter.
  if (const auto *const transform = FindTyped<sf::String>(item->parameters, kTransform)) {
    answer.transform = *transform;
  }
  return answer;
}

HeaderField OfferField(const ForwardingOffer &offer) {
  //= draft-ietf-masque-quic-proxy, section 3
  //# If advertising support for forwarding, the client MUST add an "accept-transform" parameter
  //# whose value is a String containing the supported packet transforms
  if (!offer.forwarding || offer.transforms.empty()) {
    return Field(kForwardingField, false);
  }
  std::string names;
  bool needs_key = false;
  for (const auto transform : offer.transforms) {
    names += names.empty() ? "" : ",";
    names += TransformName(transform);
    needs_key = needs_key || NeedsKey(transform);
  }
  return Field(kForwardingField, true,
               Parameters(kAcceptTransform, std::move(names),
                          needs_key ? offer.key : std::nullopt));
}

HeaderField AnswerField(const ForwardingAnswer &answer) {
  //= draft-ietf-masque-quic-proxy, section 3
  //# If the proxy does not recognize or accept
  //# any of the transforms offered by the client, it MUST omit this parameter and
  //# set the header field value to "?0", or omit the header entirely.
  if (!answer.forwarding || !answer.transform) {
    return Field(kForwardingField, false);
  }
  //= draft-ietf-masque-quic-proxy, section 3
  //# The proxy MUST include a "transform" parameter whose value is a String indicating the selected
  //# transform.
  //
  //= draft-ietf-masque-quic-proxy, section 3
  //# Clients MUST NOT send the "transform" parameter and servers MUST NOT send the
  //# "accept-transform" parameter.
  const auto known = FindTransform(*answer.transform);
  return Field(kForwardingField, true,
               Parameters(kTransform, *answer.transform,
                          known && NeedsKey(*known) ? answer.key : std::nullopt));
}

bool ReadPortSharing(std::span<const HeaderField> fields) {
  return IsTrue(fields, kPortSharingField);
}

//= RFC 9297, section 3.4
//# Its value MUST be a Boolean; any
//# other value type MUST be handled as if the field were not present by
//# recipients (for example, if this field is included multiple times,
//# its type will become a List and the field will be ignored).
bool ReadCapsuleProtocol(std::span<const HeaderField> fields) {
  return IsTrue(fields, kCapsuleProtocolField);
}

HeaderField PortSharingField(bool port_sharing) { return Field(kPortSharingField, port_sharing); }

HeaderField CapsuleProtocolField() { return Field(kCapsuleProtocolField, true); }

} // namespace ngmasque
