// Carrier: its connections move when the network changes.

#include "carrier_link.h"

#include <ngmasque/quic/socket_address.h>

#include <algorithm>
#include <format>
#include <optional>
#include <utility>

#include <sys/socket.h>
#include <unistd.h>

namespace ngmasque::programs {

namespace {

// From which address the system would send to `remote` now; nothing if there is no way.
std::optional<Endpoint> LocalAddressFor(const Endpoint &remote) {
  const SocketAddress to(remote);
  const int fd = socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  SocketAddress from(remote);
  auto size = from.size();
  const bool found =
    fd >= 0 && connect(fd, to.get(), to.size()) == 0 && getsockname(fd, from.get(), &size) == 0;
  if (fd >= 0) {
    close(fd);
  }
  return found ? ToEndpoint(from.get()) : std::nullopt;
}

} // namespace

void Carrier::OnNetworkChanged() {
  for (const auto &link : links_) {
    link->may_move = true;
  }
  // Name servers of where this machine was may be out of reach.
  if (ev_is_active(&retry_) || name_.pending()) {
    pauses_.Reset();
    ev_timer_stop(loop_, &retry_);
    ev_timer_set(&retry_, 0.05, 0.);
    ev_timer_start(loop_, &retry_);
  }
}

void Carrier::Tick() {
  for (const auto &link : links_) {
    const auto path = link->client.path();
    if (!path) {
      continue;
    }
    if (link->may_move) {
      const auto local = LocalAddressFor(path->remote);
      if (!local) {
        continue; // Perhaps in a second.
      }
      link->may_move = false;
      if (local->address != path->local.address) {
        Move(*link, "this machine has another address");
      }
    } else if (link->client.silence() > options_.proxy.idle_timeout / 2) {
      // A NAT on the way may have forgotten the port, or the way be another one.
      if (!std::exchange(link->silent, true)) {
        Move(*link, "nothing comes from the proxy");
      }
    } else {
      link->silent = false;
    }
  }
}

void Carrier::Move(Link &link, std::string_view why) {
  if (const auto moved = link.client.ChangeLocalAddress(); moved) {
    ++moves_;
    log_.Info(std::format("{}: the connection to the proxy goes on from another port", why));
  } else if (moved.error() == IoError::kNotReady || moved.error() == IoError::kSocket) {
    link.may_move = true;
  } else {
    log_.Warning(std::format("{}, and the connection to the proxy cannot move: {}", why,
                             ErrorText(moved.error())));
  }
}

} // namespace ngmasque::programs
