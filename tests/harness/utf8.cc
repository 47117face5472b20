#include "utf8.h"

#include <algorithm>

namespace harness {

namespace {

/// Length of the UTF-8 sequence that `text` begins with, 0 if it begins with none.
std::size_t SequenceLength(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto first = byte(0);
  const std::size_t length = first < 0x80                    ? 1
                             : first < 0xc2 || first >= 0xf5 ? 0
                             : first < 0xe0                  ? 2
                             : first < 0xf0                  ? 3
                                                             : 4;
  if (length < 2 || text.size() < length ||
      !std::ranges::all_of(text.substr(1, length - 1), [](char c) { return (c & 0xc0) == 0x80; })) {
    return length == 1 ? 1 : 0;
  }
  // Overlong forms, surrogates, and what is beyond U+10FFFF.
  const bool low = byte(1) < (first == 0xf0 ? 0x90 : 0xa0);
  return (first == 0xe0 || first == 0xf0) && low                        ? 0
         : (first == 0xed && !low) || (first == 0xf4 && byte(1) > 0x8f) ? 0
                                                                        : length;
}

} // namespace

std::string ValidUtf8(std::string_view text) {
  std::string valid;
  while (!text.empty()) {
    const auto length = SequenceLength(text);
    valid += length == 0 ? "?" : text.substr(0, length);
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return valid;
}

} // namespace harness
