#include "socks_server.h"

#include "ngmasque/values.h"

#include <ngmasque/quic/socket_address.h>

#include <cerrno>
#include <cstring>
#include <format>
#include <utility>

#include <sys/socket.h>
#include <unistd.h>

namespace ngmasque::programs {

SocksServer::SocksServer(Carrier &carrier, Options options, const Log &log)
  : carrier_(carrier), options_(std::move(options)), log_(log) {
  budget_.max_tunnels = options_.max_tunnels;
  ev_init(&sweep_, [](struct ev_loop *, ev_prepare *sweep, int) {
    std::erase_if(static_cast<SocksServer *>(sweep->data)->associations_,
                  [](const Entry &entry) { return entry.over; });
  });
  sweep_.data = this;
}

std::expected<std::unique_ptr<SocksServer>, std::string>
SocksServer::Create(Carrier &carrier, Options options, const Log &log) {
  std::unique_ptr<SocksServer> server(new SocksServer(carrier, std::move(options), log));
  for (const auto &address : server->options_.addresses) {
    if (auto listening = server->Listen(address); !listening) {
      return std::unexpected(
        std::format("TCP port {}: {}", EndpointText(address), listening.error()));
    }
  }
  return server;
}

SocksServer::~SocksServer() {
  ev_clear_pending(carrier_.loop(), &sweep_);
  for (auto &listener : listeners_) {
    ev_io_stop(carrier_.loop(), &listener.readable);
    close(listener.fd);
  }
}

std::expected<void, std::string> SocksServer::Listen(const Endpoint &address) {
  const SocketAddress to(address);
  const int fd = socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
  const int on = 1;
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(fd, to.get(), to.size()) != 0 || listen(fd, SOMAXCONN) != 0) {
    const std::string why = std::strerror(errno);
    if (fd >= 0) {
      close(fd);
    }
    return std::unexpected(why);
  }
  auto &listener = listeners_.emplace_back(Listener{.fd = fd});
  ev_io_init(
    &listener.readable,
    [](struct ev_loop *, ev_io *watcher, int) {
      static_cast<SocksServer *>(watcher->data)->Accept(watcher->fd);
    },
    fd, EV_READ);
  listener.readable.data = this;
  ev_io_start(carrier_.loop(), &listener.readable);
  return {};
}

// One at a time: others are told in the next turn of the loop.
void SocksServer::Accept(int fd) {
  const int accepted = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (accepted < 0) {
    return;
  }
  if (associations_.size() >= options_.max_associations) {
    close(accepted);
    if (const auto end = full_lines_.Take(carrier_.Now())) {
      log_.Warning(
        std::format("SOCKS: {} clients at a time are all that may be: another one is turned "
                    "away{}",
                    options_.max_associations, *end));
    }
    return;
  }
  auto &entry = associations_.emplace_back();
  entry.association = std::make_unique<SocksAssociation>(
    carrier_, options_.association, budget_, log_, accepted, [this, &entry] {
      entry.over = true;
      ev_feed_event(carrier_.loop(), &sweep_, EV_CUSTOM);
    });
}

std::vector<Endpoint> SocksServer::addresses() const {
  std::vector<Endpoint> addresses;
  for (const auto &listener : listeners_) {
    SocketAddress address;
    socklen_t size = sizeof(sockaddr_in6);
    if (getsockname(listener.fd, address.get(), &size) == 0) {
      if (const auto endpoint = ToEndpoint(address.get())) {
        addresses.push_back(*endpoint);
      }
    }
  }
  return addresses;
}

} // namespace ngmasque::programs
