#include "ngmasque/quic/socket_address.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>

namespace ngmasque {

namespace {
constexpr std::array<std::uint8_t, 12> kMappedPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
} // namespace

bool IsIpv4(const Endpoint &endpoint) {
  return std::ranges::equal(std::span(endpoint.address).first<12>(), kMappedPrefix);
}

SocketAddress::SocketAddress(const Endpoint &endpoint) {
  if (IsIpv4(endpoint)) {
    storage_.v4 = {};
    storage_.v4.sin_family = AF_INET;
    storage_.v4.sin_port = htons(endpoint.port);
    std::memcpy(&storage_.v4.sin_addr, endpoint.address.data() + kMappedPrefix.size(),
                sizeof(storage_.v4.sin_addr));
    return;
  }
  storage_.v6.sin6_family = AF_INET6;
  storage_.v6.sin6_port = htons(endpoint.port);
  storage_.v6.sin6_scope_id = endpoint.scope;
  std::memcpy(&storage_.v6.sin6_addr, endpoint.address.data(), endpoint.address.size());
}

socklen_t SocketAddress::size() const {
  return family() == AF_INET ? sizeof(storage_.v4) : sizeof(storage_.v6);
}

std::optional<Endpoint> ToEndpoint(const sockaddr *address) {
  Endpoint endpoint;
  // What the pointer points to may be a buffer of bytes: it is copied, not looked into.
  if (address->sa_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, address, sizeof(v4));
    std::ranges::copy(kMappedPrefix, endpoint.address.begin());
    std::memcpy(endpoint.address.data() + kMappedPrefix.size(), &v4.sin_addr, sizeof(v4.sin_addr));
    endpoint.port = ntohs(v4.sin_port);
    return endpoint;
  }
  if (address->sa_family == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, address, sizeof(v6));
    std::memcpy(endpoint.address.data(), &v6.sin6_addr, endpoint.address.size());
    endpoint.port = ntohs(v6.sin6_port);
    endpoint.scope = v6.sin6_scope_id;
    return endpoint;
  }
  return {};
}

} // namespace ngmasque
