#include "access.h"

#include <span>
#include <utility>

namespace ngmasque::programs {

namespace {

AccessRefusal Refuse(SessionError error) {
  return {.error = error,
          .challenges = {"Basic realm=\"ngmasque-proxy\", charset=\"UTF-8\"",
                         "Bearer realm=\"ngmasque-proxy\""}};
}

// Admission::grant, of others than those whom everybody may be: what it was given for.
constexpr std::uint64_t kEverybody = 0;
constexpr std::uint64_t kCertificate = 1;

// Of a secret: the beginning of its hash, which is none of the above.
std::uint64_t GrantOf(const User &user) {
  std::uint64_t grant = 0;
  for (const auto byte : std::span(user.hash).first<sizeof(grant)>()) {
    grant = grant << 8 | byte;
  }
  return grant | std::uint64_t{1} << 63;
}

std::optional<unsigned> Seconds(std::uint64_t nanoseconds) {
  return unsigned((nanoseconds + 999'999'999) / 1'000'000'000);
}

} // namespace

void Access::Replace(std::shared_ptr<const Users> users, Policies policies, bool everybody) {
  everybody_ = everybody;
  users_ = std::move(users);
  policies_ = std::move(policies);
}

Admission Access::Admit(std::string name, std::uint64_t grant) const {
  const auto *user = users_ ? users_->Find(name) : nullptr;
  const auto policy = user ? policies_.find(user->policy) : policies_.end();
  Admission admission{.user = std::move(name), .grant = grant};
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
    return Admit(std::string(request.certificate), kCertificate);
  }
  if (!users_ && everybody_) {
    return Admission{.user = {}, .grant = kEverybody};
  }
  if (!users_) {
    return std::unexpected(AccessRefusal{.error = SessionError::kNotAllowed});
  }
  // Before anything is computed for it.
  if (const auto wait = failures_.Wait(request.client, now); wait > 0) {
    return std::unexpected(
      AccessRefusal{.error = SessionError::kTooManyFailures, .retry_after = Seconds(wait)});
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
  return Admit(user->name, GrantOf(*user));
}

std::optional<Admission> Access::Review(const Admitted &before) const {
  if (before.grant == kCertificate) {
    return Admit(std::string(before.user), kCertificate);
  }
  if (before.grant == kEverybody) {
    return !users_ && everybody_ ? std::optional<Admission>(Admission{}) : std::nullopt;
  }
  const auto *user = users_ ? users_->Find(before.user) : nullptr;
  return user && GrantOf(*user) == before.grant ? std::optional(Admit(user->name, before.grant))
                                                : std::nullopt;
}

} // namespace ngmasque::programs
