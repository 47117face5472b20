// The input is a field value.  What is read is written, and read again as the same.

#include "ngmasque/wire/structured_field.h"

#include "check.h"

using namespace ngmasque;

namespace {

std::size_t SizeOf(const sf::BareItem &value) {
  if (const auto *const text = std::get_if<sf::String>(&value)) {
    return text->size();
  }
  if (const auto *const token = std::get_if<sf::Token>(&value)) {
    return token->value.size();
  }
  if (const auto *const text = std::get_if<sf::DisplayString>(&value)) {
    return text->value.size();
  }
  const auto *const bytes = std::get_if<sf::ByteSequence>(&value);
  return bytes == nullptr ? 0 : bytes->size();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  const std::string_view field{reinterpret_cast<const char *>(data), size};
  const auto item = sf::ParseItem(field);
  if (!item) {
    CHECK(ErrorName(item.error()) != "unknown error");
    return 0;
  }
  CHECK(field.size() <= sf::kMaxLength && item->parameters.size() <= sf::kMaxParameters);
  // Nothing becomes longer than it is written.
  auto total = SizeOf(item->value);
  for (const auto &parameter : item->parameters) {
    total += parameter.key.size() + SizeOf(parameter.value);
    CHECK(sf::FindParameter(item->parameters, parameter.key) == &parameter.value);
  }
  CHECK(total <= field.size());
  const auto text = sf::SerializeItem(*item);
  CHECK(text);
  if (text->size() > sf::kMaxLength) {
    return 0; // By the padding of Byte Sequences that had none.
  }
  const auto again = sf::ParseItem(*text);
  CHECK(again && *again == *item);
  CHECK(sf::SerializeItem(*again) == text);
  return 0;
}
