// session-bench: forwarded packets in dialect rfc9298, which are written anew with another connection
// ID, and transformed.
#pragma once

#include "ngmasque/session/client_ids.h"
#include "ngmasque/session/client_tunnel.h"
#include "ngmasque/session/proxy.h"
#include "ngmasque/session/rfc9298.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

/// A proxy with tunnels that forward, each with two connection IDs.
class RewrittenScene {
public:
  RewrittenScene(std::size_t tunnels, ngmasque::Transform transform);

  /// As it is with a packet of each kind, and where it arrives.
  struct Sample {
    std::array<std::uint8_t, 1 + ngmasque::ConnectionId::kInlineSize> to_target{0x40};
    std::size_t virtual_size = 0;
    std::array<std::uint8_t, 1 + 8> to_client{0x40};
    const ngmasque::ClientPath *path = nullptr;
    const ngmasque::ServerSocket *socket = nullptr;
  };

  ngmasque::Proxy proxy;
  std::vector<Sample> samples; ///< In random order.

private:
  class Client;
};

/// Of so many packets of kRewrittenSize bytes, those that were passed on.
inline constexpr std::size_t kRewrittenSize = 1350;
std::size_t MeasuredRewrittenToTarget(RewrittenScene &scene, std::size_t packets);
std::size_t MeasuredRewrittenToClient(RewrittenScene &scene, std::size_t packets);
