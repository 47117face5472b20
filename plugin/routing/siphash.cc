#include "ngmasque/routing/siphash.h"

#include <bit>

namespace ngmasque {

namespace {
struct State {
  std::uint64_t v0, v1, v2, v3;

  void Round() noexcept {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }

  template <int rounds> void Absorb(std::uint64_t block) noexcept {
    v3 ^= block;
    for (int i = 0; i < rounds; ++i) {
      Round();
    }
    v0 ^= block;
  }
};

// `size` is 0 to 8.  Compilers make one instruction of a constant 8.
std::uint64_t Little(const std::uint8_t *bytes, std::size_t size) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i) {
    value |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
  }
  return value;
}
} // namespace

template <int compression, int finalization>
std::uint64_t SipHash(const HashKey &key, std::span<const std::uint8_t> bytes) noexcept {
  State state{
    .v0 = key.k0 ^ 0x736f6d6570736575,
    .v1 = key.k1 ^ 0x646f72616e646f6d,
    .v2 = key.k0 ^ 0x6c7967656e657261,
    .v3 = key.k1 ^ 0x7465646279746573,
  };
  auto rest = bytes;
  for (; rest.size() >= 8; rest = rest.subspan(8)) {
    state.Absorb<compression>(Little(rest.data(), 8));
  }
  // The last block ends with the length, modulo 256.
  state.Absorb<compression>(Little(rest.data(), rest.size()) |
                            static_cast<std::uint64_t>(bytes.size()) << 56);
  state.v2 ^= 0xff;
  for (int i = 0; i < finalization; ++i) {
    state.Round();
  }
  return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

template std::uint64_t SipHash<1, 3>(const HashKey &key,
                                     std::span<const std::uint8_t> bytes) noexcept;
template std::uint64_t SipHash<2, 4>(const HashKey &key,
                                     std::span<const std::uint8_t> bytes) noexcept;

} // namespace ngmasque
