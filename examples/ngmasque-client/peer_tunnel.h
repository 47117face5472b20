// One local peer's way to one target: a tunnel through the proxy that is opened when the peer
// sends, and again when it was lost.
#pragma once

#include "backoff.h"
#include "inner_ids.h"
#include "packet_queue.h"
#include "target_statistics.h"

#include <ngmasque/io/proxy_tunnel.h>
#include <ngmasque/io/udp_socket.h>
#include <ngmasque/session/authority.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <ev.h>

namespace ngmasque::programs {

class Carrier;

class PeerTunnel final : private ProxyTunnel::Handler {
public:
  class Owner {
  public:
    /// A packet of the target for the peer; `ecn` is 0 to 3.  May destroy nothing.
    virtual void OnTargetPacket(PeerTunnel &tunnel, std::span<const std::uint8_t> packet,
                                unsigned ecn) = 0;

  protected:
    ~Owner() = default;
  };

  /// How long packets of a connection that begins on a port with others wait for the proxy to know
  /// its connection ID: less than it takes a QUIC client to send them again (RFC 9002,
  /// section 6.2.2).
  static constexpr double kMaxHoldSeconds = 0.5;
  /// A proxy that refuses can say how long to wait.  Beyond that it is tried again all the same.
  static constexpr std::chrono::seconds kMaxRetryAfter{300};

  /// `carrier` and `owner` have to outlive it.
  PeerTunnel(Carrier &carrier, Authority target, Owner &owner);
  ~PeerTunnel() override;

  /// Packets of the peer that came together, with the ECN bits that they came with.
  void Send(const Burst &packets);

  /// There is a connection to the proxy.
  void OnCarrierReady();

  [[nodiscard]] const Authority &target() const { return target_; }
  /// When a packet went either way for the last time, in nanoseconds of the carrier's clock.
  [[nodiscard]] std::uint64_t used() const { return used_; }
  [[nodiscard]] TargetStatistics statistics() const;

private:
  enum class Mode : std::uint8_t { kUndecided, kQuic, kPlain };

  // ProxyTunnel::Handler.
  void OnOpened() override;
  void OnPacket(std::span<const std::uint8_t> packet, unsigned ecn) override;
  void OnReleaseClientId(const ConnectionId &id) override { Release(id); }
  void OnDiscardClientId(const ConnectionId &id) override { Release(id); }
  void OnWritable() override { SendWaiting(); }
  void OnEnded(const TunnelEnd &end) override;

  void Decide(std::span<const std::uint8_t> packet);
  void BecomePlain();
  void Open();
  void Tell(const InnerIds::News &news);
  InnerIds::News Learn(std::span<const std::uint8_t> packet);
  void SendOne(std::span<const std::uint8_t> packet, unsigned ecn, const InnerIds::News &news);
  void Submit(const Burst &packets);
  void SubmitOne(std::span<const std::uint8_t> packet, unsigned ecn);
  void SendWaiting();
  void Release(const ConnectionId &id);
  void SendHeld();
  /// Says so if Send has dropped a packet as too long, of so many bytes.
  void CheckLength(std::size_t size);
  /// Keeps statistics() of a tunnel that is over.
  void Drop();

  Carrier &carrier_;
  const Authority target_;
  Owner &owner_;
  std::unique_ptr<ProxyTunnel> tunnel_;
  Mode mode_ = Mode::kUndecided;
  bool quic_ = false;     // That tunnel_ has connection IDs.
  bool empty_id_ = false; // ... of the peer only one of zero length.
  bool answered_ = false; // Something has come by tunnel_.
  bool begins_quic_ = false; // What the peer has begun with.
  std::uint64_t too_long_ = 0; // As far as is known of tunnel_.
  InnerIds ids_;
  PacketQueue waiting_; // For a tunnel, or room in it.
  // Of connections whose IDs the proxy does not know yet, and these IDs: as many as InnerIds has.
  PacketQueue held_;
  std::vector<ConnectionId> held_ids_;
  ev_timer hold_timer_{};
  Backoff pauses_; // After a refusal.
  std::uint64_t not_before_ = 0;
  std::uint64_t used_;
  TargetStatistics earlier_{};
};

} // namespace ngmasque::programs
