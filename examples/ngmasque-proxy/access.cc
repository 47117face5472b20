#include "access.h"

#include <utility>

namespace ngmasque::programs {

namespace {

AccessRefusal Refuse(SessionError error) {
  return {.error = error,
          .challenges = {"Basic realm=\"ngmasque-proxy\", charset=\"UTF-8\"",
                         "Bearer realm=\"ngmasque-proxy\""}};
}

} // namespace

void Access::Replace(std::shared_ptr<const Users> users, Policies policies, bool everybody) {
  everybody_ = everybody;
  users_ = std::move(users);
  policies_ = std::move(policies);
}

Admission Access::Admit(std::string name) const {
  const auto *user = users_ ? users_->Find(name) : nullptr;
  const auto policy = user ? policies_.find(user->policy) : policies_.end();
  Admission admission{.user = std::move(name)};
  if (policy != policies_.end()) {
    admission.policy = policy->second.targets;
    admission.max_bytes_per_second = policy->second.max_bytes_per_second;
  }
  return admission;
}

AccessDecision Access::Decide(const AccessRequest &request, std::uint64_t now) {
  const auto field =
    request.proxy_authorization ? request.proxy_authorization : request.authorization;
  // A certificate says who it is, unless credentials say it.
  if (!request.certificate.empty() && !field) {
    if (request.certificate.size() > Users::kMaxName) {
      return std::unexpected(AccessRefusal{.error = SessionError::kNotAllowed});
    }
    return Admit(std::string(request.certificate));
  }
  if (!users_ && everybody_) {
    return Admission{};
  }
  if (!users_) {
    return std::unexpected(AccessRefusal{.error = SessionError::kNotAllowed});
  }
  // Before anything is computed for it.
  if (!failures_.MayTry(request.client, now)) {
    return std::unexpected(AccessRefusal{.error = SessionError::kTooManyFailures});
  }
  // None at all is no attempt: clients ask so for the challenge.
  if (!field) {
    return std::unexpected(Refuse(SessionError::kUnauthenticated));
  }
  const auto credentials = ParseCredentials(*field);
  const auto *user = !credentials        ? nullptr
                     : credentials->name ? users_->Find(*credentials->name, credentials->secret)
                                         : users_->FindBySecret(credentials->secret);
  if (!user) {
    failures_.OnFailure(request.client, now);
    return std::unexpected(Refuse(SessionError::kUnauthenticated));
  }
  return Admit(user->name);
}

} // namespace ngmasque::programs
