// The command line and the configuration file of ngmasque-client.
#pragma once

#include "carrier.h"
#include "local_ports.h"
#include "socks_server.h"

#include "ngmasque/option.h"
#include "ngmasque/settings.h"

#include <expected>
#include <filesystem>
#include <optional>
#include <string>

namespace ngmasque::programs {

struct ClientOptions {
  Carrier::Options carrier{};
  LocalPorts::Options local{};
  SocksServer::Options socks{};
  std::string proxy_user{};                ///< NAME:SECRET
  std::filesystem::path proxy_user_file{}; ///< With one such line.
  std::string proxy_bearer{};
  std::filesystem::path proxy_bearer_file{};
  bool proxy_insecure = false;
  std::string socks_user{};
  std::filesystem::path socks_user_file{};
  std::chrono::nanoseconds idle_timeout = std::chrono::minutes(2); ///< Of local peers.
  std::chrono::nanoseconds proxy_timeout = std::chrono::seconds(30);
  std::chrono::nanoseconds handshake_timeout = std::chrono::seconds(10);
  std::size_t max_tunnels = 256;
  std::filesystem::path stats{};
  bool status = false;
  LogLevel log_level = LogLevel::kInfo;
};

/// Its rows set `options`, which has to outlive it.
[[nodiscard]] Program ClientProgram(ClientOptions &options);

/// After Apply: reads the files that are named, and puts together what belongs together.  Error:
/// what is wrong, and what to do.
[[nodiscard]] std::expected<void, Complaint> Finish(ClientOptions &options);

} // namespace ngmasque::programs
