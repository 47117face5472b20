// The model of ClientTunnel: events and what has to come of them.

#include "session_client_model.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace ngmasque {

namespace {

bool Conflict(const ConnectionId &a, const ConnectionId &b) {
  return Compare(a.bytes(), b.bytes()) != Relation::kUnrelated;
}

bool ConflictsWithAny(const std::set<ConnectionId> &ids, const ConnectionId &id) {
  return std::ranges::any_of(
    ids, [&id](const ConnectionId &other) { return !other.empty() && Conflict(other, id); });
}

} // namespace

bool ClientModel::HasOpen(IdHeader kind, const ConnectionId &id) const {
  return std::ranges::any_of(
    open_, [&](const auto &entry) { return entry.second.kind == kind && entry.second.id == id; });
}

std::set<ConnectionId> ClientModel::OpenIds(IdHeader kind) const {
  std::set<ConnectionId> ids;
  for (const auto &[number, request] : open_) {
    if (request.kind == kind) {
      ids.insert(request.id);
    }
  }
  return ids;
}

// Client connection IDs in use; none matters to a plain tunnel.
std::set<ConnectionId> ClientModel::Clients() const {
  if (plain_ || over_) {
    return {};
  }
  auto ids = OpenIds(IdHeader::kClient);
  ids.insert(held_.begin(), held_.end());
  return ids;
}

bool ClientModel::ConflictsWithOwn(const ConnectionId &id) const {
  const auto zero_length_outer = outer_.contains(ConnectionId{});
  return !id.empty() &&
         (zero_length_outer || ConflictsWithAny(outer_, id) || ConflictsWithAny(Clients(), id));
}

// What counts against max_mappings.
std::size_t ClientModel::Known() const {
  auto known = open_.size() + held_servers_.size();
  for (const auto &id : held_) {
    known += HasOpen(IdHeader::kClient, id) ? 0 : 1;
  }
  return known;
}

void ClientModel::Start(const ConnectionId &id) {
  const auto effective = !started_ && !over_;
  const auto conflict = effective && !plain_ && (ConflictsWithOwn(id) || Clients().contains(id));
  started_ = started_ || effective;
  starting_ = effective;
  Apply(tunnel_.Start(id));
  starting_ = false;
  if (effective) {
    ASSERT_EQ(over_, conflict);
    ASSERT_EQ(open_.size(), conflict ? 0u : 1u);
    if (!conflict) {
      ASSERT_EQ(open_.begin()->second.kind, plain_ ? IdHeader::kNone : IdHeader::kClient);
      ASSERT_TRUE(plain_ || open_.begin()->second.id == id);
    }
  }
}

void ClientModel::AddClientId(const ConnectionId &id) {
  const auto known = Clients().contains(id);
  const auto possible = !ConflictsWithOwn(id) && Known() < limits_.max_mappings;
  if (over_ || known) {
    ASSERT_TRUE(tunnel_.AddClientId(id).empty());
    return;
  }
  held_.insert(id);
  Apply(tunnel_.AddClientId(id));
  if (plain_) {
    ASSERT_FALSE(held_.contains(id)) << "released";
  } else {
    ASSERT_EQ(held_.contains(id), possible);
    ASSERT_EQ(HasOpen(IdHeader::kClient, id), possible && opened_);
  }
}

void ClientModel::RemoveClientId(const ConnectionId &id) {
  const auto first = open_.find(first_);
  const auto known = Clients().contains(id);
  const auto abandoned = !opened_ && first != open_.end() && first->second.id == id;
  if (!over_ && known) {
    held_.erase(id);
  }
  Apply(tunnel_.RemoveClientId(id));
  if (known) {
    ASSERT_FALSE(HasOpen(IdHeader::kClient, id));
    if (abandoned || (opened_ && OpenIds(IdHeader::kClient).empty())) {
      over_ = true;
    }
  }
}

void ClientModel::AddServerId(const ConnectionId &id) {
  auto servers = OpenIds(IdHeader::kServer);
  servers.insert(held_servers_.begin(), held_servers_.end());
  const auto ignored = over_ || plain_ || !options_.forward || servers.contains(id);
  if (ignored) {
    ASSERT_TRUE(tunnel_.AddServerId(id).empty());
    return;
  }
  std::erase_if(servers, [&id](const ConnectionId &other) { return !Conflict(id, other); });
  const auto in_conflict = id.empty() || !servers.empty() || local_.contains(ConnectionId{}) ||
                           ConflictsWithAny(local_, id);
  const auto room = Known() < limits_.max_mappings;
  for (const auto &other : servers) {
    held_servers_.erase(other);
  }
  Apply(tunnel_.AddServerId(id));
  const auto asked = HasOpen(IdHeader::kServer, id);
  ASSERT_FALSE(asked && in_conflict);
  for (const auto &other : servers) {
    ASSERT_FALSE(HasOpen(IdHeader::kServer, other)) << "neither of them";
  }
  if (in_conflict) {
    for (const auto &other : servers) {
      Remember(other);
    }
    Remember(id);
  } else if (stopped_) {
    ASSERT_FALSE(asked);
  } else if (!room) {
    Remember(id);
  } else {
    ASSERT_EQ(asked, opened_);
    if (!opened_) {
      held_servers_.insert(id);
    }
  }
}

// What is beyond max_refused is forgotten, but nothing is asked for then.
void ClientModel::Remember(const ConnectionId &id) {
  if (local_.size() < limits_.max_refused) {
    local_.insert(id);
  } else if (!local_.contains(id)) {
    stopped_ = true;
  }
}

void ClientModel::RemoveServerId(const ConnectionId &id) {
  held_servers_.erase(id);
  Apply(tunnel_.RemoveServerId(id));
  ASSERT_FALSE(HasOpen(IdHeader::kServer, id));
}

void ClientModel::AddOuterId(const ConnectionId &id) {
  const auto clients = Clients();
  auto free = !ConflictsWithAny(clients, id);
  if (!outer_.contains(id)) {
    free =
      free && std::ranges::none_of(outer_, [&](const auto &other) { return Conflict(other, id); });
  }
  ASSERT_EQ(ids_.Reserve(id), free);
  if (free) {
    outer_.insert(id);
  }
}

void ClientModel::RemoveOuterId(const ConnectionId &id) {
  outer_.erase(id);
  ids_.Release(id);
}

void ClientModel::Close() {
  Apply(tunnel_.Close());
  over_ = true;
}

void ClientModel::Respond(RequestId number, const Answer &answer) {
  const auto found = open_.find(number);
  if (found == open_.end() || found->second.accepted) {
    const std::vector<HeaderField> fields{{":status", std::to_string(answer.status)}};
    ASSERT_TRUE(tunnel_.OnResponse(number, fields).empty()) << "nobody waits for it";
    return;
  }
  const auto request = found->second;
  const ConnectUdpRequest echo{
    .authority = options_.authority,
    .flow = options_.datagrams ? std::optional(options_.flow + answer.flow_offset) : std::nullopt,
    .id_header = answer.without_id ? IdHeader::kNone : request.kind,
    .id = answer.other_id.value_or(request.id)};
  auto fields = ResponseFields(echo, answer.status);
  if (answer.malformed) {
    fields.push_back({"content-length", "0"});
  }
  const auto echoed = !answer.without_id && echo.id == request.id && answer.flow_offset == 0;
  const auto first = number == first_ && !opened_;
  const auto good = answer.status == 200 && !answer.malformed;
  const auto accepted = good && (echoed || first);
  if (accepted) {
    found->second.accepted = true;
    accepting_ = request;
    opening_ = first;
    plain_ = plain_ || (first && !echoed);
  } else if (request.kind == IdHeader::kServer) {
    Refused(request.id, answer.malformed ? 0 : answer.status);
  }
  Apply(tunnel_.OnResponse(number, fields));
  accepting_.reset();
  ASSERT_EQ(open_.contains(number), accepted);
  if (opening_) {
    opening_ = false;
    ASSERT_TRUE(opened_);
    for (const auto &id : held_servers_) {
      ASSERT_TRUE(plain_ || stopped_ || HasOpen(IdHeader::kServer, id)) << "was held back";
    }
    held_servers_.clear();
  } else if (first) {
    ASSERT_TRUE(over_);
  }
}

void ClientModel::Refused(const ConnectionId &id, unsigned status) {
  refused_.insert(id);
  Remember(id);
  stopped_ = stopped_ || status != 409;
}

// The proxy resets the stream.
void ClientModel::Ended(RequestId number) {
  const auto found = open_.find(number);
  if (found == open_.end()) {
    ASSERT_TRUE(tunnel_.OnRequestClosed(number).empty());
    return;
  }
  const auto request = found->second;
  open_.erase(found);
  if (request.kind == IdHeader::kServer && !request.accepted) {
    Refused(request.id, 0);
  }
  ++tally_.ended;
  Apply(tunnel_.OnRequestClosed(number));
  ASSERT_TRUE(over_ || (opened_ && !OpenIds(IdHeader::kClient).empty()));
}

} // namespace ngmasque
