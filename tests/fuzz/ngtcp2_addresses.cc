#include "ngtcp2_addresses.h"

#include "check.h"

#include <algorithm>
#include <cstring>

namespace ngtcp2_fuzz {

namespace {

constexpr Address V4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d,
                     std::uint16_t port) {
  return {.v6 = false, .ip = {a, b, c, d}, .port = port};
}

constexpr Address V6(std::uint8_t first, std::uint8_t second, std::uint8_t last,
                     std::uint16_t port) {
  Address address{.v6 = true, .ip = {first, second}, .port = port};
  address.ip[15] = last;
  return address;
}

constexpr Address Mapped(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
  return {.v6 = true, .ip = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, a, b, c, d}, .port = 4433};
}

constexpr std::array kServers{
    // As good as any.
    V4(192, 0, 2, 1, 4433),
    V4(198, 51, 100, 2, 4433),
    V4(203, 0, 113, 3, 443),
    V6(0x20, 0x01, 1, 4433),
    V6(0x20, 0x01, 2, 4434),
    V4(192, 0, 2, 1, 4434),
    V4(10, 0, 0, 1, 4433),
    // Good for those who are as near.
    V4(127, 0, 0, 1, 4433),
    V6(0, 0, 1, 4433),
    V4(169, 254, 1, 1, 4433),
    // Never good.
    V4(224, 0, 0, 1, 4433),
    V4(255, 255, 255, 255, 4433),
    V4(240, 0, 0, 1, 4433),
    V4(0, 0, 0, 1, 4433),
    V4(0, 0, 0, 0, 4433),
    V4(192, 0, 2, 7, 0),
    V6(0xFF, 0x02, 1, 4433),
    V6(0, 0, 0, 4433),
    V6(0xFE, 0x80, 1, 4433),
    V6(0x20, 0x01, 7, 0),
    Mapped(192, 0, 2, 1),
    Mapped(127, 0, 0, 1),
    // The client's own.
    V4(192, 0, 2, 129, 5000),
};

} // namespace

ngtcp2_sockaddr_in Address::in() const {
  ngtcp2_sockaddr_in address{};
  address.sin_family = NGTCP2_AF_INET;
  address.sin_port = htons(port);
  std::memcpy(&address.sin_addr, ip.data(), 4);
  return address;
}

ngtcp2_sockaddr_in6 Address::in6() const {
  ngtcp2_sockaddr_in6 address{};
  address.sin6_family = NGTCP2_AF_INET6;
  address.sin6_port = htons(port);
  std::memcpy(&address.sin6_addr, ip.data(), 16);
  return address;
}

ngtcp2_sockaddr_union Address::sockaddr() const {
  ngtcp2_sockaddr_union address{};
  if (v6) {
    address.in6 = in6();
  } else {
    address.in = in();
  }
  return address;
}

Address FromSockaddr(const ngtcp2_sockaddr *sockaddr) {
  Address address;
  if (sockaddr->sa_family == NGTCP2_AF_INET) {
    const auto *in = reinterpret_cast<const ngtcp2_sockaddr_in *>(sockaddr);
    std::memcpy(address.ip.data(), &in->sin_addr, 4);
    address.port = ntohs(in->sin_port);
    return address;
  }
  CHECK(sockaddr->sa_family == NGTCP2_AF_INET6);
  const auto *in6 = reinterpret_cast<const ngtcp2_sockaddr_in6 *>(sockaddr);
  address.v6 = true;
  std::memcpy(address.ip.data(), &in6->sin6_addr, 16);
  address.port = ntohs(in6->sin6_port);
  return address;
}

ngtcp2_socklen SockaddrSize(const Address &address) {
  return address.v6 ? sizeof(ngtcp2_sockaddr_in6) : sizeof(ngtcp2_sockaddr_in);
}

StoredPath::StoredPath(const Path &path) {
  const auto local = path.local.sockaddr();
  const auto remote = path.remote.sockaddr();
  ngtcp2_path_storage_init(&ps, &local.sa, SockaddrSize(path.local), &remote.sa,
                           SockaddrSize(path.remote), nullptr);
}

Path FromPath(const ngtcp2_path &path) {
  return {.local = FromSockaddr(path.local.addr), .remote = FromSockaddr(path.remote.addr)};
}

Address ServerAddress(std::uint8_t index) { return kServers[index % kServers.size()]; }

Address ClientAddress(std::uint8_t index, const Address &server) {
  const auto port = static_cast<std::uint16_t>(index % 3 == 2 ? 5001 : 5000);
  return server.v6 ? V6(0x20, 0x02, index % 3 == 1 ? 2 : 1, port)
                   : V4(192, 0, 2, index % 3 == 1 ? 130 : 129, port);
}

bool IsLoopback(const Address &address) {
  return address.v6 ? address.ip == V6(0, 0, 1, 0).ip : address.ip[0] == 127;
}

bool IsForbidden(const Address &address) {
  if (address.port == 0) {
    return true;
  }
  if (!address.v6) {
    return address.ip[0] == 0 || address.ip[0] >= 224;
  }
  const bool ten_zeros =
      std::all_of(address.ip.begin(), address.ip.begin() + 10, [](auto b) { return b == 0; });
  const bool embeds = ten_zeros && ((address.ip[10] == 0 && address.ip[11] == 0) ||
                                    (address.ip[10] == 0xFF && address.ip[11] == 0xFF));
  return address.ip[0] == 0xFF || (address.ip[0] == 0xFE && (address.ip[1] & 0xC0) == 0x80) ||
         (embeds && !IsLoopback(address));
}

} // namespace ngtcp2_fuzz
