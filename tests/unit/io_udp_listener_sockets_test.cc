// UdpListener with sockets that somebody else has bound, as a service manager does.

#include "ngmasque/io/udp_listener.h"
#include "ngmasque/io/udp_socket.h"

#include "io_support.h"

#include <gtest/gtest.h>

#include <vector>

#include <ev.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace ngmasque {
namespace {

class ListenerSockets : public testing::Test, public UdpListener::Handler {
protected:
  ~ListenerSockets() override {
    listener_.reset();
    ev_loop_destroy(loop_);
  }

  // The error, or nothing.
  std::optional<IoError> Listen(UdpListener::Options options) {
    auto made = UdpListener::Create(loop_, std::move(options), *this);
    if (!made) {
      return made.error();
    }
    listener_ = *std::move(made);
    return std::nullopt;
  }

  void OnPacket(const FourTuple &path, unsigned, std::span<std::uint8_t>, Nanoseconds) override {
    paths_.push_back(path);
  }
  void OnBatchEnd(Nanoseconds) override {}
  void OnWritable() override {}

  // Bound as the manager would, and blocking; -1 if the machine has no such address.
  static int Passed(std::string_view address, bool v6only = true) {
    SocketAddress name(At(address));
    const int fd = ::socket(name.family(), SOCK_DGRAM, 0);
    const int on = v6only;
    if (name.family() == AF_INET6) {
      ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    if (::bind(fd, name.get(), name.size()) == 0) {
      return fd;
    }
    ::close(fd);
    return -1;
  }
  static bool IsOpen(int fd) { return ::fcntl(fd, F_GETFD) != -1; }

  struct ev_loop *loop_ = ev_loop_new(0);
  std::unique_ptr<UdpListener> listener_;
  std::vector<FourTuple> paths_;
};

TEST_F(ListenerSockets, AreUsedAndClosed) {
  for (const auto *address : {"::ffff:127.0.0.1", "::ffff:0.0.0.0", "::1", "::"}) {
    SCOPED_TRACE(address);
    const int fd = Passed(address);
    if (fd == -1) {
      continue; // Without IPv6.
    }
    const bool ipv6 = std::string_view(address).find('.') == std::string_view::npos;
    ASSERT_FALSE(Listen({.addresses = {At("::ffff:127.0.0.1")}, .sockets = {fd}}));
    ASSERT_EQ(listener_->addresses().size(), 2U);
    EXPECT_EQ(listener_->addresses()[1].address, At(address).address);

    const Bound peer(At(ipv6 ? "::1" : "::ffff:127.0.0.2"));
    auto to = At(ipv6 ? "::1" : "::ffff:127.0.0.1");
    to.port = listener_->addresses()[1].port;
    const std::vector<std::uint8_t> bytes(9);
    SendExtras extras;
    EXPECT_TRUE(
      SendOn(peer.fd, {.local = {}, .remote = to}, {.data = bytes, .segment = 9}, extras).sent);
    paths_.clear();
    ev_run(loop_, EVRUN_NOWAIT);
    ASSERT_EQ(paths_.size(), 1U); // And it did not block.
    EXPECT_EQ(paths_[0], (FourTuple{.local = to, .remote = *peer.endpoint}));
    EXPECT_TRUE(listener_->Send({.path = paths_[0], .data = bytes, .segment = 9}));
    EXPECT_EQ(peer.Receive(), std::pair(ssize_t{9}, to));
    listener_.reset();
    EXPECT_FALSE(IsOpen(fd));
  }
}

TEST_F(ListenerSockets, WrongOnesAreRefusedAndAllAreClosed) {
  const int good = Passed("::ffff:127.0.0.1");
  const int tcp = ::socket(AF_INET, SOCK_STREAM, 0);
  const int unbound = ::socket(AF_INET, SOCK_DGRAM, 0);
  int pipes[2];
  ASSERT_EQ(::pipe(pipes), 0);
  const auto error = Listen({.sockets = {tcp, unbound, pipes[0], good}});
  ASSERT_TRUE(error);
  EXPECT_EQ(*error, IoError::kArgument);
  EXPECT_EQ(error->text, "socket " + std::to_string(tcp) + " is no bound one of UDP");
  for (const int fd : {good, tcp, unbound, pipes[0]}) {
    EXPECT_FALSE(IsOpen(fd)) << fd;
  }
  ::close(pipes[1]);

  const auto missing = Listen({.sockets = {good}});
  ASSERT_TRUE(missing);
  EXPECT_EQ(*missing, IoError::kSocket);
  EXPECT_EQ(missing->system, EBADF);
}

TEST_F(ListenerSockets, BothFamiliesInOneAreRefused) {
  const int both = Passed("::", false);
  if (both == -1) {
    return;
  }
  const auto error = Listen({.sockets = {both}});
  ASSERT_TRUE(error);
  EXPECT_EQ(*error, IoError::kArgument);
  EXPECT_EQ(error->text, "socket " + std::to_string(both) + " takes IPv4 besides IPv6");
}

} // namespace
} // namespace ngmasque
