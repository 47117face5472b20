#include "ngmasque/quic/packet_size.h"

#include "ngmasque/wire/varint.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include <ngtcp2/ngtcp2.h>

namespace ngmasque {

namespace {

// The first one takes a tunnelled packet of 1200 bytes, with the longest connection ID.  A probe that
// is lost costs some round trips, so there are few.
constexpr std::array<std::uint16_t, 3> kProbes{1250, 1300, kOuterUdpPayload};

// A packet with a short header, but for its connection ID: the first byte, the longest packet
// number, and the tag of every cipher that TLS 1.3 has (RFC 9001, section 5.3).
constexpr std::size_t kPacketOverhead = 1 + 4 + 16;

} // namespace

void FixPacketSize(ngtcp2_settings &settings, std::size_t max) {
  settings.max_tx_udp_payload_size = max;
  settings.no_tx_udp_payload_size_shaping = 1;
  settings.no_pmtud = 1;
}

void ProbePacketSize(ngtcp2_settings &settings, std::size_t max) {
  if (settings.pmtud_probeslen == 0) {
    settings.max_tx_udp_payload_size = max;
    settings.pmtud_probes = kProbes.data();
    settings.pmtud_probeslen = kProbes.size();
  }
}

std::size_t MaxDatagram(const ngtcp2_conn *conn) {
  const auto *params = ngtcp2_conn_get_remote_transport_params2(conn);
  if (!params || params->max_datagram_frame_size == 0) {
    return 0;
  }
  const auto packet = static_cast<std::size_t>(std::min<std::uint64_t>(
    ngtcp2_conn_get_path_max_tx_udp_payload_size2(conn), params->max_udp_payload_size));
  const auto frame = static_cast<std::size_t>(
    std::min<std::uint64_t>(packet - kPacketOverhead - ngtcp2_conn_get_dcid2(conn)->datalen,
                            params->max_datagram_frame_size));
  // RFC 9221, section 4: a byte of type, and the length.
  const auto header = 1 + VarintLength(frame);
  return frame > header ? frame - header : 0;
}

} // namespace ngmasque
