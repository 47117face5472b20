// ProxyClient: the sockets of the outer connection.

#include "proxy_client_impl.h"

#include "ngmasque/session/target_policy.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>

namespace ngmasque {

namespace {

// That in use, and those before it.  A proxy that moves between more addresses is followed from
// another port when it is back at one.
constexpr std::size_t kMaxSockets = 8;

} // namespace

std::expected<ProxyClient::Impl::Socket *, IoError>
ProxyClient::Impl::OpenSocket(const Endpoint &remote) {
  auto udp = UdpSocket::Connect(remote);
  if (!udp) {
    return std::unexpected(udp.error());
  }
  udp->use_gso(options_.gso);
  if (sockets_.size() >= kMaxSockets) {
    const auto oldest = std::ranges::find_if(sockets_, [this](const Socket &socket) {
      return &socket != current_ && &socket != reading_;
    });
    StopSocket(*oldest);
    sockets_.erase(oldest);
  }
  auto &socket = sockets_.emplace_back(std::move(*udp));
  ev_io_init(
    &socket.readable,
    [](struct ev_loop *, ev_io *watcher, int) {
      auto &self = *static_cast<Impl *>(watcher->data);
      const auto owner = std::ranges::find_if(
        self.sockets_, [&](const Socket &entry) { return &entry.readable == watcher; });
      self.OnReadable(*owner);
    },
    socket.udp.fd(), EV_READ);
  socket.readable.data = this;
  ev_io_start(loop_, &socket.readable);
  return &socket;
}

bool ProxyClient::Impl::SendOuter(const OutgoingBurst &burst) {
  auto *socket = FindSocket(burst.path.local);
  if (!socket) {
    return true; // A path that has been given up.
  }
  const auto outcome =
    SendOn(*socket, {.data = burst.data, .segment = burst.segment, .ecn = burst.ecn});
  if (outcome.rest.empty()) {
    return true;
  }
  if (outcome.error != 0) {
    // As good as lost on the way.
    Log(unsent_lines_, LogLevel::kDebug,
        std::format("packet is not sent: {}", std::strerror(outcome.error)));
    if (outcome.error == EMSGSIZE && !ready_ && failure_.empty()) {
      // All of the handshake's are padded to the same size: it cannot complete.
      failure_ = std::format("{} bytes of UDP payload: {}", burst.segment, std::strerror(EMSGSIZE));
      may_be_size_ = true;
    }
    return true;
  }
  if (!closed_) {
    blocked_ = Blocked{.path = burst.path,
                       .ecn = burst.ecn,
                       .bytes = {outcome.rest.begin(), outcome.rest.end()},
                       .segment = burst.segment};
    WaitForRoom(*socket);
  }
  return false;
}

SendOutcome ProxyClient::Impl::SendOn(Socket &socket, const Burst &burst) {
  auto outcome = socket.udp.Send(burst);
  if (IsNews(outcome, gave_up_)) {
    Log(LogLevel::kWarning, outcome.gave_up);
  }
  return outcome;
}

void ProxyClient::Impl::WaitForRoom(Socket &socket) {
  if (ev_is_active(&writable_)) {
    return; // One that is full already; the others are tried when it has room.
  }
  ev_io_set(&writable_, socket.udp.fd(), EV_WRITE);
  ev_io_start(loop_, &writable_);
}

void ProxyClient::Impl::SendBlocked() {
  if (const auto blocked = std::exchange(blocked_, {})) {
    SendOuter({.path = blocked->path,
               .ecn = blocked->ecn,
               .data = blocked->bytes,
               .segment = blocked->segment});
  }
}

ProxyClient::Impl::Socket *ProxyClient::Impl::FindSocket(const Endpoint &local) {
  const auto found = std::ranges::find_if(
    sockets_, [&](const Socket &socket) { return socket.udp.local() == local; });
  return found == sockets_.end() ? nullptr : &*found;
}

void ProxyClient::Impl::KeepSocket(const Socket &socket) {
  const auto found = std::ranges::find(sockets_, &socket, [](const Socket &one) { return &one; });
  sockets_.splice(sockets_.end(), sockets_, found);
}

//= RFC 9000, section 9.5
//# Similarly, an endpoint MUST NOT reuse a connection ID when sending to more than one destination
//# address.
//
// Nor is the port to be the one that those who see both paths know the client by, but where it was
// before it is known.
std::optional<Endpoint> ProxyClient::Impl::OnServerAddress(const Endpoint &remote) {
  if (remote == current_->udp.remote()) {
    return current_->udp.local(); // On its way to another one.
  }
  if (!TargetPolicy().AllowsPort(remote.port)) {
    Log(refused_lines_, LogLevel::kWarning,
        std::format("the proxy is not followed to {}: not to that port", ToText(remote)));
    return {};
  }
  const auto known = std::ranges::find_last_if(
    sockets_, [&](const Socket &socket) { return socket.udp.remote() == remote; });
  if (!known.empty()) {
    KeepSocket(known.front());
    return known.front().udp.local();
  }
  const auto socket = OpenSocket(remote);
  if (!socket) {
    Log(refused_lines_, LogLevel::kWarning,
        std::format("the proxy is not followed to {}: {}", ToText(remote),
                    std::strerror(socket.error().system)));
    return {};
  }
  return (*socket)->udp.local();
}

void ProxyClient::Impl::StopSocket(Socket &socket) {
  ev_io_stop(loop_, &socket.readable);
  if (ev_is_active(&writable_) && writable_.fd == socket.udp.fd()) {
    ev_io_stop(loop_, &writable_);
    blocked_.reset();
    room_ = true;
  }
}

void ProxyClient::Impl::StopWatchers() {
  for (auto &socket : sockets_) {
    ev_io_stop(loop_, &socket.readable);
  }
  ev_io_stop(loop_, &writable_);
  ev_timer_stop(loop_, &timer_);
  ev_timer_stop(loop_, &answer_timer_);
  ev_prepare_stop(loop_, &flush_);
}

} // namespace ngmasque
