#include "ngmasque/io/udp_socket.h"

#include "batch_reader.h"
#include "socket_options.h"
#include "udp_send.h"

#include "ngmasque/quic/socket_address.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace ngmasque {

std::expected<UdpSocket, IoError> UdpSocket::Connect(const Endpoint &remote) {
  SocketAddress address(remote);
  const int family = address.family();
  const int fd = ::socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
  if (fd == -1) {
    return std::unexpected(IoError(IoError::kSocket, errno));
  }
  UdpSocket made(fd, remote);
  PrepareUdp(fd, family == AF_INET);
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
  GrowBuffer(fd_, SO_RCVBUF, SO_RCVBUFFORCE, bytes);
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
  const auto ancillary = ReadAncillary(message);
  burst.segment =
    ancillary.segment > 0 ? ancillary.segment : std::max(burst.data.size(), std::size_t{1});
  burst.ecn = ancillary.ecn;
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

std::size_t UdpSocket::MaxBurst(std::size_t segment) const { return CallBytes(segment, extras_); }

FrontOutcome UdpSocket::SendFront(std::span<const Burst> bursts) {
  return SendFrontOf({.fd = fd_, .ipv4 = IsIpv4(remote_), .path = nullptr}, bursts, extras_);
}

} // namespace ngmasque
