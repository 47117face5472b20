// Why a table does not take a connection ID.
#pragma once

#include <cstdint>
#include <string_view>

namespace ngmasque {

/// The errors of all functions in routing/; each function says which of them it has.
enum class RoutingError : std::uint8_t {
  // Conflicts (draft-00, section 2.4).
  kEqual,            ///< It is there already.
  kExistingIsPrefix, ///< One that is there is a proper prefix of it.
  kNewIsPrefix,      ///< It is a proper prefix of one that is there.
  // Bounds.
  kTooManyIds,     ///< ConnectionIdTableLimits::max_ids
  kTooManyLengths, ///< ConnectionIdTableLimits::max_lengths
};

/// Whether it is one of the errors that another connection ID does not have.
[[nodiscard]] constexpr bool IsConflict(RoutingError error) {
  return error <= RoutingError::kNewIsPrefix;
}

/// The error in words, for logs.
[[nodiscard]] constexpr std::string_view ErrorName(RoutingError error) {
  switch (error) {
  case RoutingError::kEqual: return "connection ID is in use";
  case RoutingError::kExistingIsPrefix: return "connection ID begins with one that is in use";
  case RoutingError::kNewIsPrefix: return "connection ID is a prefix of one that is in use";
  case RoutingError::kTooManyIds: return "too many connection IDs";
  case RoutingError::kTooManyLengths: return "too many lengths of connection IDs";
  }
  return "unknown error";
}

} // namespace ngmasque
