#include "deadline_timer.h"

#include "common.h"

#include <cstdint>
#include <tuple>
#include <utility>

#include <sys/timerfd.h>
#include <unistd.h>

namespace ngmasque {

namespace {

// From here on a millisecond more does not matter.
constexpr Nanoseconds kFar = 20'000'000;

// `after` of 0 stops it.
bool SetTimerfd(int fd, Nanoseconds after) {
  constexpr Nanoseconds kSecond = 1'000'000'000;
  const itimerspec time{.it_interval = {},
                        .it_value = {.tv_sec = static_cast<time_t>(after / kSecond),
                                     .tv_nsec = static_cast<long>(after % kSecond)}};
  return ::timerfd_settime(fd, 0, &time, nullptr) == 0;
}

} // namespace

DeadlineTimer::DeadlineTimer(struct ev_loop *loop, std::function<void()> expired)
  : loop_(loop),
    expired_(std::move(expired)),
    fd_(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)) {
  ev_io_init(
    &near_watcher_,
    [](struct ev_loop *l, ev_io *watcher, int) {
      auto &self = *static_cast<DeadlineTimer *>(watcher->data);
      ev_io_stop(l, watcher); // What is stopped and started in one round costs nothing.
      std::uint64_t times = 0;
      std::ignore = ::read(self.fd_, &times, sizeof times);
      self.near_ = false;
      self.OnFired();
    },
    fd_, EV_READ);
  ev_timer_init(
    &far_watcher_,
    [](struct ev_loop *, ev_timer *watcher, int) {
      static_cast<DeadlineTimer *>(watcher->data)->OnFired();
    },
    0., 0.);
  near_watcher_.data = far_watcher_.data = this;
}

DeadlineTimer::~DeadlineTimer() {
  ev_io_stop(loop_, &near_watcher_);
  ev_timer_stop(loop_, &far_watcher_);
  if (fd_ != -1) {
    ::close(fd_);
  }
}

void DeadlineTimer::Set(Nanoseconds at) {
  wanted_ = at;
  if (at == kNever) {
    armed_ = kNever;
    ev_io_stop(loop_, &near_watcher_);
    ev_timer_stop(loop_, &far_watcher_);
  } else if (at < armed_) {
    Arm(at);
  }
}

void DeadlineTimer::Arm(Nanoseconds at) {
  armed_ = at;
  const auto now = SteadyNow();
  const auto after = at > now ? at - now : 0;
  ev_timer_stop(loop_, &far_watcher_);
  // What is due already the loop finds by itself.
  if (after != 0 && after < kFar && fd_ != -1 && SetTimerfd(fd_, after)) {
    near_ = true;
    ev_io_start(loop_, &near_watcher_);
    return;
  }
  if (std::exchange(near_, false)) {
    std::ignore = SetTimerfd(fd_, 0);
  }
  // From now on, and not from when the loop last looked at its clock.
  const auto passed = after == 0 ? 0. : ev_time() - ev_now(loop_);
  ev_timer_set(&far_watcher_, static_cast<ev_tstamp>(after) / 1e9 + passed, 0.);
  ev_timer_start(loop_, &far_watcher_);
}

void DeadlineTimer::OnFired() {
  armed_ = kNever;
  if (wanted_ == kNever) {
    return;
  }
  if (SteadyNow() < wanted_) {
    Arm(wanted_);
    return;
  }
  wanted_ = kNever;
  expired_();
}

} // namespace ngmasque
