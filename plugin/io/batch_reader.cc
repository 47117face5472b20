#include "batch_reader.h"

#include "ngmasque/quic/socket_address.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <linux/udp.h>
#include <netinet/in.h>

#ifndef SOL_UDP
#  define SOL_UDP IPPROTO_UDP
#endif

namespace ngmasque {

namespace {

constexpr unsigned kEcnMask = 3;

template <typename T> T Value(const cmsghdr *control) {
  T value{};
  std::memcpy(&value, CMSG_DATA(control), sizeof(value));
  return value;
}

// As if it were a socket's name.
Endpoint LocalOf(const in_pktinfo &info) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr = info.ipi_addr;
  return ToEndpoint(reinterpret_cast<const sockaddr *>(&address)).value_or(Endpoint{});
}

Endpoint LocalOf(const in6_pktinfo &info) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = info.ipi6_addr;
  if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr)) {
    address.sin6_scope_id = info.ipi6_ifindex;
  }
  return ToEndpoint(reinterpret_cast<const sockaddr *>(&address)).value_or(Endpoint{});
}

} // namespace

Ancillary ReadAncillary(msghdr &message) {
  Ancillary found;
  for (auto *control = CMSG_FIRSTHDR(&message); control; control = CMSG_NXTHDR(&message, control)) {
    const auto is = [&](int level, int type) {
      return control->cmsg_level == level && control->cmsg_type == type;
    };
    if (is(IPPROTO_IP, IP_TOS)) {
      found.ecn = Value<std::uint8_t>(control) & kEcnMask;
    } else if (is(IPPROTO_IPV6, IPV6_TCLASS)) {
      found.ecn = static_cast<unsigned>(Value<int>(control)) & kEcnMask;
    } else if (is(SOL_UDP, UDP_GRO)) {
      found.segment = static_cast<std::size_t>(std::max(Value<int>(control), 0));
    } else if (is(IPPROTO_IP, IP_PKTINFO)) {
      found.local = LocalOf(Value<in_pktinfo>(control));
    } else if (is(IPPROTO_IPV6, IPV6_PKTINFO)) {
      found.local = LocalOf(Value<in6_pktinfo>(control));
    }
  }
  return found;
}

BatchReader::BatchReader()
  : memory_(std::make_unique_for_overwrite<std::uint8_t[]>(kBursts * kRoom)) {
  for (std::size_t i = 0; i < kBursts; ++i) {
    vectors_[i] = {.iov_base = memory_.get() + i * kRoom + kPacketRoom, .iov_len = kReadBufferSize};
    messages_[i].msg_hdr.msg_iov = &vectors_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
  }
}

std::expected<std::span<const ReceivedBurst>, IoError> BatchReader::Read(int fd, bool connected) {
  for (std::size_t i = 0; i < kBursts; ++i) {
    auto &header = messages_[i].msg_hdr;
    header.msg_control = control_[i].bytes.data();
    header.msg_controllen = control_[i].bytes.size();
    header.msg_name = connected ? nullptr : &names_[i];
    header.msg_namelen = connected ? 0 : sizeof(names_[i]);
  }
  int count = 0;
  do {
    count = ::recvmmsg(fd, messages_.data(), messages_.size(), 0, nullptr);
  } while (count < 0 && errno == EINTR);
  if (count < 0) {
    return std::unexpected(IoError(IoError::kSocket, errno == EWOULDBLOCK ? EAGAIN : errno));
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    auto &header = messages_[i].msg_hdr;
    const std::size_t size = messages_[i].msg_len;
    const auto ancillary = ReadAncillary(header);
    auto &burst = bursts_[i];
    burst.data = {static_cast<std::uint8_t *>(vectors_[i].iov_base), size};
    burst.segment = ancillary.segment > 0 ? ancillary.segment : std::max(size, std::size_t{1});
    burst.ecn = ancillary.ecn;
    burst.local = ancillary.local;
    burst.remote = {};
    if (!connected) {
      const auto *name = reinterpret_cast<const sockaddr *>(&names_[i]);
      burst.remote = ToEndpoint(name).value_or(Endpoint{});
    }
  }
  return std::span(bursts_).first(static_cast<std::size_t>(count));
}

} // namespace ngmasque
