// The proxy's side of dialect rfc9298: what it keeps for a connection, and for a tunnel.
#pragma once

#include "ngmasque/session/rfc9298.h"
#include "ngmasque/session/udp_request.h"
#include "ngmasque/wire/byte_budget.h"
#include "ngmasque/wire/capsule.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace ngmasque {

namespace rfc9298 {

/// Answers a request that has no tunnel, or no more.
void Refuse(StreamId stream, SessionError error, TunnelModel &model, Tunnel *tunnel = nullptr);

} // namespace rfc9298

class Rfc9298 final : public Dialect {
public:
  explicit Rfc9298(const ProxyOptions &options);

  bool Knows(StreamId stream) const override { return tunnels_.contains(stream); }
  void OnRequest(StreamId stream, std::span<const HeaderField> fields, TunnelModel &model) override;
  void OnStreamClosed(StreamId stream, bool finished, TunnelModel &model) override;
  std::expected<TunnelledPayload, DropReason>
  OnDatagram(std::span<const std::uint8_t> datagram) const override {
    return rfc9298::ReadDatagram(datagram);
  }
  std::uint64_t datagram_error() const override { return kH3DatagramError; }
  void OnBadDatagram(std::span<const std::uint8_t> datagram, TunnelModel &model) override;
  StreamInput OnStreamData(StreamId stream, std::span<const std::uint8_t> &input,
                           TunnelModel &model) override;
  std::expected<Prefix, DropReason> StreamPrefix(const Tunnel &, std::size_t size) const override {
    return rfc9298::CapsulePrefix(size);
  }
  Opened OnOpen(Tunnel &tunnel, TunnelModel &model) override;
  void OnRefused(Tunnel &tunnel, SessionError error, TunnelModel &model) override;
  void OnLost(Mapping &mapping, TunnelModel &model) override;
  void OnMigrating(Tunnel &tunnel, TunnelModel &model) override;
  void OnEnded(Tunnel &tunnel, EndReason reason, TunnelModel &model) override;

private:
  // A connection ID of the client.
  struct ClientId {
    Mapping *mapping = nullptr;
    bool registered = false; // And counted.
    // Virtual ones that it has not acknowledged yet, and whether its move has made them void: at most
    // kMaxOffered.
    std::deque<std::pair<ConnectionId, bool>> offered;
    bool forgotten = false; // Some that were void have had to go.
  };
  // One of the target: at most kMaxVirtual mappings, none without forwarding.
  using TargetId = std::deque<Mapping *>;

  // A request, which is a tunnel.
  struct Request final : Attachment {
    Request(StreamId s, std::shared_ptr<ByteBudget> waiting)
      : stream(s), kept(std::move(waiting)) {}

    StreamId stream;
    CapsuleParser parser{rfc9298::MaxLength};
    BudgetShare kept; // What the parser keeps of payloads.
    bool aware = false; // The client has asked for what of connection IDs there is, and we know it.
    bool forwarding = false;
    bool port_sharing = false;
    Transform transform{};
    std::optional<ScrambleKey> client_key;
    // That of the first capsule for connection IDs: the others are unknown capsules from then on.
    std::optional<QuicProxyRevision> revision;
    std::uint64_t registered = 0; // By registrations that use up the allowance.
    std::uint64_t allowed = 0;    // What they may come to.
    std::map<ConnectionId, ClientId> clients; // Together with the next at most kMaxActiveIds.
    std::map<ConnectionId, TargetId> targets;
    std::vector<CidCapsule> held; // Before OnOpen: at most kMaxHeld.
  };
  static Request &RequestOf(Tunnel &tunnel) { return static_cast<Request &>(*tunnel.dialect); }

  void Negotiate(Request &request, const UdpRequest &asked) const;
  UdpResponse Accept(Tunnel &tunnel, TunnelModel &model) const;
  // The tunnel is gone afterwards.
  void End(Tunnel &tunnel, std::uint64_t code, TunnelModel &model);

  // rfc9298_capsules.cc and rfc9298_registrations.cc.  They return the code of HTTP/3 that ends the
  // tunnel, or 0.
  [[nodiscard]] std::uint64_t OnCapsule(Tunnel &tunnel, const Capsule &capsule, TunnelModel &model);
  [[nodiscard]] std::uint64_t Act(Tunnel &tunnel, const CidCapsule &capsule, TunnelModel &model);
  [[nodiscard]] std::uint64_t RegisterClient(Tunnel &tunnel, const CidCapsule &capsule,
                                             TunnelModel &model);
  [[nodiscard]] std::uint64_t RegisterTarget(Tunnel &tunnel, const CidCapsule &capsule,
                                             TunnelModel &model);
  [[nodiscard]] std::uint64_t AckVirtual(Tunnel &tunnel, const CidCapsule &capsule,
                                         TunnelModel &model);
  [[nodiscard]] static bool MayHold(const Request &request, const CidCapsule &capsule);
  // Counts a registration; false if there may be none.
  [[nodiscard]] static bool Count(Request &request, bool repeated);
  static void Send(const Request &request, const CidCapsule &capsule, TunnelModel &model);
  // Allows more registrations if fewer are left than there could be.
  static void Allow(Request &request, TunnelModel &model);
  static void Close(Request &request, const CidCapsule &capsule, TunnelModel &model);

  // Of ProxyOptions.
  bool forwarding_, port_sharing_;
  const ProxyOptions &options_;

  std::map<StreamId, Tunnel *> tunnels_; // At most as many as the client may have requests.
};

} // namespace ngmasque
