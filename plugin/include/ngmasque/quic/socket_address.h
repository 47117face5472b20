// Endpoint <-> sockaddr, for libraries and system calls that want the latter.
#pragma once

#include "ngmasque/routing/types.h"

#include <optional>

#include <netinet/in.h>
#include <sys/socket.h>

namespace ngmasque {

/// An address as system calls want it: IPv4 for mapped addresses, IPv6 for others.
class SocketAddress {
public:
  SocketAddress() = default;
  explicit SocketAddress(const Endpoint &endpoint);

  [[nodiscard]] const sockaddr *get() const { return &storage_.any; }
  [[nodiscard]] sockaddr *get() { return &storage_.any; }
  [[nodiscard]] socklen_t size() const;
  /// AF_INET or AF_INET6; AF_UNSPEC if it was default-constructed.
  [[nodiscard]] int family() const { return storage_.any.sa_family; }

private:
  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  } storage_{.v6 = {}};
};

/// Nothing for families other than AF_INET and AF_INET6.
[[nodiscard]] std::optional<Endpoint> ToEndpoint(const sockaddr *address);

/// Whether the endpoint's address is a mapped IPv4 one.
[[nodiscard]] bool IsIpv4(const Endpoint &endpoint);

} // namespace ngmasque
