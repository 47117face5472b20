// Writing Items.

#include "ngmasque/wire/structured_field.h"

#include "wire_support.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

using namespace ngmasque;
using namespace wire_test;
using sf::ParseItem;
using sf::SerializeItem;

namespace {

std::string Text(const sf::BareItem &value, const sf::Parameters &parameters = {}) {
  return SerializeItem({.value = value, .parameters = parameters}).value_or("error");
}

std::optional<WireError> ErrorOf(const sf::BareItem &value, const sf::Parameters &parameters = {}) {
  const auto text = SerializeItem({.value = value, .parameters = parameters});
  return text ? std::nullopt : std::optional{text.error()};
}

std::string RandomText(Random &random, std::string_view characters, std::size_t shortest) {
  std::string text;
  for (auto length = shortest + random.Below(12); length-- > 0;) {
    text += characters[random.Below(characters.size())];
  }
  return text;
}

std::int64_t RandomInteger(Random &random) {
  const auto value = static_cast<std::int64_t>(random.Next() % (sf::kMaxInteger + 1));
  return (random.Below(2) == 0 ? value : -value) >> random.Below(50);
}

sf::BareItem RandomValue(Random &random) {
  std::string printable;
  for (char c = ' '; c <= '~'; ++c) {
    printable += c;
  }
  switch (random.Below(8)) {
  case 0:
    return RandomInteger(random);
  case 1:
    return sf::Decimal{RandomInteger(random)};
  case 2:
    return RandomText(random, printable, 0);
  case 3:
    return sf::Token{"t" + RandomText(random, "!#$%&'*+-.^_`|~:/09azAZ", 0)};
  case 4:
    return random.Some(random.Below(256));
  case 5:
    return random.Below(2) == 0;
  case 6:
    return sf::Date{RandomInteger(random)};
  default: {
    std::string text;
    constexpr std::array<std::string_view, 7> pieces{"a", "\"", "%", "\n", "ü", "€", "😀"};
    for (auto count = random.Below(8); count-- > 0;) {
      text += pieces[random.Below(pieces.size())];
    }
    return sf::DisplayString{text};
  }
  }
}

} // namespace

TEST(WireStructuredFieldWriting, HeadersOfTheDraft) {
  const auto id = Hex("31323334");
  EXPECT_EQ(Text(id), ":MTIzNA==:");
  EXPECT_EQ(Text(sf::ByteSequence{}), "::");
  EXPECT_EQ(Text(sf::Integer{2}), "2");
}

TEST(WireStructuredFieldWriting, EachType) {
  EXPECT_EQ(Text(sf::Integer{-7}), "-7");
  EXPECT_EQ(Text(sf::String{"a\"b\\c"}), R"("a\"b\\c")");
  EXPECT_EQ(Text(sf::Token{"*a/b:c"}), "*a/b:c");
  EXPECT_EQ(Text(true), "?1");
  EXPECT_EQ(Text(false), "?0");
  EXPECT_EQ(Text(sf::Date{-1}), "@-1");
  EXPECT_EQ(Text(sf::DisplayString{"100% \"ü\"\n"}), R"(%"100%25 %22%c3%bc%22%0a")");
}

TEST(WireStructuredFieldWriting, Decimals) {
  EXPECT_EQ(Text(sf::Decimal{0}), "0.0");
  EXPECT_EQ(Text(sf::Decimal{1}), "0.001");
  EXPECT_EQ(Text(sf::Decimal{-10}), "-0.01");
  EXPECT_EQ(Text(sf::Decimal{-1500}), "-1.5");
  EXPECT_EQ(Text(sf::Decimal{2000}), "2.0");
  EXPECT_EQ(Text(sf::Decimal{sf::kMaxInteger}), "999999999999.999");
}

TEST(WireStructuredFieldWriting, Parameters) {
  //= RFC 8941, section 3.1.2
  //# Parameters whose value is Boolean true MUST omit that value when
  //# serialized.
  EXPECT_EQ(Text(sf::Integer{1}, {{"a", true}, {"b", false}, {"*c", sf::Integer{2}}}),
            "1;a;b=?0;*c=2");
}

TEST(WireStructuredFieldWriting, WhatCannotBeWritten) {
  using enum WireError;
  for (const auto value : {sf::kMaxInteger + 1, -sf::kMaxInteger - 1, INT64_MAX, INT64_MIN}) {
    EXPECT_EQ(ErrorOf(sf::Integer{value}), kNumber);
    EXPECT_EQ(ErrorOf(sf::Decimal{value}), kNumber);
    EXPECT_EQ(ErrorOf(sf::Date{value}), kDate);
  }
  for (const auto *const text : {"\n", "\x7f", "ü", "\t"}) {
    EXPECT_EQ(ErrorOf(sf::String{text}), kString);
  }
  for (const auto *const text : {"", "1a", "a b", "a\"", "ü", "_"}) {
    EXPECT_EQ(ErrorOf(sf::Token{text}), kToken);
  }
  for (const auto *const text : {"\x80", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80"}) {
    EXPECT_EQ(ErrorOf(sf::DisplayString{text}), kDisplayString);
  }
  for (const auto *const key : {"", "A", "0", "a b", "a=", "ü"}) {
    EXPECT_EQ(ErrorOf(true, {{key, true}}), kKey);
  }
  EXPECT_EQ(ErrorOf(true, {{"a", sf::Token{""}}}), kToken);
}

TEST(WireStructuredFieldWriting, ByteSequencesOfAllLengths) {
  Random random{13};
  SCOPED_TRACE(random);
  for (std::size_t length = 0; length <= 255; ++length) {
    const sf::Item item{.value = random.Some(length), .parameters = {}};
    const auto text = SerializeItem(item);
    ASSERT_TRUE(text);
    EXPECT_EQ(text->size(), 2 + (length + 2) / 3 * 4);
    EXPECT_EQ(ParseItem(*text), item) << *text;
  }
}

TEST(WireStructuredFieldWriting, RoundTripOfRandomItems) {
  Random random{14};
  SCOPED_TRACE(random);
  for (int i = 0; i < 20'000; ++i) {
    sf::Item item{.value = RandomValue(random), .parameters = {}};
    for (auto count = random.Below(4); count-- > 0;) {
      // The number keeps the keys apart.
      item.parameters.push_back({RandomText(random, "abz*", 1) +
                                   RandomText(random, "abz*09_-.", 0) + '.' + std::to_string(count),
                                 RandomValue(random)});
    }
    const auto text = SerializeItem(item);
    ASSERT_TRUE(text);
    ASSERT_EQ(ParseItem(*text), item) << *text;
  }
}
