// Proxy: requests come, are answered and go.

#include "proxy_state.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

namespace ngmasque {

namespace {

constexpr std::string_view kClientIdField = "client-connection-id";
constexpr std::string_view kServerIdField = "server-connection-id";

// What a proxy reads that does not know the draft.
std::vector<HeaderField> WithoutIds(std::span<const HeaderField> fields) {
  std::vector<HeaderField> others;
  std::ranges::copy_if(fields, std::back_inserter(others), [](const HeaderField &field) {
    return field.name != kClientIdField && field.name != kServerIdField;
  });
  return others;
}

// Whether a flow that cannot be on a shared socket for this reason can be on one of its own.
bool SocketIsFull(RefusalReason reason) {
  return reason == RefusalReason::kTooManyFlowsOnSocket || reason == RefusalReason::kTooManyIds ||
         reason == RefusalReason::kTooManyLengths;
}

} // namespace

ProxyActions Proxy::OnRequest(const StreamKey &stream, std::span<const HeaderField> fields) {
  ProxyActions actions;
  auto *connection = state_->Find(stream.connection);
  if (!connection || connection->requests.contains(stream.stream)) {
    return actions;
  }
  ++state_->counters.requests;

  auto parsed =
    state_->options.connection_ids ? ParseRequest(fields) : ParseRequest(WithoutIds(fields));
  if (!parsed) {
    state_->Respond(stream, {}, BadRequest(ErrorName(parsed.error())), actions);
    return actions;
  }
  const auto id = parsed->flow.value_or(kStreamFlow | stream.stream);
  const auto known = connection->flows.find(id);
  const auto is_new = known == connection->flows.end();
  if (const auto verdict =
        state_->Validate(*connection, *parsed, is_new ? nullptr : &known->second)) {
    state_->Respond(stream, *parsed, *verdict, actions);
    return actions;
  }

  auto &flow = is_new
                 ? connection->flows
                     .try_emplace(id, State::Flow{.id = id,
                                                  .authority = parsed->authority,
                                                  .plain = parsed->id_header == IdHeader::kNone,
                                                  .targets = {},
                                                  .waiting = {},
                                                  .accepted = {}})
                     .first->second
                 : known->second;
  connection->requests.try_emplace(
    stream.stream, State::Request{.parsed = *std::move(parsed), .flow = id, .payloads = nullptr});
  flow.waiting.push_back(stream.stream);
  if (is_new) {
    ++state_->counters.flows;
    connection->early.Await(id);
    state_->FindTarget(*connection, flow, actions);
  } else if (flow.stage == State::Stage::kOpen) {
    state_->Register(*connection, flow, actions);
  }
  return actions;
}

ProxyActions Proxy::OnStreamClosed(const StreamKey &stream) {
  ProxyActions actions;
  // The socket that it returns is closed by Drop.
  std::ignore = state_->router.RemoveStream(stream);
  state_->Drop(stream, actions);
  return actions;
}

std::optional<Verdict> Proxy::State::Validate(const Connection &connection,
                                              const ConnectUdpRequest &request,
                                              const Flow *flow) const {
  const auto plain = request.id_header == IdHeader::kNone;
  if (flow) {
    //= draft-00, section 5
    //# The proxy also MUST reject the request if the requested datagram flow ID has already been
    //# used on that client <-> proxy QUIC connection with a different requested authority.
    if (flow->authority != request.authority) {
      return BadRequest("flow has another authority");
    }
    if (flow->plain || plain) {
      return BadRequest(ReasonName(RefusalReason::kFlowInUse));
    }
  } else if (request.id_header == IdHeader::kServer) {
    //= draft-00, section 4.1
    //# The first request the clients makes MUST contain the authority pseudo-header, the
    //# Datagram-Flow-Id header, and the Client-Connection-Id header.
    return BadRequest("flow begins without client-connection-id");
  }
  //= draft-00, section 5
  //# If the proxy does not support forwarded mode, or does not allow forwarded mode for a
  //# particular client or authority by policy, it can reject requests that include the
  //# Server-Connection-Id header with a response to indicate the error, such as 403 (Forbidden).
  if (request.id_header == IdHeader::kServer && !options.forwarding) {
    return WithError(403, "http_request_denied");
  }
  if (connection.requests.size() >= options.routing.max_streams_per_connection) {
    return TooMany(ReasonName(RefusalReason::kTooManyStreams));
  }
  if (!flow && connection.flows.size() >= options.routing.max_flows_per_connection) {
    return TooMany(ReasonName(RefusalReason::kTooManyFlows));
  }
  return std::nullopt;
}

void Proxy::State::Respond(const StreamKey &stream, const ConnectUdpRequest &request,
                           const Verdict &verdict, ProxyActions &actions) {
  if (verdict.status / 100 == 2) {
    ++counters.accepted;
  } else {
    ++counters.refused[verdict.status];
  }
  actions.emplace_back(
    proxy_action::Respond{.stream = stream,
                          .status = verdict.status,
                          .fields = ResponseFields(request, verdict.status, verdict.proxy_status)});
}

//= draft-00, section 5.1
//# If the proxy rejects a CONNECT-UDP request by sending a status code of 300 or higher, it MUST
//# close the corresponding stream and remove any associated mappings.
void Proxy::State::Refuse(Connection &connection, StreamId stream, const Verdict &verdict,
                          ProxyActions &actions) {
  const auto request = connection.requests.find(stream);
  Respond({.connection = connection.id, .stream = stream}, request->second.parsed, verdict,
          actions);
  connection.requests.erase(request);
}

void Proxy::State::RefuseAll(Connection &connection, Flow &flow, const Verdict &verdict,
                             ProxyActions &actions) {
  for (const auto stream : flow.waiting) {
    Refuse(connection, stream, verdict, actions);
  }
  flow.waiting.clear();
  Remove(connection, flow, actions);
}

std::expected<void, Refusal> Proxy::State::Route(const Connection &connection, const Flow &flow,
                                                 StreamId stream,
                                                 const ConnectUdpRequest &request) {
  const Registration registration{.stream = {.connection = connection.id, .stream = stream},
                                  .flow = flow.id,
                                  .socket = flow.socket,
                                  .shared = Shares(flow)};
  switch (request.id_header) {
  case IdHeader::kNone: break;
  case IdHeader::kClient: return router.AddClientId(registration, request.id);
  case IdHeader::kServer: return router.AddServerId(registration, request.id);
  }
  return router.AddPlain(registration);
}

void Proxy::State::Register(Connection &connection, Flow &flow, ProxyActions &actions) {
  const auto waiting = std::exchange(flow.waiting, {});
  for (auto next = waiting.begin(); next != waiting.end(); ++next) {
    const auto &request = connection.requests.at(*next).parsed;
    const auto first = flow.accepted.empty();
    // The request that the flow should have begun with was closed before this.
    if (first && request.id_header == IdHeader::kServer) {
      Refuse(connection, *next, BadRequest("flow begins without client-connection-id"), actions);
      continue;
    }
    const auto routed = Route(connection, flow, *next, request);
    if (routed) {
      Respond({.connection = connection.id, .stream = *next}, request, {.status = 200}, actions);
      flow.accepted.insert(*next);
      flow.stage = Stage::kOpen;
      Name(flow);
      continue;
    }
    const auto reason = routed.error().reason;
    const auto verdict = ToVerdict(reason, request.id_header, Shares(flow));
    if (!first) {
      Refuse(connection, *next, verdict, actions);
      continue;
    }

    flow.waiting.assign(next, waiting.end());
    if (Shares(flow) && SocketIsFull(reason)) {
      flow.alone = true;
      flow.targets.insert(flow.targets.begin(), sockets.at(flow.socket).target);
      Leave(flow, actions);
      TryNext(connection, flow, actions);
      return;
    }
    //= draft-00, section 5
    //# If this occurs on the first request for a given datagram flow, the proxy removes any mapping
    //# for that datagram flow.
    //
    // Those that came after it count on the same flow, so they get the same answer (P7).
    RefuseAll(connection, flow, verdict, actions);
    return;
  }

  if (flow.accepted.empty()) {
    Remove(connection, flow, actions);
    return;
  }
  for (auto &payload : connection.early.Take(flow.id)) {
    counters.tunnelled_to_target.Add(payload.size());
    actions.emplace_back(
      proxy_action::SendToTarget{.socket = flow.socket, .payload = std::move(payload)});
  }
}

void Proxy::State::Drop(const StreamKey &stream, ProxyActions &actions) {
  auto *connection = Find(stream.connection);
  if (!connection) {
    return;
  }
  const auto *request = connection->Find(stream.stream);
  if (!request) {
    return;
  }
  auto &flow = connection->flows.at(request->flow);
  connection->requests.erase(stream.stream);
  std::erase(flow.waiting, stream.stream);
  flow.accepted.erase(stream.stream);
  if (flow.waiting.empty() && flow.accepted.empty()) {
    Remove(*connection, flow, actions);
  }
}

void Proxy::State::Reset(std::span<const StreamKey> streams, ProxyActions &actions) {
  for (const auto &stream : streams) {
    ++counters.reset;
    actions.emplace_back(proxy_action::ResetStream{.stream = stream});
    Drop(stream, actions);
  }
}

void Proxy::State::Remove(Connection &connection, Flow &flow, ProxyActions &actions) {
  Leave(flow, actions);
  connection.early.Retire(flow.id);
  connection.flows.erase(FlowId(flow.id)); // A copy: erase must not get a part of what it destroys.
  --counters.flows;
}

} // namespace ngmasque
