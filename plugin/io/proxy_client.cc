#include "ngmasque/io/proxy_client.h"

#include "proxy_client_impl.h"

#include <utility>

namespace ngmasque {

ProxyClient::ProxyClient(struct ev_loop *loop, Options options, Handler &handler)
  : impl_(std::make_unique<Impl>(loop, std::move(options), handler)) {}

ProxyClient::~ProxyClient() = default;

std::expected<void, IoError> ProxyClient::Start() { return impl_->Start(); }

std::expected<std::unique_ptr<ProxyTunnel>, IoError>
ProxyClient::Open(const Authority &target, const ConnectionId &inner_scid,
                  ProxyTunnel::Handler &handler, const ProxyTunnel::Options &options) {
  return impl_->Open(target, inner_scid, handler, options)
    .transform([](std::shared_ptr<ProxyTunnel::Impl> tunnel) {
      return std::unique_ptr<ProxyTunnel>(new ProxyTunnel(std::move(tunnel)));
    });
}

std::expected<std::unique_ptr<ProxyTunnel>, IoError>
ProxyClient::OpenSibling(const ProxyTunnel &tunnel, const Authority &target, const ConnectionId &id,
                         ProxyTunnel::Handler &handler) {
  const auto &sibling = *tunnel.impl_;
  if (!sibling.session) {
    return std::unexpected(IoError::kNotReady);
  }
  return impl_->Open(target, id, handler, sibling.options, sibling.session)
    .transform([](std::shared_ptr<ProxyTunnel::Impl> opened) {
      return std::unique_ptr<ProxyTunnel>(new ProxyTunnel(std::move(opened)));
    });
}

std::string_view ProxyClient::dialect() const { return impl_->dialect(); }

const std::optional<CloseReason> &ProxyClient::close_reason() const { return impl_->close_reason(); }

std::optional<FourTuple> ProxyClient::path() const { return impl_->path(); }

std::size_t ProxyClient::tunnels() const { return impl_->tunnels(); }

bool ProxyClient::draining() const { return impl_->draining(); }

std::expected<void, IoError> ProxyClient::ChangeLocalAddress() {
  return impl_->ChangeLocalAddress();
}

void ProxyClient::Close() { impl_->Close(); }

std::chrono::nanoseconds ProxyClient::silence() const {
  return std::chrono::nanoseconds(impl_->silence());
}

const ProxyClientStatistics &ProxyClient::statistics() const { return impl_->statistics(); }

std::optional<ProxyTunnelStatistics> ProxyClient::via_statistics() const {
  return impl_->via_statistics();
}

} // namespace ngmasque
