// The client's side of one inner connection: what its dialect is asked for, and what it says.

#include "client_tunnel_model.h"

#include "ngmasque/session/client_ids.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

void ClientTunnel::OnSent(RequestId request, StreamId stream) {
  if (dialect_) {
    dialect_->OnSent(request, stream);
  }
}

std::vector<ClientAction> ClientTunnel::OnResponse(RequestId request,
                                                   std::span<const HeaderField> fields) {
  Actions actions;
  if (dialect_) {
    Model model(*this, actions);
    dialect_->OnResponse(request, fields, model);
  }
  return actions;
}

StreamPayload ClientTunnel::OnStreamData(RequestId request, std::span<const std::uint8_t> &input,
                                         Actions &actions) {
  if (!dialect_) {
    input = {};
    return std::unexpected(DropReason::kUnknownFlow);
  }
  Model model(*this, actions);
  return dialect_->OnStreamData(request, input, model);
}

std::vector<ClientAction> ClientTunnel::OnBadDatagram() {
  Actions actions;
  if (dialect_ && state_ != State::kOver) {
    Model model(*this, actions);
    dialect_->OnBadDatagram(model);
  }
  return actions;
}

std::vector<ClientAction> ClientTunnel::OnMigrated() {
  Actions actions;
  if (dialect_ && state_ != State::kOver) {
    Model model(*this, actions);
    dialect_->OnMigrated(model);
  }
  return actions;
}

//= draft-ietf-masque-quic-proxy, section 5.4
//# The length of the Stateless Reset Token sent by the proxy in response to forwarded mode packets in
//# order to reset the client-to-target QUIC connection.
//
// That one is whole, as the target knows nothing of it, and its packets can be tunnelled, if need be
// through another tunnel: so it is only what the proxy had of it that is over.
std::vector<ClientAction> ClientTunnel::OnReset(MappingId number) {
  Actions actions;
  const auto found = mappings_.find(number);
  if (state_ == State::kOver || found == mappings_.end()) {
    return actions;
  }
  Model model(*this, actions);
  if (model.SetVirtual(number, {}, {})) {
    actions.emplace_back(client_action::FellBack{Fallback::kMappingReset});
    dialect_->OnReset(number, model);
  }
  return actions;
}

std::vector<ClientAction> ClientTunnel::OnRequestClosed(RequestId request, std::uint64_t code) {
  Actions actions;
  if (dialect_) {
    Model model(*this, actions);
    dialect_->OnRequestClosed(request, code, model);
  }
  return actions;
}

const ClientMapping *ClientTunnel::Model::Find(MappingId mapping) const {
  const auto found = tunnel_.mappings_.find(mapping);
  return found == tunnel_.mappings_.end() ? nullptr : &found->second;
}

void ClientTunnel::Model::Opened(bool connection_ids, bool forwarding) {
  if (tunnel_.state_ != State::kWaiting) {
    return;
  }
  tunnel_.state_ = State::kOpen;
  actions_.emplace_back(client_action::Opened{});
  if (connection_ids && !forwarding && std::exchange(tunnel_.ask_, false)) {
    actions_.emplace_back(client_action::FellBack{Fallback::kForwardingRefused});
  }
  if (connection_ids) {
    tunnel_.AskHeld(actions_);
  } else {
    tunnel_.BecomePlain(actions_);
  }
}

bool ClientTunnel::Model::SetVirtual(MappingId number, const ConnectionId &virtual_id,
                                     const std::optional<ResetToken> &token) {
  const auto found = tunnel_.mappings_.find(number);
  if (found == tunnel_.mappings_.end()) {
    return true;
  }
  auto &mapping = found->second;
  if (mapping.direction == Direction::kToClient) {
    if (!virtual_id.empty() &&
        !tunnel_.ids_.table_.Insert(virtual_id,
                                    {.tunnel = &tunnel_,
                                     .mapping = &mapping,
                                     .virtual_length = virtual_id.size()})) {
      return false;
    }
    auto &previous = mapping.previous_ids;
    if (!mapping.virtual_id.empty()) {
      previous.push_back(mapping.virtual_id);
    }
    if (previous.size() > ClientMapping::kMaxPrevious) {
      tunnel_.EraseVirtual(previous.front());
      previous.erase(previous.begin());
    }
  } else {
    tunnel_.SetToken(number, mapping, token);
  }
  mapping.virtual_id = virtual_id;
  return true;
}

void ClientTunnel::Model::Acknowledge(MappingId mapping) {
  const auto found = tunnel_.mappings_.find(mapping);
  if (found == tunnel_.mappings_.end() || found->second.stage != Stage::kAsked) {
    return;
  }
  found->second.stage = Stage::kAcknowledged;
  if (found->second.direction == Direction::kToClient && tunnel_.siblings_->current == &tunnel_) {
    tunnel_.Own(found->second);
  }
  // The target has the first one from the beginning on.
  if (found->second.direction == Direction::kToClient && mapping != tunnel_.first_) {
    actions_.emplace_back(client_action::ReleaseClientId{found->second.id});
  }
}

void ClientTunnel::Model::Refuse(MappingId mapping, const ProxyRefusal &refusal) {
  const auto found = tunnel_.mappings_.find(mapping);
  if (found == tunnel_.mappings_.end()) {
    return;
  }
  const auto direction = found->second.direction;
  const auto stage = found->second.stage;
  const auto id = found->second.id;
  tunnel_.Erase(found);
  if (stage == Stage::kAsked && mapping == tunnel_.first_) {
    tunnel_.Fail(actions_, refusal, refusal.conflict);
    return;
  }
  const bool ended = stage == Stage::kAcknowledged;
  if (!ended && direction == Direction::kToTarget) {
    tunnel_.RefuseServerId(actions_, id,
                           refusal.conflict ? Fallback::kServerIdConflict
                                            : Fallback::kForwardingRefused);
    return;
  }
  const bool last = !tunnel_.HasClientId();
  if (!ended) {
    actions_.emplace_back(client_action::DiscardClientId{id});
    actions_.emplace_back(client_action::FellBack{Fallback::kClientIdRefused});
  } else if (!last) {
    actions_.emplace_back(client_action::FellBack{Fallback::kRequestEnded});
  }
  if (last) {
    tunnel_.Fail(actions_, refusal, false);
  }
}

void ClientTunnel::Model::End(const ProxyRefusal &refusal) {
  if (tunnel_.state_ != State::kOver) {
    tunnel_.Fail(actions_, refusal, refusal.conflict);
  }
}

// Its others were all held back.
void ClientTunnel::BecomePlain(Actions &actions) {
  if (!std::exchange(plain_, true)) {
    actions.emplace_back(client_action::FellBack{Fallback::kNotEchoed});
  }
  while (!mappings_.empty()) {
    const auto &[number, mapping] = *mappings_.begin();
    if (mapping.direction == Direction::kToClient && number != first_) {
      actions.emplace_back(client_action::ReleaseClientId{mapping.id});
    }
    Erase(mappings_.begin());
  }
}

void ClientTunnel::AskHeld(Actions &actions) {
  for (auto mapping = mappings_.begin(); mapping != mappings_.end();) {
    const bool held = mapping->second.stage == Stage::kHeld;
    if (held && mapping->second.direction == Direction::kToTarget && !ask_) {
      mapping = Erase(mapping);
      continue;
    }
    if (held && MayAsk(mapping->second)) {
      Ask(actions, mapping->first);
    }
    ++mapping;
  }
}

//= draft-00, section 4.3
//# For any response code other than a 2xx success, the client MUST NOT retry a request for the same
//# Server Connection ID.  For errors other than 409 (Conflict), clients SHOULD stop sending
//# requests for other Server Connection IDs in the future.
void ClientTunnel::RefuseServerId(Actions &actions, const ConnectionId &id, Fallback reason) {
  const auto asked = ask_;
  if (refused_.size() < limits_.max_refused) {
    refused_.insert(id);
  } else {
    reason = Fallback::kTooManyRequests;
    ask_ = false;
  }
  if (reason == Fallback::kForwardingRefused) {
    ask_ = false;
    if (!asked) {
      return; // It is known already.
    }
  }
  actions.emplace_back(client_action::FellBack{reason});
}

void ClientTunnel::Fail(Actions &actions, const ProxyRefusal &refusal, bool retry) {
  const auto opened = state_ == State::kOpen;
  for (const auto &[number, mapping] : mappings_) {
    if (mapping.direction == Direction::kToClient && mapping.stage != Stage::kAcknowledged &&
        number != first_) {
      actions.emplace_back(client_action::DiscardClientId{mapping.id});
    }
  }
  CloseAll(actions);
  actions.emplace_back(
    client_action::Failed{.refusal = refusal, .opened = opened, .retry = retry});
}

MappingId ClientTunnel::Add(Direction direction, const ConnectionId &id,
                            const std::optional<ResetToken> &token) {
  const auto number = next_++;
  const auto &mapping =
    mappings_
      .emplace(
        number,
        ClientMapping{.direction = direction, .id = id, .stage = Stage::kHeld, .token = token})
      .first->second;
  // The caller has seen to it that there are no conflicts.
  if (direction == Direction::kToTarget) {
    servers_.Insert(id, &mapping);
  } else if (!id.empty()) {
    ids_.table_.Insert(id, {.tunnel = this, .mapping = &mapping}); // Or it is a sibling's already.
  }
  return number;
}

ClientTunnel::Mappings::iterator ClientTunnel::Erase(Mappings::iterator mapping) {
  const auto &id = mapping->second.id;
  if (mapping->second.direction == Direction::kToTarget) {
    SetToken(mapping->first, mapping->second, {});
    servers_.Erase(id);
  } else {
    Disown(mapping->second);
    EraseVirtual(mapping->second.virtual_id);
    for (const auto &id : mapping->second.previous_ids) {
      EraseVirtual(id);
    }
  }
  return mappings_.erase(mapping);
}

void ClientTunnel::SetToken(MappingId number, ClientMapping &mapping,
                            const std::optional<ResetToken> &token) {
  const ClientIds::ResetMapping of{.tunnel = this, .mapping = number};
  if (mapping.virtual_token) {
    ids_.EraseToken(*mapping.virtual_token, of);
  }
  mapping.virtual_token = token;
  if (token) {
    ids_.AddToken(*token, of);
  }
}

void ClientTunnel::EraseVirtual(const ConnectionId &virtual_id) {
  if (!virtual_id.empty()) {
    ids_.table_.Erase(virtual_id);
  }
}

void ClientTunnel::Ask(Actions &actions, MappingId mapping) {
  mappings_.at(mapping).stage = Stage::kAsked;
  Model model(*this, actions);
  dialect_->Map(mapping, model);
}

// Nothing is to be ended that was never asked for.
ClientTunnel::Mappings::iterator ClientTunnel::Unmap(Actions &actions,
                                                     Mappings::iterator mapping) {
  if (mapping->second.stage != Stage::kHeld) {
    Model model(*this, actions);
    dialect_->Unmap(mapping->first, model);
  }
  return Erase(mapping);
}

void ClientTunnel::CloseAll(Actions &actions) {
  if (dialect_ && state_ != State::kOver) {
    Model model(*this, actions);
    dialect_->Close(model);
  }
  while (!mappings_.empty()) {
    Erase(mappings_.begin());
  }
  state_ = State::kOver;
}

std::string_view ReasonName(Fallback fallback) {
  switch (fallback) {
  case Fallback::kNotEchoed: return "proxy knows no connection IDs";
  case Fallback::kForwardingRefused: return "proxy refuses to forward";
  case Fallback::kServerIdConflict: return "server connection ID is in conflict";
  case Fallback::kClientIdRefused: return "client connection ID is refused or in conflict";
  case Fallback::kTooManyRequests: return "too many requests";
  case Fallback::kNoDatagrams: return "proxy has no datagrams";
  case Fallback::kRequestEnded: return "proxy has ended a request";
  case Fallback::kMappingReset: return "proxy has forgotten a connection ID";
  }
  return "unknown reason";
}

} // namespace ngmasque
