// The client's side of one inner connection, when there is another proxy before its proxy: which
// connection IDs that one has to know.
//
// Each proxy is a target of the one before it, and what it forwards to the client are packets of a
// target to that one: with connection IDs that nobody has told it of, they are tunnelled there, or
// dropped where several clients share a socket.  So nothing comes on the link that is not known to
// be expected; until then the proxy tunnels it, in packets of its own.

#include "client_tunnel_model.h"

#include "ngmasque/session/client_ids.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

// What has virtual connection IDs has them when the proxy has answered, and the proxy is told then
// whether to use them.  Otherwise the proxy is not asked before, but for the tunnel's first one: that
// comes with the tunnel, and while no server connection ID is asked for, nothing is forwarded of it.
//
//= draft-00, section 4.4
//# A proxy MUST NOT forward packets from the target to the client until after the client has sent
//# at least one packet in forwarded mode.
bool ClientTunnel::MayAsk(const ClientMapping &mapping) const {
  if (!options_.chained || dialect_->virtual_ids()) {
    return true;
  }
  if (mapping.direction == Direction::kToClient) {
    return mapping.on_link;
  }
  const auto first = first_ ? mappings_.find(*first_) : mappings_.end();
  return first == mappings_.end() || first->second.on_link || first->second.id.empty();
}

std::vector<LinkId> ClientTunnel::LinkIds() const {
  std::vector<LinkId> ids;
  if (!options_.chained || !dialect_ || state_ == State::kOver) {
    return ids;
  }
  const bool virtual_ids = dialect_->virtual_ids();
  for (const auto &[number, mapping] : mappings_) {
    const auto add = [&ids, &mapping](const ConnectionId &id) {
      if (!id.empty()) {
        ids.push_back(
          {.direction = mapping.direction, .id = id, .token = mapping.virtual_token});
      }
    };
    if (virtual_ids) {
      add(mapping.virtual_id);
      if (!mapping.previous_ids.empty()) {
        add(mapping.previous_ids.back());
      }
    } else if (mapping.direction == Direction::kToClient ? options_.forward
                                                         : mapping.stage == Stage::kAcknowledged) {
      add(mapping.id);
    }
  }
  return ids;
}

std::vector<ClientAction> ClientTunnel::OnLinkId(const ConnectionId &id, bool usable) {
  Actions actions;
  if (!options_.chained || !dialect_ || state_ == State::kOver || id.empty()) {
    return actions;
  }
  const bool virtual_ids = dialect_->virtual_ids();
  const auto found = std::ranges::find_if(mappings_, [&](const Mappings::value_type &entry) {
    const auto &mapping = entry.second;
    return mapping.direction == Direction::kToClient &&
           (virtual_ids ? mapping.virtual_id == id ||
                            (!mapping.previous_ids.empty() && mapping.previous_ids.back() == id)
                        : mapping.id == id);
  });
  if (found == mappings_.end()) {
    return actions; // It has been given up meanwhile.
  }
  if (virtual_ids) {
    Model model(*this, actions);
    dialect_->OnLinkId(found->first, id, usable, model);
  } else if (usable) {
    found->second.on_link = true;
    if (state_ == State::kOpen) {
      AskHeld(actions);
    }
  } else if (found->first == first_) {
    // Its mapping is needed, as the tunnel is its.
    ask_ = false;
    actions.emplace_back(client_action::FellBack{Fallback::kClientIdRefused});
  } else {
    Unmap(actions, found);
    actions.emplace_back(client_action::DiscardClientId{id});
    actions.emplace_back(client_action::FellBack{Fallback::kClientIdRefused});
  }
  return actions;
}

} // namespace ngmasque
