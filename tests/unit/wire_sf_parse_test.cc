// Reading Items: errors, limits and hostile input.  What each input means is in the vectors.

#include "ngmasque/wire/structured_field.h"

#include "wire_support.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

using namespace ngmasque;
using namespace wire_test;
using sf::ParseItem;

namespace {

std::optional<WireError> ErrorOf(std::string_view field) {
  const auto item = ParseItem(field);
  return item ? std::nullopt : std::optional{item.error()};
}

sf::BareItem Value(std::string_view field) {
  const auto item = ParseItem(field);
  EXPECT_TRUE(item) << field;
  return item ? item->value : sf::BareItem{};
}

std::string Repeated(std::string_view text, std::size_t count) {
  std::string all;
  while (count-- > 0) {
    all += text;
  }
  return all;
}

/// ";k0;k1;..."
std::string ManyParameters(std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    text += ";k" + std::to_string(i);
  }
  return text;
}

/// An Item with all types, for taking apart.
constexpr std::string_view kAllTypes =
  R"(" \"q\\ ";a=-2;b=1.5;c="x";*d=y/:z;e=:AAEC:;f=?0;g=@-1;h=%"z%c3%bc";i)";

} // namespace

TEST(WireStructuredField, EachTypeIsItsOwn) {
  EXPECT_EQ(Value("1"), sf::BareItem{sf::Integer{1}});
  EXPECT_EQ(Value("1.0"), sf::BareItem{sf::Decimal{1000}});
  EXPECT_EQ(Value("\"1\""), sf::BareItem{sf::String{"1"}});
  EXPECT_EQ(Value("a"), sf::BareItem{sf::Token{"a"}});
  EXPECT_EQ(Value(":AQ==:"), sf::BareItem{sf::ByteSequence{1}});
  EXPECT_EQ(Value("?1"), sf::BareItem{true});
  EXPECT_EQ(Value("@1"), sf::BareItem{sf::Date{1}});
  EXPECT_EQ(Value("%\"1\""), sf::BareItem{sf::DisplayString{"1"}});
}

TEST(WireStructuredField, ZeroLengthByteSequence) {
  EXPECT_EQ(Value("::"), sf::BareItem{sf::ByteSequence{}});
}

TEST(WireStructuredField, Base64WithoutPaddingOrWithPadBits) {
  //= RFC 8941, section 4.2.7
  //# parsers SHOULD NOT fail when "=" padding is not present, unless they
  //# cannot be configured to do so.
  EXPECT_EQ(Value(":aGVsbG8:"), Value(":aGVsbG8=:"));
  EXPECT_EQ(Value(":iQ:"), Value(":iQ==:"));
  //= RFC 8941, section 4.2.7
  //# parsers SHOULD NOT fail when non-zero pad bits are present, unless
  //# they cannot be configured to do so.
  EXPECT_EQ(Value(":iZ==:"), sf::BareItem{sf::ByteSequence{0x89}});
}

TEST(WireStructuredField, CharactersOutsideBase64) {
  //= RFC 8941, section 4.2.7
  //# parsers MUST fail on characters outside the base64 alphabet and on
  //# line feeds in encoded data.
  constexpr std::string_view alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (int c = 0; c < 256; ++c) {
    const auto field = std::string{":AAA"} + static_cast<char>(c) + ":";
    // '=' is the padding here, and ':' the end.
    const bool good = alphabet.contains(static_cast<char>(c)) || c == '=';
    EXPECT_EQ(ErrorOf(field),
              good ? std::nullopt
                   : std::optional{c == ':' ? WireError::kTrailing : WireError::kByteSequence})
      << c;
  }
}

TEST(WireStructuredField, ErrorsSayWhatIsWrong) {
  using enum WireError;
  EXPECT_EQ(ErrorOf(""), kEmpty);
  EXPECT_EQ(ErrorOf("  "), kEmpty);
  EXPECT_EQ(ErrorOf("1;a="), kEmpty);
  EXPECT_EQ(ErrorOf("(1)"), kUnknownType);
  EXPECT_EQ(ErrorOf("\t1"), kUnknownType);
  EXPECT_EQ(ErrorOf("-"), kNumber);
  EXPECT_EQ(ErrorOf("1234567890123456"), kNumber);
  EXPECT_EQ(ErrorOf("1."), kNumber);
  EXPECT_EQ(ErrorOf("\"a"), kString);
  EXPECT_EQ(ErrorOf(":AA=A:"), kByteSequence);
  EXPECT_EQ(ErrorOf("?2"), kBoolean);
  EXPECT_EQ(ErrorOf("@1.5"), kDate);
  EXPECT_EQ(ErrorOf("%a"), kDisplayString);
  EXPECT_EQ(ErrorOf("1;A"), kKey);
  EXPECT_EQ(ErrorOf("1, 2"), kTrailing);
  EXPECT_EQ(ErrorOf("1\n"), kTrailing);
  EXPECT_EQ(ErrorOf("a=1"), kTrailing);
}

TEST(WireStructuredField, ParametersAreFound) {
  const auto item = ParseItem("1;a=2;b");
  ASSERT_TRUE(item);
  ASSERT_NE(sf::FindParameter(item->parameters, "a"), nullptr);
  EXPECT_EQ(*sf::FindParameter(item->parameters, "a"), sf::BareItem{sf::Integer{2}});
  EXPECT_EQ(*sf::FindParameter(item->parameters, "b"), sf::BareItem{true});
  EXPECT_EQ(sf::FindParameter(item->parameters, "c"), nullptr);
  EXPECT_EQ(sf::FindParameter({}, ""), nullptr);
}

TEST(WireStructuredField, SizesThatHaveToBeSupported) {
  //= RFC 8941, section 3.1.2
  //# Parsers MUST support at least 256 parameters on an Item or Inner List,
  //# and support parameter keys with at least 64 characters.
  const auto many = ParseItem("1" + ManyParameters(256));
  ASSERT_TRUE(many);
  EXPECT_EQ(many->parameters.size(), 256u);
  EXPECT_TRUE(ParseItem("1;" + std::string(64, 'k')));
  //= RFC 8941, section 3.3.3
  //# Parsers MUST support Strings (after any decoding) with at least 1024
  //# characters.
  EXPECT_EQ(Value('"' + Repeated("\\\"", 1024) + '"'), sf::BareItem{std::string(1024, '"')});
  //= RFC 8941, section 3.3.4
  //# Parsers MUST support Tokens with at least 512 characters.
  EXPECT_EQ(Value(std::string(512, 't')), sf::BareItem{sf::Token{std::string(512, 't')}});
  //= RFC 8941, section 3.3.5
  //# Parsers MUST support Byte Sequences with at least 16384 octets after
  //# decoding.
  EXPECT_EQ(Value(':' + Repeated("AAAA", 16384 / 3) + "AA==:"),
            sf::BareItem{sf::ByteSequence(16384)});
}

TEST(WireStructuredField, LimitOfTheLength) {
  EXPECT_EQ(Value(std::string(sf::kMaxLength, 't')),
            sf::BareItem{sf::Token{std::string(sf::kMaxLength, 't')}});
  EXPECT_EQ(ErrorOf(std::string(sf::kMaxLength + 1, 't')), WireError::kTooLong);
  EXPECT_EQ(ErrorOf(std::string(sf::kMaxLength + 1, ' ')), WireError::kTooLong);
}

TEST(WireStructuredField, LimitOfTheParameters) {
  const auto most = ParseItem("1" + ManyParameters(sf::kMaxParameters));
  ASSERT_TRUE(most);
  EXPECT_EQ(most->parameters.size(), sf::kMaxParameters);
  EXPECT_EQ(ErrorOf("1" + ManyParameters(sf::kMaxParameters + 1)), WireError::kTooManyParameters);
  // Repeated ones take no memory, but time.
  EXPECT_FALSE(ErrorOf("1" + Repeated(";a", sf::kMaxParameters)));
  EXPECT_EQ(ErrorOf("1" + Repeated(";a", sf::kMaxParameters + 1)), WireError::kTooManyParameters);
}

TEST(WireStructuredField, EveryStringOfTwoBytes) {
  // Which first bytes may stand alone or before a second one; each good one written back.
  int good = 0;
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string field{static_cast<char>(first), static_cast<char>(second)};
      const auto item = ParseItem(field);
      if (item) {
        ++good;
        const auto text = sf::SerializeItem(*item);
        ASSERT_TRUE(text);
        ASSERT_EQ(ParseItem(*text), item) << first << " " << second;
      }
    }
  }
  // Tokens of 53 first characters and 79 second ones; a digit or '-' and a digit; one of 63 single
  // characters and a space before or behind it; '@' and a digit; "", ::, ?0 and ?1.
  EXPECT_EQ(good, 53 * 79 + 11 * 10 + 63 * 2 + 10 + 4);
}

TEST(WireStructuredField, EveryTruncation) {
  ASSERT_FALSE(ErrorOf(kAllTypes));
  for (std::size_t length = 0; length < kAllTypes.size(); ++length) {
    // In memory of its own: AddressSanitizer sees a read behind the end.
    const std::vector<char> part(kAllTypes.begin(),
                                 kAllTypes.begin() + static_cast<std::ptrdiff_t>(length));
    const std::string_view field{part.data(), part.size()};
    const auto item = ParseItem(field);
    // It is an Item where a value or key has ended or could end.
    const auto last = field.empty() ? '\0' : field.back();
    if (field.size() < 8 || last == ';' || last == '=' || last == '@' || last == '?' ||
        last == '%' || last == '-' || last == '.' || last == ',') {
      EXPECT_FALSE(item) << field;
    }
    if (item) {
      const auto text = sf::SerializeItem(*item);
      ASSERT_TRUE(text);
      EXPECT_EQ(ParseItem(*text), item) << field;
    }
  }
}

TEST(WireStructuredField, MutationsOfAGoodOne) {
  Random random{11};
  SCOPED_TRACE(random);
  constexpr std::string_view interesting = "\":?@%;=-.,*()\\ \t\n09azAZ/+_~\x7f\x80\xff";
  int good = 0;
  for (int i = 0; i < 50'000; ++i) {
    std::string field{kAllTypes};
    for (auto count = 1 + random.Below(3); count-- > 0;) {
      const auto at = random.Below(field.size());
      switch (random.Below(3)) {
      case 0:
        field.erase(at, 1 + random.Below(4));
        break;
      case 1:
        field.insert(at, 1, interesting[random.Below(interesting.size())]);
        break;
      default:
        field[at] = interesting[random.Below(interesting.size())];
        break;
      }
    }
    if (const auto item = ParseItem(field)) {
      ++good;
      const auto text = sf::SerializeItem(*item);
      ASSERT_TRUE(text) << field;
      ASSERT_EQ(ParseItem(*text), item) << field;
      ASSERT_EQ(sf::SerializeItem(*ParseItem(*text)), text) << field;
    }
  }
  EXPECT_GT(good, 1000) << "the mutations are too wild to test much";
}

TEST(WireStructuredField, RandomBytes) {
  Random random{12};
  SCOPED_TRACE(random);
  for (int i = 0; i < 100'000; ++i) {
    const auto bytes = random.Some(random.Below(16));
    const std::string_view field{reinterpret_cast<const char *>(bytes.data()), bytes.size()};
    if (const auto item = ParseItem(field)) {
      ASSERT_TRUE(sf::SerializeItem(*item));
    }
  }
}

TEST(WireStructuredField, EveryErrorHasAName) {
  for (int error = 0; error <= static_cast<int>(WireError::kTrailing); ++error) {
    EXPECT_NE(ErrorName(static_cast<WireError>(error)), "unknown error") << error;
  }
}
