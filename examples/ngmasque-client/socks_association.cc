#include "socks_association.h"

#include <ngmasque/quic/socket_address.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <format>
#include <tuple>
#include <utility>

#include <sys/socket.h>
#include <unistd.h>

namespace ngmasque::programs {

namespace {

std::optional<Endpoint> EndOf(int fd, int (*get)(int, sockaddr *, socklen_t *)) {
  SocketAddress address;
  socklen_t size = sizeof(sockaddr_in6);
  return get(fd, address.get(), &size) == 0 ? ToEndpoint(address.get()) : std::nullopt;
}

} // namespace

SocksAssociation::SocksAssociation(Carrier &carrier, const Options &options, Budget &budget,
                                   const Log &log, int fd, std::function<void()> ended)
  : carrier_(carrier),
    options_(options),
    budget_(budget),
    log_(log),
    fd_(fd),
    ended_(std::move(ended)),
    session_(options.credentials),
    peer_(EndOf(fd, getpeername)) {
  ev_io_init(
    &readable_,
    [](struct ev_loop *, ev_io *watcher, int) {
      static_cast<SocksAssociation *>(watcher->data)->ReadControl();
    },
    fd_, EV_READ);
  ev_timer_init(
    &timer_,
    [](struct ev_loop *, ev_timer *timer, int) {
      static_cast<SocksAssociation *>(timer->data)->OnTimer();
    },
    std::chrono::duration<double>(options.request_timeout).count(), 0.);
  ev_init(&send_to_client_, [](struct ev_loop *, ev_prepare *watcher, int) {
    static_cast<SocksAssociation *>(watcher->data)->SendToClient();
  });
  readable_.data = timer_.data = send_to_client_.data = this;
  ev_io_start(carrier_.loop(), &readable_);
  ev_now_update(carrier_.loop());
  ev_timer_start(carrier_.loop(), &timer_);
}

SocksAssociation::~SocksAssociation() {
  ev_io_stop(carrier_.loop(), &readable_);
  ev_timer_stop(carrier_.loop(), &timer_);
  ev_clear_pending(carrier_.loop(), &send_to_client_);
  destinations_.clear();
  close(fd_);
}

void SocksAssociation::End() {
  ev_io_stop(carrier_.loop(), &readable_);
  ev_timer_stop(carrier_.loop(), &timer_);
  if (!std::exchange(over_, true)) {
    ended_();
  }
}

// RFC 1928, section 6: a UDP association terminates when the TCP connection that the UDP ASSOCIATE
// request arrived on terminates.
void SocksAssociation::ReadControl() {
  std::array<std::uint8_t, 1024> buffer;
  const auto got = recv(fd_, buffer.data(), buffer.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  std::vector<std::uint8_t> answer;
  const bool more =
    got > 0 && session_.Read(std::span(buffer).first(static_cast<std::size_t>(got)), answer);
  if (!SendControl(answer) || !more) {
    End();
    return;
  }
  if (const auto from = session_.TakeRequest()) {
    Associate(*from);
  }
}

// A few bytes, for which a new connection has room.
bool SocksAssociation::SendControl(std::span<const std::uint8_t> bytes) {
  return bytes.empty() ||
         send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

void SocksAssociation::Associate(const Endpoint &from) {
  auto local = EndOf(fd_, getsockname);
  if (!peer_ || !local) {
    End();
    return;
  }
  from_ = *peer_;
  from_.port = from.port;
  local->port = 0;
  auto relay =
    UdpListener::Create(carrier_.loop(), {.addresses = {*local}, .log = log_.Function()}, *this);
  if (!relay) {
    log_.Warning(std::format("SOCKS: no UDP port: {}", ErrorText(relay.error())));
    (void)SendControl(SocksSession::Answer(SocksReply::kFailure));
    End();
    return;
  }
  relay_ = *std::move(relay);
  if (!SendControl(SocksSession::Answer(SocksReply::kSucceeded, relay_->addresses().front()))) {
    End();
    return;
  }
  const auto seconds = std::chrono::duration<double>(options_.idle_timeout).count() / 4;
  ev_timer_stop(carrier_.loop(), &timer_);
  ev_timer_set(&timer_, seconds, seconds);
  ev_timer_start(carrier_.loop(), &timer_);
}

// RFC 1928, section 7: the relay must drop datagrams from any source IP address other than the one
// recorded for the association.  The port is held to as well: on one host there are several users.
void SocksAssociation::OnPacket(const FourTuple &path, unsigned ecn, std::span<std::uint8_t> packet,
                                Nanoseconds) {
  if (over_ || path.remote.address != from_.address ||
      (from_.port != 0 && path.remote.port != from_.port)) {
    ++budget_.dropped;
    return;
  }
  const auto datagram = ReadSocksDatagram(packet);
  if (!datagram) {
    ++budget_.dropped;
    return;
  }
  from_.port = path.remote.port;
  path_ = path;
  const auto *const to = to_proxy_.tunnel();
  if (to && to->target() == datagram->target && to_proxy_.Add(datagram->payload, ecn)) {
    return;
  }
  to_proxy_.Flush();
  to_proxy_.Begin(FindTunnel(datagram->target), datagram->payload, ecn);
}

PeerTunnel *SocksAssociation::FindTunnel(const Authority &target) {
  const auto name = AuthorityText(target);
  auto found = destinations_.find(name);
  if (found == destinations_.end()) {
    if (destinations_.size() >= options_.max_destinations) {
      destinations_.erase(std::ranges::min_element(
        destinations_, {}, [](const auto &entry) { return entry.second.tunnel.used(); }));
    }
    if (budget_.tunnels >= budget_.max_tunnels) {
      ++budget_.dropped;
      if (const auto end = budget_.lines.Take(carrier_.Now())) {
        log_.Warning(
          std::format("SOCKS: {} tunnels at a time are all that may be: a datagram for {} is "
                      "dropped; see --max-tunnels and --idle-timeout{}",
                      budget_.max_tunnels, name, *end));
      }
      return nullptr;
    }
    found = destinations_
              .emplace(std::piecewise_construct, std::forward_as_tuple(name),
                       std::forward_as_tuple(*this, target))
              .first;
  }
  return &found->second.tunnel;
}

void SocksAssociation::Destination::OnTargetPacket(PeerTunnel &,
                                                   std::span<const std::uint8_t> packet,
                                                   unsigned ecn) {
  if (!association.path_) {
    return;
  }
  if (!association.to_client_.Add(packet, ecn, header)) {
    association.SendToClient();
    (void)association.to_client_.Add(packet, ecn, header); // Or no datagram has room for both.
  }
  ev_feed_event(association.carrier_.loop(), &association.send_to_client_, EV_CUSTOM);
}

void SocksAssociation::OnTimer() {
  if (!relay_) {
    End(); // It has not said what it wants.
    return;
  }
  const auto now = carrier_.Now();
  const auto timeout = static_cast<std::uint64_t>(options_.idle_timeout.count());
  std::erase_if(destinations_, [&](const auto &entry) {
    return now - std::min(now, entry.second.tunnel.used()) > timeout;
  });
}

} // namespace ngmasque::programs
