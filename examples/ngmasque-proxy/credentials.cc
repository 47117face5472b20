#include "credentials.h"

#include <algorithm>

#include <gnutls/gnutls.h>

namespace ngmasque::programs {

namespace {

// The scheme's name is in any case: RFC 9110, section 11.1.
bool TakeScheme(std::string_view &field, std::string_view scheme) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; };
  if (!std::ranges::equal(field.substr(0, scheme.size()), scheme, {}, lower)) {
    return false;
  }
  field.remove_prefix(scheme.size());
  const auto value = field.find_first_not_of(' ');
  if (value == 0 || value == std::string_view::npos) {
    return false;
  }
  field.remove_prefix(value);
  return true;
}

std::optional<std::string> DecodeBase64(std::string_view text) {
  const gnutls_datum_t in{.data =
                            reinterpret_cast<unsigned char *>(const_cast<char *>(text.data())),
                          .size = unsigned(text.size())};
  gnutls_datum_t out{};
  if (gnutls_base64_decode2(&in, &out) != 0) {
    return std::nullopt;
  }
  std::string decoded(reinterpret_cast<const char *>(out.data), out.size);
  gnutls_free(out.data);
  return decoded;
}

} // namespace

std::optional<Credentials> ParseCredentials(std::string_view field) {
  if (TakeScheme(field, "bearer")) {
    return Credentials{.name = std::nullopt, .secret = std::string(field)};
  }
  if (!TakeScheme(field, "basic")) {
    return std::nullopt;
  }
  const auto decoded = DecodeBase64(field);
  const auto colon = decoded ? decoded->find(':') : std::string::npos;
  if (colon == std::string::npos) {
    return std::nullopt;
  }
  return Credentials{.name = decoded->substr(0, colon), .secret = decoded->substr(colon + 1)};
}

std::uint64_t Failures::Wait(const Endpoint &client, std::uint64_t now) const {
  const auto found = known_.find(ClientKey::FromAddress(client));
  const auto allowed = now + (kMost - 1) * kRecovery;
  return found == known_.end() ? 0 : std::max(found->second->forgiven, allowed) - allowed;
}

void Failures::OnFailure(const Endpoint &client, std::uint64_t now) {
  const auto key = ClientKey::FromAddress(client);
  auto found = known_.find(key);
  if (found == known_.end()) {
    if (known_.size() == kMaxAddresses) {
      known_.erase(entries_.front().key);
      entries_.pop_front();
    }
    found = known_.emplace(key, entries_.insert(entries_.end(), {.key = key})).first;
  } else {
    entries_.splice(entries_.end(), entries_, found->second);
  }
  auto &forgiven = found->second->forgiven;
  forgiven = std::max(forgiven, now) + kRecovery;
}

} // namespace ngmasque::programs
