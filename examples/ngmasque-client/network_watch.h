// Tells when this machine's addresses or routes have changed: rtnetlink(7).
#pragma once

#include <functional>

#include <ev.h>

namespace ngmasque::programs {

class NetworkWatch {
public:
  /// Changes come in bunches: they are told when there has been none for that long.
  static constexpr double kQuietSeconds = 0.3;

  /// `changed` is called from the loop.
  NetworkWatch(struct ev_loop *loop, std::function<void()> changed);
  ~NetworkWatch();
  NetworkWatch(const NetworkWatch &) = delete;
  NetworkWatch &operator=(const NetworkWatch &) = delete;

  /// Whether the system tells it anything; otherwise it is as if nothing ever changed.
  [[nodiscard]] bool works() const { return fd_ >= 0; }

private:
  void Read();

  struct ev_loop *const loop_;
  const std::function<void()> changed_;
  int fd_ = -1;
  ev_io readable_{};
  ev_timer quiet_{};
};

} // namespace ngmasque::programs
