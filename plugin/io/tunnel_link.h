// Tunnels of another ProxyClient in place of UDP sockets: the proxy is their target.
#pragma once

#include "outer_link.h"

#include "ngmasque/io/path_tunnels.h"
#include "ngmasque/io/proxy_client.h"

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace ngmasque {

class TunnelLink;

/// Of one outer connection, each to one of the addresses that its proxy has.
///
//= draft-ietf-masque-quic-proxy, section 2
//# each subsequent proxy is just treated as a target by the preceding proxy.
class TunnelLinks final : private PathTunnels::Handler {
public:
  /// As with OuterLink::Owner; none of the two objects may be destroyed from within these.
  class Owner : public OuterLink::Owner {
  public:
    /// After AddClientId: packets to it come through from now on, or it must never be used.
    virtual void OnClientId(const ConnectionId &id, bool usable) = 0;
    /// No tunnel is left, and not by Close: what is sent is dropped.
    virtual void OnLinksEnded(const TunnelEnd &end) = 0;
    /// See ProxyTunnel::Handler::ProbeTimeout.
    [[nodiscard]] virtual std::chrono::nanoseconds LinkProbeTimeout() const = 0;

  protected:
    ~Owner() = default;
  };

  /// Opens a tunnel of `via` to `proxy`, which is called `remote` here, for an outer connection that
  /// has the Source Connection ID `first`.  `buffer`: kReadBufferSize bytes, for one packet that is
  /// being handed over.  Loop, buffer and owner have to outlive it, `via` up to Close.
  /// Errors: as of ProxyClient::Open.
  [[nodiscard]] static std::expected<std::unique_ptr<TunnelLinks>, IoError>
  Open(struct ev_loop *loop, ProxyClient &via, const Authority &proxy, const Endpoint &remote,
       const ConnectionId &first, const ProxyTunnel::Options &options,
       std::span<std::uint8_t> buffer, Owner &owner);

  /// What goes to path.remote; the tunnel there is opened when something does, as PathTunnels say.
  /// `path` is how the outer connection is to know it.  It must not outlive this.
  [[nodiscard]] std::unique_ptr<TunnelLink> Add(const FourTuple &path);

  // As with PathTunnels: connection IDs of packets that come through, with short headers.
  void AddClientId(const ConnectionId &id) { tunnels_.AddClientId(id); }
  void RemoveClientId(const ConnectionId &id) { tunnels_.RemoveClientId(id); }
  void AddServerId(const Endpoint &remote, const ConnectionId &id,
                   const std::optional<ResetToken> &token = {}) {
    tunnels_.AddServerId(remote, id, token);
  }
  void RemoveServerId(const ConnectionId &id) { tunnels_.RemoveServerId(id); }

  [[nodiscard]] ProxyTunnelStatistics statistics() const { return tunnels_.statistics(); }

  /// Ends all tunnels.  Nothing is called any more.
  void Close() { tunnels_.Close(); }

private:
  friend class TunnelLink;

  TunnelLinks(struct ev_loop *loop, ProxyClient &via, const ProxyTunnel::Options &options,
              std::span<std::uint8_t> buffer, Owner &owner)
    : tunnels_(loop, via, *this, {.tunnel = options}), buffer_(buffer), owner_(owner) {}

  void OnPacket(const Endpoint &remote, std::span<const std::uint8_t> packet,
                unsigned ecn) override;
  void OnPacketsDone() override;
  std::chrono::nanoseconds ProbeTimeout() const override { return owner_.LinkProbeTimeout(); }
  void OnReleaseClientId(const ConnectionId &id) override { owner_.OnClientId(id, true); }
  void OnDiscardClientId(const ConnectionId &id) override { owner_.OnClientId(id, false); }
  void OnWritable() override;
  /// To the outer connection it is an address that does not answer.
  void OnPathEnded(const Endpoint &, const TunnelEnd &) override {}
  void OnEnded(const TunnelEnd &end) override { owner_.OnLinksEnded(end); }

  PathTunnels tunnels_;
  std::span<std::uint8_t> buffer_;
  Owner &owner_;
  std::vector<TunnelLink *> links_; ///< Those that are not stopped; the owner bounds them.
  TunnelLink *read_ = nullptr;      ///< Which a packet has come through since OnPacketsDone.
};

class TunnelLink final : public OuterLink {
public:
  ~TunnelLink() override { Stop(); }

  [[nodiscard]] SendOutcome Send(const Burst &burst) override;
  void WaitForRoom() override { wants_room_ = true; }
  [[nodiscard]] bool waits_for_room() const override { return wants_room_; }
  void Stop() override;
  void End() override { links_.Close(); }

private:
  friend class TunnelLinks;
  TunnelLink(const FourTuple &path, TunnelLinks &links) : OuterLink(path), links_(links) {}

  TunnelLinks &links_;
  bool wants_room_ = false;
};

} // namespace ngmasque
