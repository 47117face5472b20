// What the tests of wire/ share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace wire_test {

/// The input of every test is one of these, allocated for its very size: AddressSanitizer sees a
/// read behind its end.
using Bytes = std::vector<std::uint8_t>;

/// From hexadecimal digits; spaces are left out.
inline Bytes Hex(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  Bytes bytes;
  bool high = true;
  for (const auto c : text) {
    if (c == ' ') {
      continue;
    }
    const auto digit = static_cast<std::uint8_t>(digits.find(c));
    if (high) {
      bytes.push_back(static_cast<std::uint8_t>(digit << 4));
    } else {
      bytes.back() = static_cast<std::uint8_t>(bytes.back() | digit);
    }
    high = !high;
  }
  return {bytes.begin(), bytes.end()};
}

inline Bytes ToBytes(std::span<const std::uint8_t> span) { return {span.begin(), span.end()}; }

inline Bytes Concat(std::initializer_list<std::span<const std::uint8_t>> parts) {
  Bytes all;
  for (const auto part : parts) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return {all.begin(), all.end()};
}

/// The same numbers on every run and with every C++ library.  As an argument of SCOPED_TRACE it
/// tells how to get them again.
class Random {
public:
  explicit Random(std::uint64_t seed) : seed_{seed}, engine_{seed} {}

  std::uint64_t Next() { return engine_(); }

  /// 0 to `limit` - 1.
  std::size_t Below(std::size_t limit) { return engine_() % limit; }

  Bytes Some(std::size_t length) {
    Bytes bytes(length);
    for (auto &byte : bytes) {
      byte = static_cast<std::uint8_t>(engine_());
    }
    return bytes;
  }

  friend std::ostream &operator<<(std::ostream &out, const Random &random) {
    return out << "random seed " << random.seed_;
  }

private:
  std::uint64_t seed_;
  std::mt19937_64 engine_;
};

} // namespace wire_test
