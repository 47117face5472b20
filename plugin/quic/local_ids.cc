#include "local_ids.h"

#include <cassert>
#include <utility>

#include <ngtcp2/ngtcp2_crypto.h>

namespace ngmasque {

LocalIds::LocalIds(std::size_t length, const Secrets &secrets, RandomSource random)
  : length_(length), secrets_(secrets), random_(std::move(random)) {
  assert(length >= kMinLength && length <= NGTCP2_MAX_CIDLEN);
}

// SipHash 2-4, as everybody sees the outcome; the rounds of hash tables are too few for that.
std::uint8_t LocalIds::Mask(std::span<const std::uint8_t> random) const {
  return static_cast<std::uint8_t>(SipHash<2, 4>(secrets_.worker, random));
}

bool LocalIds::Draw(std::uint8_t worker, std::span<std::uint8_t> id) const {
  if (id.size() != length_) {
    return false;
  }
  const auto random = id.subspan(1);
  if (!random_(random)) {
    return false;
  }
  id[0] = worker ^ Mask(random);
  return true;
}

std::optional<std::uint8_t> LocalIds::WorkerOf(std::span<const std::uint8_t> id) const {
  if (id.size() != length_) {
    return {};
  }
  return id[0] ^ Mask(id.subspan(1));
}

std::optional<ngtcp2_stateless_reset_token>
LocalIds::ResetToken(std::span<const std::uint8_t> id) const {
  if (id.size() > NGTCP2_MAX_CIDLEN) {
    return {};
  }
  ngtcp2_cid cid;
  ngtcp2_cid_init(&cid, id.data(), id.size());
  ngtcp2_stateless_reset_token token;
  if (ngtcp2_crypto_generate_stateless_reset_token(token.data, secrets_.reset.data(),
                                                   secrets_.reset.size(), &cid) != 0) {
    return {};
  }
  return token;
}

} // namespace ngmasque
