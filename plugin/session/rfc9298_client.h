// The client's side of dialect rfc9298: what it keeps for a connection, and for a tunnel.
#pragma once

#include "ngmasque/session/client_tunnel.h"
#include "ngmasque/session/rfc9298.h"
#include "ngmasque/session/udp_request.h"
#include "ngmasque/wire/capsule.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <span>

namespace ngmasque {

class Rfc9298Client final : public ClientDialect {
public:
  /// `datagrams`: whether the connection has QUIC datagrams.
  Rfc9298Client(const Rfc9298ClientOptions &options, bool datagrams)
    : options_(options), datagrams_(datagrams), source_(options.key) {}

  std::string_view name() const override { return kRfc9298Name; }
  // Without QUIC datagrams, payloads are in capsules, and all else is the same.
  bool plain() const override { return false; }
  bool datagrams() const override { return datagrams_; }
  std::unique_ptr<TunnelDialect> Add(ClientTunnel &tunnel) override;
  std::expected<ClientPayload, Undelivered>
  OnDatagram(std::span<const std::uint8_t> datagram) const override;

private:
  class UdpTunnel;

  Rfc9298ClientOptions options_;
  bool datagrams_;
  KeyedSource source_;
  std::map<StreamId, ClientTunnel *> tunnels_; // Whose request has left.
};

class Rfc9298Client::UdpTunnel final : public TunnelDialect {
public:
  UdpTunnel(Rfc9298Client &connection, ClientTunnel &tunnel)
    : connection_(connection), tunnel_(tunnel) {}
  ~UdpTunnel() override { Forget(); }

  void Open(std::optional<MappingId> first, ClientTunnelModel &model) override;
  void Map(MappingId mapping, ClientTunnelModel &model) override;
  void Unmap(MappingId mapping, ClientTunnelModel &model) override;
  void OnMigrated(ClientTunnelModel &model) override;
  void OnReset(MappingId mapping, ClientTunnelModel &model) override;
  void OnLinkId(MappingId mapping, const ConnectionId &virtual_id, bool usable,
                ClientTunnelModel &model) override;
  void Close(ClientTunnelModel &model) override;
  void OnSent(RequestId request, StreamId stream) override;
  void OnResponse(RequestId request, std::span<const HeaderField> fields,
                  ClientTunnelModel &model) override;
  StreamPayload OnStreamData(RequestId request, std::span<const std::uint8_t> &input,
                             ClientTunnelModel &model) override;
  void OnBadDatagram(ClientTunnelModel &model) override { Fail(kH3DatagramError, model); }
  void OnRequestClosed(RequestId request, std::uint64_t code, ClientTunnelModel &model) override;
  bool cut_off() const override { return !parser_->AtBoundary(); }
  bool virtual_ids() const override { return true; }
  const Prefix &datagram_prefix() const override { return prefix_; }
  std::optional<RequestId> payload_request() const override {
    return open_ ? std::optional(kRequest) : std::nullopt;
  }
  std::expected<Prefix, DropReason> StreamPrefix(std::size_t size) const override {
    return rfc9298::CapsulePrefix(size);
  }

private:
  static constexpr RequestId kRequest = 0; // The only one.

  // A connection ID that is registered, or has been, and answers are still to come.  Answers come in
  // the order of registrations.
  struct Registered {
    std::optional<MappingId> mapping; // Nothing: the tunnel does not want it any more.
    std::size_t unanswered = 0;       // Registrations of it.
    std::size_t closed = 0; // Of these, the first ones: they were closed, and say nothing any more.
    std::size_t moved = 0;  // Of the next ones: with them comes a virtual one of before a move.
    bool again = false; // When those have come, it is to be registered again.
    bool acknowledged = false; // The proxy has it, as far as we know.
  };
  using RegisteredIds = std::map<ConnectionId, Registered>; // At most as many as the proxy allows.

  void Forget();
  // Ends the request for an error of the proxy's.
  void Fail(std::uint64_t code, ClientTunnelModel &model);
  void Register(MappingId mapping, ClientTunnelModel &model);
  // Registers what has waited for more to be allowed, as far as it is.
  void RegisterWaiting(ClientTunnelModel &model);
  // It is not wanted any more, by whomever: forgets it, once all answers have come.
  void Unregister(RegisteredIds &ids, RegisteredIds::iterator known);
  void SendClose(Direction direction, const ConnectionId &id, CidReason reason,
                 ClientTunnelModel &model) const;
  void Send(const CidCapsule &capsule, ClientTunnelModel &model) const;
  bool Accept(const UdpResponse &response, ClientTunnelModel &model);
  RegisteredIds &IdsOf(Direction direction) {
    return direction == Direction::kToClient ? clients_ : targets_;
  }

  // rfc9298_client_capsules.cc.  They return the code of HTTP/3 that ends the tunnel, or 0.
  [[nodiscard]] std::uint64_t OnCapsule(const Capsule &capsule, ClientTunnelModel &model);
  [[nodiscard]] std::uint64_t OnAck(Direction direction, const CidCapsule &capsule,
                                    ClientTunnelModel &model);
  // Takes the virtual connection ID of an acknowledgement.  False: it is in conflict, or nothing
  // is acknowledged before OnLinkId.
  [[nodiscard]] bool TakeVirtual(Direction direction, MappingId mapping, const CidCapsule &capsule,
                                 ClientTunnelModel &model);
  // What it has acknowledged cannot be used.
  void GiveUp(MappingId mapping, const ConnectionId &id, ClientTunnelModel &model);
  [[nodiscard]] std::uint64_t OnRefusal(Direction direction, const CidCapsule &capsule,
                                        ClientTunnelModel &model);
  [[nodiscard]] std::uint64_t OnMaximum(std::uint64_t maximum, ClientTunnelModel &model);

  Rfc9298Client &connection_;
  ClientTunnel &tunnel_;
  bool open_ = false;       // The request is there.
  bool ids_ = false;        // Connection IDs are registered.
  bool forwarding_ = false; // From the answer on.
  ForwardingOffer offer_;
  std::optional<StreamId> stream_;
  Prefix prefix_;
  // It is to outlive what OnStreamData returned.
  std::shared_ptr<CapsuleParser> parser_ = std::make_shared<CapsuleParser>(rfc9298::MaxLength);

  std::uint64_t maximum_ = 0;    // MAX_CONNECTION_IDS, as on the wire.
  std::uint64_t registered_ = 0; // By registrations that use up the allowance.
  RegisteredIds clients_, targets_;
  std::deque<MappingId> waiting_; // For more to be allowed; ClientTunnelLimits bounds them.
};

} // namespace ngmasque
