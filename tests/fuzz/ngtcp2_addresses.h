// The addresses that the connection target has: of the server, good and bad ones, and of the
// client.
#pragma once

#include "ngtcp2_lib.h"

#include <array>
#include <compare>
#include <cstdint>

namespace ngtcp2_fuzz {

/// An address that can be compared; IPv4 in the first four bytes.
struct Address {
  bool v6 = false;
  std::array<std::uint8_t, 16> ip{};
  std::uint16_t port = 0;

  friend auto operator<=>(const Address &, const Address &) = default;

  ngtcp2_sockaddr_in in() const;
  ngtcp2_sockaddr_in6 in6() const;
  ngtcp2_sockaddr_union sockaddr() const;
};

Address FromSockaddr(const ngtcp2_sockaddr *address);

struct Path {
  Address local;
  Address remote;

  friend auto operator<=>(const Path &, const Path &) = default;
};

/// A path as the library takes it; it points into itself.
struct StoredPath {
  explicit StoredPath(const Path &path);
  StoredPath(const StoredPath &) = delete;
  StoredPath &operator=(const StoredPath &) = delete;

  ngtcp2_path_storage ps;
};

ngtcp2_socklen SockaddrSize(const Address &address);

Path FromPath(const ngtcp2_path &path);

/// First those of a well-behaved server, then those with a smaller scope, then those that no client
/// may be sent to.  Any number will do.
Address ServerAddress(std::uint8_t index);
/// Of the family of `server`: two addresses, and the first one with another port.
Address ClientAddress(std::uint8_t index, const Address &server);

bool IsLoopback(const Address &address);
/// No client ever sends to it, wherever it is itself.
bool IsForbidden(const Address &address);

} // namespace ngtcp2_fuzz
