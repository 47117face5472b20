#include "packet_run.h"

#include "peer_tunnel.h"

#include <tuple>

namespace ngmasque::programs {

bool PacketRun::Add(std::span<const std::uint8_t> packet, unsigned ecn,
                    std::span<const std::uint8_t> head) {
  const auto size = head.size() + packet.size();
  if (size == 0 || size > kMaxBytes) {
    return false;
  }
  if (bytes_.empty()) {
    segment_ = size;
    packets_ = 0;
    ecn_ = ecn;
  } else if (ecn != ecn_ || size > segment_ || bytes_.size() % segment_ != 0 ||
             packets_ == kMaxPackets || bytes_.size() + size > kMaxBytes) {
    return false;
  }
  bytes_.insert(bytes_.end(), head.begin(), head.end());
  bytes_.insert(bytes_.end(), packet.begin(), packet.end());
  ++packets_;
  return true;
}

void TunnelRun::Begin(PeerTunnel *tunnel, std::span<const std::uint8_t> packet, unsigned ecn) {
  tunnel_ = tunnel;
  if (tunnel && !packets_.Add(packet, ecn)) {
    tunnel->Send({.data = packet, .segment = 1, .ecn = ecn}); // It is empty.
  }
}

void TunnelRun::Flush() {
  if (tunnel_ && !packets_.empty()) {
    tunnel_->Send(packets_.burst());
    packets_.Clear();
  }
  tunnel_ = nullptr;
}

void SendRun(UdpListener &listener, const FourTuple &path, PacketRun &run) {
  if (run.empty()) {
    return;
  }
  const auto burst = run.burst();
  const auto outcome = listener.Forward(path, burst);
  const auto last = outcome.rest.size() % burst.segment;
  // An error may be about the size, and the last one is shorter.
  if (outcome.error != 0 && last > 0 && outcome.rest.size() > burst.segment) {
    std::ignore = listener.Forward(
      path, {.data = outcome.rest.last(last), .segment = last, .ecn = burst.ecn});
  }
  run.Clear();
}

} // namespace ngmasque::programs
