// Http3Client: making a connection.

#include "http3_impl.h"

#include "ngmasque/quic/packet_size.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2_crypto.h>

namespace ngmasque {

namespace {

// Flow control.  What comes on streams is small, but for payloads to a client whose proxy has no
// datagrams; they are consumed at once.
constexpr std::uint64_t kStreamWindow = std::uint64_t{256} << 10;
constexpr std::uint64_t kConnectionWindow = std::uint64_t{1} << 20;
// Streams that a server may open to its client: control, two of QPACK, and a few of types that are
// ignored (RFC 9114, section 6.2).
constexpr std::uint64_t kMaxUniStreams = 8;
// The largest DATAGRAM frame that is taken; RFC 9221, section 3, recommends this for any.
constexpr std::uint64_t kMaxDatagramFrame = 65535;
constexpr std::size_t kMaxQpackBlockedStreams = 64;
constexpr std::size_t kQpackTable = 4096;
// One in 2^136 draws conflicts, unless the handler refuses all.
constexpr int kMaxDraws = 16;
constexpr std::size_t kFirstRemoteIdLength = 18;

[[nodiscard]] bool Random(std::span<std::uint8_t> out) {
  return gnutls_rnd(GNUTLS_RND_RANDOM, out.data(), out.size()) == 0;
}

void WriteQlog(void *user_data, std::uint32_t, const void *data, std::size_t size) {
  const auto *impl = static_cast<Http3Client::Impl *>(user_data);
  std::fwrite(data, 1, size, impl->qlog.get());
}

std::unexpected<QuicError> Internal(std::string_view what) {
  return std::unexpected(QuicError{QuicError::kInternal, std::string(what)});
}

} // namespace

bool Http3Client::Impl::DrawLocalId(ngtcp2_cid &cid) {
  cid.datalen = kLocalIdLength;
  for (int draw = 0; draw < kMaxDraws; ++draw) {
    if (!Random({cid.data, cid.datalen})) {
      return false;
    }
    if (handler.OnNewLocalId(*ConnectionId::From({cid.data, cid.datalen}))) {
      return true;
    }
  }
  return false;
}

std::expected<void, QuicError> Http3Client::Impl::OpenQlog(const ngtcp2_cid &scid) {
  std::string name;
  for (const auto byte : std::span(scid.data, scid.datalen)) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    name += kDigits[byte >> 4];
    name += kDigits[byte & 0xf];
  }
  const auto path = options.qlog_dir / (name + ".outer.sqlog");
  qlog.reset(std::fopen(path.c_str(), "we"));
  if (!qlog) {
    return std::unexpected(
      QuicError{QuicError::kQlog, "qlog file " + path.string() + ": " + std::strerror(errno)});
  }
  return {};
}

std::expected<void, QuicError> Http3Client::Impl::Open(const FourTuple &path, Nanoseconds now) {
  if (options.max_udp_payload < kMinUdpPayload ||
      options.max_udp_payload > NGTCP2_MAX_TX_UDP_PAYLOAD_SIZE) {
    return std::unexpected(QuicError{QuicError::kArgument, "size of UDP payloads"});
  }
  ngtcp2_cid scid;
  ngtcp2_cid dcid{.datalen = kFirstRemoteIdLength, .data = {}};
  if (!DrawLocalId(scid) || !Random({dcid.data, dcid.datalen}) || !Random(reset_secret)) {
    return Internal("no connection ID can be drawn");
  }

  ngtcp2_settings settings;
  ngtcp2_settings_default(&settings);
  settings.initial_ts = now;
  settings.handshake_timeout = static_cast<ngtcp2_duration>(options.handshake_timeout.count());
  if (options.probe_path) {
    ProbePacketSize(settings, options.max_udp_payload);
  } else {
    FixPacketSize(settings, options.max_udp_payload);
  }
  if (!options.qlog_dir.empty()) {
    if (auto opened = OpenQlog(scid); !opened) {
      return opened;
    }
    settings.qlog_write = WriteQlog;
  }

  ngtcp2_transport_params params;
  ngtcp2_transport_params_default(&params);
  params.initial_max_stream_data_bidi_local = kStreamWindow;
  params.initial_max_stream_data_uni = kStreamWindow;
  params.initial_max_data = kConnectionWindow;
  params.initial_max_streams_uni = kMaxUniStreams;
  params.max_idle_timeout = static_cast<ngtcp2_duration>(options.idle_timeout.count());
  params.active_connection_id_limit = 7;
  params.grease_quic_bit = 1;
  params.max_datagram_frame_size = options.datagrams ? kMaxDatagramFrame : 0;

  QuicPath quic_path(path);
  const auto raw_path = quic_path.get();
  ngtcp2_conn *raw = nullptr;
  if (const int rv = ngtcp2_conn_client_new(&raw, &dcid, &scid, &raw_path, NGTCP2_PROTO_VER_V1,
                                            &QuicCallbacks(), &settings, &params, nullptr, this);
      rv != 0) {
    return Internal(ngtcp2_strerror(rv));
  }
  conn.reset(raw);

  auto made = TlsClient::Create(
    options.server_name, options.ca_file, options.key_log_file,
    [](ngtcp2_crypto_conn_ref *ref) { return static_cast<Impl *>(ref->user_data)->conn.get(); },
    this);
  if (!made) {
    return std::unexpected(std::move(made.error()));
  }
  tls = std::move(*made);
  ngtcp2_conn_set_tls_native_handle(conn.get(), tls->session());
  // Of a size that any burst fits: no UDP payload is larger, nor a chain of them in one call.
  buffer.resize(std::size_t{64} << 10);
  return {};
}

bool Http3Client::Impl::OpenH3() {
  nghttp3_settings settings;
  nghttp3_settings_default(&settings);
  settings.max_field_section_size = kMaxResponseBytes;
  settings.qpack_max_dtable_capacity = kQpackTable;
  settings.qpack_blocked_streams = kMaxQpackBlockedStreams;
  settings.h3_datagram_draft05 = options.datagrams;

  nghttp3_conn *raw = nullptr;
  if (nghttp3_conn_client_new(&raw, &H3Callbacks(), &settings, nghttp3_mem_default(), this) != 0) {
    return false;
  }
  h3.reset(raw);

  std::array<std::int64_t, 3> ids{}; // Control, QPACK encoder, QPACK decoder.
  for (auto &id : ids) {
    if (ngtcp2_conn_open_uni_stream(conn.get(), &id, nullptr) != 0) {
      SetH3Error(kH3GeneralProtocolError, "the peer allows no control streams");
      return false;
    }
  }
  return nghttp3_conn_bind_control_stream(raw, ids[0]) == 0 &&
         nghttp3_conn_bind_qpack_streams(raw, ids[1], ids[2]) == 0;
}

} // namespace ngmasque
