// The client's side of one inner connection: whose its client connection IDs are, of all tunnels.

#include "ngmasque/session/client_tunnel.h"

#include "ngmasque/session/client_ids.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

ClientTunnel::Mappings::const_iterator ClientTunnel::Find(Direction direction,
                                                          const ConnectionId &id) const {
  return std::ranges::find_if(mappings_, [&](const Mappings::value_type &entry) {
    return entry.second.direction == direction && entry.second.id == id;
  });
}

ClientTunnel::Mappings::iterator ClientTunnel::Find(Direction direction, const ConnectionId &id) {
  const auto found = std::as_const(*this).Find(direction, id);
  return mappings_.erase(found, found); // As an iterator that is not const.
}

bool ClientTunnel::HasClientId() const {
  return std::ranges::any_of(mappings_, [](const Mappings::value_type &entry) {
    return entry.second.direction == Direction::kToClient;
  });
}

bool ClientTunnel::HasClientId(const ConnectionId &id) const {
  return Find(Direction::kToClient, id) != mappings_.end();
}

std::expected<void, RoutingError> ClientTunnel::CheckClientId(const ConnectionId &id) const {
  auto possible = ids_.Check(id);
  if (!possible && possible.error() == RoutingError::kEqual &&
      std::ranges::any_of(siblings_->all,
                          [&id](const ClientTunnel *other) { return other->HasClientId(id); })) {
    return {};
  }
  return possible;
}

void ClientTunnel::BecomeCurrent() {
  siblings_->current = this;
  for (const auto &[number, mapping] : mappings_) {
    if (mapping.direction == Direction::kToClient && mapping.stage == Stage::kAcknowledged) {
      Own(mapping);
    }
  }
}

void ClientTunnel::Own(const ClientMapping &mapping) {
  if (!mapping.id.empty()) { // One of zero length that is in the table is not the tunnel's.
    ids_.table_.Replace(mapping.id, {.tunnel = this, .mapping = &mapping});
  }
}

void ClientTunnel::Disown(const ClientMapping &mapping) {
  const auto *const owner = mapping.id.empty() ? nullptr : ids_.table_.FindExact(mapping.id.bytes());
  if (!owner || owner->mapping != &mapping) {
    return;
  }
  for (auto *const other : siblings_->all) {
    if (const auto found = other->Find(Direction::kToClient, mapping.id);
        other != this && found != other->mappings_.end()) {
      other->Own(found->second);
      return;
    }
  }
  ids_.table_.Erase(mapping.id);
}

} // namespace ngmasque
