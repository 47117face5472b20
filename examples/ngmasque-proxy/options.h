// The options of ngmasque-proxy.
#pragma once

#include "ngmasque/option.h"

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include <ngmasque/io/connect_udp_proxy.h>

namespace ngmasque::programs {

struct ProxyProgramOptions {
  // Where its policy is that of users without a `[policy.NAME]`.
  ConnectUdpProxy::Options proxy;
  bool open = false;
  std::filesystem::path users;
  std::chrono::nanoseconds drain_timeout = std::chrono::minutes(1);
  LogLevel log_level = LogLevel::kInfo;
  std::filesystem::path access_log;
  std::vector<Endpoint> metrics; ///< One at most.
  std::string add_user;
};

/// The table.  `options` has to outlive it.
[[nodiscard]] Program ProxyProgram(ProxyProgramOptions &options);

} // namespace ngmasque::programs
