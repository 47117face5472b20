#include "endpoint_setup.h"

#include "ngmasque/quic/packet_size.h"

#include <utility>

#include <gnutls/crypto.h>

namespace ngmasque {

namespace {

constexpr std::uint64_t kConnectionWindow = std::uint64_t{1} << 20;
// Streams that a peer may open for itself: control, two of QPACK, and a few of types that are ignored
// (RFC 9114, section 6.2).
constexpr std::uint64_t kMaxUniStreams = 8;
constexpr std::uint64_t kActiveConnectionIds = 7;

} // namespace

bool Random(std::span<std::uint8_t> out) {
  return gnutls_rnd(GNUTLS_RND_RANDOM, out.data(), out.size()) == 0;
}

std::expected<void, QuicError> CheckUdpPayload(std::size_t size) {
  if (size < kMinUdpPayload || size > NGTCP2_MAX_TX_UDP_PAYLOAD_SIZE) {
    return std::unexpected(QuicError{QuicError::kArgument, "size of UDP payloads"});
  }
  return {};
}

std::expected<void, QuicError>
PrepareConnection(Http3Endpoint::Impl &endpoint, const EndpointOptions &options,
                  const ngtcp2_cid &scid, Nanoseconds now, ngtcp2_settings &settings,
                  ngtcp2_transport_params &params) {
  ngtcp2_settings_default(&settings);
  settings.initial_ts = now;
  settings.handshake_timeout = static_cast<ngtcp2_duration>(options.handshake_timeout.count());
  if (options.probe_path) {
    ProbePacketSize(settings, options.max_udp_payload);
  } else {
    FixPacketSize(settings, options.max_udp_payload);
  }
  if (!options.qlog_dir.empty()) {
    auto opened = Qlog::Open(options.qlog_dir, scid, options.hold_qlog);
    if (!opened) {
      return std::unexpected(std::move(opened.error()));
    }
    endpoint.qlog.emplace(*std::move(opened));
    settings.qlog_write = Http3Endpoint::Impl::WriteQlog;
  }

  ngtcp2_transport_params_default(&params);
  params.initial_max_stream_data_uni = kStreamWindow;
  params.initial_max_data = kConnectionWindow;
  params.initial_max_streams_uni = kMaxUniStreams;
  params.max_idle_timeout = static_cast<ngtcp2_duration>(options.idle_timeout.count());
  params.active_connection_id_limit = kActiveConnectionIds;
  params.grease_quic_bit = 1;
  if (options.features.datagrams || options.features.draft_datagrams) {
    //= draft-ietf-masque-quic-proxy, section 8
    //# Since Initial QUIC packets must be at least 1200 bytes in length, the HTTP Datagram frames
    //# that are used for a QUIC-aware proxy MUST be able to carry at least 1200 bytes.
    params.max_datagram_frame_size = kMaxDatagramFrame;
  }
  return {};
}

} // namespace ngmasque
