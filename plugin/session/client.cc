#include "ngmasque/session/client.h"

#include <algorithm>

namespace ngmasque {

namespace {
constexpr std::array<std::uint8_t, 12> kIpv4Mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr std::size_t kIpv6Prefix = 8;
} // namespace

ClientKey::ClientKey(Kind kind, std::span<const std::uint8_t> bytes, std::uint32_t scope)
  : kind_(kind), size_(static_cast<std::uint8_t>(bytes.size())), scope_(scope) {
  std::ranges::copy(bytes, bytes_.begin());
}

ClientKey ClientKey::FromAddress(const Endpoint &remote) {
  const std::span address(remote.address);
  if (std::ranges::equal(address.first(kIpv4Mapped.size()), kIpv4Mapped)) {
    return {Kind::kIpv4, address.subspan(kIpv4Mapped.size())};
  }
  return {Kind::kIpv6, address.first(kIpv6Prefix), remote.scope};
}

std::optional<ClientKey> ClientKey::FromCredentials(std::span<const std::uint8_t> credentials) {
  if (credentials.empty() || credentials.size() > kMaxCredentials) {
    return std::nullopt;
  }
  return ClientKey(Kind::kCredentials, credentials);
}

std::size_t ClientKeyHash::operator()(const ClientKey &key) const noexcept {
  std::array<std::uint8_t, 2 + 4 + ClientKey::kMaxCredentials> bytes;
  auto to = bytes.begin();
  *to++ = static_cast<std::uint8_t>(key.kind_);
  *to++ = key.size_;
  for (int shift = 0; shift < 32; shift += 8) {
    *to++ = static_cast<std::uint8_t>(key.scope_ >> shift);
  }
  to = std::ranges::copy(std::span(key.bytes_).first(key.size_), to).out;
  return static_cast<std::size_t>(
    SipHash<1, 3>(key_, std::span(bytes).first(static_cast<std::size_t>(to - bytes.begin()))));
}

} // namespace ngmasque
