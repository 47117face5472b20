// One UDP association of a SOCKS client: its control connection, the UDP port that it sends to, and
// a tunnel for each destination.  RFC 1928, sections 6 and 7.
#pragma once

#include "carrier.h"
#include "packet_run.h"
#include "peer_tunnel.h"
#include "socks5.h"

#include <ngmasque/io/udp_listener.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <ev.h>

namespace ngmasque::programs {

class SocksAssociation final : private UdpListener::Handler {
public:
  struct Options {
    std::optional<SocksSession::Credentials> credentials{};
    /// Destinations at a time.  Beyond it the one that has been silent for longest is closed: a
    /// client cannot say that it is done with one.
    std::size_t max_destinations = 64;
    std::chrono::nanoseconds idle_timeout = std::chrono::minutes(2);     ///< Of a destination.
    std::chrono::nanoseconds request_timeout = std::chrono::seconds(10); ///< From the start.
  };

  /// Of all associations together.
  struct Budget {
    std::size_t tunnels = 0;
    std::size_t max_tunnels = 256;
    std::uint64_t dropped = 0; ///< Datagrams beyond it, and those that were none of RFC 1928.
    LogLimit lines{};
  };

  /// Takes over the control connection `fd`, which is non-blocking.  `ended` is called when it is
  /// over, once, and not from within the constructor; it has to destroy this later, from the loop.
  SocksAssociation(Carrier &carrier, const Options &options, Budget &budget, const Log &log, int fd,
                   std::function<void()> ended);
  ~SocksAssociation() override;

private:
  struct Destination final : PeerTunnel::Owner {
    Destination(SocksAssociation &association_in, const Authority &target)
      : association(association_in),
        header(SocksHeader(target)),
        tunnel(association.carrier_, target, *this) {
      ++association.budget_.tunnels;
    }
    ~Destination() { --association.budget_.tunnels; }
    Destination(const Destination &) = delete;
    Destination &operator=(const Destination &) = delete;
    void OnTargetPacket(PeerTunnel &, std::span<const std::uint8_t> packet, unsigned ecn) override;
    SocksAssociation &association;
    const std::vector<std::uint8_t> header;
    PeerTunnel tunnel;
  };

  // UdpListener::Handler.
  void OnPacket(const FourTuple &path, unsigned ecn, std::span<std::uint8_t> packet,
                Nanoseconds now) override;
  void OnBatchEnd(Nanoseconds) override { to_proxy_.Flush(); }
  void OnWritable() override {}

  void ReadControl();
  bool SendControl(std::span<const std::uint8_t> bytes);
  /// Answers the request.
  void Associate(const Endpoint &from);
  /// The tunnel to it; null if there can be none.
  PeerTunnel *FindTunnel(const Authority &target);
  void SendToClient() { SendRun(*relay_, *path_, to_client_); }
  void OnTimer();
  void End();

  Carrier &carrier_;
  const Options &options_;
  Budget &budget_;
  const Log &log_;
  const int fd_;
  const std::function<void()> ended_;
  bool over_ = false;
  SocksSession session_;
  std::optional<Endpoint> peer_; // Of the control connection; where datagrams have to come from.
  Endpoint from_{}; // The same, with the port that the client has named, or used first.
  std::optional<FourTuple> path_; // Of its datagrams, from the first one on.
  std::unique_ptr<UdpListener> relay_;
  std::map<std::string, Destination> destinations_; // Options::max_destinations
  // What came together goes together, both ways.
  TunnelRun to_proxy_;
  PacketRun to_client_;
  ev_prepare send_to_client_{}; // Only fed: when all that was there has been read.
  ev_io readable_{};
  ev_timer timer_{};
};

} // namespace ngmasque::programs
