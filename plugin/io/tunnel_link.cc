#include "tunnel_link.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

std::expected<std::unique_ptr<TunnelLinks>, IoError>
TunnelLinks::Open(struct ev_loop *loop, ProxyClient &via, const Authority &proxy,
                  const Endpoint &remote, const ConnectionId &first,
                  const ProxyTunnel::Options &options, std::span<std::uint8_t> buffer,
                  Owner &owner) {
  std::unique_ptr<TunnelLinks> links(new TunnelLinks(loop, via, options, buffer, owner));
  if (auto opened = links->tunnels_.Open(proxy, remote, first); !opened) {
    return std::unexpected(std::move(opened.error()));
  }
  return links;
}

std::unique_ptr<TunnelLink> TunnelLinks::Add(const FourTuple &path) {
  std::unique_ptr<TunnelLink> link(new TunnelLink(path, *this));
  links_.push_back(link.get());
  return link;
}

void TunnelLinks::OnPacket(const Endpoint &remote, std::span<const std::uint8_t> packet,
                           unsigned ecn) {
  const auto link = std::ranges::find(links_, remote, &TunnelLink::remote);
  if (link != links_.end() && packet.size() <= buffer_.size()) {
    read_ = *link;
    std::ranges::copy(packet, buffer_.begin());
    owner_.OnPacket(**link, buffer_.first(packet.size()), ecn);
  }
}

void TunnelLinks::OnPacketsDone() {
  if (auto *const link = std::exchange(read_, nullptr)) {
    owner_.OnPacketsDone(*link, 0);
  }
}

void TunnelLinks::OnWritable() {
  // The owner may stop others meanwhile.
  for (auto *const link : std::vector(links_)) {
    if (std::ranges::contains(links_, link) && std::exchange(link->wants_room_, false)) {
      owner_.OnRoom(*link);
    }
  }
}

// What the tunnel drops is lost on the way.
SendOutcome TunnelLink::Send(const Burst &burst) {
  const auto rest = links_.tunnels_.SendBurst(remote(), burst.data, burst.segment, burst.ecn);
  return {.rest = rest, .sent = rest.empty()};
}

void TunnelLink::Stop() {
  std::erase(links_.links_, this);
  if (links_.read_ == this) {
    links_.read_ = nullptr;
  }
}

} // namespace ngmasque
