// ProxyClient: the sockets of the outer connection.

#include "proxy_client_impl.h"

#include "ngmasque/session/target_policy.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>

namespace ngmasque {

std::optional<FourTuple> ProxyClient::Impl::path() const {
  if (!ready_ || over_ || closed_ || chained_) {
    return std::nullopt;
  }
  return FourTuple{.local = current_->link->local(), .remote = current_->link->remote()};
}

namespace {

// That in use, and those before it.  A proxy that moves between more addresses is followed from
// another port when it is back at one.
constexpr std::size_t kMaxSockets = 8;

} // namespace

std::expected<ProxyClient::Impl::Socket *, IoError>
ProxyClient::Impl::OpenSocket(const Endpoint &remote) {
  std::unique_ptr<OuterLink> link;
  if (chained_) {
    link = links_->Add(ViaPath(remote));
  } else if (auto udp = UdpLink::Open(loop_, remote, options_.gso, read_buffer_, *this)) {
    link = std::move(*udp);
  } else {
    return std::unexpected(udp.error());
  }
  if (sockets_.size() >= kMaxSockets) {
    const auto oldest = std::ranges::find_if(sockets_, [this](const Socket &socket) {
      return &socket != current_ && socket.link.get() != reading_;
    });
    StopSocket(*oldest);
    sockets_.erase(oldest);
  }
  return &sockets_.emplace_back(std::move(link));
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
    socket->link->WaitForRoom();
  }
  return false;
}

SendOutcome ProxyClient::Impl::SendOn(Socket &socket, const Burst &burst) {
  auto outcome = socket.link->Send(burst);
  if (IsNews(outcome, gave_up_)) {
    Log(LogLevel::kWarning, outcome.gave_up);
  }
  return outcome;
}

void ProxyClient::Impl::OnRoom(OuterLink &) {
  SendBlocked();
  room_ = true;
  Wake();
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
    sockets_, [&](const Socket &socket) { return socket.link->local() == local; });
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
  if (remote == current_->link->remote()) {
    return current_->link->local(); // On its way to another one.
  }
  if (!TargetPolicy().AllowsPort(remote.port)) {
    Log(refused_lines_, LogLevel::kWarning,
        std::format("the proxy is not followed to {}: not to that port", ToText(remote)));
    return {};
  }
  const auto known = std::ranges::find_last_if(
    sockets_, [&](const Socket &socket) { return socket.link->remote() == remote; });
  if (!known.empty()) {
    KeepSocket(known.front());
    return known.front().link->local();
  }
  const auto socket = OpenSocket(remote);
  if (!socket) {
    Log(refused_lines_, LogLevel::kWarning,
        std::format("the proxy is not followed to {}: {}", ToText(remote),
                    std::strerror(socket.error().system)));
    return {};
  }
  return (*socket)->link->local();
}

void ProxyClient::Impl::StopSocket(Socket &socket) {
  if (socket.link->waits_for_room()) {
    blocked_.reset();
    room_ = true;
  }
  socket.link->Stop();
}

void ProxyClient::Impl::StopWatchers() {
  for (auto &socket : sockets_) {
    socket.link->Stop();
  }
  timer_.Stop();
  ev_timer_stop(loop_, &answer_timer_);
  ev_timer_stop(loop_, &wait_timer_);
  ev_prepare_stop(loop_, &flush_);
}

} // namespace ngmasque
