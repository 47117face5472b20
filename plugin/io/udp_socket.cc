#include "ngmasque/io/udp_socket.h"

#include "socket_error.h"

#include "ngmasque/quic/socket_address.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <format>
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

// Errors that say nothing about what goes with a packet: there is no room, or they are about the
// network, and even about an earlier packet.  EACCES and ENOPROTOOPT may be about either.
bool IsOfTheMoment(int error) {
  const auto reason = ToDropReason(error);
  return reason == DropReason::kBlocked ||
         (reason == DropReason::kUnreachable && error != EACCES && error != ENOPROTOOPT);
}

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

void ReadControl(msghdr &message, Burst &burst) {
  for (auto *control = CMSG_FIRSTHDR(&message); control; control = CMSG_NXTHDR(&message, control)) {
    const auto *data = CMSG_DATA(control);
    if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_TOS) {
      burst.ecn = *data & kEcnMask;
    } else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_TCLASS) {
      int value = 0;
      std::memcpy(&value, data, sizeof(value));
      burst.ecn = static_cast<unsigned>(value) & kEcnMask;
    } else if (control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_GRO) {
      int value = 0;
      std::memcpy(&value, data, sizeof(value));
      if (value > 0) {
        burst.segment = static_cast<std::size_t>(value);
      }
    }
  }
}

// A socket to send on.
struct Outlet {
  int fd;
  bool ipv4;
  const FourTuple *path; // Null if it is connected.
};

int SendOnce(const Outlet &outlet, std::span<const std::uint8_t> packets, std::size_t segment,
             unsigned ecn, SendExtras extras) {
  iovec vec{.iov_base = const_cast<std::uint8_t *>(packets.data()), .iov_len = packets.size()};
  alignas(cmsghdr)
    std::array<std::uint8_t, CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(std::uint16_t)) +
                               CMSG_SPACE(sizeof(in6_pktinfo))>
      control{};
  msghdr message{};
  message.msg_iov = &vec;
  message.msg_iovlen = 1;

  std::size_t size = 0;
  const auto put = [&](int level, int type, auto value) {
    PutControl(*reinterpret_cast<cmsghdr *>(control.data() + size), level, type, value);
    size += CMSG_SPACE(sizeof(value));
  };
  if (extras.ecn) {
    put(outlet.ipv4 ? IPPROTO_IP : IPPROTO_IPV6, outlet.ipv4 ? IP_TOS : IPV6_TCLASS,
        static_cast<int>(ecn & kEcnMask));
  }
  if (packets.size() > segment) {
    put(SOL_UDP, UDP_SEGMENT, static_cast<std::uint16_t>(segment));
  }
  SocketAddress from, to;
  if (outlet.path) {
    from = SocketAddress(outlet.path->local);
    to = SocketAddress(outlet.path->remote);
    message.msg_name = to.get();
    message.msg_namelen = to.size();
  }
  if (outlet.path && outlet.path->local != Endpoint{}) {
    if (outlet.ipv4) {
      in_pktinfo info{};
      info.ipi_spec_dst = reinterpret_cast<const sockaddr_in *>(from.get())->sin_addr;
      put(IPPROTO_IP, IP_PKTINFO, info);
    } else {
      in6_pktinfo info{};
      info.ipi6_addr = reinterpret_cast<const sockaddr_in6 *>(from.get())->sin6_addr;
      put(IPPROTO_IPV6, IPV6_PKTINFO, info);
    }
  }
  if (size != 0) {
    message.msg_control = control.data();
    message.msg_controllen = size;
  }

  int error = 0;
  do {
    error = ::sendmsg(outlet.fd, &message, 0) < 0 ? errno : 0;
  } while (error == EINTR);
  return error;
}

// Systems, network devices and sandboxes refuse ECN bits and UDP_SEGMENT with all kinds of errors.
// It is one of these if the same packets leave without it; then it is not used any more.  Returns
// the error that is left; `packets` becomes what it is about, fewer of them without GSO.
int SendWithout(const Outlet &outlet, std::span<const std::uint8_t> &packets, const Burst &burst,
                int error, SendExtras &extras, SendOutcome &outcome) {
  const SendExtras used{.gso = packets.size() > burst.segment, .ecn = extras.ecn};
  for (const SendExtras without :
       {SendExtras{.gso = true, .ecn = false}, SendExtras{.gso = false, .ecn = true},
        SendExtras{.gso = true, .ecn = true}}) {
    if ((without.gso && !used.gso) || (without.ecn && !used.ecn)) {
      continue;
    }
    const auto part = without.gso ? packets.first(burst.segment) : packets;
    const SendExtras left{.gso = extras.gso && !without.gso, .ecn = extras.ecn && !without.ecn};
    const int rest = SendOnce(outlet, part, burst.segment, burst.ecn, left);
    if (rest != 0 && rest != EAGAIN && rest != EWOULDBLOCK) {
      continue;
    }
    extras = left;
    packets = part;
    outcome.gave_up = std::format("{} refused ({}), going on without",
                                  !without.ecn   ? "GSO"
                                  : !without.gso ? "ECN"
                                                 : "GSO and ECN",
                                  std::strerror(error));
    return rest;
  }
  return error;
}

SendOutcome SendAll(const Outlet &outlet, const Burst &burst, SendExtras &extras) {
  SendOutcome outcome{.rest = burst.data};
  auto &rest = outcome.rest;
  do {
    const auto segments =
      extras.gso ? std::clamp(kMaxCallBytes / burst.segment, std::size_t{1}, kMaxSegments)
                 : std::size_t{1};
    auto part = rest.first(std::min(rest.size(), segments * burst.segment));
    int error = SendOnce(outlet, part, burst.segment, burst.ecn, extras);
    if (error == ECONNREFUSED) {
      // An ICMP message about an earlier packet; this one has not been tried, so try it.
      outcome.refused = true;
      error = SendOnce(outlet, part, burst.segment, burst.ecn, extras);
    }
    if (error != 0 && !IsOfTheMoment(error)) {
      error = SendWithout(outlet, part, burst, error, extras, outcome);
    }
    if (error != 0) {
      outcome.error = error == EAGAIN || error == EWOULDBLOCK ? 0 : error;
      return outcome;
    }
    rest = rest.subspan(part.size());
  } while (!rest.empty());
  outcome.sent = true;
  return outcome;
}

} // namespace

std::expected<UdpSocket, IoError> UdpSocket::Connect(const Endpoint &remote) {
  SocketAddress address(remote);
  const int family = address.family();
  const int fd = ::socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
  if (fd == -1) {
    return std::unexpected(IoError(IoError::kSocket, errno));
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
    return std::unexpected(IoError(IoError::kSocket, errno));
  }
  sockaddr_storage local{};
  socklen_t size = sizeof(local);
  if (::getsockname(fd, reinterpret_cast<sockaddr *>(&local), &size) != 0) {
    return std::unexpected(IoError(IoError::kSocket, errno));
  }
  made.local_ = ToEndpoint(reinterpret_cast<const sockaddr *>(&local)).value_or(Endpoint{});
  return made;
}

UdpSocket::UdpSocket(UdpSocket &&other) noexcept
  : fd_(std::exchange(other.fd_, -1)),
    extras_(other.extras_),
    local_(other.local_),
    remote_(other.remote_) {}

UdpSocket &UdpSocket::operator=(UdpSocket &&other) noexcept {
  std::swap(fd_, other.fd_);
  extras_ = other.extras_;
  local_ = other.local_;
  remote_ = other.remote_;
  return *this;
}

UdpSocket::~UdpSocket() {
  if (fd_ != -1) {
    ::close(fd_);
  }
}

void UdpSocket::GrowReceiveBuffer(std::size_t bytes) {
  int before = 0;
  socklen_t size = sizeof(before);
  const auto wanted = static_cast<int>(bytes);
  // Linux shows twice of what was set.
  if (::getsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &before, &size) == 0 && wanted > before / 2 &&
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &wanted, sizeof(wanted)) != 0) {
    SetOption(fd_, SOL_SOCKET, SO_RCVBUF, wanted); // Only up to net.core.rmem_max.
  }
}

std::expected<Burst, IoError> UdpSocket::ReadBurst(std::span<std::uint8_t> buffer) {
  iovec vec{.iov_base = buffer.data(), .iov_len = buffer.size()};
  alignas(cmsghdr) std::array<std::uint8_t, 2 * CMSG_SPACE(sizeof(int))> control;
  msghdr message{};
  message.msg_iov = &vec;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t size = 0;
  do {
    size = ::recvmsg(fd_, &message, 0);
  } while (size < 0 && errno == EINTR);
  if (size < 0) {
    return std::unexpected(IoError(IoError::kSocket, errno == EWOULDBLOCK ? EAGAIN : errno));
  }
  Burst burst{.data = buffer.first(static_cast<std::size_t>(size))};
  burst.segment = std::max(burst.data.size(), std::size_t{1});
  ReadControl(message, burst);
  return burst;
}

std::expected<void, IoError> UdpSocket::Read(std::span<std::uint8_t> buffer,
                                             const Reader &reader) {
  for (int reads = 0; reads < kMaxReads; ++reads) {
    const auto burst = ReadBurst(buffer);
    if (!burst) {
      if (burst.error().system == EAGAIN) {
        return {};
      }
      return std::unexpected(burst.error());
    }
    auto rest = burst->data;
    do {
      const auto packet = rest.first(std::min(burst->segment, rest.size()));
      rest = rest.subspan(packet.size());
      if (!reader(packet, burst->ecn)) {
        return {};
      }
    } while (!rest.empty());
  }
  return {};
}

SendOutcome UdpSocket::Send(const Burst &burst) {
  return SendAll({.fd = fd_, .ipv4 = IsIpv4(remote_), .path = nullptr}, burst, extras_);
}

SendOutcome SendOn(int fd, const FourTuple &path, const Burst &burst, SendExtras &extras) {
  return SendAll({.fd = fd, .ipv4 = IsIpv4(path.remote), .path = &path}, burst, extras);
}

} // namespace ngmasque
