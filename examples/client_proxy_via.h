// gtlsclient --proxy-via: the proxy that is on the way to the proxy.
#pragma once

#include "client_proxy_options.h"
#include "proxy_options.h"

#include "ngmasque/io/proxy_client.h"

#include <memory>
#include <string_view>

struct ev_loop;

namespace ngmasque::examples {

/// For --stats.
[[nodiscard]] JsonObject ToJson(std::string_view mode, std::string_view dialect,
                                const ProxyTunnelStatistics &tunnel,
                                const ProxyClientStatistics &outer);

class ProxyVia final : public ProxyClient::Handler {
public:
  /// Connects, if there is to be one, and has `options.client` go through it.  What `options.client`
  /// says of the program and not of a proxy holds here, too.  False: it is said why.
  [[nodiscard]] bool Start(struct ev_loop *loop, ClientProxyOptions &options);

  /// After Start; null if there is none.
  [[nodiscard]] ProxyClient *client() { return client_.get(); }
  /// Nothing has come from it for half of the idle timeout: that is said, and true returned.
  [[nodiscard]] bool IsSilent() const;
  [[nodiscard]] JsonObject Stats(const ProxyClient &behind) const;

private:
  // What is behind it ends with it.
  void OnClosed(std::string_view text) override;

  ProxyClient::Options options_;
  bool forward_ = true;
  std::unique_ptr<ProxyClient> client_;
};

} // namespace ngmasque::examples
