// Header fields that the requests and responses of all dialects have.
#pragma once

#include "ngmasque/session/authority.h"

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ngmasque {

inline constexpr std::string_view kProxyStatusField = "proxy-status";
inline constexpr std::string_view kRetryAfterField = "retry-after";

/// The lines of one field.
struct FieldLines {
  const std::string *first = nullptr; ///< Null if there is none.
  bool several = false;               ///< Not an Item, whatever they say.
};
[[nodiscard]] FieldLines FindField(std::span<const HeaderField> fields, std::string_view name);

/// The pseudo-header fields of a request; null if absent.
struct PseudoHeaders {
  const std::string *method = nullptr;
  const std::string *authority = nullptr;
  const std::string *scheme = nullptr;
  const std::string *path = nullptr;
  const std::string *protocol = nullptr;
};

/// Nothing if one is unknown, doubled, or comes after another field.
[[nodiscard]] std::optional<PseudoHeaders> ReadPseudoHeaders(std::span<const HeaderField> fields);

/// Whether there are fields that frame a content, which no tunnel has.
[[nodiscard]] bool HasContent(std::span<const HeaderField> fields);

/// 200 to 599; nothing if there is no status, or anything that a response must not have with it.
[[nodiscard]] std::optional<unsigned> ReadStatus(std::span<const HeaderField> fields);

/// All lines, as one list (RFC 9110, section 5.3), cut off at kMaxProxyStatus.
[[nodiscard]] std::string ReadProxyStatus(std::span<const HeaderField> fields);

/// Seconds.  Nothing if there is none, or several, or one that is a date (RFC 9110, section 10.2.3):
/// the clock here may say another one.  More than fit are as many as fit.
[[nodiscard]] std::optional<unsigned> ReadRetryAfter(std::span<const HeaderField> fields);

} // namespace ngmasque
