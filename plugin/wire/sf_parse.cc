#include "ngmasque/wire/structured_field.h"

#include "base64.h"
#include "sf_chars.h"
#include "utf8.h"

#include <algorithm>
#include <utility>

namespace ngmasque::sf {

namespace {

template <typename T> using Result = std::expected<T, WireError>;

/// The algorithms of RFC 8941, section 4.2, one function each.
class Parser {
public:
  explicit Parser(std::string_view input) : input_{input} {}

  Result<Item> Field();

private:
  [[nodiscard]] bool At(char c) const { return input_.starts_with(c); }
  bool Skip(char c);
  void SkipSpaces();
  /// Takes the longest front of characters for which `is` holds, but not more than `most`.
  template <typename Is> std::string_view TakeWhile(Is is, std::size_t most);
  template <typename Is> std::string_view TakeWhile(Is is) { return TakeWhile(is, input_.size()); }

  Result<BareItem> Bare();
  Result<BareItem> Number();
  Result<BareItem> QuotedString();
  Result<BareItem> Bytes();
  Result<BareItem> Bool();
  Result<BareItem> Seconds();
  Result<BareItem> Display();
  Result<Parameters> AllParameters();

  std::string_view input_; ///< What is still to be read.
};

bool Parser::Skip(char c) {
  const bool there = At(c);
  input_.remove_prefix(there ? 1 : 0);
  return there;
}

void Parser::SkipSpaces() {
  TakeWhile([](char c) { return c == ' '; });
}

template <typename Is> std::string_view Parser::TakeWhile(Is is, std::size_t most) {
  std::size_t length = 0;
  while (length < std::min(most, input_.size()) && is(input_[length])) {
    ++length;
  }
  const auto front = input_.substr(0, length);
  input_.remove_prefix(length);
  return front;
}

Result<Item> Parser::Field() {
  SkipSpaces();
  auto value = Bare();
  if (!value) {
    return std::unexpected(value.error());
  }
  auto parameters = AllParameters();
  if (!parameters) {
    return std::unexpected(parameters.error());
  }
  SkipSpaces();
  if (!input_.empty()) {
    return std::unexpected(WireError::kTrailing);
  }
  return Item{.value = std::move(*value), .parameters = std::move(*parameters)};
}

Result<BareItem> Parser::Bare() {
  if (input_.empty()) {
    return std::unexpected(WireError::kEmpty);
  }
  switch (const auto first = input_.front()) {
  case '"':
    return QuotedString();
  case ':':
    return Bytes();
  case '?':
    return Bool();
  case '@':
    return Seconds();
  case '%':
    return Display();
  default:
    if (first == '-' || IsDigit(first)) {
      return Number();
    }
    if (IsTokenStart(first)) {
      return Token{std::string{TakeWhile(IsTokenChar)}};
    }
    return std::unexpected(WireError::kUnknownType);
  }
}

// Section 4.2.4.  Digits beyond the allowed ones stay in the input, where the checks find them.
Result<BareItem> Parser::Number() {
  constexpr std::size_t integer_digits = 15, whole_digits = 12, fraction_digits = 3;
  const std::int64_t sign = Skip('-') ? -1 : 1;
  const auto whole = TakeWhile(IsDigit, integer_digits);
  std::int64_t value = 0;
  const auto append = [&](std::string_view digits) {
    for (const auto digit : digits) {
      value = value * 10 + (digit - '0');
    }
  };
  append(whole);
  if (whole.empty() || (!input_.empty() && IsDigit(input_.front()))) {
    return std::unexpected(WireError::kNumber);
  }
  if (!Skip('.')) {
    return Integer{sign * value};
  }
  const auto fraction = TakeWhile(IsDigit, fraction_digits);
  append(fraction);
  append(std::string_view{"000"}.substr(fraction.size()));
  if (whole.size() > whole_digits || fraction.empty() ||
      (!input_.empty() && IsDigit(input_.front()))) {
    return std::unexpected(WireError::kNumber);
  }
  return Decimal{.thousandths = sign * value};
}

// Section 4.2.5.
Result<BareItem> Parser::QuotedString() {
  Skip('"');
  String value;
  while (true) {
    value += TakeWhile([](char c) { return IsPrintable(c) && c != '"' && c != '\\'; });
    if (Skip('"')) {
      return value;
    }
    if (!Skip('\\') || (!At('"') && !At('\\'))) {
      return std::unexpected(WireError::kString);
    }
    value += input_.front();
    input_.remove_prefix(1);
  }
}

// Section 4.2.7.
Result<BareItem> Parser::Bytes() {
  Skip(':');
  const auto content = TakeWhile([](char c) { return c != ':'; });
  if (!Skip(':')) {
    return std::unexpected(WireError::kByteSequence);
  }
  //= RFC 8941, section 4.2.7
  //# parsers SHOULD NOT fail when "=" padding is not present, unless they
  //# cannot be configured to do so.
  //= RFC 8941, section 4.2.7
  //# parsers SHOULD NOT fail when non-zero pad bits are present, unless
  //# they cannot be configured to do so.
  //= RFC 8941, section 4.2.7
  //# parsers MUST fail on characters outside the base64 alphabet and on
  //# line feeds in encoded data.
  auto value = DecodeBase64(content);
  if (!value) {
    return std::unexpected(value.error());
  }
  return std::move(*value);
}

// Section 4.2.8.
Result<BareItem> Parser::Bool() {
  Skip('?');
  if (Skip('1')) {
    return true;
  }
  if (Skip('0')) {
    return false;
  }
  return std::unexpected(WireError::kBoolean);
}

// RFC 9651, section 4.2.9.
Result<BareItem> Parser::Seconds() {
  Skip('@');
  const auto number = Number();
  const auto *const seconds = number ? std::get_if<Integer>(&*number) : nullptr;
  if (seconds == nullptr) {
    return std::unexpected(WireError::kDate);
  }
  return Date{.seconds = *seconds};
}

// RFC 9651, section 4.2.10.
Result<BareItem> Parser::Display() {
  static constexpr std::string_view hex = "0123456789abcdef";
  Skip('%');
  if (!Skip('"')) {
    return std::unexpected(WireError::kDisplayString);
  }
  DisplayString text;
  while (true) {
    text.value += TakeWhile([](char c) { return IsPrintable(c) && c != '"' && c != '%'; });
    if (Skip('"')) {
      break;
    }
    if (!Skip('%')) {
      return std::unexpected(WireError::kDisplayString);
    }
    const auto digits = TakeWhile([](char c) { return hex.contains(c); }, 2);
    if (digits.size() != 2) {
      return std::unexpected(WireError::kDisplayString);
    }
    text.value += static_cast<char>(hex.find(digits[0]) << 4 | hex.find(digits[1]));
  }
  if (!IsUtf8(text.value)) {
    return std::unexpected(WireError::kDisplayString);
  }
  return text;
}

// Section 4.2.3.2.
Result<Parameters> Parser::AllParameters() {
  Parameters parameters;
  for (std::size_t count = 1; Skip(';'); ++count) {
    if (count > kMaxParameters) {
      return std::unexpected(WireError::kTooManyParameters);
    }
    SkipSpaces();
    if (input_.empty() || !IsKeyStart(input_.front())) {
      return std::unexpected(WireError::kKey);
    }
    const auto key = TakeWhile(IsKeyChar);
    Result<BareItem> value{true};
    if (Skip('=')) {
      value = Bare();
      if (!value) {
        return std::unexpected(value.error());
      }
    }
    const auto same = std::ranges::find(parameters, key, &Parameter::key);
    if (same != parameters.end()) {
      same->value = std::move(*value);
    } else {
      parameters.push_back({.key = std::string{key}, .value = std::move(*value)});
    }
  }
  return parameters;
}

} // namespace

std::expected<Item, WireError> ParseItem(std::string_view field) {
  //= RFC 8941, section 3.3.5
  //# Parsers MUST support Byte Sequences with at least 16384 octets after
  //# decoding.
  //= RFC 8941, section 3.1.2
  //# Parsers MUST support at least 256 parameters on an Item or Inner List,
  //# and support parameter keys with at least 64 characters.
  if (field.size() > kMaxLength) {
    return std::unexpected(WireError::kTooLong);
  }
  return Parser{field}.Field();
}

} // namespace ngmasque::sf
