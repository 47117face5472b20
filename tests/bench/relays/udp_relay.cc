// The least that a UDP relay can do, to compare proxies with: what comes to FRONT goes to TARGET,
// and what TARGET answers goes to whoever has sent last.
//
//     udp-relay plain|gso FRONT TARGET
//
//     plain   a system call for each datagram, in and out
//     gso     datagrams that the kernel has put together (UDP_GRO) leave together (UDP_SEGMENT)
//
// Addresses are IPv4, as 127.0.0.1:4433.  A signal ends it.
#include "socket.h"

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include <netinet/udp.h>
#include <poll.h>
#include <sys/uio.h>

namespace {

using relays::Passing;

// Datagrams in turn from one side before the other one is looked at.
constexpr int kBurst = 64;
// Nothing that UDP carries is longer, nor what UDP_GRO puts together.
std::array<std::uint8_t, 65536> buffer;

// A way through the relay.  To the target the socket is connected; to the client it is not, and the
// address is the one that the other way has learnt.
struct Way {
  int from;
  int to;
  sockaddr_in *source;            // learnt, or null
  const sockaddr_in *destination; // or null: the socket knows
};

// Each passes on what is there, and is false when it could not.
bool PumpPlain(const Way &way) {
  for (int i = 0; i < kBurst; ++i) {
    socklen_t size = sizeof(sockaddr_in);
    const auto got = recvfrom(way.from, buffer.data(), buffer.size(), MSG_DONTWAIT,
                              reinterpret_cast<sockaddr *>(way.source),
                              way.source ? &size : nullptr);
    if (got < 0) {
      return Passing(errno) || relays::Complain("recvfrom");
    }
    const auto sent = sendto(way.to, buffer.data(), static_cast<std::size_t>(got), 0,
                             reinterpret_cast<const sockaddr *>(way.destination),
                             way.destination ? sizeof *way.destination : 0);
    if (sent < 0 && !Passing(errno)) {
      return relays::Complain("sendto");
    }
  }
  return true;
}

// How long the datagrams are that the kernel has put together; only the last may be shorter.
std::optional<std::uint16_t> SegmentSize(msghdr &message) {
  for (auto *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level == SOL_UDP && part->cmsg_type == UDP_GRO) {
      int size;
      std::memcpy(&size, CMSG_DATA(part), sizeof size);
      return static_cast<std::uint16_t>(size);
    }
  }
  return std::nullopt;
}

bool PumpGso(const Way &way) {
  for (int i = 0; i < kBurst; ++i) {
    iovec data{.iov_base = buffer.data(), .iov_len = buffer.size()};
    alignas(cmsghdr) std::array<std::uint8_t, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_name = way.source;
    message.msg_namelen = way.source ? sizeof *way.source : 0;
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const auto got = recvmsg(way.from, &message, MSG_DONTWAIT);
    if (got < 0) {
      return Passing(errno) || relays::Complain("recvmsg");
    }
    const auto segment = SegmentSize(message);
    data.iov_len = static_cast<std::size_t>(got);
    message.msg_name = const_cast<sockaddr_in *>(way.destination);
    message.msg_namelen = way.destination ? sizeof *way.destination : 0;
    message.msg_control = nullptr;
    message.msg_controllen = 0;
    if (segment && data.iov_len > *segment) {
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(sizeof *segment);
      auto *part = CMSG_FIRSTHDR(&message);
      part->cmsg_len = CMSG_LEN(sizeof *segment);
      part->cmsg_level = SOL_UDP;
      part->cmsg_type = UDP_SEGMENT;
      std::memcpy(CMSG_DATA(part), &*segment, sizeof *segment);
    }
    if (sendmsg(way.to, &message, 0) < 0 && !Passing(errno)) {
      return relays::Complain("sendmsg");
    }
  }
  return true;
}

} // namespace

int main(int argc, char **argv) {
  const std::span args(argv, static_cast<std::size_t>(argc));
  const std::string_view how = argc == 4 ? args[1] : "";
  const auto at = argc == 4 ? relays::ParseAddress(args[2]) : std::nullopt;
  const auto target = argc == 4 ? relays::ParseAddress(args[3]) : std::nullopt;
  if ((how != "plain" && how != "gso") || !at || !target) {
    std::fprintf(stderr, "usage: udp-relay plain|gso FRONT TARGET\n");
    return 2;
  }
  const bool gso = how == "gso";
  relays::Socket front, back;
  if (!back.Connect(*target) ||
      (gso && (!front.Set(SOL_UDP, UDP_GRO, 1) || !back.Set(SOL_UDP, UDP_GRO, 1))) ||
      !front.Bind(*at)) { // last: then it is ready
    return 1;
  }
  sockaddr_in client{};
  const std::array ways{Way{front.fd(), back.fd(), &client, nullptr},
                        Way{back.fd(), front.fd(), nullptr, &client}};
  std::array<pollfd, ways.size()> waiting;
  for (std::size_t i = 0; i < ways.size(); ++i) {
    waiting[i] = {.fd = ways[i].from, .events = POLLIN, .revents = 0};
  }
  for (;;) {
    if (poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) {
      relays::Complain("poll");
      return 1;
    }
    for (std::size_t i = 0; i < ways.size(); ++i) {
      if (waiting[i].revents && !(gso ? PumpGso : PumpPlain)(ways[i])) {
        return 1;
      }
    }
  }
}
