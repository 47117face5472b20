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
  /// Its policy is that of users without a `[policy.NAME]`.
  ConnectUdpProxy::Options proxy;
  std::vector<Endpoint> listen;
  std::vector<std::filesystem::path> certificates;
  std::vector<std::filesystem::path> keys; ///< In the same order.
  std::vector<Endpoint> alternates;
  std::chrono::nanoseconds migrate_every{}; ///< Zero: never.
  bool migrate_on_handshake = false;
  bool open = false;
  std::filesystem::path users;
  std::filesystem::path secret_file;
  std::chrono::nanoseconds drain_timeout = std::chrono::minutes(1);
  LogLevel log_level = LogLevel::kInfo;
  std::filesystem::path access_log;
  std::vector<Endpoint> metrics; ///< One at most.
  std::string add_user;
};

/// The table.  `options` has to outlive it.
[[nodiscard]] Program ProxyProgram(ProxyProgramOptions &options);

} // namespace ngmasque::programs
