// How many packets there were.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ngmasque {

/// Packets of inner connections, of one way and one direction.
struct Traffic {
  std::uint64_t packets{};
  std::uint64_t bytes{};        ///< Of the packets themselves, without what is around them.
  std::uint64_t long_headers{}; ///< How many of the packets had a long header.
  [[nodiscard]] bool operator==(const Traffic &) const = default;

  void Add(std::size_t size, bool long_header) {
    ++packets;
    bytes += size;
    long_headers += long_header;
  }
  Traffic &operator+=(const Traffic &other) {
    packets += other.packets;
    bytes += other.bytes;
    long_headers += other.long_headers;
    return *this;
  }
  Traffic &operator-=(const Traffic &other) {
    packets -= other.packets;
    bytes -= other.bytes;
    long_headers -= other.long_headers;
    return *this;
  }
};

} // namespace ngmasque
