// Proxy: connections, and names.

#include "ngmasque/session/proxy.h"

#include "proxy_state.h"

#include <tuple>
#include <utility>

namespace ngmasque {

std::string_view ReasonName(NotPassed reason) {
  switch (reason) {
  case NotPassed::kLongHeader: return ReasonName(NotRouted::kLongHeader);
  case NotPassed::kReserved: return ReasonName(NotRouted::kReserved);
  case NotPassed::kUnknownTuple: return ReasonName(NotRouted::kUnknownTuple);
  case NotPassed::kUnknownConnectionId: return ReasonName(NotRouted::kUnknownConnectionId);
  case NotPassed::kUnknownFlow: return ReasonName(NotRouted::kUnknownFlow);
  case NotPassed::kUnknownSocket: return ReasonName(NotRouted::kUnknownSocket);
  case NotPassed::kMalformed: return ReasonName(NotRouted::kMalformed);
  case NotPassed::kKept: return "kept until its flow is there";
  case NotPassed::kTooLong: return "payload is too long";
  case NotPassed::kRateLimited: return "above the client's rate";
  case NotPassed::kWrongSource: return "not from the target";
  case NotPassed::kIncomplete: return "payload is not complete yet";
  }
  return "unknown reason";
}

bool IsForQuic(NotPassed reason) {
  return reason == NotPassed::kLongHeader || reason == NotPassed::kReserved ||
         reason == NotPassed::kUnknownTuple || reason == NotPassed::kUnknownConnectionId;
}

Proxy::State::Connection *Proxy::State::Find(OuterConnection connection) {
  const auto found = connections.find(connection);
  return found == connections.end() ? nullptr : &found->second;
}

Proxy::Proxy(const HashKey &key, const ProxyOptions &options, TargetPolicy policy)
  : state_(std::make_unique<State>(key, options, std::move(policy))) {}
Proxy::~Proxy() = default;
Proxy::Proxy(Proxy &&) noexcept = default;
Proxy &Proxy::operator=(Proxy &&) noexcept = default;

std::expected<void, Refusal> Proxy::AddConnection(OuterConnection connection,
                                                  const FourTuple &tuple) {
  auto added = state_->router.AddConnection(connection, tuple);
  if (added) {
    const auto &options = state_->options;
    state_->connections.try_emplace(
      connection,
      State::Connection{.id = connection,
                        .bucket = {options.max_bytes_per_second, options.burst_bytes},
                        .early = EarlyDatagrams({.max_datagrams = options.max_early_datagrams,
                                                 .max_flows = options.max_early_flows,
                                                 .max_bytes = options.max_early_bytes}),
                        .flows = {},
                        .requests = {}});
  }
  return added;
}

void Proxy::SetDatagrams(OuterConnection id, bool datagrams) {
  if (auto *connection = state_->Find(id)) {
    connection->datagrams = datagrams;
  }
}

//= draft-00, section 5.1
//# If a client's connection to the proxy is terminated for any reason, all mappings associated with
//# all requests are removed.
ProxyActions Proxy::RemoveConnection(OuterConnection id) {
  ProxyActions actions;
  auto *connection = state_->Find(id);
  if (!connection) {
    return actions;
  }
  // The sockets that it returns are closed by Remove.
  std::ignore = state_->router.RemoveConnection(id);
  while (!connection->flows.empty()) {
    state_->Remove(*connection, connection->flows.begin()->second, actions);
  }
  state_->connections.erase(id);
  return actions;
}

Proxy::Moved Proxy::MoveConnection(OuterConnection id, const FourTuple &tuple) {
  auto moved = state_->router.MoveConnection(id, tuple);
  Moved result{.actions = {}, .reserved = std::move(moved.reserved)};
  state_->Reset(moved.lost, result.actions);
  return result;
}

bool Proxy::Reserve(OuterConnection connection, const ConnectionId &id) {
  return state_->router.Reserve(connection, id).has_value();
}

void Proxy::Unreserve(OuterConnection connection, const ConnectionId &id) {
  state_->router.Unreserve(connection, id);
}

const ProxyCounters &Proxy::counters() const { return state_->counters; }

} // namespace ngmasque
