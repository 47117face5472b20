// Error codes of HTTP/3, for streams and connections: RFC 9114, section 8.1, and RFC 9297,
// section 5.2.
#pragma once

#include <cstdint>

namespace ngmasque {

inline constexpr std::uint64_t kH3DatagramError = 0x33;
inline constexpr std::uint64_t kH3NoError = 0x100;
inline constexpr std::uint64_t kH3GeneralProtocolError = 0x101;
inline constexpr std::uint64_t kH3InternalError = 0x102;
inline constexpr std::uint64_t kH3ExcessiveLoad = 0x107;
inline constexpr std::uint64_t kH3SettingsError = 0x109;
inline constexpr std::uint64_t kH3MissingSettings = 0x10a;
inline constexpr std::uint64_t kH3RequestRejected = 0x10b;
inline constexpr std::uint64_t kH3RequestCancelled = 0x10c;
inline constexpr std::uint64_t kH3MessageError = 0x10e;
inline constexpr std::uint64_t kH3ConnectError = 0x10f;

} // namespace ngmasque
