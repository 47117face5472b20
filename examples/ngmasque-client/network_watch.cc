#include "network_watch.h"

#include <array>
#include <cerrno>
#include <utility>

#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

namespace ngmasque::programs {

NetworkWatch::NetworkWatch(struct ev_loop *loop, std::function<void()> changed)
  : loop_(loop), changed_(std::move(changed)) {
  ev_init(&quiet_, [](struct ev_loop *, ev_timer *timer, int) {
    static_cast<NetworkWatch *>(timer->data)->changed_();
  });
  ev_init(&readable_, [](struct ev_loop *, ev_io *watcher, int) {
    static_cast<NetworkWatch *>(watcher->data)->Read();
  });
  quiet_.data = readable_.data = this;
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  sockaddr_nl groups{};
  groups.nl_family = AF_NETLINK;
  groups.nl_groups =
    RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE;
  if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr *>(&groups), sizeof groups) != 0) {
    if (fd >= 0) {
      close(fd);
    }
    return;
  }
  fd_ = fd;
  ev_io_set(&readable_, fd_, EV_READ);
  ev_io_start(loop_, &readable_);
}

NetworkWatch::~NetworkWatch() {
  ev_timer_stop(loop_, &quiet_);
  ev_io_stop(loop_, &readable_);
  if (fd_ >= 0) {
    close(fd_);
  }
}

// What has changed is not looked at: the carrier asks the system which way it would go now.
void NetworkWatch::Read() {
  std::array<char, 16384> buffer;
  ssize_t got = 0;
  do {
    got = recv(fd_, buffer.data(), buffer.size(), 0);
  } while (got > 0 || (got < 0 && errno == ENOBUFS)); // Some were too many: something has changed.
  ev_now_update(loop_);
  ev_timer_stop(loop_, &quiet_);
  ev_timer_set(&quiet_, kQuietSeconds, 0.);
  ev_timer_start(loop_, &quiet_);
}

} // namespace ngmasque::programs
