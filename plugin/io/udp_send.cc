#include "udp_send.h"

#include "socket_error.h"

#include "ngmasque/quic/socket_address.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <format>

#include <linux/udp.h>
#include <netinet/ip.h>
#include <sys/uio.h>

#ifndef SOL_UDP
#  define SOL_UDP IPPROTO_UDP
#endif

namespace ngmasque {

namespace {

constexpr unsigned kEcnMask = 3;

// The longest payload of one call over IPv4.
constexpr std::size_t kMaxCallBytes = 65507;

// At once, for sendmmsg.
constexpr std::size_t kMaxMessages = 32;

// Errors that say nothing about what goes with a packet: there is no room, or they are about the
// network, and even about an earlier packet.  EACCES and ENOPROTOOPT may be about either.
bool IsOfTheMoment(int error) {
  const auto reason = ToDropReason(error);
  return reason == DropReason::kBlocked ||
         (reason == DropReason::kUnreachable && error != EACCES && error != ENOPROTOOPT);
}

template <typename T> void PutControl(cmsghdr &header, int level, int type, T value) {
  header.cmsg_level = level;
  header.cmsg_type = type;
  header.cmsg_len = CMSG_LEN(sizeof(value));
  std::memcpy(CMSG_DATA(&header), &value, sizeof(value));
}

// One system call's worth of packets, as sendmsg and sendmmsg want it.  It points into itself.
class Message {
public:
  void Fill(const Outlet &outlet, std::span<const std::uint8_t> packets, std::size_t segment,
            unsigned ecn, SendExtras extras, msghdr &header);

private:
  template <typename T> void Put(int level, int type, T value) {
    PutControl(*reinterpret_cast<cmsghdr *>(control_.data() + size_), level, type, value);
    size_ += CMSG_SPACE(sizeof(value));
  }

  iovec vector_{};
  SocketAddress to_;
  std::size_t size_ = 0;
  alignas(cmsghdr)
    std::array<std::uint8_t, CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(std::uint16_t)) +
                               CMSG_SPACE(sizeof(in6_pktinfo))>
      control_{};
};

void Message::Fill(const Outlet &outlet, std::span<const std::uint8_t> packets, std::size_t segment,
                   unsigned ecn, SendExtras extras, msghdr &header) {
  vector_ = {.iov_base = const_cast<std::uint8_t *>(packets.data()), .iov_len = packets.size()};
  header = {};
  header.msg_iov = &vector_;
  header.msg_iovlen = 1;

  if (extras.ecn) {
    Put(outlet.ipv4 ? IPPROTO_IP : IPPROTO_IPV6, outlet.ipv4 ? IP_TOS : IPV6_TCLASS,
        static_cast<int>(ecn & kEcnMask));
  }
  if (packets.size() > segment) {
    Put(SOL_UDP, UDP_SEGMENT, static_cast<std::uint16_t>(segment));
  }
  if (outlet.path) {
    to_ = SocketAddress(outlet.path->remote);
    header.msg_name = to_.get();
    header.msg_namelen = to_.size();
  }
  if (outlet.path && outlet.path->local != Endpoint{}) {
    const SocketAddress from(outlet.path->local);
    if (outlet.ipv4) {
      in_pktinfo info{};
      info.ipi_spec_dst = reinterpret_cast<const sockaddr_in *>(from.get())->sin_addr;
      Put(IPPROTO_IP, IP_PKTINFO, info);
    } else {
      in6_pktinfo info{};
      info.ipi6_addr = reinterpret_cast<const sockaddr_in6 *>(from.get())->sin6_addr;
      info.ipi6_ifindex = outlet.path->local.scope;
      Put(IPPROTO_IPV6, IPV6_PKTINFO, info);
    }
  }
  if (size_ != 0) {
    header.msg_control = control_.data();
    header.msg_controllen = size_;
  }
}

int SendOnce(const Outlet &outlet, std::span<const std::uint8_t> packets, std::size_t segment,
             unsigned ecn, SendExtras extras, SendOutcome &outcome) {
  Message message;
  msghdr header;
  message.Fill(outlet, packets, segment, ecn, extras, header);
  int error = 0;
  do {
    ++outcome.calls;
    error = ::sendmsg(outlet.fd, &header, 0) < 0 ? errno : 0;
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
    const int rest = SendOnce(outlet, part, burst.segment, burst.ecn, left, outcome);
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

} // namespace

std::size_t CallBytes(std::size_t segment, const SendExtras &extras) {
  const auto segments = std::min(kMaxCallBytes / segment, kMaxSegmentsPerCall);
  return extras.gso ? std::max(segments, std::size_t{1}) * segment : segment;
}

SendOutcome SendAll(const Outlet &outlet, const Burst &burst, SendExtras &extras) {
  SendOutcome outcome{.rest = burst.data};
  auto &rest = outcome.rest;
  do {
    auto part = rest.first(std::min(rest.size(), CallBytes(burst.segment, extras)));
    int error = SendOnce(outlet, part, burst.segment, burst.ecn, extras, outcome);
    if (error == ECONNREFUSED) {
      // An ICMP message about an earlier packet; this one has not been tried, so try it.
      outcome.refused = true;
      error = SendOnce(outlet, part, burst.segment, burst.ecn, extras, outcome);
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

FrontOutcome SendFrontOf(const Outlet &outlet, std::span<const Burst> bursts,
                         const SendExtras &extras) {
  std::array<Message, kMaxMessages> messages;
  std::array<mmsghdr, kMaxMessages> headers{};
  FrontOutcome outcome;
  while (outcome.sent < bursts.size()) {
    const auto left = bursts.subspan(outcome.sent);
    unsigned count = 0;
    for (; count < std::min(left.size(), kMaxMessages); ++count) {
      const auto &burst = left[count];
      if (burst.data.size() > CallBytes(burst.segment, extras)) {
        break;
      }
      messages[count] = {};
      messages[count].Fill(outlet, burst.data, burst.segment, burst.ecn, extras,
                           headers[count].msg_hdr);
    }
    if (count == 0) {
      return outcome;
    }
    ++outcome.calls;
    const int sent = ::sendmmsg(outlet.fd, headers.data(), count, 0);
    if (sent < 0 && errno == EINTR) {
      continue;
    }
    outcome.refused |= sent < 0 && errno == ECONNREFUSED;
    outcome.sent += static_cast<std::size_t>(std::max(sent, 0));
    if (sent < static_cast<int>(count)) {
      return outcome;
    }
  }
  return outcome;
}

SendOutcome SendOn(int fd, const FourTuple &path, const Burst &burst, SendExtras &extras) {
  return SendAll({.fd = fd, .ipv4 = IsIpv4(path.remote), .path = &path}, burst, extras);
}

} // namespace ngmasque
