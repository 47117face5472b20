// The file of --users: who may use the proxy.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace ngmasque::programs {

using Sha256 = std::array<std::uint8_t, 32>;

/// Of a secret.
[[nodiscard]] Sha256 HashSecret(std::string_view secret);

struct User {
  std::string name;
  Sha256 hash{};
  std::string policy; ///< Empty: the one of all.
};

/// Secrets are 128 random bits (DrawSecret), and so one SHA-256 is enough: nobody finds one by
/// trying, and a slow hash would only let strangers burn the proxy's processor.
class Users {
public:
  static constexpr std::size_t kMaxName = 64; ///< ClientKey::kMaxCredentials

  /// Reads lines `NAME:sha256:HEX [POLICY]`.  The complaint begins with `file` and the line.
  [[nodiscard]] static std::expected<Users, std::string> Parse(std::string_view text,
                                                               std::string_view file);

  /// Who has that name and that secret, or null.  Takes as long for names that nobody has.
  [[nodiscard]] const User *Find(std::string_view name, std::string_view secret) const;

  /// Who has that secret, or null.
  [[nodiscard]] const User *FindBySecret(std::string_view secret) const;

  /// Who has that name, or null.
  [[nodiscard]] const User *Find(std::string_view name) const;

  [[nodiscard]] std::size_t size() const { return by_name_.size(); }
  [[nodiscard]] const std::map<std::string, User, std::less<>> &all() const { return by_name_; }

private:
  std::map<std::string, User, std::less<>> by_name_;
  std::map<Sha256, std::string> by_hash_;
};

/// Letters, digits, '-', '_' and '.', at most Users::kMaxName of them.
[[nodiscard]] bool IsUserName(std::string_view name);

/// 128 random bits in hexadecimal.  Nothing if the system has none.
[[nodiscard]] std::expected<std::string, std::string> DrawSecret();

/// A line for the file.
[[nodiscard]] std::string UserLine(std::string_view name, std::string_view secret);

} // namespace ngmasque::programs
