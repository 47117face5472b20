// Proxy: what its dialects ask for, and what becomes of tunnels.

#include "proxy_model.h"

#include "fields.h"

#include <algorithm>
#include <string>
#include <utility>

namespace ngmasque {

ProxyActions Proxy::OnRequest(const StreamKey &stream, std::span<const HeaderField> fields,
                              Timestamp now) {
  ProxyActions actions;
  state_->now = now;
  if (auto *connection = state_->tunnels.Find(stream.connection)) {
    auto &dialect = *StateOf(*connection).dialect;
    if (dialect.Knows(stream.stream)) {
      return actions;
    }
    ++state_->counters.requests;
    state_->request.fields = fields;
    State::Model model(*state_, *connection, actions);
    if (state_->Admit(*connection, model, stream.stream)) {
      dialect.OnRequest(stream.stream, fields, model);
    }
    state_->request = {};
  }
  return actions;
}

ProxyActions Proxy::OnStreamClosed(const StreamKey &stream, Timestamp now, bool finished) {
  ProxyActions actions;
  state_->now = now;
  if (auto *connection = state_->tunnels.Find(stream.connection)) {
    State::Model model(*state_, *connection, actions);
    StateOf(*connection).dialect->OnStreamClosed(stream.stream, finished, model);
  }
  return actions;
}

Tunnel *Proxy::State::Model::Find(TunnelKey key) {
  const auto &by_key = StateOf(connection_).by_key;
  const auto found = by_key.find(key);
  return found == by_key.end() ? nullptr : found->second;
}

std::expected<Tunnel *, SessionError>
Proxy::State::Model::Add(TunnelKey key, const Authority &authority, bool plain) {
  const auto added = state_.tunnels.AddTunnel(connection_, plain);
  if (!added) {
    return std::unexpected(added.error());
  }
  auto &tunnel = **added;
  tunnel.key = key;
  tunnel.authority = authority;
  tunnel.begun = state_.now;
  tunnel.protocol = ProtocolOf(state_.request.fields);
  tunnel.policy = state_.request.policy;
  auto &of_connection = StateOf(connection_);
  of_connection.by_key.emplace(key, &tunnel);
  of_connection.early.Await(key);
  ++state_.counters.flows;
  return &tunnel;
}

void Proxy::State::Model::Open(Tunnel &tunnel) { state_.FindTarget(tunnel, actions_); }

void Proxy::State::Model::Close(Tunnel &tunnel, EndReason reason) {
  state_.Remove(tunnel, reason, actions_);
}

std::expected<Mapping *, SessionError> Proxy::State::Model::Map(Tunnel &tunnel, Direction direction,
                                                                const ConnectionId &id,
                                                                const MappingOrigin &origin) {
  if (connection_.client->mappings >= state_.options.routing.max_streams_per_client) {
    return std::unexpected(SessionError::kTooManyStreams);
  }
  const auto added = state_.tunnels.AddMapping(tunnel, direction, id, origin.stream,
                                               origin.virtual_id, origin.token);
  if (added) {
    if (direction == Direction::kToClient && std::exchange(tunnel.silent, false) &&
        tunnel.stage == Stage::kOpen) {
      state_.Release(tunnel, actions_);
    }
    (*added)->reference = origin.reference;
    (*added)->acknowledged = origin.acknowledged;
    if (tunnel.stage == Stage::kOpen) {
      // Another tunnel may have had the name before, and be gone.
      state_.Name(tunnel);
    }
  }
  return added;
}

bool Proxy::State::Model::AddRequest() {
  auto &requests = connection_.client->requests;
  if (requests >= state_.options.routing.max_streams_per_client) {
    return false;
  }
  ++requests;
  return true;
}

void Proxy::State::Model::RemoveRequest() { --connection_.client->requests; }

//= draft-ietf-masque-quic-proxy, section 5
//# If the proxy rejects the client CID, the proxy MUST drop all packets until it has sent an
//# ACK_CLIENT_CID
void Proxy::State::Model::Reject(Tunnel &tunnel) {
  if (tunnel.silent) {
    tunnel.rejected = true;
    const auto waited = StateOf(connection_).early.Take(tunnel.key);
    tunnel.statistics.Dropped(Way::kTunnelledToTarget, DropReason::kUnknownConnectionId) +=
      waited.size();
  }
}

void Proxy::State::Model::Acknowledge(Mapping &mapping) { mapping.acknowledged = true; }

void Proxy::State::Model::Unmap(Mapping &mapping) { state_.tunnels.Remove(mapping); }

void Proxy::State::Model::Retire(Mapping &mapping) { state_.tunnels.Retire(mapping); }

void Proxy::State::Model::Respond(StreamId stream, unsigned status,
                                  std::vector<HeaderField> fields) {
  auto &counters = state_.counters;
  ++(status / 100 == 2 ? counters.accepted : counters.refused[status]);
  actions_.emplace_back(proxy_action::Respond{
    .stream = KeyOf(stream), .status = status, .fields = std::move(fields)});
}

void Proxy::State::Model::Refuse(StreamId stream, unsigned status, SessionError error,
                                 std::vector<HeaderField> fields, Tunnel *tunnel) {
  ++state_.counters.refused[status];
  ++state_.counters.errors[error];
  if (const auto wait = RetryAfter(error);
      wait && !std::ranges::contains(fields, kRetryAfterField, &HeaderField::name)) {
    fields.push_back({.name = std::string(kRetryAfterField), .value = std::to_string(*wait)});
  }
  auto record = tunnel ? state_.RecordOf(*tunnel) : state_.RecordOfRequest(connection_);
  record.status = status;
  record.error = error;
  if (tunnel && tunnel->stage != Stage::kOpen) {
    tunnel->refused = error;
  }
  actions_.emplace_back(
    proxy_action::Respond{.stream = KeyOf(stream),
                          .status = status,
                          .fields = std::move(fields),
                          .refused = std::make_shared<TunnelRecord>(std::move(record))});
}

void Proxy::State::Model::Send(StreamId stream, std::vector<std::uint8_t> message) {
  actions_.emplace_back(
    proxy_action::SendOnStream{.stream = KeyOf(stream), .message = std::move(message)});
}

void Proxy::State::Model::Reset(StreamId stream, std::uint64_t code) {
  ++state_.counters.reset;
  actions_.emplace_back(proxy_action::ResetStream{.stream = KeyOf(stream), .code = code});
}

void Proxy::State::RefuseAll(Tunnel &tunnel, SessionError error, ProxyActions &actions) {
  Model model(*this, *tunnel.connection, actions);
  StateOf(*tunnel.connection).dialect->OnRefused(tunnel, error, model);
  Remove(tunnel, EndReason::kRefused, actions);
}

void Proxy::State::Register(Tunnel &tunnel, ProxyActions &actions) {
  auto &of_connection = StateOf(*tunnel.connection);
  Model model(*this, *tunnel.connection, actions);
  switch (of_connection.dialect->OnOpen(tunnel, model)) {
  case Opened::kAccepted: break;
  case Opened::kRefused: Remove(tunnel, EndReason::kRefused, actions); return;
  case Opened::kAnotherSocket: {
    const auto target = tunnel.socket->target;
    Leave(tunnel, actions);
    UseAnother(tunnel, target, actions);
    return;
  }
  }
  tunnel.stage = Stage::kOpen;
  Name(tunnel);
  if (!tunnel.silent) {
    Release(tunnel, actions);
  }
}

void Proxy::State::Release(Tunnel &tunnel, ProxyActions &actions) {
  tunnel.rejected = false;
  for (auto &payload : StateOf(*tunnel.connection).early.Take(tunnel.key)) {
    tunnel.statistics[Way::kTunnelledToTarget].passed.Add(payload.size(), IsLong(payload));
    actions.emplace_back(
      proxy_action::SendToTarget{.socket = tunnel.socket->id, .payload = std::move(payload)});
  }
}

void Proxy::State::Remove(Tunnel &tunnel, EndReason reason, ProxyActions &actions) {
  auto &of_connection = StateOf(*tunnel.connection);
  Model model(*this, *tunnel.connection, actions);
  of_connection.dialect->OnEnded(tunnel, reason, model);
  auto record = RecordOf(tunnel);
  if (tunnel.stage == Stage::kOpen) {
    record.status = 200;
  } else if (tunnel.refused) {
    record.status = HttpStatus(*tunnel.refused);
    record.error = tunnel.refused;
  }
  record.reason = reason;
  ++counters.ended[static_cast<std::size_t>(reason)];
  record.duration = now - std::min(now, tunnel.begun);
  record.statistics = tunnel.statistics;
  actions.emplace_back(proxy_action::Ended(std::move(record)));
  Leave(tunnel, actions);
  of_connection.early.Retire(tunnel.key);
  of_connection.by_key.erase(tunnel.key);
  tunnels.Remove(tunnel);
  --counters.flows;
}

} // namespace ngmasque
