// What ClientTunnel hands to its dialect, for one call.
#pragma once

#include "ngmasque/session/client_tunnel.h"

#include <utility>

namespace ngmasque {

class ClientTunnel::Model final : public ClientTunnelModel {
public:
  Model(ClientTunnel &tunnel, Actions &actions) : tunnel_(tunnel), actions_(actions) {}

  const Authority &authority() const override { return tunnel_.options_.authority; }
  bool forward() const override { return tunnel_.options_.forward; }
  bool chained() const override { return tunnel_.options_.chained; }
  const ClientMapping *Find(MappingId mapping) const override;

  void Request(RequestId request, std::vector<HeaderField> fields) override {
    actions_.emplace_back(
      client_action::SendRequest{.request = request, .fields = std::move(fields)});
  }
  void Send(RequestId request, std::vector<std::uint8_t> message) override {
    actions_.emplace_back(
      client_action::SendOnStream{.request = request, .message = std::move(message)});
  }
  void CloseRequest(RequestId request, std::uint64_t code) override {
    actions_.emplace_back(client_action::CloseRequest{.request = request, .code = code});
  }

  void Opened(bool connection_ids, bool forwarding) override;
  void SetScramble(std::shared_ptr<const Scramble> scramble) override {
    tunnel_.scramble_ = std::move(scramble);
  }
  bool SetVirtual(MappingId mapping, const ConnectionId &virtual_id,
                  const std::optional<ResetToken> &token) override;
  void Acknowledge(MappingId mapping) override;
  void Refuse(MappingId mapping, const ProxyRefusal &refusal) override;
  void End(const ProxyRefusal &refusal) override;

private:
  ClientTunnel &tunnel_;
  Actions &actions_;
};

} // namespace ngmasque
