// What ProxyClient and ProxyServer are both made of.
#pragma once

#include "ngmasque/io/common.h"
#include "ngmasque/io/udp_socket.h"
#include "ngmasque/routing/siphash.h"
#include "ngmasque/session/traffic.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>

namespace ngmasque {

/// For std::visit.
template <typename... Functions> struct Overloaded : Functions... {
  using Functions::operator()...;
};

/// Nanoseconds on the clock that does not go back.
[[nodiscard]] std::uint64_t SteadyNow();

/// A key from the system's random source; nothing if that fails.
[[nodiscard]] std::optional<HashKey> DrawHashKey();

/// Lets the process have `wanted` descriptors, or as many as the system allows; never fewer than it
/// may have already.  Returns how many that are.
std::size_t RaiseDescriptorLimit(std::size_t wanted);

/// Address and port, for logs.
[[nodiscard]] std::string ToText(const Endpoint &endpoint);

/// A burst of one packet, which may be empty.
[[nodiscard]] inline Burst OnePacket(std::span<const std::uint8_t> packet) {
  return {.data = packet, .segment = std::max<std::size_t>(packet.size(), 1)};
}

/// Whether a socket has given something up that is not in `said`, and puts it there: each socket
/// finds it out by itself, and it is logged once.  A few texts.
[[nodiscard]] bool IsNews(const SendOutcome &outcome, std::set<std::string> &said);

/// Counts the packets of a burst.  Empty data is one packet of no bytes.
void Count(Traffic &count, const Burst &burst);

} // namespace ngmasque
