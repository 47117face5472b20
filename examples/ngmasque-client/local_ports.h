// Local UDP ports whose packets go to one target: each local peer has a tunnel of its own.
#pragma once

#include "carrier.h"
#include "packet_run.h"
#include "peer_tunnel.h"

#include <ngmasque/io/udp_listener.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include <ev.h>

namespace ngmasque::programs {

class LocalPorts final : private UdpListener::Handler {
public:
  struct Options {
    std::vector<Endpoint> addresses{};
    Authority target{};
    /// Local peers at a time; what further ones send is dropped, and logged.
    std::size_t max_peers = 256;
    std::chrono::nanoseconds idle_timeout = std::chrono::minutes(2); ///< Of a peer, both ways.
  };

  /// Binds the ports.  `carrier` and `log` have to outlive it.  Errors: those of
  /// UdpListener::Create.
  [[nodiscard]] static std::expected<std::unique_ptr<LocalPorts>, IoError>
  Create(Carrier &carrier, Options options, const Log &log);
  ~LocalPorts() override;

  [[nodiscard]] std::vector<Endpoint> addresses() const { return listener_->addresses(); }
  [[nodiscard]] std::size_t peers() const { return peers_.size(); }
  /// Packets of peers beyond Options::max_peers.
  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }

private:
  struct Peer final : PeerTunnel::Owner {
    Peer(LocalPorts &ports_in, const FourTuple &path_in)
      : ports(ports_in), path(path_in), tunnel(ports.carrier_, ports.options_.target, *this) {}
    void OnTargetPacket(PeerTunnel &, std::span<const std::uint8_t> packet, unsigned ecn) override;
    LocalPorts &ports;
    const FourTuple path; ///< As ours: local is the port's.
    PeerTunnel tunnel;
  };

  LocalPorts(Carrier &carrier, Options options, const Log &log);

  // UdpListener::Handler.
  void OnPacket(const FourTuple &path, unsigned ecn, std::span<std::uint8_t> packet,
                Nanoseconds now) override;
  void OnBatchEnd(Nanoseconds) override { to_proxy_.Flush(); }
  void OnWritable() override {}

  /// That of the peer; null if there can be none.
  PeerTunnel *FindTunnel(const FourTuple &path);
  void SendToPeer() { SendRun(*listener_, to_peer_path_, to_peer_); }
  void CloseIdle();

  Carrier &carrier_;
  const Options options_;
  const Log &log_;
  std::unique_ptr<UdpListener> listener_;
  std::map<FourTuple, Peer> peers_; // Options::max_peers
  // What came together goes together, both ways.
  TunnelRun to_proxy_;
  FourTuple from_{}; // Whose to_proxy_ is.
  PacketRun to_peer_;
  FourTuple to_peer_path_{};
  ev_prepare send_to_peer_{}; // Only fed: when all that was there has been read.
  std::uint64_t dropped_ = 0;
  LogLimit full_lines_;
  ev_timer idle_{};
};

} // namespace ngmasque::programs
