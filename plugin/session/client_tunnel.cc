// The client's side of one inner connection: its connection IDs and packets.

#include "ngmasque/session/client_tunnel.h"

#include "ngmasque/session/client_ids.h"

#include "client_tunnel_model.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

namespace {

// As many lengths as there can be: the client's own choice, or no more than max_mappings.
constexpr ConnectionIdTableLimits TableLimits(std::size_t max_ids) {
  return {.max_ids = max_ids, .max_lengths = kMaxConnectionIdLength + 1};
}

} // namespace

ClientTunnel::ClientTunnel(ClientIds &ids, ClientDialect &dialect, Options options,
                           const ClientTunnelLimits &limits)
  : ids_(ids),
    connection_(dialect),
    options_(std::move(options)),
    limits_(limits),
    plain_(dialect.plain() || !options_.connection_ids),
    ask_(options_.forward && !plain_),
    siblings_(options_.sibling ? options_.sibling->siblings_ : std::make_shared<Siblings>()),
    servers_(ids.key_, TableLimits(limits.max_mappings)) {
  siblings_->all.push_back(this);
  options_.sibling = nullptr;
}

ClientTunnel::~ClientTunnel() {
  while (!mappings_.empty()) {
    Erase(mappings_.begin());
  }
  std::erase(siblings_->all, this);
  if (siblings_->current == this) {
    siblings_->current = nullptr;
  }
}

std::vector<ClientAction> ClientTunnel::Start(const ConnectionId &id) {
  Actions actions;
  if (state_ != State::kIdle) {
    return actions;
  }
  if (!plain_) {
    //= draft-00, section 4.1
    //# A client also SHOULD NOT select a Client Connection ID that matches the ID used for the QUIC
    //# connection to the proxy, as this inherently creates a conflict.
    const auto possible = CheckClientId(id);
    const bool known = Find(Direction::kToClient, id) != mappings_.end();
    if (!possible || known) {
      Fail(actions, {}, known || IsConflict(possible.error()));
      return actions;
    }
  }
  dialect_ = connection_.Add(*this);
  if (!dialect_) {
    Fail(actions, {}, false);
    return actions;
  }
  if (!plain_) {
    first_ = Add(Direction::kToClient, id);
    mappings_.at(*first_).stage = Stage::kAsked;
  }
  state_ = State::kWaiting;
  Model model(*this, actions);
  dialect_->Open(first_, model);
  if (connection_.plain()) {
    actions.emplace_back(client_action::FellBack{Fallback::kNoDatagrams});
  }
  return actions;
}

//= draft-00, section 4.2
//# Prior to informing the target of a new chosen client connection ID, the client MUST send a
//# CONNECT-UDP request with the Client-Connection-Id header to the proxy, and only inform the
//# target of the new client connection ID once a 2xx (Successful) response is received.
std::vector<ClientAction> ClientTunnel::AddClientId(const ConnectionId &id) {
  Actions actions;
  if (state_ == State::kOver || Find(Direction::kToClient, id) != mappings_.end()) {
    return actions;
  }
  if (plain_) {
    actions.emplace_back(client_action::ReleaseClientId{id});
    return actions;
  }
  const auto possible = CheckClientId(id);
  const auto full =
    mappings_.size() >= limits_.max_mappings || (!possible && !IsConflict(possible.error()));
  if (full || !possible) {
    actions.emplace_back(client_action::DiscardClientId{id});
    actions.emplace_back(
      client_action::FellBack{full ? Fallback::kTooManyRequests : Fallback::kClientIdRefused});
    return actions;
  }
  //= draft-ietf-masque-quic-proxy, section 5.9.2
  //# Prior to informing the target of a new chosen client CID, the client MUST send a
  //# REGISTER_CLIENT_CID capsule to the proxy containing the new client CID.
  //
  //= draft-ietf-masque-quic-proxy, section 5
  //# When port sharing is supported, the client MUST register and receive acknowledgements for
  //# client and target CIDs before using them.
  const auto mapping = Add(Direction::kToClient, id);
  if (state_ == State::kOpen && MayAsk(mappings_.at(mapping))) {
    Ask(actions, mapping);
  }
  return actions;
}

std::vector<ClientAction> ClientTunnel::RemoveClientId(const ConnectionId &id) {
  Actions actions;
  const auto mapping = Find(Direction::kToClient, id);
  if (mapping == mappings_.end()) {
    return actions;
  }
  const auto was_awaited = state_ == State::kWaiting && mapping->first == first_;
  Unmap(actions, mapping);
  if (was_awaited || (state_ == State::kOpen && !HasClientId())) {
    CloseAll(actions);
  }
  return actions;
}

//= draft-00, section 4.3
//# Once the client has learned the target server's Connection ID, such as in the response to a QUIC
//# Initial packet, it can send a request containing the Server-Connection-Id header to request the
//# ability to forward packets.
std::vector<ClientAction> ClientTunnel::AddServerId(const ConnectionId &id,
                                                    const std::optional<ResetToken> &token) {
  Actions actions;
  if (state_ == State::kOver || plain_ || !options_.forward || refused_.contains(id) ||
      Find(Direction::kToTarget, id) != mappings_.end()) {
    return actions;
  }
  const auto conflicts = [&id](const ConnectionId &other) {
    return Compare(id.bytes(), other.bytes()) != Relation::kUnrelated;
  };
  auto in_conflict = id.empty() || std::ranges::any_of(refused_, conflicts);
  for (auto mapping = mappings_.begin(); mapping != mappings_.end();) {
    if (mapping->second.direction != Direction::kToTarget || !conflicts(mapping->second.id)) {
      ++mapping;
      continue;
    }
    in_conflict = true;
    const auto other = mapping->second.id;
    mapping = Unmap(actions, mapping);
    RefuseServerId(actions, other, Fallback::kServerIdConflict);
  }
  if (in_conflict) {
    RefuseServerId(actions, id, Fallback::kServerIdConflict);
  } else if (ask_ && mappings_.size() >= limits_.max_mappings) {
    RefuseServerId(actions, id, Fallback::kTooManyRequests);
  } else if (ask_) {
    const auto mapping = Add(Direction::kToTarget, id, token);
    if (state_ == State::kOpen && MayAsk(mappings_.at(mapping))) {
      Ask(actions, mapping);
    }
  }
  return actions;
}

std::vector<ClientAction> ClientTunnel::RemoveServerId(const ConnectionId &id) {
  Actions actions;
  if (const auto mapping = Find(Direction::kToTarget, id); mapping != mappings_.end()) {
    Unmap(actions, mapping);
  }
  return actions;
}

std::vector<ClientAction> ClientTunnel::Close() {
  Actions actions;
  CloseAll(actions);
  return actions;
}

} // namespace ngmasque
