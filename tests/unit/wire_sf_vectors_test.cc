// Test vectors in the format of the HTTP working group's structured-field tests, ours and, where
// they are present, theirs.

#include "ngmasque/wire/structured_field.h"

#include "json.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>

namespace fs = std::filesystem;
using namespace ngmasque;

namespace {

/// RFC 4648, section 6: what the vectors write Byte Sequences in.
sf::ByteSequence FromBase32(std::string_view text) {
  constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  sf::ByteSequence bytes;
  std::uint32_t bits = 0;
  unsigned unused = 0;
  for (const auto c : text.substr(0, text.find('='))) {
    bits = bits << 5 | static_cast<std::uint32_t>(alphabet.find(c));
    unused += 5;
    if (unused >= 8) {
      unused -= 8;
      bytes.push_back(static_cast<std::uint8_t>(bits >> unused));
    }
  }
  return bytes;
}

sf::BareItem FromNumber(const std::string &text) {
  const auto point = text.find('.');
  if (point == text.npos) {
    return sf::Integer{std::stoll(text)};
  }
  auto fraction = text.substr(point + 1);
  fraction.resize(3, '0');
  return sf::Decimal{.thousandths = std::stoll(text.substr(0, point) + fraction)};
}

sf::BareItem ToBareItem(const json::Value &value) {
  if (const auto *const boolean = value.boolean()) {
    return *boolean;
  }
  if (const auto *const number = value.number()) {
    return FromNumber(number->text);
  }
  if (const auto *const string = value.string()) {
    return *string;
  }
  const auto *const type = value.Find("__type");
  const auto *const inner = value.Find("value");
  if (type == nullptr || type->string() == nullptr || inner == nullptr) {
    throw std::runtime_error("a value of unknown kind");
  }
  if (*type->string() == "date") {
    return sf::Date{.seconds = std::stoll(inner->number()->text)};
  }
  if (*type->string() == "binary") {
    return FromBase32(*inner->string());
  }
  if (*type->string() == "token") {
    return sf::Token{*inner->string()};
  }
  if (*type->string() == "displaystring") {
    return sf::DisplayString{*inner->string()};
  }
  throw std::runtime_error("a value of type " + *type->string());
}

sf::Item ToItem(const json::Value &value) {
  const auto &pair = *value.array();
  sf::Item item{.value = ToBareItem(pair.at(0)), .parameters = {}};
  for (const auto &parameter : *pair.at(1).array()) {
    const auto &key_value = *parameter.array();
    item.parameters.push_back({*key_value.at(0).string(), ToBareItem(key_value.at(1))});
  }
  return item;
}

/// What ParseItem() has to make of the vector's field; nothing when it has to fail.
std::optional<sf::Item> Expected(const json::Value &vector, bool list) {
  const auto *const expected = vector.Find("expected");
  if (vector.Flag("must_fail") || expected == nullptr) {
    return std::nullopt;
  }
  if (!list) {
    return ToItem(*expected);
  }
  // A list of one member is written like that member; it is an Item, or an inner list in
  // parentheses.  Every other list is no Item.
  const auto &members = *expected->array();
  if (members.size() != 1 || members[0].array()->at(0).array() != nullptr) {
    return std::nullopt;
  }
  return ToItem(members[0]);
}

std::string Joined(const json::Value &lines) {
  std::string field;
  for (const auto &line : *lines.array()) {
    field += (field.empty() ? "" : ", ") + *line.string();
  }
  return field;
}

/// Runs one vector; false when it is about something else than Items and lists.
bool Run(const json::Value &vector) {
  const auto &type = *vector.Find("header_type")->string();
  if (type != "item" && type != "list") {
    return false;
  }
  const auto field = Joined(*vector.Find("raw"));
  SCOPED_TRACE(*vector.Find("name")->string() + ": " + field);
  const auto expected = Expected(vector, type == "list");
  const auto item = sf::ParseItem(field);
  if (!item) {
    EXPECT_TRUE(!expected || vector.Flag("can_fail")) << ErrorName(item.error());
    return true;
  }
  EXPECT_TRUE(expected) << "this is no Item, but was read as one";
  if (expected) {
    EXPECT_EQ(*item, *expected);
    const auto *const canonical = vector.Find("canonical");
    const auto text = sf::SerializeItem(*item);
    EXPECT_TRUE(text);
    EXPECT_EQ(text.value_or("none"), canonical == nullptr ? field : Joined(*canonical));
  }
  return true;
}

int RunDirectory(const fs::path &directory) {
  int count = 0;
  for (const auto &entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() != ".json") {
      continue;
    }
    SCOPED_TRACE(entry.path().filename().string());
    std::ifstream file{entry.path(), std::ios::binary};
    const std::string text{std::istreambuf_iterator{file}, {}};
    const auto document = json::Parse(text);
    for (const auto &vector : *document.array()) {
      count += Run(vector) ? 1 : 0;
    }
  }
  return count;
}

} // namespace

TEST(WireStructuredFieldVectors, Ours) {
  EXPECT_GE(RunDirectory(fs::path{NGM_SOURCE_ROOT} / "tests/data/vectors"), 50);
}

TEST(WireStructuredFieldVectors, HttpWorkingGroups) {
  const auto directory = fs::path{NGM_SOURCE_ROOT}.parent_path() / "shared/vectors";
  if (!fs::is_directory(directory)) {
    GTEST_SKIP() << "the working group's vectors are not there (../shared/vectors)";
  }
  EXPECT_GT(RunDirectory(directory), 0);
}
