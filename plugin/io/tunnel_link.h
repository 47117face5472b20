// A tunnel of another ProxyClient in place of a UDP socket: the proxy is its target.
#pragma once

#include "outer_link.h"

#include "ngmasque/io/proxy_client.h"

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>

namespace ngmasque {

//= draft-ietf-masque-quic-proxy, section 2
//# each subsequent proxy is just treated as a target by the preceding proxy.
class TunnelLink final : public OuterLink, private ProxyTunnel::Handler {
public:
  /// As with OuterLink::Owner; the link may not be destroyed from within these.
  class Owner : public OuterLink::Owner {
  public:
    /// After AddClientId: packets to it come through from now on, or it must never be used.
    virtual void OnClientId(const ConnectionId &id, bool usable) = 0;
    /// The tunnel is over, and not by Stop or End: what is sent is dropped.
    virtual void OnLinkEnded(const TunnelEnd &end) = 0;
    /// See ProxyTunnel::Handler::ProbeTimeout.
    [[nodiscard]] virtual std::chrono::nanoseconds LinkProbeTimeout() const = 0;

  protected:
    ~Owner() = default;
  };

  /// Opens a tunnel of `via` to `proxy`, for an outer connection that has the Source Connection ID
  /// `first`.  `path` is how that one is to know it.  `buffer`: kReadBufferSize bytes, for one packet
  /// that is being handed over; buffer and owner have to outlive the link.
  /// Errors: as of ProxyClient::Open.
  [[nodiscard]] static std::expected<std::unique_ptr<TunnelLink>, IoError>
  Open(ProxyClient &via, const Authority &proxy, const ConnectionId &first,
       const ProxyTunnel::Options &options, const FourTuple &path, std::span<std::uint8_t> buffer,
       Owner &owner);

  // As with ProxyTunnel: connection IDs of packets that come through, with short headers.
  void AddClientId(const ConnectionId &id) { tunnel_->AddClientId(id); }
  void RemoveClientId(const ConnectionId &id) { tunnel_->RemoveClientId(id); }
  void AddServerId(const ConnectionId &id, const std::optional<ResetToken> &token = {}) {
    tunnel_->AddServerId(id, token);
  }
  void RemoveServerId(const ConnectionId &id) { tunnel_->RemoveServerId(id); }

  [[nodiscard]] const ProxyTunnelStatistics &statistics() const { return tunnel_->statistics(); }

  [[nodiscard]] SendOutcome Send(const Burst &burst) override;
  void WaitForRoom() override { wants_room_ = true; }
  [[nodiscard]] bool waits_for_room() const override { return wants_room_; }
  void Stop() override { stopped_ = true; }
  void End() override { tunnel_->Close(); }

private:
  TunnelLink(const FourTuple &path, std::span<std::uint8_t> buffer, Owner &owner)
    : OuterLink(path), buffer_(buffer), owner_(owner) {}

  void OnPacket(std::span<const std::uint8_t> packet, unsigned ecn) override;
  void OnPacketsDone() override;
  std::chrono::nanoseconds ProbeTimeout() const override { return owner_.LinkProbeTimeout(); }
  void OnReleaseClientId(const ConnectionId &id) override;
  void OnDiscardClientId(const ConnectionId &id) override;
  void OnWritable() override;
  void OnEnded(const TunnelEnd &end) override;

  std::span<std::uint8_t> buffer_;
  Owner &owner_;
  std::unique_ptr<ProxyTunnel> tunnel_;
  bool wants_room_ = false;
  bool stopped_ = false;
};

} // namespace ngmasque
