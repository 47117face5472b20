#include "ngmasque/io/proxy_client.h"

#include "proxy_client_impl.h"

#include <utility>

namespace ngmasque {

std::string_view ReasonName(ClientDrop reason) {
  switch (reason) {
  case ClientDrop::kEmpty: return "empty packet";
  case ClientDrop::kTooLarge: return "packet does not fit the outer connection";
  case ClientDrop::kNoTunnel: return "no tunnel";
  case ClientDrop::kSendError: return "system refused to send it";
  case ClientDrop::kUnknownFlow: return "unknown flow";
  case ClientDrop::kMalformed: return "malformed datagram";
  case ClientDrop::kCount: break;
  }
  return "unknown reason";
}

std::string_view ErrorName(ProxyClientError error) {
  switch (error) {
  case ProxyClientError::kResolve: return "proxy has no address";
  case ProxyClientError::kSocket: return "no socket towards the proxy";
  case ProxyClientError::kTls: return "TLS configuration";
  case ProxyClientError::kQlog: return "log file cannot be opened";
  case ProxyClientError::kNotReady: return "no connection to the proxy";
  case ProxyClientError::kFlowIds: return "flow ids are used up";
  case ProxyClientError::kIdConflict: return "connection ID conflicts with the outer connection's";
  case ProxyClientError::kNotSupported: return "proxy does not support it";
  case ProxyClientError::kInternal: return "internal error";
  }
  return "unknown error";
}

ProxyClient::ProxyClient(struct ev_loop *loop, Options options, Handler &handler)
  : impl_(std::make_unique<Impl>(loop, std::move(options), handler)) {}

ProxyClient::~ProxyClient() = default;

std::expected<void, ProxyClientError> ProxyClient::Start() { return impl_->Start(); }

std::expected<void, ProxyClientError> ProxyClient::OpenTunnel(const Authority &target,
                                                              const ConnectionId &inner_scid) {
  return impl_->OpenTunnel(target, inner_scid);
}

void ProxyClient::CloseTunnel() { impl_->CloseTunnel(); }

void ProxyClient::AddClientId(const ConnectionId &id) {
  if (auto *tunnel = impl_->tunnel()) {
    impl_->Run(tunnel->AddClientId(id));
  }
}

void ProxyClient::RemoveClientId(const ConnectionId &id) {
  if (auto *tunnel = impl_->tunnel()) {
    impl_->Run(tunnel->RemoveClientId(id));
  }
}

void ProxyClient::AddServerId(const ConnectionId &id) {
  if (auto *tunnel = impl_->tunnel()) {
    impl_->Run(tunnel->AddServerId(id));
  }
}

void ProxyClient::RemoveServerId(const ConnectionId &id) {
  if (auto *tunnel = impl_->tunnel()) {
    impl_->Run(tunnel->RemoveServerId(id));
  }
}

SendStatus ProxyClient::Send(std::span<const std::uint8_t> packet, unsigned ecn) {
  return impl_->Send(packet, ecn);
}

std::span<const std::uint8_t> ProxyClient::SendBurst(std::span<const std::uint8_t> packets,
                                                     std::size_t segment, unsigned ecn) {
  return impl_->SendBurst(packets, segment, ecn);
}

std::size_t ProxyClient::max_payload() const { return impl_->MaxPayload(); }

std::expected<void, ProxyClientError> ProxyClient::ChangeLocalAddress() {
  return impl_->ChangeLocalAddress();
}

void ProxyClient::Close() { impl_->Close(); }

std::chrono::nanoseconds ProxyClient::silence() const {
  return std::chrono::nanoseconds(impl_->silence());
}

const ProxyClientStatistics &ProxyClient::statistics() const { return impl_->statistics(); }

} // namespace ngmasque
