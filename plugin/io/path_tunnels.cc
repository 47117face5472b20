#include "ngmasque/io/path_tunnels.h"

#include "common.h"
#include "path_tunnels_impl.h"

#include <algorithm>
#include <ranges>
#include <tuple>
#include <utility>

namespace ngmasque {

PathTunnels::PathTunnels(struct ev_loop *loop, ProxyClient &client, Handler &handler,
                         const Options &options)
  : impl_(std::make_shared<Impl>(loop, client, handler, options)) {}

PathTunnels::~PathTunnels() { impl_->Close(); }

std::expected<void, IoError> PathTunnels::Open(const Authority &target, const Endpoint &remote,
                                               const ConnectionId &inner_scid) {
  return impl_->Open(target, remote, inner_scid);
}

std::span<const std::uint8_t> PathTunnels::SendBurst(const Endpoint &remote,
                                                     std::span<const std::uint8_t> packets,
                                                     std::size_t segment, unsigned ecn) {
  return impl_->SendBurst(remote, packets, segment, ecn);
}

void PathTunnels::AddClientId(const ConnectionId &id) { impl_->AddClientId(id); }

void PathTunnels::RemoveClientId(const ConnectionId &id) { impl_->RemoveClientId(id); }

void PathTunnels::AddServerId(const Endpoint &remote, const ConnectionId &id,
                              const std::optional<ResetToken> &token) {
  impl_->AddServerId(remote, id, token);
}

void PathTunnels::RemoveServerId(const ConnectionId &id) { impl_->RemoveServerId(id); }

void PathTunnels::Close() { impl_->Close(); }

std::size_t PathTunnels::size() const { return impl_->size(); }

std::uint64_t PathTunnels::opened() const { return impl_->opened(); }

ProxyTunnelStatistics PathTunnels::statistics() const { return impl_->statistics(); }

PathTunnels::Impl::Impl(struct ev_loop *loop, ProxyClient &client, Handler &handler,
                        const Options &options)
  : loop_(loop), client_(client), handler_(&handler), options_(options) {
  ev_init(&idle_, [](struct ev_loop *, ev_timer *watcher, int) {
    static_cast<Impl *>(watcher->data)->CloseIdle();
  });
  ev_init(&tell_, [](struct ev_loop *, ev_prepare *watcher, int) {
    static_cast<Impl *>(watcher->data)->TellAnswered();
  });
  ev_init(&held_, [](struct ev_loop *, ev_timer *watcher, int) {
    for (const auto &[remote, path] : static_cast<Impl *>(watcher->data)->paths_) {
      if (path->ready()) {
        path->SendHeld();
      }
    }
  });
  idle_.data = held_.data = tell_.data = this;
  idle_.repeat = std::chrono::duration<double>(options_.keep).count() / 4;
}

std::expected<void, IoError> PathTunnels::Impl::Open(const Authority &target,
                                                     const Endpoint &remote,
                                                     const ConnectionId &inner_scid) {
  auto path = std::make_shared<Path>(*this, remote);
  auto opened = client_.Open(target, inner_scid, *path, options_.tunnel);
  if (!opened) {
    return std::unexpected(opened.error());
  }
  path->tunnel = *std::move(opened);
  path->used = ev_now(loop_);
  path->first = true;
  ++opened_;
  client_ids_.push_back({.id = inner_scid, .told = true});
  current_ = path.get();
  paths_.emplace(remote, std::move(path));
  return {};
}

std::span<const std::uint8_t> PathTunnels::Impl::SendBurst(const Endpoint &remote,
                                                           std::span<const std::uint8_t> packets,
                                                           std::size_t segment, unsigned ecn) {
  auto *const path = Find(remote);
  if (!path || !path->live()) {
    return {}; // As good as lost on the way.
  }
  path->used = ev_now(loop_);
  if (path->first || path->ready()) {
    current_ = path;
    return path->tunnel->SendBurst(packets, segment, ecn);
  }
  // A proxy may drop what comes from the target to a connection ID that it does not know yet.  What
  // the other paths could carry does not wait for that.
  if (path->held.size() < kMaxHeld) {
    path->held.push_back(
      {.packets = {packets.begin(), packets.end()}, .segment = segment, .ecn = ecn});
  }
  return {};
}

void PathTunnels::Impl::Close() {
  handler_ = nullptr;
  ev_timer_stop(loop_, &idle_);
  ev_timer_stop(loop_, &held_);
  ev_clear_pending(loop_, &tell_);
  while (!paths_.empty()) {
    Erase(paths_.begin());
  }
  client_ids_.clear();
  server_ids_.clear();
}

std::size_t PathTunnels::Impl::size() const {
  return static_cast<std::size_t>(
    std::ranges::count_if(std::views::values(paths_), [](const auto &path) { return path->live(); }));
}

ProxyTunnelStatistics PathTunnels::Impl::statistics() const {
  auto sum = earlier_;
  for (const auto &[remote, path] : paths_) {
    sum += path->tunnel->statistics();
  }
  return sum;
}

PathTunnels::Impl::Path *PathTunnels::Impl::Find(const Endpoint &remote) {
  if (current_ && current_->remote == remote && current_->live()) {
    return current_;
  }
  const auto found = paths_.find(remote);
  if (found == paths_.end()) {
    return OpenPath(remote);
  }
  if (found->second->bare) {
    Erase(found);
    return OpenPath(remote);
  }
  return found->second.get();
}

PathTunnels::Impl::Path *PathTunnels::Impl::Live() const {
  const auto found = std::ranges::find_if(
    paths_, [](const Paths::value_type &entry) { return entry.second->live(); });
  return found == paths_.end() ? nullptr : found->second.get();
}

PathTunnels::Impl::Path *PathTunnels::Impl::OpenPath(const Endpoint &remote) {
  const auto target = ParseAuthority(ToText(remote));
  // The last one is the least likely to be retired soon.
  const auto first =
    std::ranges::find_last_if(client_ids_, [](const ClientId &entry) { return entry.told; });
  if (!handler_ || !target || first.empty() || !MakeRoom()) {
    return nullptr;
  }
  const auto *const sibling = Live();
  if (!sibling) {
    return nullptr;
  }
  auto path = std::make_shared<Path>(*this, remote);
  const auto id = first.front().id;
  auto opened = client_.OpenSibling(*sibling->tunnel, *target, id, *path);
  if (!opened) {
    return nullptr;
  }
  path->tunnel = *std::move(opened);
  path->used = ev_now(loop_);
  ++opened_;
  const auto placed = paths_.emplace(remote, std::move(path)).first->second;
  TellIds(*placed, id);
  if (!ev_is_active(&idle_)) {
    ev_timer_again(loop_, &idle_);
  }
  return placed.get();
}

bool PathTunnels::Impl::MakeRoom() {
  if (paths_.size() < options_.max_paths) {
    return true;
  }
  auto longest = paths_.end();
  for (auto path = paths_.begin(); path != paths_.end(); ++path) {
    if (path->second.get() != current_ &&
        (longest == paths_.end() || path->second->used < longest->second->used)) {
      longest = path;
    }
  }
  if (longest == paths_.end()) {
    return false;
  }
  Erase(longest);
  return true;
}

PathTunnels::Impl::Paths::iterator PathTunnels::Impl::Erase(Paths::iterator path) {
  const auto gone = path->second;
  if (current_ == gone.get()) {
    current_ = nullptr;
  }
  DropServerIds(
    [&gone](const ServerId &entry) { return entry.remote == gone->remote && entry.retired; });
  const auto next = paths_.erase(path);
  gone->tunnel->Close();
  earlier_ += gone->tunnel->statistics();
  if (handler_) {
    StopWaitingFor(*gone);
  }
  return next;
}

// Those that nothing can come through any more, or that something has been tried with long ago.
void PathTunnels::Impl::CloseIdle() {
  const auto oldest = ev_now(loop_) - std::chrono::duration<double>(options_.keep).count();
  for (auto path = paths_.begin(); path != paths_.end();) {
    path = path->second.get() != current_ && path->second->used < oldest ? Erase(path)
                                                                        : std::next(path);
  }
  if (paths_.size() < 2) {
    ev_timer_stop(loop_, &idle_);
  }
}

void PathTunnels::Impl::Path::OnOpened() {
  opened = true;
  if (first) {
    owner.handler_->OnOpened();
  } else if (ready()) {
    owner.SendHeldSoon();
  }
}

void PathTunnels::Impl::SendHeldSoon() {
  if (!ev_is_active(&held_)) {
    ev_timer_set(&held_, 0., 0.);
    ev_timer_start(loop_, &held_);
  }
}

// If there is no room now they are lost: the connection sends such packets again by itself.
void PathTunnels::Impl::Path::SendHeld() {
  for (const auto &[packets, segment, ecn] : std::exchange(held, {})) {
    std::ignore = tunnel->SendBurst(packets, segment, ecn);
  }
}

void PathTunnels::Impl::Path::OnPacket(std::span<const std::uint8_t> packet, unsigned ecn) {
  if (packet.empty()) {
    return; // No packet of QUIC, whoever has sent it.
  }
  used = ev_now(owner.loop_);
  owner.handler_->OnPacket(remote, packet, ecn);
}

void PathTunnels::Impl::Path::OnEnded(const TunnelEnd &end) {
  const auto keep = shared_from_this();
  owner.OnPathEnded(*this, end);
}

void PathTunnels::Impl::OnPathEnded(Path &path, const TunnelEnd &end) {
  const auto keep = shared_from_this();
  path.ended = true;
  path.used = ev_now(loop_);
  if (current_ == &path) {
    current_ = nullptr; // Or it would never be forgotten, and asked for again.
  }
  if (!Live()) {
    // Others may have ended with it, and are to be told the same.
    auto *const handler = handler_;
    Close();
    handler->OnEnded(end);
    return;
  }
  StopWaitingFor(path);
  handler_->OnPathEnded(path.remote, end);
}

} // namespace ngmasque
