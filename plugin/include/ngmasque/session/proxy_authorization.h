// Credentials for a proxy, as the value of proxy-authorization: RFC 9110, section 11.7.2.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace ngmasque {

/// The longest value, in bytes: some schemes have long tokens, and a proxy reads no more than 16 KiB
/// of fields.
inline constexpr std::size_t kMaxAuthorization = 8192;

/// Whether `value` can be that of the field, and so goes into no other one: printable ASCII and spaces
/// within, kMaxAuthorization bytes at most, or empty.
[[nodiscard]] bool IsAuthorization(std::string_view value);

/// Basic (RFC 7617): both in UTF-8.  Nothing if the name has a colon in it, either has a control
/// character, or the value is too long.
[[nodiscard]] std::optional<std::string> BasicAuthorization(std::string_view name,
                                                            std::string_view secret);

/// Bearer (RFC 6750).  Nothing if `token` is no b64token, or too long.
[[nodiscard]] std::optional<std::string> BearerAuthorization(std::string_view token);

} // namespace ngmasque
