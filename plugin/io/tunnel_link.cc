#include "tunnel_link.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

std::expected<std::unique_ptr<TunnelLink>, IoError>
TunnelLink::Open(ProxyClient &via, const Authority &proxy, const ConnectionId &first,
                 const ProxyTunnel::Options &options, const FourTuple &path,
                 std::span<std::uint8_t> buffer, Owner &owner) {
  std::unique_ptr<TunnelLink> link(new TunnelLink(path, buffer, owner));
  auto opened = via.Open(proxy, first, *link, options);
  if (!opened) {
    return std::unexpected(std::move(opened.error()));
  }
  link->tunnel_ = std::move(*opened);
  return link;
}

// What the tunnel drops is lost on the way.
SendOutcome TunnelLink::Send(const Burst &burst) {
  const auto rest = tunnel_->SendBurst(burst.data, burst.segment, burst.ecn);
  return {.rest = rest, .sent = rest.empty()};
}

void TunnelLink::OnPacket(std::span<const std::uint8_t> packet, unsigned ecn) {
  if (!stopped_ && packet.size() <= buffer_.size()) {
    std::ranges::copy(packet, buffer_.begin());
    owner_.OnPacket(*this, buffer_.first(packet.size()), ecn);
  }
}

void TunnelLink::OnPacketsDone() {
  if (!stopped_) {
    owner_.OnPacketsDone(*this, 0);
  }
}

void TunnelLink::OnReleaseClientId(const ConnectionId &id) {
  if (!stopped_) {
    owner_.OnClientId(id, true);
  }
}

void TunnelLink::OnDiscardClientId(const ConnectionId &id) {
  if (!stopped_) {
    owner_.OnClientId(id, false);
  }
}

void TunnelLink::OnWritable() {
  if (std::exchange(wants_room_, false) && !stopped_) {
    owner_.OnRoom(*this);
  }
}

void TunnelLink::OnEnded(const TunnelEnd &end) {
  if (!stopped_) {
    owner_.OnLinkEnded(end);
  }
}

} // namespace ngmasque
