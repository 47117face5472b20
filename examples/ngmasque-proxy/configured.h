// All that is read at the start, and again by a reload.
#pragma once

#include "options.h"
#include "users.h"

#include "ngmasque/settings.h"

#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ngmasque::programs {

/// Of users that `[policy.NAME]` is for.
struct UserPolicy {
  TargetPolicy::Options targets;
  std::optional<std::uint64_t> max_bytes_per_second = std::nullopt; ///< Instead of everybody's.
};

struct Configured {
  ProxyProgramOptions options;
  std::shared_ptr<const Users> users;                      ///< Null: there is no file of them.
  std::map<std::string, UserPolicy, std::less<>> policies; ///< Of `[policy.NAME]`.
  std::vector<CertificateAndKey> certificates;             ///< One at least.
  Settings settings;
  std::vector<std::string> warnings; ///< What works, but probably not as it should.
};

/// Reads the configuration file and what it names.  `passed` are sockets of the service manager,
/// which listen besides --listen.  A complaint says what to do.
[[nodiscard]] std::expected<Configured, Complaint> Load(const Settings &command_line,
                                                        const std::vector<int> &passed);

/// Whether the proxy knows who its clients are, as it has to if others than this machine get to it.
[[nodiscard]] bool KnowsClients(const Configured &setup);

/// What is wrong if it listens at these addresses.
[[nodiscard]] std::expected<void, Complaint> CheckListeners(const Configured &setup,
                                                            const std::vector<Endpoint> &addresses);

/// Names of options that differ between the two and that a reload does not take; and the secret.
[[nodiscard]] std::vector<std::string> NeedRestart(const Configured &before,
                                                   const Configured &after);

} // namespace ngmasque::programs
