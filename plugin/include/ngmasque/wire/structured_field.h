// Items of structured fields: RFC 8941 with the two types that RFC 9651, which obsoletes it, adds.
// The headers of CONNECT-UDP are all Items; lists and dictionaries are not read, and a list of two
// or more is an error, as it has to be.
//
// Date and Display String are read although the draft of 2020 knows only RFC 8941: parameters of
// our headers are there to be ignored, and a client of today may send one of these types.
//
// A field that came in several lines is the caller's to refuse: RFC 8941 would join them with
// commas, and no Item survives that but a String.
#pragma once

#include "ngmasque/wire/error.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace ngmasque::sf {

/// Longer field values, in bytes, are refused before they are read.  More than three times what
/// the longest Byte Sequence takes that has to be supported.
inline constexpr std::size_t kMaxLength = 65536;

/// More parameters are refused; repeated keys count each time.  Bounds the memory, and the time:
/// each key is compared with those before it.
inline constexpr std::size_t kMaxParameters = 1024;

/// The largest Integer, Date and number of thousandths in a Decimal: 15 digits.  The smallest is
/// its negative.
inline constexpr std::int64_t kMaxInteger = 999'999'999'999'999;

/// RFC 8941, section 3.3.1: -kMaxInteger to kMaxInteger.
using Integer = std::int64_t;

/// RFC 8941, section 3.3.2.  Exact: twelve digits before the point and three after it.
struct Decimal {
  std::int64_t thousandths = 0; ///< -kMaxInteger to kMaxInteger.
  [[nodiscard]] bool operator==(const Decimal &) const = default;
};

/// RFC 8941, section 3.3.3: printable ASCII, without quotes and backslashes around and in it.
using String = std::string;

/// RFC 8941, section 3.3.4.
struct Token {
  std::string value;
  [[nodiscard]] bool operator==(const Token &) const = default;
};

/// RFC 8941, section 3.3.5: the bytes, decoded.
using ByteSequence = std::vector<std::uint8_t>;

/// RFC 8941, section 3.3.6.
using Boolean = bool;

/// RFC 9651, section 3.3.7.
struct Date {
  std::int64_t seconds = 0; ///< Since 1970-01-01T00:00:00Z, without leap seconds.
  [[nodiscard]] bool operator==(const Date &) const = default;
};

/// RFC 9651, section 3.3.8.
struct DisplayString {
  std::string value; ///< UTF-8.
  [[nodiscard]] bool operator==(const DisplayString &) const = default;
};

using BareItem =
  std::variant<Integer, Decimal, String, Token, ByteSequence, Boolean, Date, DisplayString>;

struct Parameter {
  std::string key; ///< Lower-case letters, digits, '_', '-', '.' and '*'.
  BareItem value;
  [[nodiscard]] bool operator==(const Parameter &) const = default;
};

/// In order, with distinct keys.
using Parameters = std::vector<Parameter>;

struct Item {
  BareItem value;
  Parameters parameters;
  [[nodiscard]] bool operator==(const Item &) const = default;
};

/// The value of the parameter `key`, or null.
[[nodiscard]] const BareItem *FindParameter(const Parameters &parameters, std::string_view key);

/// Reads the one value of a field: RFC 8941, section 4.2.  Of a repeated parameter the last value
/// counts, in the place of the first.  Byte Sequences may lack their padding.
/// Errors: kEmpty, kTooLong, and those of structured fields but for kToken.
[[nodiscard]] std::expected<Item, WireError> ParseItem(std::string_view field);

/// Writes an Item: RFC 8941, section 4.1.3.  ParseItem() reads it back, as long as it is within the
/// two limits above and its keys are distinct.
/// Errors: kNumber, kString, kToken, kDate, kDisplayString, kKey.
[[nodiscard]] std::expected<std::string, WireError> SerializeItem(const Item &item);

} // namespace ngmasque::sf
