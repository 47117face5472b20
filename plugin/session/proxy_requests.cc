// Proxy: requests come, are answered and go.

#include "proxy_state.h"

#include <algorithm>
#include <iterator>
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
  return reason == RefusalReason::kTooManyIds || reason == RefusalReason::kTooManyLengths;
}

} // namespace

ProxyActions Proxy::OnRequest(const StreamKey &stream, std::span<const HeaderField> fields,
                              Timestamp now) {
  ProxyActions actions;
  state_->now = now;
  auto *connection = state_->tunnels.Find(stream.connection);
  if (!connection || DialectOf(*connection).Find(stream.stream)) {
    return actions;
  }
  auto &dialect = DialectOf(*connection);
  ++state_->counters.requests;

  auto parsed =
    state_->options.connection_ids ? ParseRequest(fields) : ParseRequest(WithoutIds(fields));
  if (!parsed) {
    state_->Respond(stream, {}, BadRequest(ErrorName(parsed.error())), actions);
    return actions;
  }
  const auto id = parsed->flow.value_or(kStreamFlow | stream.stream);
  const auto known = dialect.flows.find(id);
  const auto is_new = known == dialect.flows.end();
  if (const auto verdict = state_->Validate(dialect, *parsed, is_new ? nullptr : known->second)) {
    state_->Respond(stream, *parsed, *verdict, actions);
    return actions;
  }
  const auto plain = parsed->id_header == IdHeader::kNone;
  const auto found = is_new ? state_->tunnels.AddTunnel(*connection, plain) : known->second;
  if (!found) {
    state_->Respond(stream, *parsed, TooMany(ReasonName(found.error())), actions);
    return actions;
  }

  auto &tunnel = **found;
  dialect.requests.try_emplace(
    stream.stream,
    Draft00::Request{.tunnel = &tunnel,
                     .asked = std::make_unique<ConnectUdpRequest>(*std::move(parsed)),
                     .payloads = nullptr});
  tunnel.waiting.push_back(stream.stream);
  if (is_new) {
    tunnel.flow = id;
    tunnel.begun = now;
    tunnel.authority = dialect.requests.at(stream.stream).asked->authority;
    dialect.flows.emplace(id, &tunnel);
    ++state_->counters.flows;
    dialect.early.Await(id);
    state_->FindTarget(tunnel, actions);
  } else if (tunnel.stage == State::Stage::kOpen) {
    state_->Register(tunnel, actions);
  }
  return actions;
}

ProxyActions Proxy::OnStreamClosed(const StreamKey &stream, Timestamp now) {
  ProxyActions actions;
  state_->now = now;
  if (auto *connection = state_->tunnels.Find(stream.connection)) {
    state_->Drop(*connection, stream.stream, EndReason::kClosed, actions);
  }
  return actions;
}

std::optional<Verdict> Proxy::State::Validate(const Draft00 &dialect,
                                              const ConnectUdpRequest &request,
                                              const Tunnel *tunnel) const {
  const auto plain = request.id_header == IdHeader::kNone;
  // Odd ones are the server's (draft-schinazi-quic-h3-datagram-05), and this one has none.
  if (request.flow.value_or(0) % 2 != 0) {
    return BadRequest("flow id is odd");
  }
  if (tunnel) {
    //= draft-00, section 5
    //# The proxy also MUST reject the request if the requested datagram flow ID has already been
    //# used on that client <-> proxy QUIC connection with a different requested authority.
    if (tunnel->authority != request.authority) {
      return BadRequest("flow has another authority");
    }
    if (tunnel->plain || plain) {
      return BadRequest(ReasonName(RefusalReason::kFlowInUse));
    }
  } else if (request.id_header == IdHeader::kServer) {
    //= draft-00, section 4.1
    //# The first request the clients makes MUST contain the authority pseudo-header, the
    //# Datagram-Flow-Id header, and the Client-Connection-Id header.
    return BadRequest("flow begins without client-connection-id");
  } else if (request.flow && !dialect.ended.Allow(*request.flow, request.authority)) {
    return BadRequest("flow id is used up");
  }
  //= draft-00, section 5
  //# If the proxy does not support forwarded mode, or does not allow forwarded mode for a
  //# particular client or authority by policy, it can reject requests that include the
  //# Server-Connection-Id header with a response to indicate the error, such as 403 (Forbidden).
  if (request.id_header == IdHeader::kServer && !options.forwarding) {
    return WithError(403, "http_request_denied");
  }
  if (dialect.requests.size() >= options.routing.max_streams_per_connection) {
    return TooMany(ReasonName(RefusalReason::kTooManyStreams));
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
void Proxy::State::Refuse(ClientConnection &connection, StreamId stream, const Verdict &verdict,
                          ProxyActions &actions) {
  auto &requests = DialectOf(connection).requests;
  const auto request = requests.find(stream);
  Respond({.connection = connection.id, .stream = stream}, *request->second.asked, verdict,
          actions);
  requests.erase(request);
}

void Proxy::State::RefuseAll(Tunnel &tunnel, const Verdict &verdict, ProxyActions &actions) {
  for (const auto stream : tunnel.waiting) {
    Refuse(*tunnel.connection, stream, verdict, actions);
  }
  tunnel.waiting.clear();
  Remove(tunnel, EndReason::kRefused, actions);
}

std::expected<Mapping *, RefusalReason> Proxy::State::Map(Tunnel &tunnel, StreamId stream,
                                                          const ConnectUdpRequest &request) {
  switch (request.id_header) {
  case IdHeader::kNone: break;
  case IdHeader::kClient:
    return tunnels.AddMapping(tunnel, Direction::kToClient, request.id, stream);
  case IdHeader::kServer:
    return tunnels.AddMapping(tunnel, Direction::kToTarget, request.id, stream);
  }
  return nullptr;
}

void Proxy::State::Register(Tunnel &tunnel, ProxyActions &actions) {
  auto &connection = *tunnel.connection;
  auto &dialect = DialectOf(connection);
  const auto waiting = std::exchange(tunnel.waiting, {});
  for (auto next = waiting.begin(); next != waiting.end(); ++next) {
    auto &request = dialect.requests.at(*next);
    const auto &asked = *request.asked;
    const auto first = tunnel.accepted.empty();
    // The request that the flow should have begun with was closed before this.
    if (first && asked.id_header == IdHeader::kServer) {
      Refuse(connection, *next, BadRequest("flow begins without client-connection-id"), actions);
      continue;
    }
    const auto mapped = Map(tunnel, *next, asked);
    if (mapped) {
      Respond({.connection = connection.id, .stream = *next}, asked, {.status = 200}, actions);
      request.mapping = *mapped;
      request.asked.reset();
      tunnel.accepted.insert(*next);
      tunnel.stage = Stage::kOpen;
      Name(tunnel);
      continue;
    }
    const auto reason = mapped.error();
    const auto verdict = ToVerdict(reason, asked.id_header, Shares(tunnel));
    if (!first) {
      Refuse(connection, *next, verdict, actions);
      continue;
    }

    tunnel.waiting.assign(next, waiting.end());
    if (Shares(tunnel) && SocketIsFull(reason)) {
      const auto target = tunnel.socket->target;
      Leave(tunnel, actions);
      UseAnother(tunnel, target, actions);
      return;
    }
    //= draft-00, section 5
    //# If this occurs on the first request for a given datagram flow, the proxy removes any mapping
    //# for that datagram flow.
    //
    // Those that came after it count on the same flow, so they get the same answer (P7).
    RefuseAll(tunnel, verdict, actions);
    return;
  }

  if (tunnel.accepted.empty()) {
    Remove(tunnel, EndReason::kRefused, actions);
    return;
  }
  for (auto &payload : dialect.early.Take(tunnel.flow)) {
    tunnel.statistics[Way::kTunnelledToTarget].passed.Add(payload.size(), IsLong(payload));
    actions.emplace_back(
      proxy_action::SendToTarget{.socket = tunnel.socket->id, .payload = std::move(payload)});
  }
}

void Proxy::State::Drop(ClientConnection &connection, StreamId stream, EndReason reason,
                        ProxyActions &actions) {
  auto &dialect = DialectOf(connection);
  const auto *request = dialect.Find(stream);
  if (!request) {
    return;
  }
  auto &tunnel = *request->tunnel;
  if (request->mapping) {
    tunnels.Remove(*request->mapping);
  }
  dialect.requests.erase(stream);
  std::erase(tunnel.waiting, stream);
  tunnel.accepted.erase(stream);
  if (tunnel.waiting.empty() && tunnel.accepted.empty()) {
    Remove(tunnel, tunnel.stage == Stage::kOpen ? reason : EndReason::kRefused, actions);
  }
}

void Proxy::State::Reset(ClientConnection &connection, StreamId stream, EndReason reason,
                         ProxyActions &actions) {
  ++counters.reset;
  actions.emplace_back(
    proxy_action::ResetStream{.stream = {.connection = connection.id, .stream = stream}});
  Drop(connection, stream, reason, actions);
}

void Proxy::State::Remove(Tunnel &tunnel, EndReason reason, ProxyActions &actions) {
  actions.emplace_back(proxy_action::Ended{
    .number = tunnel.number,
    .connection = tunnel.connection->id,
    .authority = tunnel.authority,
    .target = tunnel.socket ? std::optional(tunnel.socket->target) : std::nullopt,
    .reason = reason,
    .duration = now - std::min(now, tunnel.begun),
    .statistics = tunnel.statistics});
  Leave(tunnel, actions);
  auto &dialect = DialectOf(*tunnel.connection);
  dialect.early.Retire(tunnel.flow);
  if ((tunnel.flow & kStreamFlow) == 0) {
    dialect.ended.Add(tunnel.flow, tunnel.authority);
  }
  dialect.flows.erase(tunnel.flow);
  tunnels.Remove(tunnel);
  --counters.flows;
}

} // namespace ngmasque
