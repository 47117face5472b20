#include "ngmasque/quic/http3_client.h"

#include "endpoint_setup.h"
#include "tls_client.h"

#include <utility>

#include <ngtcp2/ngtcp2_crypto.h>

namespace ngmasque {

namespace {

constexpr std::size_t kFirstRemoteIdLength = 18;

// Of the server, which takes up one with each address that it announces, and while it moves several
// are announced and left in a round trip.
constexpr std::uint64_t kMovingConnectionIds = 31;

std::unexpected<QuicError> Internal(std::string_view what) {
  return std::unexpected(QuicError{QuicError::kInternal, std::string(what)});
}

const ngtcp2_callbacks &Callbacks() {
  static const ngtcp2_callbacks callbacks = [] {
    auto made = Http3Endpoint::Impl::MakeCallbacks();
    made.client_initial = ngtcp2_crypto_client_initial_cb;
    made.recv_retry = ngtcp2_crypto_recv_retry_cb;
    return made;
  }();
  return callbacks;
}

} // namespace

Http3Client::Http3Client(Options options, Handler &handler)
  : Http3Endpoint(Role::kClient, options.features, {}),
    options_(std::move(options)),
    handler_(handler),
    buffer_(kBurstBuffer) {}

std::expected<std::unique_ptr<Http3Client>, QuicError>
Http3Client::Create(Options options, const FourTuple &path, Handler &handler, Nanoseconds now) {
  std::unique_ptr<Http3Client> client(new Http3Client(std::move(options), handler));
  if (auto started = client->Start(path, now); !started) {
    return std::unexpected(std::move(started.error()));
  }
  return client;
}

std::expected<void, QuicError> Http3Client::Start(const FourTuple &path, Nanoseconds now) {
  auto &impl = endpoint();
  if (auto size = CheckUdpPayload(options_.max_udp_payload); !size) {
    return size;
  }
  SetHandler(&handler_);
  impl.buffer = buffer_;
  impl.draw_id = Random;
  impl.told_path = path;
  ngtcp2_cid scid;
  ngtcp2_cid dcid{.datalen = kFirstRemoteIdLength, .data = {}};
  if (!impl.DrawLocalId(scid, nullptr) || !Random({dcid.data, dcid.datalen}) ||
      !Random(impl.reset_secret)) {
    return Internal("no connection ID can be drawn");
  }

  ngtcp2_settings settings;
  ngtcp2_transport_params params;
  if (auto prepared = PrepareConnection(impl,
                                        {.qlog_dir = options_.qlog_dir,
                                         .idle_timeout = options_.idle_timeout,
                                         .handshake_timeout = options_.handshake_timeout,
                                         .max_udp_payload = options_.max_udp_payload,
                                         .probe_path = options_.probe_path,
                                         .features = options_.features},
                                        scid, now, settings, params);
      !prepared) {
    return prepared;
  }
  params.initial_max_stream_data_bidi_local = kStreamWindow;
  impl.server_migration = options_.server_migration;
  if (options_.server_migration) {
    params.enable_server_migration = 1;
    params.active_connection_id_limit = kMovingConnectionIds;
  }
  if (options_.max_received_payload != 0) {
    params.max_udp_payload_size = options_.max_received_payload;
  }

  QuicPath quic_path(path);
  const auto raw_path = quic_path.get();
  ngtcp2_conn *raw = nullptr;
  if (const int rv = ngtcp2_conn_client_new(&raw, &dcid, &scid, &raw_path, NGTCP2_PROTO_VER_V1,
                                            &Callbacks(), &settings, &params, nullptr, &impl);
      rv != 0) {
    return Internal(ngtcp2_strerror(rv));
  }
  impl.Attach(raw);
  ngtcp2_conn_hold_new_connection_id(raw, options_.hold_local_ids);

  auto made = TlsClient::Create({.server_name = options_.server_name,
                                 .ca_file = options_.ca_file,
                                 .system_roots = options_.system_roots,
                                 .certificate_file = options_.certificate_file,
                                 .key_file = options_.key_file,
                                 .key_log_file = options_.key_log_file},
                                Impl::Conn, &impl);
  if (!made) {
    return std::unexpected(std::move(made.error()));
  }
  impl.tls = *std::move(made);
  ngtcp2_conn_set_tls_native_handle(raw, impl.tls->session());
  return {};
}

void Http3Client::OnHandshakeCompleted() {
  auto &impl = endpoint();
  const auto *params = ngtcp2_conn_get_remote_transport_params2(impl.conn.get());
  // RFC 9000, section 10.1: the smaller one of the two holds, and 0 is none.
  auto idle = static_cast<ngtcp2_duration>(options_.idle_timeout.count());
  if (params->max_idle_timeout != 0 && (idle == 0 || params->max_idle_timeout < idle)) {
    idle = params->max_idle_timeout;
  }
  const auto keep_alive = options_.keep_alive
                            ? static_cast<ngtcp2_duration>(options_.keep_alive->count())
                            : idle / 3;
  impl.keep_alive = keep_alive == 0 ? UINT64_MAX : keep_alive;
  ngtcp2_conn_set_keep_alive_timeout(impl.conn.get(), impl.keep_alive);
  tell_ready_ = true;
}

void Http3Client::Deliver() {
  if (std::exchange(tell_ready_, false)) {
    handler_.OnReady(max_datagram());
  }
  // The first allowance comes with the handshake.
  if (ngtcp2_conn_get_handshake_completed2(endpoint().conn.get()) &&
      std::exchange(tell_streams_, false)) {
    handler_.OnStreamsAvailable();
  }
}

std::optional<FourTuple>
Http3Client::OnServerAddresses(std::span<const Endpoint> remotes) {
  if (options_.server_migration) {
    for (const auto &remote : remotes) {
      if (const auto local = handler_.OnServerAddress(remote)) {
        return FourTuple{.local = *local, .remote = remote};
      }
    }
  }
  return {};
}

std::expected<void, QuicError> Http3Client::Migrate(const Endpoint &local, Nanoseconds now) {
  auto &impl = endpoint();
  if (impl.state != Impl::State::kOpen) {
    return std::unexpected(QuicError::kClosed);
  }
  QuicPath quic_path({.local = local, .remote = path().remote});
  const auto raw_path = quic_path.get();
  const auto *params = ngtcp2_conn_get_remote_transport_params2(impl.conn.get());
  if (params && params->disable_active_migration) {
    return std::unexpected(QuicError::kNotSupported);
  }
  switch (ngtcp2_conn_initiate_migration(impl.conn.get(), &raw_path, now)) {
  case 0: return {};
  case NGTCP2_ERR_INVALID_STATE: return std::unexpected(QuicError::kNotReady);
  case NGTCP2_ERR_CONN_ID_BLOCKED: return std::unexpected(QuicError::kNotSupported);
  default: return std::unexpected(QuicError::kInternal);
  }
}

} // namespace ngmasque
