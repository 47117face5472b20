#include "client_proxy_via.h"

#include <chrono>
#include <cstdio>
#include <print>

namespace ngmasque::examples {

JsonObject ToJson(std::string_view mode, std::string_view dialect,
                  const ProxyTunnelStatistics &tunnel, const ProxyClientStatistics &outer) {
  JsonObject dropped;
  for (std::size_t i = 0; i < tunnel.dropped.size(); ++i) {
    dropped.AddIfNot0(ReasonName(static_cast<DropReason>(i)), tunnel.dropped[i] + outer.dropped[i]);
  }
  JsonObject fallbacks;
  for (std::size_t i = 0; i < tunnel.fallbacks.size(); ++i) {
    fallbacks.AddIfNot0(ReasonName(static_cast<Fallback>(i)), tunnel.fallbacks[i]);
  }
  JsonObject proxy;
  proxy.Add("mode", mode);
  proxy.Add("dialect", dialect);
  proxy.Add("tunnelled_tx", ToJson(tunnel.tunnelled_tx));
  proxy.Add("tunnelled_rx", ToJson(tunnel.tunnelled_rx));
  proxy.Add("forwarded_tx", ToJson(tunnel.forwarded_tx));
  proxy.Add("forwarded_rx", ToJson(tunnel.forwarded_rx));
  proxy.Add("on_stream_tx", tunnel.on_stream_tx);
  proxy.Add("on_stream_rx", tunnel.on_stream_rx);
  proxy.Add("server_migrations", outer.server_migrations);
  proxy.Add("dropped", dropped);
  proxy.Add("fallbacks", fallbacks);
  return proxy;
}

bool ProxyVia::Start(struct ev_loop *loop, ClientProxyOptions &options) {
  if (options.via.host.empty()) {
    return true;
  }
  options_ = options.via;
  const auto &client = options.client;
  options_.qlog_dir = client.qlog_dir;
  options_.key_log_file = client.key_log_file;
  options_.gso = client.gso;
  options_.handshake_timeout = client.handshake_timeout;
  options_.idle_timeout = client.idle_timeout;
  options_.log = client.log;
  forward_ = client.via_tunnel.forward;
  client_ = std::make_unique<ProxyClient>(loop, options_, *this);
  if (const auto started = client_->Start(); !started) {
    std::println(stderr, "proxy-via: {}:{}: {}", options_.host, options_.port,
                 ErrorText(started.error()));
    return false;
  }
  options.client.via = client_.get();
  return true;
}

void ProxyVia::OnClosed(std::string_view text) {
  std::println(stderr, "proxy-via: {}:{}: {}", options_.host, options_.port, text);
}

bool ProxyVia::IsSilent() const {
  const auto silence = client_ ? client_->silence() : std::chrono::nanoseconds();
  if (silence <= options_.idle_timeout / 2) {
    return false;
  }
  std::println(stderr, "proxy-via: nothing has come from {}:{} for {:.1f} seconds", options_.host,
               options_.port, std::chrono::duration<double>(silence).count());
  return true;
}

JsonObject ProxyVia::Stats(const ProxyClient &behind) const {
  return ToJson(forward_ ? "forward" : "tunnel", client_->dialect(),
                behind.via_statistics().value_or(ProxyTunnelStatistics{}),
                client_->statistics());
}

} // namespace ngmasque::examples
