#include "ngmasque/io/proxy_client.h"

#include "proxy_client_impl.h"

#include <utility>

namespace ngmasque {

std::string_view ErrorName(ProxyClientError error) {
  switch (error) {
  case ProxyClientError::kResolve: return "proxy has no address";
  case ProxyClientError::kSocket: return "no socket towards the proxy";
  case ProxyClientError::kTls: return "TLS configuration";
  case ProxyClientError::kQlog: return "log file cannot be opened";
  case ProxyClientError::kNotReady: return "no connection to the proxy";
  case ProxyClientError::kClosed: return "connection to the proxy is over";
  case ProxyClientError::kTooManyTunnels: return "too many tunnels";
  case ProxyClientError::kIdConflict: return "connection ID conflicts with one in use";
  case ProxyClientError::kNotSupported: return "proxy does not support it";
  case ProxyClientError::kInternal: return "internal error";
  }
  return "unknown error";
}

ProxyClient::ProxyClient(struct ev_loop *loop, Options options, Handler &handler)
  : impl_(std::make_unique<Impl>(loop, std::move(options), handler)) {}

ProxyClient::~ProxyClient() = default;

std::expected<void, ProxyClientError> ProxyClient::Start() { return impl_->Start(); }

std::expected<std::unique_ptr<ProxyTunnel>, ProxyClientError>
ProxyClient::Open(const Authority &target, const ConnectionId &inner_scid,
                  ProxyTunnel::Handler &handler, const ProxyTunnel::Options &options) {
  return impl_->Open(target, inner_scid, handler, options)
    .transform([](std::shared_ptr<ProxyTunnel::Impl> tunnel) {
      return std::unique_ptr<ProxyTunnel>(new ProxyTunnel(std::move(tunnel)));
    });
}

std::size_t ProxyClient::tunnels() const { return impl_->tunnels(); }

std::expected<void, ProxyClientError> ProxyClient::ChangeLocalAddress() {
  return impl_->ChangeLocalAddress();
}

void ProxyClient::Close() { impl_->Close(); }

std::chrono::nanoseconds ProxyClient::silence() const {
  return std::chrono::nanoseconds(impl_->silence());
}

const ProxyClientStatistics &ProxyClient::statistics() const { return impl_->statistics(); }

} // namespace ngmasque
