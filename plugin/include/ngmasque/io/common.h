// What ProxyClient and ProxyServer have in common for the programs that use them.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace ngmasque {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };

/// Takes one line, without a line feed.
using LogFunction = std::function<void(LogLevel, std::string_view)>;

} // namespace ngmasque
