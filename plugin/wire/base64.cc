#include "base64.h"

#include <array>
#include <cstddef>

namespace ngmasque {

namespace {

constexpr std::string_view alphabet =
  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::uint8_t kNotInAlphabet = 64;

constexpr auto sextets = [] {
  std::array<std::uint8_t, 256> table;
  table.fill(kNotInAlphabet);
  for (std::size_t i = 0; i < alphabet.size(); ++i) {
    table[static_cast<unsigned char>(alphabet[i])] = static_cast<std::uint8_t>(i);
  }
  return table;
}();

/// Takes up to two '=' off the end; false when there are some and not as many as there have to be.
bool RemovePadding(std::string_view &text) {
  const auto whole = text.size();
  while (whole - text.size() < 2 && text.ends_with('=')) {
    text.remove_suffix(1);
  }
  return whole == text.size() || whole % 4 == 0;
}

} // namespace

std::string EncodeBase64(std::span<const std::uint8_t> bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  while (!bytes.empty()) {
    const auto group = bytes.first(bytes.size() < 3 ? bytes.size() : 3);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      bits = bits << 8 | (i < group.size() ? group[i] : 0u);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      text += i <= group.size() ? alphabet[bits >> (18 - 6 * i) & 0x3f] : '=';
    }
    bytes = bytes.subspan(group.size());
  }
  return text;
}

std::expected<std::vector<std::uint8_t>, WireError> DecodeBase64(std::string_view text) {
  // A last group of one character is six bits, which are no byte.
  if (!RemovePadding(text) || text.size() % 4 == 1) {
    return std::unexpected(WireError::kByteSequence);
  }
  std::vector<std::uint8_t> bytes;
  bytes.reserve(text.size() / 4 * 3 + 2);
  std::uint32_t bits = 0; // The upper ones, which have been used, fall out on the left.
  unsigned unused = 0;
  for (const auto c : text) {
    const auto sextet = sextets[static_cast<unsigned char>(c)];
    if (sextet == kNotInAlphabet) {
      return std::unexpected(WireError::kByteSequence);
    }
    bits = bits << 6 | sextet;
    unused += 6;
    if (unused >= 8) {
      unused -= 8;
      bytes.push_back(static_cast<std::uint8_t>(bits >> unused));
    }
  }
  return bytes;
}

} // namespace ngmasque
