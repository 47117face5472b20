// A reader of JSON (RFC 8259) for test vectors.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace json {

struct Value;

/// As it is written: for structured fields 1 and 1.0 are two things.
struct Number {
  std::string text;
};

using Array = std::vector<Value>;
using Object = std::vector<std::pair<std::string, Value>>;

struct Value {
  std::variant<std::nullptr_t, bool, Number, std::string, Array, Object> data;

  [[nodiscard]] const bool *boolean() const { return std::get_if<bool>(&data); }
  [[nodiscard]] const Number *number() const { return std::get_if<Number>(&data); }
  [[nodiscard]] const std::string *string() const { return std::get_if<std::string>(&data); }
  [[nodiscard]] const Array *array() const { return std::get_if<Array>(&data); }

  /// The member of an object; null when there is none or this is no object.
  [[nodiscard]] const Value *Find(std::string_view key) const;
  /// The same for members that are true or false or not there.
  [[nodiscard]] bool Flag(std::string_view key) const;
};

/// Throws std::runtime_error with the offset when `text` is not JSON.  Only for trusted files: the
/// depth is not bounded.
[[nodiscard]] Value Parse(std::string_view text);

} // namespace json
