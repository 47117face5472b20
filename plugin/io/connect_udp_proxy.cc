#include "ngmasque/io/connect_udp_proxy.h"

#include "common.h"
#include "deadline_timer.h"

#include "ngmasque/io/local_addresses.h"
#include "ngmasque/io/proxy_connection.h"
#include "ngmasque/quic/socket_address.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <format>
#include <functional>
#include <map>
#include <span>
#include <string_view>
#include <utility>

#include <ev.h>

namespace ngmasque {

namespace {

bool IsWildcard(const Endpoint &endpoint) {
  const auto bytes = std::span(endpoint.address).subspan(IsIpv4(endpoint) ? 12 : 0);
  return std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; });
}

} // namespace

class ConnectUdpProxy::Impl final : public UdpListener::Handler, public Http3Server::Handler {
public:
  Impl(struct ev_loop *loop, LogFunction log)
    : loop_(loop), log_(std::move(log)), timer_(loop, [this] { OnTimer(); }) {
    ev_prepare_init(&prepare_, OnPrepare);
    prepare_.data = this;
    ev_prepare_start(loop_, &prepare_);
  }
  ~Impl() override {
    ev_prepare_stop(loop_, &prepare_);
    clients_.clear();
  }

  std::expected<void, IoError> Start(Options options);
  // What of this machine is no target.
  void AddOwn(TargetPolicy::Options &policy) const;

  // UdpListener::Handler.
  void OnPacket(const FourTuple &path, unsigned ecn, std::span<std::uint8_t> packet,
                Nanoseconds now) override {
    if (!proxy_->OnClientPacket(path, packet, ecn)) {
      server_->Receive(path, ecn, packet, now, Sink());
    }
  }
  void OnBatchEnd(Nanoseconds) override { proxy_->OnClientPacketsDone(); }
  void OnWritable() override {} // OnPrepare comes.

  // Http3Server::Handler.
  Http3Endpoint::Handler *OnConnection(Http3Server::Connection &connection) override;
  bool IsOver(std::span<const std::uint8_t> bytes) override { return proxy_->IsOver(bytes); }
  void OnRefused(const FourTuple &path) override {
    if (draining_) {
      Log(full_lines_, LogLevel::kInfo, path, "refused: no more connections are taken");
    } else {
      Log(full_lines_, LogLevel::kWarning, path, "refused: there are too many connections");
    }
  }
  void OnHandshakeFailed(const FourTuple &path, const CloseReason &reason) override {
    Log(failed_lines_, LogLevel::kInfo, path, "no handshake: " + reason.text);
  }

  void Close() {
    server_->Close(kH3NoError, SteadyNow(), Sink());
    assert(clients_.empty()); // Each has been told.
  }

  void Drain(std::function<void()> drained) {
    if (!std::exchange(draining_, true)) {
      drained_ = std::move(drained);
      Log(LogLevel::kInfo, std::format("no more tunnels are opened, {} go on", proxy_->tunnels()));
      server_->Drain(SteadyNow()); // OnPrepare comes.
    }
  }

  std::size_t Review(const ReviewFunction &review);

  // A socket that is bound to all addresses is bound to this one.
  [[nodiscard]] std::expected<void, IoError> CheckOwn(const Endpoint &address) const {
    const auto addresses = listener_->addresses();
    const auto covers = [&address](const Endpoint &own) {
      return own == address || (IsWildcard(own) && own.port == address.port &&
                                IsIpv4(own) == IsIpv4(address));
    };
    if (!IsWildcard(address) && std::ranges::any_of(addresses, covers)) {
      return {};
    }
    IoError error(IoError::kArgument);
    error.text = "the proxy does not listen at " + ToText(address);
    return std::unexpected(std::move(error));
  }

  struct ev_loop *loop_;
  LogFunction log_;
  // The connections are the server's, and use the proxy.
  std::unique_ptr<UdpListener> listener_;
  std::unique_ptr<ProxyServer> proxy_;
  std::unique_ptr<Http3Server> server_;

private:
  class Client;

  void OnTimer() { server_->HandleExpiry(SteadyNow()); }
  // Before the loop waits: what all its events have brought is written at once.
  static void OnPrepare(struct ev_loop *, ev_prepare *watcher, int) {
    auto &self = *static_cast<Impl *>(watcher->data);
    self.Write();
    if (self.drained_ && !self.server_->takes_requests() && self.proxy_->tunnels() == 0) {
      std::exchange(self.drained_, nullptr)();
      self.Write();
    }
  }
  void Write();
  void Log(LogLevel level, std::string_view line) const {
    if (log_) {
      log_(level, line);
    }
  }
  // What clients can bring about.
  void Log(LogLimit &limit, LogLevel level, const FourTuple &path, std::string_view text) const {
    if (const auto end = limit.Take(SteadyNow())) {
      Log(level, std::format("connection of {}: {}{}", ToText(path.remote), text, *end));
    }
  }
  BurstSink Sink() {
    return [this](const OutgoingBurst &burst) { return listener_->Send(burst); };
  }

  DeadlineTimer timer_;
  ev_prepare prepare_;
  std::uint64_t next_ = 0;
  bool draining_ = false;
  std::function<void()> drained_; // Null: it has been told, or there is nobody to tell.
  LogLimit refused_lines_; // By the bounds of a client.
  LogLimit full_lines_;
  LogLimit failed_lines_;
  std::map<OuterConnection, std::unique_ptr<Client>> clients_; // Http3Server::connections at most.
};

/// A client's connection.
class ConnectUdpProxy::Impl::Client final : public ProxyConnection {
public:
  Client(Impl &impl, OuterConnection id, Http3Server::Connection &connection)
    : ProxyConnection(*impl.proxy_, id, connection), impl_(impl), connection_(connection) {}
  ~Client() override { Deregister(); }

  SendOutcome Forward(const FourTuple &tuple, const Burst &packets) override {
    return impl_.listener_->Forward(tuple, packets);
  }
  void OnActivity() override { connection_.RestartIdleTimer(SteadyNow()); }
  void OnClosed(const CloseReason &reason) override {
    impl_.Log(LogLevel::kInfo,
              std::format("connection {}: {}", std::to_underlying(id()), reason.text));
    impl_.clients_.erase(id()); // This one.
  }

  // OnPrepare comes.
  void CloseSoon() { connection_.CloseSoon(kH3NoError); }

private:
  Impl &impl_;
  Http3Server::Connection &connection_;
};

std::size_t ConnectUdpProxy::Impl::Review(const ReviewFunction &review) {
  const auto revoked = proxy_->Review(review);
  for (const auto id : revoked) {
    clients_.at(id)->CloseSoon();
  }
  return revoked.size();
}

std::expected<void, IoError> ConnectUdpProxy::Impl::Start(Options options) {
  options.listener.log = options.proxy.log = log_;
  auto listener = UdpListener::Create(loop_, std::move(options.listener), *this);
  if (!listener) {
    return std::unexpected(std::move(listener.error()));
  }
  listener_ = *std::move(listener);

  AddOwn(options.proxy.policy);
  options.server.queues = kProxyQueueBounds;
  options.server.max_requests = options.proxy.proxy.routing.max_streams_per_client + kSpareRequests;
  auto server = Http3Server::Create(std::move(options.server), *this);
  if (!server) {
    return std::unexpected(std::move(server.error()));
  }
  server_ = *std::move(server);
  options.proxy.proxy.id_key = server_->foreign_id_key();
  options.proxy.proxy.reset_token = [this](std::span<const std::uint8_t> virtual_id) {
    return server_->ResetToken(virtual_id);
  };
  proxy_ = ProxyServer::Create(loop_, std::move(options.proxy));
  if (!proxy_) {
    return std::unexpected(IoError(IoError::kResolve));
  }
  return {};
}

void ConnectUdpProxy::Impl::AddOwn(TargetPolicy::Options &policy) const {
  for (const auto &address : listener_->addresses()) {
    policy.own.push_back(address);
  }
  for (const auto &address : LocalAddresses()) {
    policy.local.push_back(address);
  }
}

Http3Endpoint::Handler *ConnectUdpProxy::Impl::OnConnection(Http3Server::Connection &connection) {
  const OuterConnection id{next_++};
  auto client = std::make_unique<Client>(*this, id, connection);
  const auto path = connection.path();
  if (const auto registered = client->Register(path, connection.local_ids()); !registered) {
    // It does not stay, or one client could have all connections that there may be.
    Log(refused_lines_, LogLevel::kWarning, path, ErrorName(registered.error()));
    return nullptr;
  }
  proxy_->SetCertificate(id, connection.client_name());
  Log(LogLevel::kInfo,
      std::format("connection {}: from {}", std::to_underlying(id), ToText(path.remote)));
  return clients_.emplace(id, std::move(client)).first->second.get();
}

void ConnectUdpProxy::Impl::Write() {
  // A full socket holds the others up, which loses nothing.
  if (!listener_->waiting() && server_->wants_write()) {
    server_->WritePackets(SteadyNow(), Sink());
  }
  timer_.Set(server_->Expiry());
}

ConnectUdpProxy::ConnectUdpProxy(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ConnectUdpProxy::~ConnectUdpProxy() = default;

std::expected<std::unique_ptr<ConnectUdpProxy>, IoError>
ConnectUdpProxy::Create(struct ev_loop *loop, Options options) {
  auto impl = std::make_unique<Impl>(loop, options.log);
  if (auto started = impl->Start(std::move(options)); !started) {
    return std::unexpected(std::move(started.error()));
  }
  return std::unique_ptr<ConnectUdpProxy>(new ConnectUdpProxy(std::move(impl)));
}

std::vector<Endpoint> ConnectUdpProxy::addresses() const { return impl_->listener_->addresses(); }

std::expected<void, QuicError>
ConnectUdpProxy::ReplaceCertificates(std::span<const CertificateAndKey> certificates) {
  return impl_->server_->ReplaceCertificates(certificates);
}

std::expected<void, QuicError>
ConnectUdpProxy::ReplaceCertificate(const std::filesystem::path &certificate_file,
                                    const std::filesystem::path &key_file) {
  return impl_->server_->ReplaceCertificate(certificate_file, key_file);
}

void ConnectUdpProxy::SetPolicy(TargetPolicy::Options policy) {
  impl_->AddOwn(policy);
  impl_->proxy_->SetPolicy(std::move(policy));
}

void ConnectUdpProxy::SetRate(std::uint64_t max_bytes_per_second_per_client) {
  impl_->proxy_->SetRate(max_bytes_per_second_per_client);
}

std::size_t ConnectUdpProxy::Review(const ReviewFunction &review) { return impl_->Review(review); }

std::expected<void, IoError> ConnectUdpProxy::Move(const Endpoint &address) {
  return impl_->CheckOwn(address).transform([&] {
    impl_->server_->Move(address);
  });
}

std::expected<void, IoError>
ConnectUdpProxy::MoveOnHandshake(const std::optional<Endpoint> &address) {
  auto own = address ? impl_->CheckOwn(*address) : std::expected<void, IoError>();
  return own.transform([&] { impl_->server_->MoveOnHandshake(address); });
}

void ConnectUdpProxy::Drain(std::function<void()> drained) { impl_->Drain(std::move(drained)); }

void ConnectUdpProxy::Close() { impl_->Close(); }

std::size_t ConnectUdpProxy::tunnels() const { return impl_->proxy_->tunnels(); }

std::size_t ConnectUdpProxy::connections() const { return impl_->server_->connections(); }
ProxyCounters ConnectUdpProxy::counters() const { return impl_->proxy_->counters(); }
Http3Server::Statistics ConnectUdpProxy::server_statistics() const {
  return impl_->server_->statistics();
}
const UdpListener::Statistics &ConnectUdpProxy::listener_statistics() const {
  return impl_->listener_->statistics();
}

} // namespace ngmasque
