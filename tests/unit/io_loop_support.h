// What the tests of io/ that run a loop have in common: the loop, and sockets on it.
#pragma once

#include "quic_proxy_support.h"

#include "ngmasque/quic/socket_address.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <tuple>
#include <utility>

#include <ev.h>
#include <sys/socket.h>
#include <unistd.h>

namespace ngmasque {

// A loop that is there as long as what runs on it, if it is a member before it.
class Loop {
public:
  Loop() : loop_(ev_loop_new(0)) {}
  ~Loop() { ev_loop_destroy(loop_); }
  Loop(const Loop &) = delete;
  Loop &operator=(const Loop &) = delete;
  operator struct ev_loop *() const { return loop_; }

  // Returns false if it takes too long.
  bool RunUntil(const std::function<bool()> &done) {
    const auto end = quic_test::Now() + 20'000'000'000;
    ev_timer tick; // Something for the loop to wait for.
    ev_timer_init(&tick, [](struct ev_loop *, ev_timer *, int) {}, 0., 0.01);
    ev_timer_start(loop_, &tick);
    bool in_time = true;
    while (!done() && in_time) {
      ev_run(loop_, EVRUN_ONCE);
      in_time = quic_test::Now() < end;
    }
    ev_timer_stop(loop_, &tick);
    return in_time;
  }

private:
  struct ev_loop *loop_;
};

// A UDP socket on the loopback interface.
class Socket {
public:
  using Bytes = quic_test::Bytes;
  using OnPacket = std::function<void(Bytes, const Endpoint &)>;

  Socket(struct ev_loop *loop, OnPacket on_packet) : loop_(loop), on_packet_(std::move(on_packet)) {
    SocketAddress address(quic_test::Local(0));
    fd_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t size = address.size();
    EXPECT_EQ(::bind(fd_, address.get(), size), 0);
    EXPECT_EQ(::getsockname(fd_, address.get(), &size), 0);
    at = *ToEndpoint(address.get());
    ev_io_init(
      &readable_, [](struct ev_loop *, ev_io *io, int) { static_cast<Socket *>(io->data)->Read(); },
      fd_, EV_READ);
    readable_.data = this;
    ev_io_start(loop_, &readable_);
  }
  ~Socket() {
    ev_io_stop(loop_, &readable_);
    ::close(fd_);
  }
  Socket(const Socket &) = delete;
  Socket &operator=(const Socket &) = delete;

  void Send(const Endpoint &to, const Bytes &bytes) const {
    const SocketAddress address(to);
    // What the receiver has no room for is lost.
    std::ignore = ::sendto(fd_, bytes.data(), bytes.size(), 0, address.get(), address.size());
  }

  Endpoint at;

private:
  void Read() {
    std::array<std::uint8_t, 2048> buffer;
    SocketAddress from(quic_test::Local(0));
    socklen_t size = from.size();
    for (ssize_t got = 0; (got = ::recvfrom(fd_, buffer.data(), buffer.size(), 0, from.get(),
                                            &size)) >= 0;) {
      on_packet_(Bytes(buffer.begin(), buffer.begin() + got), *ToEndpoint(from.get()));
    }
  }

  struct ev_loop *loop_;
  OnPacket on_packet_;
  int fd_ = -1;
  ev_io readable_{};
};

} // namespace ngmasque
