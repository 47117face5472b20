#include "users.h"

#include <algorithm>
#include <format>
#include <optional>
#include <span>
#include <utility>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

namespace ngmasque::programs {

namespace {

constexpr std::string_view kNameLetters =
  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
constexpr std::string_view kDigits = "0123456789abcdef";
constexpr std::string_view kMethod = "sha256";

std::string Hex(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (const auto byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::optional<Sha256> ParseHash(std::string_view text) {
  Sha256 hash;
  if (text.size() != 2 * hash.size()) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = kDigits.find(text[i]);
    if (digit == std::string_view::npos) {
      return std::nullopt;
    }
    hash[i / 2] = std::uint8_t(hash[i / 2] << 4 | digit);
  }
  return hash;
}

// What is wrong with the line, or the user.
std::expected<User, std::string> ParseLine(std::string_view line) {
  const auto name_end = line.find(':');
  const auto name = line.substr(0, name_end);
  if (name_end == std::string_view::npos || !IsUserName(name)) {
    return std::unexpected(std::format(
      "a line begins with a name of 1 to {} letters, digits, '-', '_' and '.', and a colon",
      Users::kMaxName));
  }
  auto rest = line.substr(name_end + 1);
  const auto method_end = rest.find(':');
  if (method_end == std::string_view::npos || rest.substr(0, method_end) != kMethod) {
    return std::unexpected(std::format("after the name comes {}: see --add-user", kMethod));
  }
  rest.remove_prefix(method_end + 1);
  const auto hash_end = std::min(rest.find(' '), rest.size());
  const auto hash = ParseHash(rest.substr(0, hash_end));
  if (!hash) {
    return std::unexpected("after the last colon come 64 digits 0-9a-f: see --add-user");
  }
  rest.remove_prefix(hash_end);
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  if (rest.contains(' ')) {
    return std::unexpected("after the hash comes the name of one policy, or nothing");
  }
  return User{.name = std::string(name), .hash = *hash, .policy = std::string(rest)};
}

} // namespace

Sha256 HashSecret(std::string_view secret) {
  Sha256 hash{};
  // It fails for nothing but an unknown algorithm.
  std::ignore = gnutls_hash_fast(GNUTLS_DIG_SHA256, secret.data(), secret.size(), hash.data());
  return hash;
}

std::expected<Users, std::string> Users::Parse(std::string_view text, std::string_view file) {
  Users users;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = text.find('\n');
    auto line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    while (line.ends_with('\r') || line.ends_with(' ')) {
      line.remove_suffix(1);
    }
    if (line.empty() || line.starts_with('#')) {
      continue;
    }
    auto user = ParseLine(line);
    if (!user) {
      return std::unexpected(std::format("{}:{}: {}", file, number, user.error()));
    }
    // A secret of two users would not say whose it is.
    if (users.by_name_.contains(user->name) ||
        !users.by_hash_.emplace(user->hash, user->name).second) {
      return std::unexpected(
        std::format("{}:{}: {} is there already, or its secret: leave one of them out", file,
                    number, user->name));
    }
    auto name = user->name;
    users.by_name_.emplace(std::move(name), *std::move(user));
  }
  return users;
}

const User *Users::Find(std::string_view name, std::string_view secret) const {
  static const User kNobody{};
  const auto found = by_name_.find(name);
  const auto &user = found == by_name_.end() ? kNobody : found->second;
  const auto hash = HashSecret(secret);
  const bool same = gnutls_memcmp(hash.data(), user.hash.data(), hash.size()) == 0;
  return same && found != by_name_.end() ? &user : nullptr;
}

// How long it takes says at most how the hash begins, of which nobody can choose one.
const User *Users::FindBySecret(std::string_view secret) const {
  const auto found = by_hash_.find(HashSecret(secret));
  return found == by_hash_.end() ? nullptr : &by_name_.find(found->second)->second;
}

const User *Users::Find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &found->second;
}

bool IsUserName(std::string_view name) {
  return !name.empty() && name.size() <= Users::kMaxName &&
         name.find_first_not_of(kNameLetters) == std::string_view::npos;
}

std::expected<std::string, std::string> DrawSecret() {
  std::array<std::uint8_t, 16> bits{};
  if (const int error = gnutls_rnd(GNUTLS_RND_KEY, bits.data(), bits.size()); error != 0) {
    return std::unexpected(gnutls_strerror(error));
  }
  return Hex(bits);
}

std::string UserLine(std::string_view name, std::string_view secret) {
  return std::format("{}:{}:{}", name, kMethod, Hex(HashSecret(secret)));
}

} // namespace ngmasque::programs
