// The proxy's side of dialect draft-00: what it keeps for a connection.
#pragma once

#include "ngmasque/session/draft00.h"
#include "ngmasque/wire/byte_budget.h"
#include "ngmasque/wire/stream_length.h"

#include "ended_flows.h"

#include <cstddef>
#include <expected>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <vector>

namespace ngmasque {

class Draft00 final : public Dialect {
public:
  Draft00(const ProxyOptions &options, const HashKey &key);

  bool Knows(StreamId stream) const override { return requests_.contains(stream); }
  void OnRequest(StreamId stream, std::span<const HeaderField> fields, TunnelModel &model) override;
  void OnStreamClosed(StreamId stream, bool finished, TunnelModel &model) override;
  std::expected<TunnelledPayload, DropReason>
  OnDatagram(std::span<const std::uint8_t> datagram) const override;
  // draft-schinazi-quic-h3-datagram-05: too short for its flow id.
  std::uint64_t datagram_error() const override { return kH3GeneralProtocolError; }
  StreamInput OnStreamData(StreamId stream, std::span<const std::uint8_t> &input,
                           TunnelModel &model) override;
  std::expected<Prefix, DropReason> StreamPrefix(const Tunnel &tunnel,
                                                 std::size_t size) const override;
  Opened OnOpen(Tunnel &tunnel, TunnelModel &model) override;
  void OnRefused(Tunnel &tunnel, SessionError error, TunnelModel &model) override;
  void OnLost(Mapping &mapping, TunnelModel &model) override;
  void OnEnded(Tunnel &tunnel, EndReason reason, TunnelModel &model) override;

private:
  // One CONNECT-UDP request, for one connection ID or none.
  // What comes on a stream.  The parser keeps what is there of one payload, at most kMaxUdpPayload.
  struct Payloads {
    explicit Payloads(std::shared_ptr<ByteBudget> waiting) : kept(std::move(waiting)) {}
    StreamLengthParser parser;
    BudgetShare kept;
  };
  struct Request {
    Tunnel *tunnel = nullptr;
    Mapping *mapping = nullptr;               // Once it is accepted, if it has a connection ID.
    std::unique_ptr<ConnectUdpRequest> asked; // Until it is answered.
    std::unique_ptr<Payloads> payloads; // From the first byte on the stream.
  };

  // The requests of a tunnel: together at most as many as the client may have, and never none.
  struct Flow final : Attachment {
    std::vector<StreamId> waiting; // In order; the first one's answer decides about the tunnel.
    std::set<StreamId> accepted;
  };
  static Flow &FlowOf(Tunnel &tunnel) { return static_cast<Flow &>(*tunnel.dialect); }

  // Whether the request fits what there is; `tunnel` is null if it is new.
  std::expected<void, SessionError> Validate(const ConnectUdpRequest &request,
                                             const Tunnel *tunnel) const;
  // Refuses one request that is kept, and forgets it.
  void Refuse(StreamId stream, SessionError error, TunnelModel &model);
  // Forgets a request; the tunnel is gone with its last one.
  void Drop(StreamId stream, EndReason reason, TunnelModel &model);

  // Of ProxyOptions.
  bool forwarding_, connection_ids_;

  EndedFlows ended_;
  std::map<StreamId, Request> requests_; // At most as many as the client may have.
};

} // namespace ngmasque
