// Proxy: connections.

#include "ngmasque/session/proxy.h"

#include "ngmasque/session/any_dialect.h"

#include "proxy_model.h"

#include <cstdint>
#include <utility>
#include <vector>

namespace ngmasque {

Proxy::Proxy(const HashKey &key, const ProxyOptions &options, TargetPolicy policy)
  : state_(std::make_unique<State>(key, options, std::move(policy))) {}
Proxy::~Proxy() = default;
Proxy::Proxy(Proxy &&) noexcept = default;
Proxy &Proxy::operator=(Proxy &&) noexcept = default;

void Proxy::SetPolicy(TargetPolicy policy) { state_->policy = std::move(policy); }

std::expected<void, SessionError> Proxy::AddConnection(OuterConnection id, const FourTuple &tuple,
                                                       void *user_data,
                                                       const std::optional<ClientKey> &client) {
  const auto added = state_->tunnels.AddConnection(
    id, tuple, client.value_or(ClientKey::FromAddress(tuple.remote)));
  if (!added) {
    return std::unexpected(added.error());
  }
  const auto &options = state_->options;
  auto &connection = **added;
  connection.user_data = user_data;
  state_->Begin(*connection.client, std::nullopt);
  const auto make = options.dialect ? options.dialect : &MakeAnyDialect;
  connection.state =
    std::make_unique<ConnectionState>(make(options, state_->key),
                                      EarlyLimits{.max_datagrams = options.max_early_datagrams,
                                                  .max_flows = options.max_early_flows,
                                                  .max_bytes = options.max_early_bytes},
                                      connection.client->waiting);
  return {};
}

const ClientConnection *Proxy::Find(OuterConnection id) const { return state_->tunnels.Find(id); }

void Proxy::SetDatagrams(OuterConnection id, bool datagrams, bool rfc9297) {
  if (auto *connection = state_->tunnels.Find(id)) {
    connection->datagrams = datagrams;
    ProxyActions none; // Without tunnels there is nothing to be done.
    State::Model model(*state_, *connection, none);
    StateOf(*connection).dialect->OnDatagramForm(rfc9297, model);
  }
}

void Proxy::SetCertificate(OuterConnection id, std::string_view name) {
  if (auto *connection = state_->tunnels.Find(id)) {
    connection->certificate = name;
  }
}

//= draft-00, section 5.1
//# If a client's connection to the proxy is terminated for any reason, all mappings associated with
//# all requests are removed.
ProxyActions Proxy::RemoveConnection(OuterConnection id, Timestamp now) {
  ProxyActions actions;
  state_->now = now;
  auto *connection = state_->tunnels.Find(id);
  if (!connection) {
    return actions;
  }
  while (!connection->tunnels.empty()) {
    state_->Remove(connection->tunnels.begin()->second, EndReason::kConnectionClosed, actions);
  }
  state_->tunnels.Remove(*connection);
  return actions;
}

Proxy::Moved Proxy::MoveConnection(OuterConnection id, const FourTuple &tuple, Timestamp now) {
  state_->now = now;
  auto *connection = state_->tunnels.Find(id);
  if (!connection) {
    return {};
  }
  connection->moving = false;
  auto moved = state_->tunnels.Move(*connection, tuple);
  Moved result{.actions = {}, .reserved = std::move(moved.reserved)};
  State::Model model(*state_, *connection, result.actions);
  // A tunnel may end with the first one that it loses, and takes the others with it.
  std::vector<std::pair<std::uint64_t, Mapping *>> lost; // By Tunnel::number.
  for (auto *mapping : moved.lost) {
    lost.emplace_back(mapping->tunnel->number, mapping);
  }
  for (const auto &[number, mapping] : lost) {
    if (connection->tunnels.contains(number)) {
      StateOf(*connection).dialect->OnLost(*mapping, model);
    }
  }
  return result;
}

ProxyActions Proxy::OnMigrating(OuterConnection id, Timestamp now) {
  ProxyActions actions;
  state_->now = now;
  if (auto *connection = state_->tunnels.Find(id)) {
    connection->moving = true;
    State::Model model(*state_, *connection, actions);
    for (auto &[number, tunnel] : connection->tunnels) {
      StateOf(*connection).dialect->OnMigrating(tunnel, model);
    }
  }
  return actions;
}

void Proxy::Expect(OuterConnection id, const FourTuple &tuple) {
  if (auto *connection = state_->tunnels.Find(id)) {
    state_->tunnels.Expect(*connection, tuple);
  }
}

bool Proxy::Reserve(OuterConnection id, const ConnectionId &reserved) {
  auto *connection = state_->tunnels.Find(id);
  return connection && state_->tunnels.Reserve(*connection, reserved);
}

void Proxy::Unreserve(OuterConnection id, const ConnectionId &reserved) {
  if (auto *connection = state_->tunnels.Find(id)) {
    state_->tunnels.Unreserve(*connection, reserved);
  }
}

std::size_t Proxy::tunnels() const { return state_->counters.flows.now; }

ProxyCounters Proxy::counters() const {
  auto counters = state_->counters;
  counters.tunnels = state_->tunnels.statistics();
  counters.counts = state_->tunnels.counts();
  counters.waiting_bytes = state_->tunnels.waiting_bytes();
  counters.lookups_running = state_->lookups.size();
  for (const auto &way : counters.tunnels.ways) {
    for (std::size_t reason = 0; reason < kDropReasons; ++reason) {
      counters.dropped[reason] += way.dropped[reason];
    }
  }
  return counters;
}

} // namespace ngmasque
