#include "utf8.h"

#include <cstddef>

namespace ngmasque {

namespace {

/// The length of the sequence that `text` begins with, 0 when it is none.  RFC 3629, section 4.
std::size_t SequenceLength(std::string_view text) {
  const auto in = [&](std::size_t i, unsigned lowest, unsigned highest) {
    return i < text.size() && static_cast<unsigned char>(text[i]) >= lowest &&
           static_cast<unsigned char>(text[i]) <= highest;
  };
  const auto tail = [&](std::size_t i) { return in(i, 0x80, 0xbf); };
  if (in(0, 0x00, 0x7f)) {
    return 1;
  }
  if (in(0, 0xc2, 0xdf) && tail(1)) {
    return 2;
  }
  if ((in(0, 0xe0, 0xe0) && in(1, 0xa0, 0xbf) && tail(2)) ||
      (in(0, 0xe1, 0xec) && tail(1) && tail(2)) ||
      (in(0, 0xed, 0xed) && in(1, 0x80, 0x9f) && tail(2)) ||
      (in(0, 0xee, 0xef) && tail(1) && tail(2))) {
    return 3;
  }
  if ((in(0, 0xf0, 0xf0) && in(1, 0x90, 0xbf) && tail(2) && tail(3)) ||
      (in(0, 0xf1, 0xf3) && tail(1) && tail(2) && tail(3)) ||
      (in(0, 0xf4, 0xf4) && in(1, 0x80, 0x8f) && tail(2) && tail(3))) {
    return 4;
  }
  return 0;
}

} // namespace

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const auto length = SequenceLength(text);
    if (length == 0) {
      return false;
    }
    text.remove_prefix(length);
  }
  return true;
}

} // namespace ngmasque
