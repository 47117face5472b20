#include "listener_socket.h"

#include "common.h"
#include "socket_options.h"

#include "ngmasque/quic/socket_address.h"

#include <algorithm>
#include <cerrno>
#include <format>
#include <span>
#include <string>
#include <utility>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace ngmasque {

namespace {

bool IsWildcard(const Endpoint &endpoint) {
  const auto bytes = std::span(endpoint.address).subspan(IsIpv4(endpoint) ? 12 : 0);
  return std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; });
}

// An error is that of the system; 0: a socket of another kind, as `text` says.
std::unexpected<IoError> Fail(int fd, int error, std::string text) {
  if (fd != -1) {
    ::close(fd);
  }
  IoError result(error != 0 ? IoError::kSocket : IoError::kArgument, error);
  result.text = std::move(text);
  return std::unexpected(std::move(result));
}

// What it needs besides an address.  Returns what the system says.
int Prepare(int fd, bool ipv4, bool wildcard, const UdpListener::Options &options) {
  const int on = 1;
  PrepareUdp(fd, ipv4);
  // Without it, what a wildcard's packets came to is not known, and answers would come from
  // elsewhere.
  if (wildcard && ::setsockopt(fd, ipv4 ? IPPROTO_IP : IPPROTO_IPV6,
                               ipv4 ? IP_PKTINFO : IPV6_RECVPKTINFO, &on, sizeof(on)) != 0) {
    return errno;
  }
  GrowBuffer(fd, SO_RCVBUF, SO_RCVBUFFORCE, options.receive_buffer);
  GrowBuffer(fd, SO_SNDBUF, SO_SNDBUFFORCE, options.send_buffer);
  return 0;
}

int OptionOf(int fd, int level, int name) {
  int value = 0;
  socklen_t size = sizeof(value);
  return ::getsockopt(fd, level, name, &value, &size) == 0 ? value : -1;
}

} // namespace

std::expected<ListenerSocket, IoError>
BindListenerSocket(const Endpoint &address, const UdpListener::Options &options) {
  SocketAddress name(address);
  const bool ipv4 = name.family() == AF_INET;
  const bool wildcard = IsWildcard(address);
  const int fd = ::socket(name.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
  const int on = 1;
  if (fd == -1 ||
      (!ipv4 && ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0) ||
      (options.reuse_port &&
       ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0)) {
    return Fail(fd, errno, ToText(address));
  }
  if (const int error = Prepare(fd, ipv4, wildcard, options); error != 0) {
    return Fail(fd, error, ToText(address));
  }
  socklen_t size = name.size();
  if (::bind(fd, name.get(), size) != 0 || ::getsockname(fd, name.get(), &size) != 0) {
    return Fail(fd, errno, ToText(address));
  }
  return ListenerSocket{
    .fd = fd, .local = ToEndpoint(name.get()).value_or(address), .wildcard = wildcard};
}

std::expected<ListenerSocket, IoError>
AdoptListenerSocket(int fd, const UdpListener::Options &options) {
  sockaddr_storage storage{};
  auto *name = reinterpret_cast<sockaddr *>(&storage);
  socklen_t size = sizeof(storage);
  if (::getsockname(fd, name, &size) != 0) {
    return Fail(fd, errno, std::format("socket {}", fd));
  }
  const auto local = ToEndpoint(name);
  if (OptionOf(fd, SOL_SOCKET, SO_TYPE) != SOCK_DGRAM || !local || local->port == 0) {
    return Fail(fd, 0, std::format("socket {} is no bound one of UDP", fd));
  }
  const bool ipv4 = storage.ss_family == AF_INET;
  if (!ipv4 && OptionOf(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 1) {
    return Fail(fd, 0, std::format("socket {} takes IPv4 besides IPv6", fd));
  }
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags == -1 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1 ||
      ::fcntl(fd, F_SETFD, FD_CLOEXEC) == -1) {
    return Fail(fd, errno, ToText(*local));
  }
  const bool wildcard = IsWildcard(*local);
  if (const int error = Prepare(fd, ipv4, wildcard, options); error != 0) {
    return Fail(fd, error, ToText(*local));
  }
  return ListenerSocket{.fd = fd, .local = *local, .wildcard = wildcard};
}

} // namespace ngmasque
