#include "json.h"

#include <cstdint>
#include <stdexcept>

namespace json {

namespace {

class Parser {
public:
  explicit Parser(std::string_view text) : text_{text} {}

  Value Document() {
    auto value = Next();
    if (Peek() != '\0') {
      Fail("something after the value");
    }
    return value;
  }

private:
  [[noreturn]] void Fail(const std::string &what) const {
    throw std::runtime_error("JSON: " + what + " at offset " + std::to_string(at_));
  }

  /// The next character that is no white space, 0 at the end.
  char Peek() {
    while (at_ < text_.size() && std::string_view{" \t\r\n"}.contains(text_[at_])) {
      ++at_;
    }
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  bool Skip(std::string_view word) {
    Peek();
    const bool there = text_.substr(at_).starts_with(word);
    at_ += there ? word.size() : 0;
    return there;
  }

  void Expect(std::string_view word) {
    if (!Skip(word)) {
      Fail("no " + std::string{word});
    }
  }

  char Take() {
    if (at_ == text_.size()) {
      Fail("end of the text");
    }
    return text_[at_++];
  }

  Value Next() {
    switch (Peek()) {
    case '{':
      return {Members()};
    case '[':
      return {Elements()};
    case '"':
      return {String()};
    default:
      break;
    }
    if (Skip("true")) {
      return {true};
    }
    if (Skip("false")) {
      return {false};
    }
    if (Skip("null")) {
      return {nullptr};
    }
    const auto end = text_.find_first_not_of("+-.0123456789eE", at_);
    const auto number = text_.substr(at_, end == text_.npos ? end : end - at_);
    if (number.empty()) {
      Fail("no value");
    }
    at_ += number.size();
    return {Number{std::string{number}}};
  }

  Object Members() {
    Object members;
    Expect("{");
    if (Skip("}")) {
      return members;
    }
    do {
      Peek();
      auto key = String();
      Expect(":");
      members.emplace_back(std::move(key), Next());
    } while (Skip(","));
    Expect("}");
    return members;
  }

  Array Elements() {
    Array elements;
    Expect("[");
    if (Skip("]")) {
      return elements;
    }
    do {
      elements.push_back(Next());
    } while (Skip(","));
    Expect("]");
    return elements;
  }

  std::string String() {
    std::string string;
    Expect("\"");
    while (true) {
      const auto c = Take();
      if (c == '"') {
        return string;
      }
      if (c != '\\') {
        string += c;
        continue;
      }
      const auto escaped = Take();
      constexpr std::string_view letters = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
      if (escaped == 'u') {
        AppendUtf8(string, CodePoint());
      } else if (const auto i = letters.find(escaped); i != letters.npos) {
        string += meanings[i];
      } else {
        Fail("bad escape");
      }
    }
  }

  std::uint32_t FourDigits() {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      const auto digit =
        std::string_view{"0123456789abcdef"}.find(static_cast<char>(Take() | 0x20));
      if (digit == std::string_view::npos) {
        Fail("bad \\u escape");
      }
      value = value << 4 | static_cast<std::uint32_t>(digit);
    }
    return value;
  }

  std::uint32_t CodePoint() {
    const auto first = FourDigits();
    if (first < 0xd800 || first > 0xdbff) {
      return first;
    }
    if (Take() != '\\' || Take() != 'u') {
      Fail("half a surrogate pair");
    }
    return 0x10000 + ((first - 0xd800) << 10) + (FourDigits() - 0xdc00);
  }

  static void AppendUtf8(std::string &string, std::uint32_t point) {
    const auto append = [&](std::uint32_t byte) { string += static_cast<char>(byte); };
    if (point < 0x80) {
      append(point);
    } else if (point < 0x800) {
      append(0xc0 | point >> 6);
      append(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
      append(0xe0 | point >> 12);
      append(0x80 | (point >> 6 & 0x3f));
      append(0x80 | (point & 0x3f));
    } else {
      append(0xf0 | point >> 18);
      append(0x80 | (point >> 12 & 0x3f));
      append(0x80 | (point >> 6 & 0x3f));
      append(0x80 | (point & 0x3f));
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

} // namespace

const Value *Value::Find(std::string_view key) const {
  if (const auto *const members = std::get_if<Object>(&data)) {
    for (const auto &[name, value] : *members) {
      if (name == key) {
        return &value;
      }
    }
  }
  return nullptr;
}

bool Value::Flag(std::string_view key) const {
  const auto *const member = Find(key);
  return member != nullptr && member->boolean() != nullptr && *member->boolean();
}

Value Parse(std::string_view text) { return Parser{text}.Document(); }

} // namespace json
