// Each line is one of the field, whichever of them.  What could be read is written, and read again
// as the same.

#include "ngmasque/session/forwarding_fields.h"
#include "ngmasque/wire/structured_field.h"

#include "check.h"

#include <algorithm>
#include <variant>

using namespace ngmasque;

namespace {

using Fields = std::vector<HeaderField>;

Fields Lines(std::string_view name, std::string_view text) {
  Fields fields;
  while (true) {
    const auto line = text.substr(0, text.find('\n'));
    fields.push_back({.name = std::string(name), .value = std::string(line)});
    if (line.size() == text.size()) {
      return fields;
    }
    text.remove_prefix(line.size() + 1);
  }
}

// The one line's Boolean.
std::optional<bool> Boolean(const Fields &fields) {
  const auto item = sf::ParseItem(fields[0].value);
  const auto *const value = item ? std::get_if<bool>(&item->value) : nullptr;
  return value && fields.size() == 1 ? std::optional(*value) : std::nullopt;
}

void Offer(ForwardingOffer offer) {
  CHECK(offer.transforms.size() <= 2);
  CHECK(std::ranges::count(offer.transforms, Transform::kIdentity) <= 1);
  CHECK(std::ranges::count(offer.transforms, Transform::kScrambleDt) <= 1);
  const Fields written{OfferField(offer)};
  const auto again = ReadOffer(written);
  CHECK(again.has_value());
  if (!offer.forwarding || offer.transforms.empty()) {
    CHECK(*again == ForwardingOffer{});
    return;
  }
  if (std::ranges::none_of(offer.transforms, NeedsKey)) {
    offer.key.reset();
  }
  CHECK(*again == offer);
}

void Answer(ForwardingAnswer answer) {
  const Fields written{AnswerField(answer)};
  const auto again = ReadAnswer(written);
  CHECK(again.has_value());
  if (!answer.forwarding || !answer.transform) {
    CHECK(*again == ForwardingAnswer{});
    return;
  }
  const auto known = FindTransform(*answer.transform);
  if (!known || !NeedsKey(*known)) {
    answer.key.reset();
  }
  CHECK(*again == answer);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char *>(data), size};
  const auto fields = Lines("proxy-quic-forwarding", text);
  const auto value = Boolean(fields);
  const auto answer = ReadAnswer(fields);
  CHECK(answer.has_value() == value.has_value());
  const auto offer = ReadOffer(fields);
  if (answer) {
    CHECK(answer->forwarding == *value);
    // Only one that says too little is ignored.
    CHECK(offer || *value);
    Answer(*answer);
  }
  if (offer) {
    CHECK(answer && offer->forwarding == *value && offer->key == answer->key);
    Offer(*offer);
  }
  CHECK(ReadCapsuleProtocol(Lines("capsule-protocol", text)) == (value == true));
  CHECK(ReadPortSharing(Lines("proxy-quic-port-sharing", text)) == (value == true));
  return 0;
}
