// What the two ends of an HTTP/3 connection say of CONNECT-UDP in their SETTINGS.
//
//     SETTINGS_ENABLE_CONNECT_PROTOCOL  0x08   RFC 9220, section 3
//     SETTINGS_H3_DATAGRAM              0x33   RFC 9297, section 2.1.1
//     H3_DATAGRAM                       0x276  draft-schinazi-quic-h3-datagram-05
#pragma once

namespace ngmasque {

/// What an end announces.  With either kind of datagrams it sends max_datagram_frame_size as well.
struct Http3Features {
  bool datagrams = true;         ///< 0x33
  bool draft_datagrams = true;   ///< 0x276
  bool connect_protocol = false; ///< 0x08: a server's, for a client's has no effect.
};

/// What the peer has announced, once its SETTINGS are there.
struct PeerSettings {
  bool datagrams = false;        ///< 0x33
  bool draft_datagrams = false;  ///< 0x276
  bool connect_protocol = false; ///< 0x08
  [[nodiscard]] bool operator==(const PeerSettings &) const = default;
};

} // namespace ngmasque
