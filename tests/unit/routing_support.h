// What the tests of routing/ have in common.
#pragma once

#include "ngmasque/routing/connection_id.h"
#include "ngmasque/routing/types.h"

#include <array>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <span>
#include <string_view>
#include <vector>

namespace ngmasque {

using Bytes = std::vector<std::uint8_t>;

inline constexpr HashKey kTestKey{.k0 = 0x0706050403020100, .k1 = 0x0f0e0d0c0b0a0908};

inline Bytes ToBytes(std::string_view text) { return {text.begin(), text.end()}; }

inline ConnectionId Id(std::span<const std::uint8_t> bytes) {
  return ConnectionId::From(bytes).value();
}
inline ConnectionId Id(std::string_view text) { return Id(ToBytes(text)); }

// A packet with a short header: the fixed bit set, then `rest`.
inline Bytes Short(std::span<const std::uint8_t> rest) {
  Bytes packet{0x40};
  packet.insert(packet.end(), rest.begin(), rest.end());
  return packet;
}
inline Bytes Short(std::string_view rest) { return Short(ToBytes(rest)); }

// A packet of version 1 with a long header, a Source Connection ID of one byte and no more.
inline Bytes Long(std::span<const std::uint8_t> dcid) {
  Bytes packet{0xc0, 0, 0, 0, 1, static_cast<std::uint8_t>(dcid.size())};
  packet.insert(packet.end(), dcid.begin(), dcid.end());
  packet.insert(packet.end(), {1, 's'});
  return packet;
}
inline Bytes Long(std::string_view dcid) { return Long(ToBytes(dcid)); }

// The proxy's port 443 and a client's port; each of these is another client, with its own address.
inline FourTuple Tuple(std::uint16_t port) {
  const std::array<std::uint8_t, 16> loopback{0, 0, 0,    0,    0,   0, 0, 0,
                                              0, 0, 0xff, 0xff, 127, 0, 0, 1};
  auto remote = loopback;
  remote[14] = static_cast<std::uint8_t>(port >> 8);
  remote[15] = static_cast<std::uint8_t>(port);
  return {.local = {.address = loopback, .port = 443},
          .remote = {.address = remote, .port = port}};
}

// Connection IDs that get into each other's way often: of two letters, with lengths of which some
// are zero, some are longer than what is stored in place, and some are the longest possible; and
// half of them prefixes or extensions of one that has been drawn before.
class IdSource {
public:
  explicit IdSource(std::mt19937_64 &random) : random_(random) {}

  Bytes Draw() {
    Bytes id;
    if (!drawn_.empty() && Below(2) == 0) {
      id = drawn_[Below(drawn_.size())];
      if (Below(2) == 0) {
        id.resize(Below(id.size() + 1));
      } else {
        Extend(id, Length());
      }
    } else {
      Extend(id, Length());
    }
    drawn_.push_back(id);
    return id;
  }

  // What follows the first byte of a packet: something drawn before, or not, and more bytes.
  Bytes Packet() {
    auto bytes = Below(4) != 0 && !drawn_.empty() ? drawn_[Below(drawn_.size())] : Bytes{};
    const auto more = bytes.size() + Below(30);
    while (bytes.size() < more) {
      bytes.push_back(Letter());
    }
    return bytes;
  }

  // 0 to n - 1.
  std::size_t Below(std::size_t n) { return random_() % n; }

private:
  std::uint8_t Letter() { return Below(2) == 0 ? 'a' : 'b'; }

  std::size_t Length() {
    constexpr std::array<std::size_t, 16> lengths{0, 1, 2, 3,  4,  5,  6,  7,
                                                  8, 8, 9, 19, 20, 21, 64, 255};
    // The short ones seldom: they leave no room for others.
    return lengths[Below(40) == 0 ? Below(4) : 4 + Below(lengths.size() - 4)];
  }

  void Extend(Bytes &id, std::size_t length) {
    while (id.size() < length) {
      id.push_back(Letter());
    }
  }

  std::mt19937_64 &random_;
  std::vector<Bytes> drawn_;
};

} // namespace ngmasque
