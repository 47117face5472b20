// All that is read at the start, and again by a reload.
#pragma once

#include "options.h"
#include "users.h"

#include "ngmasque/settings.h"

#include <expected>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace ngmasque::programs {

struct Configured {
  ProxyProgramOptions options;
  std::shared_ptr<const Users> users; ///< Null: there is no file of them.
  /// Of `[policy.NAME]`, without the addresses of this machine: see ConnectUdpProxy.
  std::map<std::string, TargetPolicy::Options, std::less<>> policies;
  Settings settings;
  std::vector<std::string> warnings; ///< What works, but probably not as it should.
};

/// Reads the configuration file and what it names.  `passed` are sockets of the service manager,
/// which listen besides --listen.  A complaint says what to do.
[[nodiscard]] std::expected<Configured, Complaint> Load(const Settings &command_line,
                                                        const std::vector<int> &passed);

/// Names of options that differ between the two and that a reload does not take.
[[nodiscard]] std::vector<std::string> NeedRestart(const Configured &before,
                                                   const Configured &after);

} // namespace ngmasque::programs
