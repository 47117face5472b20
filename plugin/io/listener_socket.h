// The sockets of a UdpListener, ready to be read from.
#pragma once

#include "ngmasque/io/error.h"
#include "ngmasque/io/udp_listener.h"

#include <expected>

namespace ngmasque {

/// A bound UDP socket, which does not block.  Whoever has it closes it.
struct ListenerSocket {
  int fd = -1;
  Endpoint local;
  bool wildcard = false; ///< Bound to the unspecified address: packets say what they came to.
};

/// Errors: kSocket, with the address as text.
[[nodiscard]] std::expected<ListenerSocket, IoError>
BindListenerSocket(const Endpoint &address, const UdpListener::Options &options);

/// Of UdpListener::Options::sockets; closed if it is not taken.  Errors: kSocket, and kArgument if it is
/// no bound UDP socket, or takes IPv4 besides IPv6.
[[nodiscard]] std::expected<ListenerSocket, IoError>
AdoptListenerSocket(int fd, const UdpListener::Options &options);

} // namespace ngmasque
