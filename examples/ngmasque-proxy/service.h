// The service manager: its sockets, and what it is told.
#pragma once

#include <string_view>
#include <vector>

namespace ngmasque::programs {

/// The sockets that systemd passes on, once: they belong to the caller then.  Empty without it.
[[nodiscard]] std::vector<int> PassedSockets();

// Nothing is done without systemd.

/// Connections are taken; also after Reloading.
void NotifyReady();
void NotifyReloading();
void NotifyStopping();
/// A line for `systemctl status`.
void NotifyStatus(std::string_view line);

} // namespace ngmasque::programs
