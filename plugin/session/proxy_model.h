// What Proxy hands to the dialect of a connection, for one call.
#pragma once

#include "proxy_state.h"

#include <utility>
#include <vector>

namespace ngmasque {

class Proxy::State::Model final : public TunnelModel {
public:
  Model(State &state, ClientConnection &connection, ProxyActions &actions)
    : state_(state), connection_(connection), actions_(actions) {}

  bool idle() const override { return connection_.tunnels.empty(); }
  void ForgetKeys() override { StateOf(connection_).early.Clear(); }
  Tunnel *Find(TunnelKey key) override;
  std::expected<Tunnel *, SessionError> Add(TunnelKey key, const Authority &authority,
                                            bool plain) override;
  void Open(Tunnel &tunnel) override;
  void Close(Tunnel &tunnel, EndReason reason) override;
  bool AddRequest() override;
  void RemoveRequest() override;
  const std::shared_ptr<ByteBudget> &waiting() const override {
    return connection_.client->waiting;
  }
  std::expected<Mapping *, SessionError> Map(Tunnel &tunnel, Direction direction,
                                             const ConnectionId &id,
                                             const MappingOrigin &origin) override;
  void Reject(Tunnel &tunnel) override;
  void Acknowledge(Mapping &mapping) override;
  void Unmap(Mapping &mapping) override;
  void Retire(Mapping &mapping) override;
  KeyedSource &source() override { return state_.source; }
  void Respond(StreamId stream, unsigned status, std::vector<HeaderField> fields) override;
  void Refuse(StreamId stream, SessionError error, std::vector<HeaderField> fields,
              Tunnel *tunnel) override {
    Refuse(stream, HttpStatus(error), error, std::move(fields), tunnel);
  }
  // With another status than that of `error`.
  void Refuse(StreamId stream, unsigned status, SessionError error,
              std::vector<HeaderField> fields, Tunnel *tunnel);
  void Send(StreamId stream, std::vector<std::uint8_t> message) override;
  void Reset(StreamId stream, std::uint64_t code) override;

private:
  StreamKey KeyOf(StreamId stream) const {
    return {.connection = connection_.id, .stream = stream};
  }

  State &state_;
  ClientConnection &connection_;
  ProxyActions &actions_;
};

} // namespace ngmasque
