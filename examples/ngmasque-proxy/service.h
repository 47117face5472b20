// The service manager: its sockets, and what it is told.
#pragma once

#include <vector>

namespace ngmasque::programs {

/// The sockets that systemd passes on, once: they belong to the caller then.  Empty without it.
[[nodiscard]] std::vector<int> PassedSockets();

// Nothing is done without systemd.

/// Connections are taken; also after Reloading.
void NotifyReady();
void NotifyReloading();
void NotifyStopping();

} // namespace ngmasque::programs
