#include "local_ports.h"

#include <algorithm>
#include <format>
#include <tuple>
#include <utility>

namespace ngmasque::programs {

namespace {

constexpr std::size_t kSocketBuffer = std::size_t{1} << 20; // Bytes, each way.

} // namespace

LocalPorts::LocalPorts(Carrier &carrier, Options options, const Log &log)
  : carrier_(carrier), options_(std::move(options)), log_(log) {
  const auto seconds = std::chrono::duration<double>(options_.idle_timeout).count() / 4;
  ev_timer_init(
    &idle_,
    [](struct ev_loop *, ev_timer *timer, int) {
      static_cast<LocalPorts *>(timer->data)->CloseIdle();
    },
    seconds, seconds);
  ev_init(&send_to_peer_, [](struct ev_loop *, ev_prepare *watcher, int) {
    static_cast<LocalPorts *>(watcher->data)->SendToPeer();
  });
  idle_.data = send_to_peer_.data = this;
}

std::expected<std::unique_ptr<LocalPorts>, IoError>
LocalPorts::Create(Carrier &carrier, Options options, const Log &log) {
  std::unique_ptr<LocalPorts> ports(new LocalPorts(carrier, std::move(options), log));
  auto listener = UdpListener::Create(carrier.loop(),
                                      {.addresses = ports->options_.addresses,
                                       .receive_buffer = kSocketBuffer,
                                       .send_buffer = kSocketBuffer,
                                       .log = log.Function()},
                                      *ports);
  if (!listener) {
    return std::unexpected(std::move(listener.error()));
  }
  ports->listener_ = *std::move(listener);
  ev_timer_start(carrier.loop(), &ports->idle_);
  return ports;
}

LocalPorts::~LocalPorts() {
  ev_timer_stop(carrier_.loop(), &idle_);
  ev_clear_pending(carrier_.loop(), &send_to_peer_);
}

void LocalPorts::OnPacket(const FourTuple &path, unsigned ecn, std::span<std::uint8_t> packet,
                          Nanoseconds) {
  if (from_ == path && to_proxy_.Add(packet, ecn)) {
    return;
  }
  to_proxy_.Flush();
  from_ = path;
  to_proxy_.Begin(FindTunnel(path), packet, ecn);
}

PeerTunnel *LocalPorts::FindTunnel(const FourTuple &path) {
  auto peer = peers_.find(path);
  if (peer == peers_.end()) {
    if (peers_.size() >= options_.max_peers) {
      ++dropped_;
      if (const auto end = full_lines_.Take(carrier_.Now())) {
        log_.Warning(
          std::format("{} local peers at a time are all that may be: a packet of another one "
                      "is dropped; see --max-tunnels and --idle-timeout{}",
                      options_.max_peers, *end));
      }
      return nullptr;
    }
    peer = peers_
             .emplace(std::piecewise_construct, std::forward_as_tuple(path),
                      std::forward_as_tuple(*this, path))
             .first;
  }
  return &peer->second.tunnel;
}

void LocalPorts::Peer::OnTargetPacket(PeerTunnel &, std::span<const std::uint8_t> packet,
                                      unsigned ecn) {
  if (ports.to_peer_path_ != path || !ports.to_peer_.Add(packet, ecn)) {
    ports.SendToPeer();
    ports.to_peer_path_ = path;
    if (!ports.to_peer_.Add(packet, ecn)) {
      // It is empty.
      std::ignore = ports.listener_->Forward(path, {.data = packet, .segment = 1, .ecn = ecn});
    }
  }
  ev_feed_event(ports.carrier_.loop(), &ports.send_to_peer_, EV_CUSTOM);
}

void LocalPorts::CloseIdle() {
  const auto now = carrier_.Now();
  const auto timeout = static_cast<std::uint64_t>(options_.idle_timeout.count());
  std::erase_if(peers_, [&](const auto &peer) {
    return now - std::min(now, peer.second.tunnel.used()) > timeout;
  });
}

} // namespace ngmasque::programs
