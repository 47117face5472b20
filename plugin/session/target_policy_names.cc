// TargetPolicy: names.

#include "ngmasque/session/target_policy.h"

#include "ngmasque/session/authority.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

namespace {

bool HasSuffix(std::string_view name, std::string_view suffix) {
  if (!name.ends_with(suffix)) {
    return false;
  }
  name.remove_suffix(suffix.size());
  return name.empty() || name.ends_with('.');
}

} // namespace

std::expected<std::string, SessionError> ParseNameSuffix(std::string_view text) {
  if (text.starts_with('.')) {
    text.remove_prefix(1);
  }
  // By the rules for hosts, as it is compared with one.
  auto authority = ParseAuthority(std::string(text) + ":1");
  if (!authority || ParseAddress(authority->host)) {
    return std::unexpected(SessionError::kNameSuffix);
  }
  return std::move(authority->host);
}

std::expected<void, SessionError> TargetPolicy::CheckHost(std::string_view host) const {
  const auto any = [host](const std::vector<std::string> &suffixes) {
    return std::ranges::any_of(suffixes, [host](const auto &s) { return HasSuffix(host, s); });
  };
  const auto address = ParseAddress(host);
  const auto denied = !address && any(options_.deny_names);
  const auto listed = options_.allow_names.empty() ||
                      (address ? IsAllowed(*address) : any(options_.allow_names));
  if (denied || !listed) {
    return std::unexpected(SessionError::kTargetName);
  }
  return {};
}

} // namespace ngmasque
