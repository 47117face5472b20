// Sends bursts on a UDP socket.
#pragma once

#include "ngmasque/io/udp_socket.h"
#include "ngmasque/routing/types.h"

#include <cstddef>
#include <span>

namespace ngmasque {

/// A socket to send on.
struct Outlet {
  int fd = -1;
  bool ipv4 = false;
  const FourTuple *path = nullptr; ///< Null if it is connected.
};

/// See UdpSocket::MaxBurst.
[[nodiscard]] std::size_t CallBytes(std::size_t segment, const SendExtras &extras);

/// See UdpSocket::Send and SendOn.
[[nodiscard]] SendOutcome SendAll(const Outlet &outlet, const Burst &burst, SendExtras &extras);

/// See UdpSocket::SendFront.
[[nodiscard]] FrontOutcome SendFrontOf(const Outlet &outlet, std::span<const Burst> bursts,
                                       const SendExtras &extras);

} // namespace ngmasque
