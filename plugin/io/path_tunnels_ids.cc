// PathTunnels: the connection IDs of the inner connection.

#include "path_tunnels_impl.h"

#include <algorithm>
#include <ranges>
#include <utility>

namespace ngmasque {

std::vector<PathTunnels::Impl::ClientId>::iterator
PathTunnels::Impl::FindClientId(const ConnectionId &id) {
  return std::ranges::find(client_ids_, id, &ClientId::id);
}

void PathTunnels::Impl::AddClientId(const ConnectionId &id) {
  if (FindClientId(id) != client_ids_.end()) {
    return;
  }
  auto &added = client_ids_.emplace_back(ClientId{.id = id});
  for (const auto &path : std::views::values(paths_)) {
    if (path->live()) {
      added.asked.insert(path.get());
    }
  }
  for (const auto &path : std::views::values(paths_)) {
    path->tunnel->AddClientId(id); // Answers come from the loop.
  }
}

void PathTunnels::Impl::RemoveClientId(const ConnectionId &id) {
  std::erase_if(client_ids_, [&id](const ClientId &entry) { return entry.id == id; });
  for (const auto &path : std::views::values(paths_)) {
    const bool live = path->live();
    path->tunnel->RemoveClientId(id);
    path->bare = path->bare || (live && !path->live());
    path->StopAwaiting(id);
  }
}

void PathTunnels::Impl::AddServerId(const Endpoint &remote, const ConnectionId &id,
                                    const std::optional<ResetToken> &token) {
  // One that the connection has come back to is there already.
  if (const auto known = std::ranges::find(server_ids_, id, &ServerId::id);
      known != server_ids_.end() && known->remote == remote) {
    known->retired = false;
    return;
  }
  DropServerIds([&id](const ServerId &entry) { return entry.id == id; });
  server_ids_.push_back({.remote = remote, .id = id, .token = token});
  const auto known = paths_.contains(remote);
  if (auto *const path = Find(remote); path && known) {
    path->tunnel->AddServerId(id, token); // Otherwise it has just been told.
  }
}

// A proxy of draft-00 may forward no packets any more to a client that can forward none.  One that
// the target leaves and comes back to would stop there, so the last ID stays until there are others.
void PathTunnels::Impl::RemoveServerId(const ConnectionId &id) {
  const auto found = std::ranges::find(server_ids_, id, &ServerId::id);
  if (found == server_ids_.end()) {
    return;
  }
  const auto remote = found->remote;
  DropServerIds([&](const ServerId &entry) { return entry.remote == remote && entry.retired; });
  std::ranges::find(server_ids_, id, &ServerId::id)->retired = true;
  if (!paths_.contains(remote)) {
    DropServerIds([&id](const ServerId &entry) { return entry.id == id; });
  }
}

void PathTunnels::Impl::DropServerIds(const std::function<bool(const ServerId &)> &which) {
  std::erase_if(server_ids_, [&](const ServerId &entry) {
    if (!which(entry)) {
      return false;
    }
    if (const auto path = paths_.find(entry.remote); path != paths_.end()) {
      path->second->tunnel->RemoveServerId(entry.id);
    }
    return true;
  });
}

void PathTunnels::Impl::TellIds(Path &path, const ConnectionId &first) {
  for (auto &entry : client_ids_) {
    if (entry.id == first) {
      continue;
    }
    path.awaited.insert(entry.id);
    if (!entry.told) {
      entry.asked.insert(&path);
    }
    path.tunnel->AddClientId(entry.id);
  }
  for (const auto &entry : server_ids_) {
    if (entry.remote == path.remote) {
      path.tunnel->AddServerId(entry.id, entry.token);
    }
  }
}

void PathTunnels::Impl::Path::OnAnswer(const ConnectionId &id, bool accepted) {
  const auto keep = shared_from_this();
  owner.OnAnswer(*this, id, accepted); // Which may be closed now, and the tunnel over.
  StopAwaiting(id);
}

void PathTunnels::Impl::Path::StopAwaiting(const ConnectionId &id) {
  if (awaited.erase(id) != 0 && ready() && live()) {
    owner.SendHeldSoon();
  }
}

void PathTunnels::Impl::OnAnswer(const Path &path, const ConnectionId &id, bool accepted) {
  const auto found = FindClientId(id);
  if (found == client_ids_.end() || found->told) {
    return; // The target has had it before there was this tunnel, which tunnels what is sent to it.
  }
  if (!accepted) {
    RemoveClientId(id);
    handler_->OnDiscardClientId(id);
    return;
  }
  found->asked.erase(&path);
  if (found->asked.empty()) {
    found->told = true;
    handler_->OnReleaseClientId(id);
  }
}

// The last answer that an ID waited for may have been this path's.
void PathTunnels::Impl::StopWaitingFor(const Path &path) {
  for (auto &entry : client_ids_) {
    if (entry.asked.erase(&path) != 0 && entry.asked.empty()) {
      entry.told = true;
      answered_.push_back(entry.id);
    }
  }
  if (!answered_.empty()) {
    ev_feed_event(loop_, &tell_, EV_CUSTOM);
  }
}

void PathTunnels::Impl::TellAnswered() {
  const auto keep = shared_from_this();
  for (const auto &id : std::exchange(answered_, {})) {
    if (handler_ && FindClientId(id) != client_ids_.end()) {
      handler_->OnReleaseClientId(id);
    }
  }
}

} // namespace ngmasque
