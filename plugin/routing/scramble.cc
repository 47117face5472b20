#include "ngmasque/routing/scramble.h"

#include <algorithm>
#include <utility>

// GnuTLS offers no cipher for single blocks.  It stands on nettle, which does.
#include <nettle/aes.h>
#include <nettle/ctr.h>

namespace ngmasque {

namespace {

static_assert(Scramble::kMinBehindId == AES_BLOCK_SIZE);

using Block = std::array<std::uint8_t, AES_BLOCK_SIZE>;

// The counter counts up on all of its 128 bits.
void Ctr(const void *ctx, nettle_cipher_func *encrypt, Block counter,
         std::span<std::uint8_t> bytes) {
  ctr_crypt(ctx, encrypt, counter.size(), counter.data(), bytes.size(), bytes.data(),
            bytes.data());
}

void EncryptBlock(const void *ctx, std::size_t length, std::uint8_t *dst,
                  const std::uint8_t *src) {
  aes128_encrypt(static_cast<const aes128_ctx *>(ctx), length, dst, src);
}

// Where the initialization vector is; empty if it would be behind the end.
std::span<std::uint8_t> FindIv(std::span<std::uint8_t> packet, std::size_t id_length) {
  if (id_length >= packet.size()) {
    return {};
  }
  const auto behind = packet.subspan(1 + id_length);
  return behind.first(behind.size() < Scramble::kMinBehindId ? 0 : Scramble::kMinBehindId);
}

// What is the same in both directions: all but the vector itself.
//
// The first byte and what follows the vector are one input of AES-CTR.  So the first byte is put
// where it is next to the rest, in the vector's last place, and nothing has to be copied.
void CryptAround(const aes128_ctx &key, const Block &iv, std::span<std::uint8_t> packet,
                 std::size_t id_length) {
  const auto joint = id_length + Scramble::kMinBehindId;
  packet[joint] = packet[0];
  Ctr(&key, EncryptBlock, iv, packet.subspan(joint));
  //= draft-ietf-masque-quic-proxy, section 6.3.2
  //# This ensures that the Header Form bit
  //# is zero, as required by the QUIC invariants
  packet[0] = packet[joint] & 0x7f;
}

} // namespace

// k1 and k2 of each side: the first half of its key, for AES-CTR, and the second, for the vector.
struct Scramble::Keys {
  aes128_ctx own_ctr;
  aes128_ctx own_iv;
  aes128_ctx peer_ctr;
  aes128_ctx peer_iv; // To decrypt.
};

Scramble::Scramble(const ScrambleKey &own, const ScrambleKey &peer) {
  auto keys = std::make_unique<Keys>();
  aes128_set_encrypt_key(&keys->own_ctr, own.data());
  aes128_set_encrypt_key(&keys->own_iv, own.data() + AES128_KEY_SIZE);
  aes128_set_encrypt_key(&keys->peer_ctr, peer.data());
  aes128_set_decrypt_key(&keys->peer_iv, peer.data() + AES128_KEY_SIZE);
  keys_ = std::move(keys);
}

Scramble::~Scramble() = default;

bool Scramble::Encode(std::span<std::uint8_t> packet, std::size_t id_length) const {
  const auto place = FindIv(packet, id_length);
  if (place.empty()) {
    return false;
  }
  Block iv;
  std::ranges::copy(place, iv.begin());
  CryptAround(keys_->own_ctr, iv, packet, id_length);
  aes128_encrypt(&keys_->own_iv, iv.size(), place.data(), iv.data());
  return true;
}

bool Scramble::Decode(std::span<std::uint8_t> packet, std::size_t id_length) const {
  const auto place = FindIv(packet, id_length);
  if (place.empty()) {
    return false;
  }
  Block iv;
  aes128_decrypt(&keys_->peer_iv, iv.size(), iv.data(), place.data());
  CryptAround(keys_->peer_ctr, iv, packet, id_length);
  std::ranges::copy(iv, place.begin());
  return true;
}

} // namespace ngmasque
