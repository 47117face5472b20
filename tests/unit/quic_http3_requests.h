// Requests as bytes, also such as no client should send.
#pragma once

#include "quic_support.h"

#include "ngmasque/session/authority.h"

#include <cstdint>
#include <string_view>
#include <vector>

namespace quic_test {

/// A HEADERS frame with these fields, each a literal: RFC 9204, section 4.5.6.  Names and values have
/// up to 126 bytes.
inline Bytes HeadersFrame(const std::vector<ngmasque::HeaderField> &fields) {
  Bytes section{0, 0};
  const auto add = [&section](std::string_view text) {
    section.insert(section.end(), text.begin(), text.end());
  };
  for (const auto &[name, value] : fields) {
    // Of three bits; what they cannot say follows.
    if (name.size() < 7) {
      section.push_back(static_cast<std::uint8_t>(0x20 | name.size()));
    } else {
      section.push_back(0x27);
      section.push_back(static_cast<std::uint8_t>(name.size() - 7));
    }
    add(name);
    section.push_back(static_cast<std::uint8_t>(value.size()));
    add(value);
  }
  Bytes frame{0x01, static_cast<std::uint8_t>(0x40 | section.size() >> 8),
              static_cast<std::uint8_t>(section.size() & 0xff)};
  frame.insert(frame.end(), section.begin(), section.end());
  return frame;
}

/// Of the kind of RFC 9298.
inline std::vector<ngmasque::HeaderField> ExtendedConnect() {
  return {{.name = ":method", .value = "CONNECT"},
          {.name = ":protocol", .value = "connect-udp"},
          {.name = ":scheme", .value = "https"},
          {.name = ":authority", .value = "proxy.example"},
          {.name = ":path", .value = "/.well-known/masque/udp/192.0.2.6/443/"},
          {.name = "capsule-protocol", .value = "?1"}};
}

} // namespace quic_test
