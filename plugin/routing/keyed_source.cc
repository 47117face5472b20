#include "ngmasque/routing/keyed_source.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <nettle/aes.h>

namespace ngmasque {

namespace {

using Block = std::array<std::uint8_t, AES_BLOCK_SIZE>;

// The first byte of a block says what it is for; the next four are 0, which shows who has made it.
enum class Use : std::uint8_t { kId = 1, kMore, kKey };
constexpr std::size_t kZeros = 4;
constexpr std::size_t kWorkerAt = 1 + kZeros;
constexpr std::size_t kCounterAt = AES_BLOCK_SIZE - 8;

} // namespace

struct KeyedSource::Keys {
  aes128_ctx encrypt;
  aes128_ctx decrypt;
};

KeyedSource::KeyedSource(const HashKey &key, std::uint16_t worker, std::uint64_t first)
  : worker_(worker), counter_(first) {
  // Not the key of the hash tables itself: what is made with this one is seen by others.
  constexpr std::array<std::uint8_t, 2> kFirst{'v', 0}, kSecond{'v', 1};
  const std::array halves{SipHash<2, 4>(key, kFirst), SipHash<2, 4>(key, kSecond)};
  std::array<std::uint8_t, AES128_KEY_SIZE> bytes;
  static_assert(sizeof halves == sizeof bytes);
  std::memcpy(bytes.data(), halves.data(), bytes.size());
  auto keys = std::make_unique<Keys>();
  aes128_set_encrypt_key(&keys->encrypt, bytes.data());
  aes128_set_decrypt_key(&keys->decrypt, bytes.data());
  keys_ = std::move(keys);
}
KeyedSource::~KeyedSource() = default;
KeyedSource::KeyedSource(KeyedSource &&) noexcept = default;
KeyedSource &KeyedSource::operator=(KeyedSource &&) noexcept = default;

ConnectionId KeyedSource::DrawId(std::size_t length) {
  std::array<std::uint8_t, kMaxConnectionIdLength> bytes;
  for (std::size_t at = 0; at < length; at += AES_BLOCK_SIZE) {
    const auto block = Draw(static_cast<std::uint8_t>(at == 0 ? Use::kId : Use::kMore));
    std::ranges::copy(std::span(block).first(std::min(block.size(), length - at)),
                      bytes.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return ConnectionId::From(std::span(bytes).first(length)).value_or(ConnectionId());
}

ScrambleKey KeyedSource::DrawKey() {
  ScrambleKey key;
  for (std::size_t at = 0; at < key.size(); at += AES_BLOCK_SIZE) {
    std::ranges::copy(Draw(static_cast<std::uint8_t>(Use::kKey)),
                      key.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return key;
}

std::optional<std::uint16_t> KeyedSource::WorkerOf(std::span<const std::uint8_t> bytes) const {
  if (bytes.size() < kRoutedLength) {
    return std::nullopt;
  }
  Block block;
  aes128_decrypt(&keys_->decrypt, block.size(), block.data(), bytes.data());
  const auto zeros = std::span(block).subspan(1, kZeros);
  if (block[0] != static_cast<std::uint8_t>(Use::kId) ||
      std::ranges::any_of(zeros, [](std::uint8_t byte) { return byte != 0; })) {
    return std::nullopt;
  }
  return static_cast<std::uint16_t>(block[kWorkerAt] << 8 | block[kWorkerAt + 1]);
}

// Two workers with one key draw different blocks, as their numbers are in them.
//
//= draft-ietf-masque-quic-proxy, section 2.2
//# the client VCID MUST be constructed such that it is unpredictable to the client or to guarantee
//# no conflicts among all proxies sharing an IP address and port.
//
//= draft-ietf-masque-quic-proxy, section 5.10
//# Proxies MUST choose unpredictable client and target VCIDs to avoid forwarding loop attacks.
std::array<std::uint8_t, 16> KeyedSource::Draw(std::uint8_t use) {
  Block block{use};
  block[kWorkerAt] = static_cast<std::uint8_t>(worker_ >> 8);
  block[kWorkerAt + 1] = static_cast<std::uint8_t>(worker_);
  const auto counter = counter_++;
  for (std::size_t byte = 0; byte < sizeof counter; ++byte) {
    block[kCounterAt + byte] = static_cast<std::uint8_t>(counter >> (8 * byte));
  }
  aes128_encrypt(&keys_->encrypt, block.size(), block.data(), block.data());
  return block;
}

} // namespace ngmasque
