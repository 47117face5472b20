#include "ngmasque/io/target_socket.h"

#include "ngmasque/quic/socket_address.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ngmasque {

namespace {

// What the kernel takes in one call: UDP_MAX_SEGMENTS, and the longest UDP payload of IPv4.
constexpr std::size_t kMaxSegments = 64;
constexpr std::size_t kMaxBurst = 65'507;

constexpr unsigned kEcnMask = 3;

TargetSocket::Error FromErrno() {
  switch (errno) {
  case EAGAIN:
  case ENOBUFS: return TargetSocket::Error::kBlocked;
  case ECONNREFUSED:
  case EHOSTUNREACH:
  case ENETUNREACH: return TargetSocket::Error::kUnreachable;
  case EMSGSIZE: return TargetSocket::Error::kTooLarge;
  default: return TargetSocket::Error::kFailed;
  }
}

template <typename T> void Put(msghdr &message, int level, int type, T value) {
  // The control buffer has room for all there is to put.
  auto *header = reinterpret_cast<cmsghdr *>(static_cast<char *>(message.msg_control) +
                                             message.msg_controllen);
  header->cmsg_level = level;
  header->cmsg_type = type;
  header->cmsg_len = CMSG_LEN(sizeof(value));
  std::memcpy(CMSG_DATA(header), &value, sizeof(value));
  message.msg_controllen += CMSG_SPACE(sizeof(value));
}

} // namespace

std::expected<TargetSocket, SocketError> TargetSocket::Open(const Endpoint &target) {
  const SocketAddress address(target);
  TargetSocket socket(
    ::socket(address.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP));
  if (socket.fd_ == -1) {
    return std::unexpected(errno == EAFNOSUPPORT ? SocketError::kUnroutable
                                                 : SocketError::kExhausted);
  }
  socket.ipv4_ = address.family() == AF_INET;
  const auto set = [&](int level, int name, int value) {
    return setsockopt(socket.fd_, level, name, &value, sizeof(value)) == 0;
  };
  // Without ECN and GRO it works just as well, but packets must not be fragmented (section 5 of
  // RFC 9298; QUIC itself, RFC 9000, section 14).
  if (socket.ipv4_) {
    set(IPPROTO_IP, IP_RECVTOS, 1);
  } else {
    set(IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
  }
  set(SOL_UDP, UDP_GRO, 1);
  const bool whole = socket.ipv4_ ? set(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
                                  : set(IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
  if (!whole) {
    return std::unexpected(SocketError::kExhausted);
  }
  if (connect(socket.fd_, address.get(), address.size()) != 0) {
    return std::unexpected(errno == EAGAIN || errno == EADDRNOTAVAIL ? SocketError::kExhausted
                                                                     : SocketError::kUnroutable);
  }
  return socket;
}

TargetSocket::TargetSocket(TargetSocket &&other) noexcept
  : fd_(std::exchange(other.fd_, -1)), gso_(other.gso_), ipv4_(other.ipv4_) {}

TargetSocket &TargetSocket::operator=(TargetSocket &&other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(gso_, other.gso_);
  std::swap(ipv4_, other.ipv4_);
  return *this;
}

TargetSocket::~TargetSocket() {
  if (fd_ != -1) {
    close(fd_);
  }
}

std::expected<Burst, TargetSocket::Error> TargetSocket::Read(std::span<std::uint8_t> buffer) {
  iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int)) * 2];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const auto length = recvmsg(fd_, &message, 0);
  if (length < 0) {
    return std::unexpected(FromErrno());
  }

  Burst burst{.data = buffer.first(static_cast<std::size_t>(length))};
  burst.segment = std::max<std::size_t>(burst.data.size(), 1);
  for (auto *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == SOL_UDP && header->cmsg_type == UDP_GRO) {
      int segment = 0;
      std::memcpy(&segment, CMSG_DATA(header), sizeof(segment));
      if (segment > 0) {
        burst.segment = static_cast<std::size_t>(segment);
      }
    } else if (header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_TOS) {
      burst.ecn = *CMSG_DATA(header) & kEcnMask; // One byte.
    } else if (header->cmsg_level == IPPROTO_IPV6 && header->cmsg_type == IPV6_TCLASS) {
      int value = 0;
      std::memcpy(&value, CMSG_DATA(header), sizeof(value));
      burst.ecn = static_cast<unsigned>(value) & kEcnMask;
    }
  }
  return burst;
}

std::expected<void, TargetSocket::Error> TargetSocket::Send(const Burst &burst) {
  auto rest = burst.data;
  do {
    const auto limit =
      gso_ ? std::max(std::min(kMaxSegments, kMaxBurst / burst.segment), std::size_t{1}) : 1;
    const auto now = rest.first(std::min(rest.size(), limit * burst.segment));
    iovec part{.iov_base = const_cast<std::uint8_t *>(now.data()), .iov_len = now.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(std::uint16_t))]{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    if (burst.ecn != 0) {
      Put(message, ipv4_ ? IPPROTO_IP : IPPROTO_IPV6, ipv4_ ? IP_TOS : IPV6_TCLASS,
          static_cast<int>(burst.ecn));
    }
    if (now.size() > burst.segment) {
      Put(message, SOL_UDP, UDP_SEGMENT, static_cast<std::uint16_t>(burst.segment));
    }
    if (message.msg_controllen == 0) {
      message.msg_control = nullptr;
    }
    if (sendmsg(fd_, &message, 0) < 0) {
      if (errno == EINTR) {
        continue;
      }
      // Some interfaces have no checksum offload, which UDP_SEGMENT needs.
      if (errno == EIO && gso_) {
        gso_ = false;
        continue;
      }
      return std::unexpected(FromErrno());
    }
    rest = rest.subspan(now.size());
  } while (!rest.empty());
  return {};
}

} // namespace ngmasque
