#include "ngmasque/quic/http3_server.h"

#include "endpoint_setup.h"
#include "http3_server_impl.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

#include <gnutls/crypto.h>

namespace ngmasque {

namespace {

using Impl = Http3Server::Impl;

template <typename T> std::span<std::uint8_t> AsBytes(T &value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<std::uint8_t *>(&value), sizeof(value)};
}

// A key for one purpose: HKDF-Expand (RFC 5869), as the secret is random already.
[[nodiscard]] bool Derive(std::span<std::uint8_t, 32> secret, std::string_view purpose,
                          std::span<std::uint8_t> key) {
  const gnutls_datum_t random{.data = secret.data(), .size = unsigned(secret.size())};
  std::string info(purpose);
  const gnutls_datum_t label{.data = reinterpret_cast<unsigned char *>(info.data()),
                             .size = unsigned(info.size())};
  return gnutls_hkdf_expand(GNUTLS_MAC_SHA256, &random, &label, key.data(), key.size()) == 0;
}

// Whether a handshake has failed, and not only come to nothing.
bool IsError(CloseKind kind) {
  return kind != CloseKind::kLocal && kind != CloseKind::kIdleTimeout &&
         kind != CloseKind::kHandshakeTimeout;
}

// RFC 9000, section 10.2: closing and draining take three times the PTO.
constexpr unsigned kClosingPtos = 3;

} // namespace

Impl::Impl(Options options_in, Handler &handler_in, const Secrets &secrets)
  : options(std::move(options_in)),
    handler(handler_in),
    foreign(secrets.foreign),
    ids(kLocalIdLength, secrets.ids, Random),
    acceptor({.worker = options.worker,
              .retry_from = options.retry_from,
              .max_handshakes = options.max_handshakes,
              .is_foreign = [this](std::span<const std::uint8_t> id) { return handler.IsOver(id); }},
             ids, secrets.token, Random),
    by_client(0, ClientKeyHash(secrets.table)),
    by_id(0, ConnectionIdHash(secrets.table)) {}

// Its thresholds are for all clients: one of this client's counts as if it were one of them.
std::size_t Impl::HandshakesFor(const ClientKey &client) const {
  if (draining || connections.size() >= options.max_connections) {
    return options.max_handshakes;
  }
  const auto found = by_client.find(client);
  const auto own = found == by_client.end() ? HandshakesOfClient() : found->second;
  if (own.proven >= options.max_handshakes_per_client) {
    return std::max(in_handshake, options.max_handshakes);
  }
  return own.unproven >= options.retry_from_per_client ? std::max(in_handshake, options.retry_from)
                                                       : in_handshake;
}

void Impl::EndHandshake(ServerConnection &connection) {
  --in_handshake;
  if (!connection.client) {
    return;
  }
  const auto found = by_client.find(*connection.client);
  auto &of_client = found->second;
  --(connection.proven ? of_client.proven : of_client.unproven);
  if (of_client.proven + of_client.unproven == 0) {
    by_client.erase(found);
  }
  connection.client.reset();
}

void Impl::SetTimer(ServerConnection &connection, Nanoseconds when) {
  if (when == connection.timer) {
    return;
  }
  // The node is used again.
  auto node = timers.extract({connection.timer, &connection});
  connection.timer = when;
  if (when == kNever) {
    return;
  }
  if (node.empty()) {
    timers.emplace(when, &connection);
  } else {
    node.value() = {when, &connection};
    timers.insert(std::move(node));
  }
}

void Impl::Accept(const FourTuple &path, unsigned ecn, std::span<const std::uint8_t> packet,
                  const Acceptor::Accept &accept, Nanoseconds now, const BurstSink &sink) {
  auto made = std::make_unique<ServerConnection>(*this, options);
  auto &connection = *made;
  connections.emplace(&connection, std::move(made));
  ++in_handshake;
  connection.client = ClientKey::FromAddress(path.remote);
  connection.proven = accept.token_type != NGTCP2_TOKEN_TYPE_UNKNOWN;
  auto &of_client = by_client[*connection.client];
  ++(connection.proven ? of_client.proven : of_client.unproven);
  if (!connection.Start(path, accept, now)) {
    Remove(connection, now);
    return;
  }
  connection.Receive(path, ecn, packet, now);
  if (!connection.over()) {
    Queue(connection);
    return;
  }
  // Not with the next WritePackets: until then it would be in the way of others.
  const bool retry = connection.endpoint().retry;
  Remove(connection, now);
  if (retry) {
    Answer(path, acceptor.Retry(path, accept.header, buffer, now), sink);
  }
}

void Impl::Answer(const FourTuple &path, const Acceptor::Result &result, const BurstSink &sink) {
  if (const auto *answer = std::get_if<Acceptor::Answer>(&result)) {
    if (answer->kind == Acceptor::AnswerKind::kRefused) {
      handler.OnRefused(path);
    }
    // What the socket does not take is lost, as if it had been on the way.
    (void)sink({.path = path, .data = answer->bytes, .segment = answer->bytes.size()});
  }
}

void Impl::Remove(ServerConnection &connection, Nanoseconds now) {
  const auto ids = connection.ids();
  for (const auto &id : ids) {
    Forget(id);
  }
  auto &endpoint = connection.endpoint();
  if (endpoint.lingers) {
    closed.Add(ids, endpoint.close_packet(),
               now + kClosingPtos * ngtcp2_conn_get_pto2(endpoint.conn.get()));
  }
  SetTimer(connection, kNever);
  if (connection.queued) {
    std::erase(writers, &connection);
  }
  if (connection.in_last_call()) {
    --in_last_call;
  }
  if (!connection.handshake_completed) {
    EndHandshake(connection);
    if (endpoint.qlog && !endpoint.retry && IsError(endpoint.reason.kind) &&
        failed_qlogs.Take(1, now)) {
      endpoint.qlog->Keep();
    }
    if (!endpoint.retry && endpoint.reason.kind != CloseKind::kLocal) {
      handler.OnHandshakeFailed(connection.path(), endpoint.reason);
    }
  }
  connections.erase(&connection);
}

Http3Server::Http3Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Http3Server::~Http3Server() = default;

std::expected<std::unique_ptr<Http3Server>, QuicError> Http3Server::Create(Options options,
                                                                           Handler &handler) {
  if (auto size = CheckUdpPayload(options.max_udp_payload); !size) {
    return std::unexpected(std::move(size.error()));
  }
  if (std::error_code error;
      !options.qlog_dir.empty() && !std::filesystem::is_directory(options.qlog_dir, error)) {
    return std::unexpected(
      QuicError{QuicError::kQlog, "qlog: " + options.qlog_dir.string() + " is no directory"});
  }
  std::array<std::uint8_t, 32> secret{};
  Impl::Secrets secrets{};
  if (!(options.secret ? (secret = *options.secret, true) : Random(secret)) ||
      !Random(AsBytes(secrets.table)) || !Derive(secret, "worker", AsBytes(secrets.ids.worker)) ||
      !Derive(secret, "reset", secrets.ids.reset) || !Derive(secret, "token", secrets.token) ||
      !Derive(secret, "ticket", secrets.ticket) ||
      !Derive(secret, "foreign", AsBytes(secrets.foreign))) {
    return std::unexpected(QuicError{QuicError::kInternal, "no random bytes"});
  }
  auto impl = std::make_unique<Impl>(std::move(options), handler, secrets);
  const auto &o = impl->options;
  TlsServerContext::Options of_tls{
    .certificates = {{.certificate_file = o.certificate_file, .key_file = o.key_file}},
    .client_certificates = o.client_certificates,
    .client_ca_file = o.client_ca_file,
    .key_log_file = o.key_log_file,
    .ticket_key = secrets.ticket};
  std::ranges::copy(o.more_certificates, std::back_inserter(of_tls.certificates));
  auto tls = TlsServerContext::Create(std::move(of_tls));
  if (!tls) {
    return std::unexpected(std::move(tls.error()));
  }
  impl->tls = *std::move(tls);
  return std::unique_ptr<Http3Server>(new Http3Server(std::move(impl)));
}

void Http3Server::Receive(const FourTuple &path, unsigned ecn, std::span<const std::uint8_t> packet,
                          Nanoseconds now, const BurstSink &sink) {
  auto &impl = *impl_;
  // ngtcp2 takes no empty one, which anybody can send.
  if (ngtcp2_version_cid parsed;
      !packet.empty() && ngtcp2_pkt_decode_version_cid(&parsed, packet.data(), packet.size(),
                                                       kLocalIdLength) == 0) {
    const auto id = ConnectionId::From({parsed.dcid, parsed.dcidlen});
    if (auto *connection = impl.Find(*id)) {
      connection->Receive(path, ecn, packet, now);
      impl.Queue(*connection);
      return;
    }
    if (const auto closed = impl.closed.OnPacket(*id, packet.size())) {
      if (!closed->empty()) {
        (void)sink({.path = path, .data = *closed, .segment = closed->size()});
      }
      return;
    }
  }
  const auto result = impl.acceptor.OnPacket(
    path, packet, impl.HandshakesFor(ClientKey::FromAddress(path.remote)), impl.buffer, now);
  if (const auto *accept = std::get_if<Acceptor::Accept>(&result)) {
    impl.Accept(path, ecn, packet, *accept, now, sink);
  } else {
    impl.Answer(path, result, sink);
  }
}

void Http3Server::HandleExpiry(Nanoseconds now) {
  auto &impl = *impl_;
  impl.closed.Expire(now);
  while (!impl.timers.empty() && impl.timers.begin()->first <= now) {
    auto &connection = *impl.timers.begin()->second;
    impl.SetTimer(connection, kNever);
    connection.HandleExpiry(now);
    impl.Queue(connection);
  }
}

Nanoseconds Http3Server::Expiry() const {
  const auto &timers = impl_->timers;
  return std::min(timers.empty() ? kNever : timers.begin()->first, impl_->closed.NextExpiry());
}

bool Http3Server::wants_write() const { return !impl_->writers.empty(); }

void Http3Server::WritePackets(Nanoseconds now, const BurstSink &sink) {
  auto &impl = *impl_;
  bool room = true;
  const auto to_sink = [&](const OutgoingBurst &burst) { return room = sink(burst); };
  while (room && !impl.writers.empty()) {
    auto &connection = *impl.writers.front();
    impl.writers.pop_front();
    connection.queued = false;
    connection.Write(now, to_sink);
    if (connection.over()) {
      impl.Remove(connection, now);
    } else {
      impl.SetTimer(connection, connection.Expiry());
      if (!room) {
        impl.Queue(connection);
      }
    }
  }
}

void Http3Server::Drain(Nanoseconds now) {
  if (!std::exchange(impl_->draining, true)) {
    for (const auto &[connection, owned] : impl_->connections) {
      connection->Drain(now);
    }
  }
}

bool Http3Server::takes_requests() const { return !impl_->draining || impl_->in_last_call != 0; }

void Http3Server::Move(const Endpoint &address) {
  for (const auto &[connection, owned] : impl_->connections) {
    connection->Move(address);
  }
}

void Http3Server::MoveOnHandshake(const std::optional<Endpoint> &address) {
  impl_->move_on_handshake = address;
}

void Http3Server::Close(std::uint64_t code, Nanoseconds now, const BurstSink &sink) {
  for (const auto &[connection, owned] : impl_->connections) {
    connection->CloseSoon(code);
  }
  // A full socket loses the rest: their clients have an idle timeout.
  WritePackets(now, [&](const OutgoingBurst &burst) {
    (void)sink(burst);
    return true;
  });
}

std::expected<void, QuicError>
Http3Server::ReplaceCertificates(std::span<const CertificateAndKey> certificates) {
  return impl_->tls->Replace(certificates);
}

std::expected<void, QuicError>
Http3Server::ReplaceCertificate(const std::filesystem::path &certificate_file,
                                const std::filesystem::path &key_file) {
  const CertificateAndKey one{.certificate_file = certificate_file, .key_file = key_file};
  return impl_->tls->Replace({&one, 1});
}

const HashKey &Http3Server::foreign_id_key() const { return impl_->foreign; }

std::optional<ngmasque::ResetToken>
Http3Server::ResetToken(std::span<const std::uint8_t> id) const {
  const auto made = impl_->acceptor.ForeignResetToken(id);
  return made ? std::optional(std::to_array(made->data)) : std::nullopt;
}

std::size_t Http3Server::connections() const { return impl_->connections.size(); }

Http3Server::Statistics Http3Server::statistics() const {
  using Kind = Acceptor::AnswerKind;
  const auto &acceptor = impl_->acceptor;
  Statistics statistics{
    .accepted = acceptor.accepted(),
    .handshakes = impl_->handshakes,
    .retries = acceptor.answered(Kind::kRetry),
    .refused = acceptor.answered(Kind::kRefused) + acceptor.answered(Kind::kInvalidToken),
    .resets = acceptor.answered(Kind::kReset),
    .negotiations = acceptor.answered(Kind::kVersionNegotiation),
    .announced = impl_->announced,
    .moves = impl_->moves,
  };
  for (std::size_t i = 0; i < Acceptor::kDropReasons; ++i) {
    statistics.dropped += acceptor.dropped(static_cast<Acceptor::DropReason>(i));
  }
  return statistics;
}

} // namespace ngmasque
