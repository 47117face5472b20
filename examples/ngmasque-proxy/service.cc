#include "service.h"

#include <format>
#include <string>

#include <systemd/sd-daemon.h>
#include <time.h>

namespace ngmasque::programs {

std::vector<int> PassedSockets() {
  std::vector<int> sockets;
  const int count = sd_listen_fds(1);
  for (int i = 0; i < count; ++i) {
    sockets.push_back(SD_LISTEN_FDS_START + i);
  }
  return sockets;
}

// Errors mean that nobody listens.
void NotifyReady() { sd_notify(0, "READY=1"); }

// The time is for units of type notify-reload, which pair it with the signal.
void NotifyReloading() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const auto microseconds = now.tv_sec * 1'000'000LL + now.tv_nsec / 1000;
  sd_notify(0, std::format("RELOADING=1\nMONOTONIC_USEC={}", microseconds).c_str());
}

void NotifyStopping() { sd_notify(0, "STOPPING=1"); }

} // namespace ngmasque::programs
