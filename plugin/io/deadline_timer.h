// The timer of a QUIC connection's loop.
#pragma once

#include "ngmasque/quic/types.h"

#include <functional>

#include <ev.h>

namespace ngmasque {

/// Calls back at a time of SteadyNow.
///
/// The loop's own timers are exact to a millisecond, and late by up to one.  Packets are paced in
/// intervals of some ten microseconds where a network is fast: a connection that sleeps for a
/// millisecond instead measures that as its round trip, paces by it, and so goes on sleeping.  What is
/// near is therefore a timer of the system (timerfd), and only what is far is the loop's.
class DeadlineTimer {
public:
  /// `expired` is called from the loop, once for each Set at most.
  DeadlineTimer(struct ev_loop *loop, std::function<void()> expired);
  ~DeadlineTimer();
  DeadlineTimer(const DeadlineTimer &) = delete;
  DeadlineTimer &operator=(const DeadlineTimer &) = delete;

  /// Instead of what was set before; a time that has been is as soon as possible.  kNever: not at all,
  /// and the loop may end.
  void Set(Nanoseconds at);
  void Stop() { Set(kNever); }

private:
  void Arm(Nanoseconds at);
  void OnFired();

  struct ev_loop *loop_;
  std::function<void()> expired_;
  Nanoseconds wanted_ = kNever;
  // When one of the watchers calls: never after wanted_, but it may be before, as deadlines are put off
  // with each packet and to set a timer each time would be a system call.
  Nanoseconds armed_ = kNever;
  int fd_;            // Of a timerfd; -1: the system has none to spare.
  bool near_ = false; // It is set.
  ev_io near_watcher_{};
  ev_timer far_watcher_{};
};

} // namespace ngmasque
