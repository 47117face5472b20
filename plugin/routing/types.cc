#include "ngmasque/routing/types.h"

#include <algorithm>

namespace ngmasque {

std::size_t FourTupleHash::operator()(const FourTuple &tuple) const noexcept {
  std::array<std::uint8_t, 2 * (16 + 4 + 2)> bytes;
  auto to = bytes.begin();
  for (const auto *end : {&tuple.local, &tuple.remote}) {
    to = std::ranges::copy(end->address, to).out;
    for (int shift = 0; shift < 32; shift += 8) {
      *to++ = static_cast<std::uint8_t>(end->scope >> shift);
    }
    *to++ = static_cast<std::uint8_t>(end->port);
    *to++ = static_cast<std::uint8_t>(end->port >> 8);
  }
  return static_cast<std::size_t>(SipHash<1, 3>(key_, bytes));
}

} // namespace ngmasque
