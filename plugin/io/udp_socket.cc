#include "ngmasque/io/udp_socket.h"

#include "ngmasque/quic/socket_address.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <linux/udp.h>
#include <netinet/ip.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SOL_UDP
#  define SOL_UDP IPPROTO_UDP
#endif

namespace ngmasque {

namespace {

constexpr unsigned kEcnMask = 3;

// The kernel's UDP_MAX_SEGMENTS, and the longest payload of one call over IPv4.
constexpr std::size_t kMaxSegments = 64;
constexpr std::size_t kMaxCallBytes = 65507;

void SetOption(int fd, int level, int name, int value) {
  // None of them is vital: without one, ECN, DF or speed is lost.
  (void)setsockopt(fd, level, name, &value, sizeof(value));
}

template <typename T> void PutControl(cmsghdr &header, int level, int type, T value) {
  header.cmsg_level = level;
  header.cmsg_type = type;
  header.cmsg_len = CMSG_LEN(sizeof(value));
  std::memcpy(CMSG_DATA(&header), &value, sizeof(value));
}

struct Received {
  unsigned ecn = 0;
  std::size_t segment = 0;
};

Received ReadControl(msghdr &message, std::size_t size) {
  Received received{.ecn = 0, .segment = size};
  for (auto *control = CMSG_FIRSTHDR(&message); control; control = CMSG_NXTHDR(&message, control)) {
    const auto *data = CMSG_DATA(control);
    if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_TOS) {
      received.ecn = *data & kEcnMask;
    } else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_TCLASS) {
      int value = 0;
      std::memcpy(&value, data, sizeof(value));
      received.ecn = static_cast<unsigned>(value) & kEcnMask;
    } else if (control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_GRO) {
      int value = 0;
      std::memcpy(&value, data, sizeof(value));
      if (value > 0) {
        received.segment = static_cast<std::size_t>(value);
      }
    }
  }
  return received;
}

} // namespace

std::expected<UdpSocket, int> UdpSocket::Connect(const Endpoint &remote) {
  SocketAddress address(remote);
  const int family = address.family();
  const int fd = ::socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
  if (fd == -1) {
    return std::unexpected(errno);
  }
  UdpSocket made(fd, remote);
  // PROBE sets DF as DO does, but lets no ICMP message lower the path's MTU.
  if (family == AF_INET) {
    SetOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    SetOption(fd, IPPROTO_IP, IP_RECVTOS, 1);
  } else {
    SetOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
    SetOption(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
  }
  SetOption(fd, SOL_UDP, UDP_GRO, 1);

  if (::connect(fd, address.get(), address.size()) != 0) {
    return std::unexpected(errno);
  }
  sockaddr_storage local{};
  socklen_t size = sizeof(local);
  if (::getsockname(fd, reinterpret_cast<sockaddr *>(&local), &size) != 0) {
    return std::unexpected(errno);
  }
  made.local_ = ToEndpoint(reinterpret_cast<const sockaddr *>(&local)).value_or(Endpoint{});
  return made;
}

UdpSocket::UdpSocket(UdpSocket &&other) noexcept
  : fd_(std::exchange(other.fd_, -1)),
    gso_(other.gso_),
    local_(other.local_),
    remote_(other.remote_) {}

UdpSocket &UdpSocket::operator=(UdpSocket &&other) noexcept {
  std::swap(fd_, other.fd_);
  gso_ = other.gso_;
  local_ = other.local_;
  remote_ = other.remote_;
  return *this;
}

UdpSocket::~UdpSocket() {
  if (fd_ != -1) {
    ::close(fd_);
  }
}

std::expected<void, int> UdpSocket::Read(std::span<std::uint8_t> buffer, const Reader &reader) {
  for (int reads = 0; reads < kMaxReads; ++reads) {
    iovec vec{.iov_base = buffer.data(), .iov_len = buffer.size()};
    alignas(cmsghdr) std::array<std::uint8_t, 2 * CMSG_SPACE(sizeof(int))> control;
    msghdr message{};
    message.msg_iov = &vec;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const auto size = ::recvmsg(fd_, &message, 0);
    if (size < 0) {
      if (errno == EINTR) {
        continue;
      }
      return errno == EAGAIN || errno == EWOULDBLOCK ? std::expected<void, int>{}
                                                     : std::unexpected(errno);
    }
    auto rest = std::span<const std::uint8_t>(buffer.data(), static_cast<std::size_t>(size));
    const auto received = ReadControl(message, rest.size());
    do {
      const auto packet = rest.first(std::min(received.segment, rest.size()));
      rest = rest.subspan(packet.size());
      if (!reader(packet, received.ecn)) {
        return {};
      }
    } while (!rest.empty());
  }
  return {};
}

int UdpSocket::SendOnce(std::span<const std::uint8_t> packets, std::size_t segment,
                        unsigned ecn) const {
  iovec vec{.iov_base = const_cast<std::uint8_t *>(packets.data()), .iov_len = packets.size()};
  alignas(cmsghdr)
    std::array<std::uint8_t, CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(std::uint16_t))>
      control{};
  msghdr message{};
  message.msg_iov = &vec;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();

  auto *header = CMSG_FIRSTHDR(&message);
  const bool ipv4 = IsIpv4(remote_);
  PutControl(*header, ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_TOS : IPV6_TCLASS,
             static_cast<int>(ecn & kEcnMask));
  if (packets.size() > segment) {
    PutControl(*CMSG_NXTHDR(&message, header), SOL_UDP, UDP_SEGMENT,
               static_cast<std::uint16_t>(segment));
  } else {
    message.msg_controllen = CMSG_SPACE(sizeof(int));
  }

  int error = 0;
  do {
    error = ::sendmsg(fd_, &message, 0) < 0 ? errno : 0;
  } while (error == EINTR);
  return error;
}

SendOutcome UdpSocket::Send(std::span<const std::uint8_t> packets, std::size_t segment,
                            unsigned ecn) {
  while (!packets.empty()) {
    const auto segments =
      gso_ ? std::clamp(kMaxCallBytes / segment, std::size_t{1}, kMaxSegments) : std::size_t{1};
    const auto part = packets.first(std::min(packets.size(), segments * segment));
    const int error = SendOnce(part, segment, ecn);
    if (error == EIO && part.size() > segment) {
      gso_ = false; // The interface cannot do it.
      continue;
    }
    if (error == ECONNREFUSED) {
      // An ICMP message about an earlier packet; this one has not been tried, so try it.
      if (const int again = SendOnce(part, segment, ecn); again != 0) {
        return {.rest = packets, .error = again == EAGAIN ? 0 : again};
      }
    } else if (error != 0) {
      return {.rest = packets, .error = error == EAGAIN || error == EWOULDBLOCK ? 0 : error};
    }
    packets = packets.subspan(part.size());
  }
  return {};
}

} // namespace ngmasque
