// Decides who may use the proxy, and what for.
#pragma once

#include "credentials.h"
#include "users.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <ngmasque/session/access.h>

namespace ngmasque::programs {

/// What is decided about users of a policy.
struct Privileges {
  std::shared_ptr<const TargetPolicy> targets;
  std::optional<std::uint64_t> max_bytes_per_second = std::nullopt;
};
using Policies = std::map<std::string, Privileges, std::less<>>;

class Access {
public:
  /// `key`: see HashKey.
  explicit Access(const HashKey &key) : failures_(key) {}

  /// From now on these count; tunnels that are there stay.  `users` null: there are none.
  /// `everybody`: whether those without a certificate may use the proxy when there are no users.
  void Replace(std::shared_ptr<const Users> users, Policies policies, bool everybody);

  /// For AccessFunction.  `now` in nanoseconds.
  [[nodiscard]] AccessDecision Decide(const AccessRequest &request, std::uint64_t now);

  /// For ReviewFunction, after Replace: who has been removed, or has another secret, is not admitted any
  /// more, nor is nobody in particular when not everybody may.  A certificate was verified when its
  /// connection began, and counts for as long as that.
  [[nodiscard]] std::optional<Admission> Review(const Admitted &before) const;

private:
  [[nodiscard]] Admission Admit(std::string name, std::uint64_t grant) const;

  std::shared_ptr<const Users> users_;
  bool everybody_ = false;
  Policies policies_;
  Failures failures_;
};

} // namespace ngmasque::programs
