// Dialect draft-00, the proxy's side: requests come, are answered and go.

#include "draft00_proxy.h"

#include "ngmasque/session/proxy.h"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <tuple>
#include <utility>

namespace ngmasque {

namespace {

constexpr std::string_view kClientIdField = "client-connection-id";
constexpr std::string_view kServerIdField = "server-connection-id";

// The tunnel of a request without datagram-flow-id, by its stream: no datagram can name it.
constexpr TunnelKey kStreamKey = TunnelKey{1} << 63;

// What a proxy reads that does not know the draft.
std::vector<HeaderField> WithoutIds(std::span<const HeaderField> fields) {
  std::vector<HeaderField> others;
  std::ranges::copy_if(fields, std::back_inserter(others), [](const HeaderField &field) {
    return field.name != kClientIdField && field.name != kServerIdField;
  });
  return others;
}

void Answer(StreamId stream, const ConnectUdpRequest &request, SessionError error,
            TunnelModel &model, Tunnel *tunnel = nullptr) {
  model.Refuse(stream, error, ResponseFields(request, HttpStatus(error), ProxyStatus(error)),
               tunnel);
}

// Null if there is no connection ID to be mapped.
std::expected<Mapping *, SessionError> Map(Tunnel &tunnel, StreamId stream,
                                           const ConnectUdpRequest &request, TunnelModel &model) {
  if (request.id_header == IdHeader::kNone) {
    return nullptr;
  }
  // The answer acknowledges it.
  return model.Map(tunnel,
                   request.id_header == IdHeader::kClient ? Direction::kToClient
                                                          : Direction::kToTarget,
                   request.id, {.stream = stream});
}

} // namespace

std::unique_ptr<Dialect> MakeDraft00(const ProxyOptions &options, const HashKey &key) {
  return std::make_unique<Draft00>(options, key);
}

Draft00::Draft00(const ProxyOptions &options, const HashKey &key)
  : forwarding_(options.forwarding),
    connection_ids_(options.connection_ids),
    ended_(key) {}

void Draft00::OnRequest(StreamId stream, std::span<const HeaderField> fields, TunnelModel &model) {
  auto parsed = connection_ids_ ? ParseRequest(fields) : ParseRequest(WithoutIds(fields));
  if (!parsed) {
    Answer(stream, {}, parsed.error(), model);
    return;
  }
  const auto key = parsed->flow.value_or(kStreamKey | stream);
  auto *tunnel = model.Find(key);
  const bool is_new = !tunnel;
  if (const auto valid = Validate(*parsed, tunnel); !valid) {
    Answer(stream, *parsed, valid.error(), model);
    return;
  }
  if (!model.AddRequest()) {
    Answer(stream, *parsed, SessionError::kTooManyStreams, model);
    return;
  }
  if (is_new) {
    const auto added = model.Add(key, parsed->authority, parsed->id_header == IdHeader::kNone);
    if (!added) {
      model.RemoveRequest();
      Answer(stream, *parsed, added.error(), model);
      return;
    }
    tunnel = *added;
    tunnel->dialect = std::make_unique<Flow>();
    if (parsed->flow) {
      tunnel->datagram_prefix = draft00::DatagramPrefix(*parsed->flow);
    }
  }

  requests_.try_emplace(
    stream, Request{.tunnel = tunnel,
                    .asked = std::make_unique<ConnectUdpRequest>(*std::move(parsed)),
                    .payloads = nullptr});
  FlowOf(*tunnel).waiting.push_back(stream);
  if (is_new) {
    model.Open(*tunnel);
  } else if (tunnel->stage == Tunnel::Stage::kOpen) {
    // It stays open, as its first request was accepted before.
    std::ignore = OnOpen(*tunnel, model);
  }
}

void Draft00::OnStreamClosed(StreamId stream, bool, TunnelModel &model) {
  Drop(stream, EndReason::kClosed, model);
}

std::expected<void, SessionError> Draft00::Validate(const ConnectUdpRequest &request,
                                                    const Tunnel *tunnel) const {
  const auto plain = request.id_header == IdHeader::kNone;
  // Odd ones are the server's (draft-schinazi-quic-h3-datagram-05), and this one has none.
  if (request.flow.value_or(0) % 2 != 0) {
    return std::unexpected(SessionError::kOddFlow);
  }
  if (tunnel) {
    //= draft-00, section 5
    //# The proxy also MUST reject the request if the requested datagram flow ID has already been
    //# used on that client <-> proxy QUIC connection with a different requested authority.
    if (tunnel->authority != request.authority) {
      return std::unexpected(SessionError::kOtherAuthority);
    }
    if (tunnel->plain || plain) {
      return std::unexpected(SessionError::kFlowInUse);
    }
  } else if (request.id_header == IdHeader::kServer) {
    //= draft-00, section 4.1
    //# The first request the clients makes MUST contain the authority pseudo-header, the
    //# Datagram-Flow-Id header, and the Client-Connection-Id header.
    return std::unexpected(SessionError::kNoClientId);
  } else if (request.flow && !ended_.Allow(*request.flow, request.authority)) {
    return std::unexpected(SessionError::kFlowUsedUp);
  }
  //= draft-00, section 5
  //# If the proxy does not support forwarded mode, or does not allow forwarded mode for a
  //# particular client or authority by policy, it can reject requests that include the
  //# Server-Connection-Id header with a response to indicate the error, such as 403 (Forbidden).
  if (request.id_header == IdHeader::kServer && !forwarding_) {
    return std::unexpected(SessionError::kForwardingOff);
  }
  return {};
}

//= draft-00, section 5.1
//# If the proxy rejects a CONNECT-UDP request by sending a status code of 300 or higher, it MUST
//# close the corresponding stream and remove any associated mappings.
void Draft00::Refuse(StreamId stream, SessionError error, TunnelModel &model) {
  const auto request = requests_.find(stream);
  Answer(stream, *request->second.asked, error, model, request->second.tunnel);
  requests_.erase(request);
  model.RemoveRequest();
}

void Draft00::OnRefused(Tunnel &tunnel, SessionError error, TunnelModel &model) {
  for (const auto stream : std::exchange(FlowOf(tunnel).waiting, {})) {
    Refuse(stream, error, model);
  }
}

Opened Draft00::OnOpen(Tunnel &tunnel, TunnelModel &model) {
  auto &flow = FlowOf(tunnel);
  const auto waiting = std::exchange(flow.waiting, {});
  for (auto next = waiting.begin(); next != waiting.end(); ++next) {
    auto &request = requests_.at(*next);
    const auto &asked = *request.asked;
    const auto first = flow.accepted.empty();
    // The request that the flow should have begun with was closed before this.
    if (first && asked.id_header == IdHeader::kServer) {
      Refuse(*next, SessionError::kNoClientId, model);
      continue;
    }
    const auto mapped = Map(tunnel, *next, asked, model);
    if (mapped) {
      model.Respond(*next, 200, ResponseFields(asked, 200));
      request.mapping = *mapped;
      request.asked.reset();
      flow.accepted.insert(*next);
      tunnel.stream = *flow.accepted.begin();
      continue;
    }
    // A shared socket is full of the connection IDs of others.
    const auto full =
      tunnel.socket->shared && asked.id_header == IdHeader::kClient && SocketIsFull(mapped.error());
    const auto error = full ? SessionError::kSocketFull : mapped.error();
    if (!first) {
      Refuse(*next, error, model);
      continue;
    }

    flow.waiting.assign(next, waiting.end());
    if (full) {
      return Opened::kAnotherSocket;
    }
    //= draft-00, section 5
    //# If this occurs on the first request for a given datagram flow, the proxy removes any mapping
    //# for that datagram flow.
    //
    // Those that came after it count on the same flow, so they get the same answer.
    OnRefused(tunnel, error, model);
    return Opened::kRefused;
  }
  return flow.accepted.empty() ? Opened::kRefused : Opened::kAccepted;
}

void Draft00::Drop(StreamId stream, EndReason reason, TunnelModel &model) {
  const auto request = requests_.find(stream);
  if (request == requests_.end()) {
    return;
  }
  auto &tunnel = *request->second.tunnel;
  if (request->second.mapping) {
    model.Unmap(*request->second.mapping);
  }
  requests_.erase(request);
  model.RemoveRequest();
  auto &flow = FlowOf(tunnel);
  std::erase(flow.waiting, stream);
  flow.accepted.erase(stream);
  if (flow.waiting.empty() && flow.accepted.empty()) {
    model.Close(tunnel, tunnel.stage == Tunnel::Stage::kOpen ? reason : EndReason::kRefused);
  } else if (!flow.accepted.empty()) {
    tunnel.stream = *flow.accepted.begin();
  }
}

void Draft00::OnLost(Mapping &mapping, TunnelModel &model) {
  const auto stream = mapping.stream;
  model.Reset(stream);
  Drop(stream, EndReason::kConflict, model);
}

void Draft00::OnEnded(Tunnel &tunnel, EndReason reason, TunnelModel &model) {
  const auto &flow = FlowOf(tunnel);
  for (const auto stream : flow.accepted) {
    if (reason == EndReason::kUnreachable) {
      model.Reset(stream);
    }
    requests_.erase(stream);
    model.RemoveRequest();
  }
  for (const auto stream : flow.waiting) {
    requests_.erase(stream);
    model.RemoveRequest();
  }
  if ((tunnel.key & kStreamKey) == 0) {
    ended_.Add(tunnel.key, tunnel.authority);
  }
}

std::expected<TunnelledPayload, DropReason>
Draft00::OnDatagram(std::span<const std::uint8_t> datagram) const {
  return draft00::ReadDatagram(datagram);
}

StreamInput Draft00::OnStreamData(StreamId stream, std::span<const std::uint8_t> &input,
                                  TunnelModel &model) {
  const auto request = requests_.find(stream);
  if (request == requests_.end()) {
    input = {};
    return {.payload = std::unexpected(DropReason::kUnknownFlow)};
  }
  auto &[number, known] = *request;
  if (!known.payloads) {
    known.payloads = std::make_unique<Payloads>(model.waiting());
  }
  auto &[parser, kept] = *known.payloads;
  StreamInput next{.tunnel = known.tunnel, .payload = {}};
  next.payload = draft00::NextPayload(parser, input);
  if (!kept.Resize(parser.buffered())) {
    parser.Skip();
    std::ignore = kept.Resize(0);
    next.payload = std::unexpected(DropReason::kQueueFull);
  }
  return next;
}

std::expected<Prefix, DropReason> Draft00::StreamPrefix(const Tunnel &, std::size_t size) const {
  return draft00::StreamPrefix(size);
}

} // namespace ngmasque
