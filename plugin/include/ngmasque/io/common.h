// What ProxyClient and ProxyServer have in common for the programs that use them.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace ngmasque {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };

/// Takes one line, without a line feed.
using LogFunction = std::function<void(LogLevel, std::string_view)>;

/// Packets of inner connections, of one way and one direction.
struct PacketCount {
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;        ///< Of the packets themselves, without what is around them.
  std::uint64_t long_headers = 0; ///< How many of the packets had a long header.
};

} // namespace ngmasque
