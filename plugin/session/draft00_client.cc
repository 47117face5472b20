// Dialect draft-00, the client's side: a request for each connection ID, with its mapping's number.

#include "fields.h"

#include "ngmasque/session/client_tunnel.h"
#include "ngmasque/session/draft00.h"
#include "ngmasque/wire/stream_length.h"
#include "ngmasque/wire/structured_field.h"

#include <map>
#include <utility>

namespace ngmasque {

namespace {

constexpr unsigned kConflict = 409;

class Connection final : public ClientDialect {
public:
  Connection(const ClientDialectOptions &options, FlowId first, TargetForm form)
    : datagrams_(options.datagrams), form_(form), next_flow_(first) {}

  std::string_view name() const override {
    return form_ == TargetForm::kAuthority ? kDraft00Name : "draft-03";
  }

  //= draft-00, section 3
  //# Like the Datagram-Flow-Id header [CONNECT-UDP], the Client-Connection-Id and
  //# Server-Connection-Id headers can only be supported by an HTTP/3 proxy.
  bool plain() const override { return !datagrams_; }
  std::unique_ptr<TunnelDialect> Add(ClientTunnel &tunnel) override;
  std::expected<ClientPayload, Undelivered>
  OnDatagram(std::span<const std::uint8_t> datagram) const override;

  void Remove(FlowId flow) { tunnels_.erase(flow); }
  TargetForm form() const { return form_; }
  // Revisions 01 to 03 have chunks there instead, with types, which are not spoken here.
  bool payloads_on_streams() const { return form_ == TargetForm::kAuthority; }

private:
  bool datagrams_;
  TargetForm form_;
  FlowId next_flow_; // None is used twice, whatever became of its tunnel.
  std::map<FlowId, ClientTunnel *> tunnels_;
};

class Flow final : public TunnelDialect {
public:
  Flow(Connection &connection, FlowId flow)
    : connection_(connection),
      flow_(flow),
      prefix_(draft00::DatagramPrefix(flow)) {}
  ~Flow() override { connection_.Remove(flow_); }

  void Open(std::optional<MappingId> first, ClientTunnelModel &model) override;
  void Map(MappingId mapping, ClientTunnelModel &model) override;
  void Unmap(MappingId mapping, ClientTunnelModel &model) override;
  void Close(ClientTunnelModel &model) override;
  void OnResponse(RequestId request, std::span<const HeaderField> fields,
                  ClientTunnelModel &model) override;
  StreamPayload OnStreamData(RequestId request, std::span<const std::uint8_t> &input,
                             ClientTunnelModel &model) override;
  void OnRequestClosed(RequestId request, std::uint64_t code, ClientTunnelModel &model) override;
  const Prefix &datagram_prefix() const override { return prefix_; }
  std::optional<RequestId> payload_request() const override {
    return requests_.empty() ? std::nullopt : std::optional(requests_.begin()->first);
  }
  std::expected<Prefix, DropReason> StreamPrefix(std::size_t size) const override {
    return connection_.payloads_on_streams() ? draft00::StreamPrefix(size)
                                             : std::unexpected(DropReason::kTooLarge);
  }

private:
  struct Request {
    bool accepted = false;
    std::shared_ptr<StreamLengthParser> payloads{}; // From the first byte on the stream.
  };

  bool Echoes(RequestId request, const ConnectUdpResponse &response,
              const ClientTunnelModel &model) const;
  // It is forgotten already.
  void Refuse(RequestId request, const ProxyRefusal &refusal, ClientTunnelModel &model);

  Connection &connection_;
  const FlowId flow_;
  bool plain_ = false; // No connection IDs, but one request.
  const Prefix prefix_;
  RequestId first_ = 0;
  std::map<RequestId, Request> requests_; // Those that were sent: the tunnel bounds them.
  std::shared_ptr<StreamLengthParser> spoke_; // It has what OnStreamData returned.
};

//= draft-00, section 4.1
//# The first time that a client uses a proxy for a given QUIC connection, it selects a new
//# datagram flow ID with an even-numbered value [H3DGRAM].
std::unique_ptr<TunnelDialect> Connection::Add(ClientTunnel &tunnel) {
  if (next_flow_ > static_cast<FlowId>(sf::kMaxInteger)) {
    return nullptr;
  }
  const auto flow = std::exchange(next_flow_, next_flow_ + 2);
  tunnels_.emplace(flow, &tunnel);
  return std::make_unique<Flow>(*this, flow);
}

std::expected<ClientPayload, Undelivered>
Connection::OnDatagram(std::span<const std::uint8_t> datagram) const {
  const auto read = draft00::ReadDatagram(datagram);
  if (!read) {
    Undelivered why{.reason = read.error()};
    if (why.reason == DropReason::kMalformed) {
      // draft-schinazi-quic-h3-datagram-05: too short for its flow id is a connection error.
      why.close = kH3GeneralProtocolError;
      why.text = "the proxy has sent a datagram without flow id";
    }
    return std::unexpected(why);
  }
  const auto found = tunnels_.find(read->key);
  if (found == tunnels_.end()) {
    return std::unexpected(Undelivered{.reason = DropReason::kUnknownFlow});
  }
  return ClientPayload{.tunnel = found->second, .payload = read->payload};
}

//= draft-00, section 4.1
//# The first request the clients makes MUST contain the authority pseudo-header, the
//# Datagram-Flow-Id header, and the Client-Connection-Id header.
void Flow::Open(std::optional<MappingId> first, ClientTunnelModel &model) {
  plain_ = !first;
  first_ = first.value_or(0);
  Map(first_, model);
}

//= draft-00, section 4
//# Each request MUST contain a Datagram-Flow-Id header and an authority pseudo-header identifying
//# the target.  All requests for the same QUIC Connection between a client and a target MUST
//# contain the same authority, and SHOULD contain the same Datagram-Flow-Id.
void Flow::Map(MappingId mapping, ClientTunnelModel &model) {
  requests_.try_emplace(mapping);
  ConnectUdpRequest message;
  message.authority = model.authority();
  if (!connection_.plain()) {
    message.flow = flow_;
  }
  if (const auto *asked = plain_ ? nullptr : model.Find(mapping)) {
    message.id_header =
      asked->direction == Direction::kToClient ? IdHeader::kClient : IdHeader::kServer;
    message.id = asked->id;
  }
  model.Request(mapping, RequestFields(message, connection_.form()));
}

//= draft-00, section 5.1
//# A client that no longer wants a given Connection ID to be forwarded by the proxy, for either
//# direction, MUST cancel its CONNECT-UDP HTTP/3 request by closing the corresponding stream.
void Flow::Unmap(MappingId mapping, ClientTunnelModel &model) {
  requests_.erase(mapping);
  model.CloseRequest(mapping);
}

void Flow::Close(ClientTunnelModel &model) {
  for (const auto &[number, request] : std::exchange(requests_, {})) {
    model.CloseRequest(number);
  }
  connection_.Remove(flow_);
}

void Flow::OnResponse(RequestId request, std::span<const HeaderField> fields,
                      ClientTunnelModel &model) {
  const auto found = requests_.find(request);
  if (found == requests_.end() || found->second.accepted) {
    return;
  }
  // A malformed one is as good as none.
  const auto parsed = ParseResponse(fields);
  const auto response = parsed.value_or(ConnectUdpResponse{});
  const bool echoed = Echoes(request, response, model);
  if (response.success() && (echoed || request == first_)) {
    found->second.accepted = true;
    if (request == first_) {
      //= draft-00, section 3
      //# Clients that do not receive an echoed Client-Connection-Id or Server-Connection-Id header
      //# MUST fall back to using CONNECT-UDP without the extended behavior defined in this
      //# document.
      plain_ = !echoed;
      model.Opened(echoed);
    }
    if (echoed) {
      model.Acknowledge(request);
    }
    return;
  }
  requests_.erase(found);
  model.CloseRequest(request, parsed ? kH3RequestCancelled : kH3MessageError);
  Refuse(request,
         {.status = response.status,
          .proxy_status = response.proxy_status,
          .retry_after = ReadRetryAfter(fields),
          .conflict = response.status == kConflict},
         model);
}

void Flow::OnRequestClosed(RequestId request, std::uint64_t code, ClientTunnelModel &model) {
  if (requests_.erase(request) != 0) {
    Refuse(request, {.code = code}, model);
  }
}

//= draft-00, section 4.1
//# If the server rejects the first request that uses a specific datagram flow ID, the client MUST
//# retire that datagram flow ID.  If the rejection indicated a conflict due to the Client
//# Connection ID, the client MUST select a new Connection ID before sending a new request, and
//# generate a new packet.
void Flow::Refuse(RequestId request, const ProxyRefusal &refusal, ClientTunnelModel &model) {
  if (!plain_) {
    model.Refuse(request, refusal);
    return;
  }
  auto whole = refusal;
  whole.conflict = false;
  model.End(whole);
}

// A response without datagram-flow-id is taken as an echo all the same: the connection ID says that
// the proxy knows this extension, in which every flow has one.
bool Flow::Echoes(RequestId request, const ConnectUdpResponse &response,
                  const ClientTunnelModel &model) const {
  const auto *mapping = plain_ ? nullptr : model.Find(request);
  return mapping &&
         response.id_header == (mapping->direction == Direction::kToClient ? IdHeader::kClient
                                                                           : IdHeader::kServer) &&
         response.id == mapping->id && response.flow.value_or(flow_) == flow_;
}

StreamPayload Flow::OnStreamData(RequestId request, std::span<const std::uint8_t> &input,
                                 ClientTunnelModel &) {
  const auto found = requests_.find(request);
  if (found == requests_.end() || !connection_.payloads_on_streams()) {
    input = {};
    return std::unexpected(DropReason::kUnknownFlow);
  }
  auto &payloads = found->second.payloads;
  if (!payloads) {
    payloads = std::make_shared<StreamLengthParser>();
  }
  spoke_ = payloads;
  return draft00::NextPayload(*payloads, input);
}

} // namespace

std::unique_ptr<ClientDialect> MakeDraft00Client(const ClientDialectOptions &options) {
  return draft00::MakeClient(options, 0);
}

std::unique_ptr<ClientDialect> MakeDraft03Client(const ClientDialectOptions &options) {
  const auto &settings = options.settings;
  if (!settings || !settings->draft_datagrams || !options.datagrams) {
    return nullptr;
  }
  return draft00::MakeClient(options, 0, TargetForm::kUri);
}

std::unique_ptr<ClientDialect> draft00::MakeClient(const ClientDialectOptions &options,
                                                   FlowId first, TargetForm form) {
  return std::make_unique<Connection>(options, first, form);
}

} // namespace ngmasque
