// The value type of connection IDs of any version of QUIC, and when two of them conflict.
#pragma once

#include "ngmasque/wire/quic_header.h"

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace ngmasque {

/// How two connection IDs stand to each other.  Everything but kUnrelated is a
/// conflict on one socket (draft-00, section 2.4).
enum class Relation : std::uint8_t {
  kUnrelated,
  kEqual,
  kFirstIsPrefix,  ///< The first one is a proper prefix of the second one.
  kSecondIsPrefix, ///< The second one is a proper prefix of the first one.
};

//= draft-00, section 2.4
//# Two Connection IDs conflict if and only if one Connection ID is equal to or
//# a prefix of another.  For example, a zero-length Connection ID conflicts
//# with all connection IDs.
///
/// Cost: one comparison of at most 255 bytes.
[[nodiscard]] Relation Compare(std::span<const std::uint8_t> a,
                               std::span<const std::uint8_t> b) noexcept;

//= draft-00, section 3
//# The byte sequence MAY be zero-length.  The byte sequence length MUST NOT exceed 255 bytes.
///
/// A connection ID of 0 to 255 bytes, of any version of QUIC.  A value: copies
/// are independent.  Up to kInlineSize bytes (all of QUIC version 1) are stored
/// in the object itself, longer ones on the heap.
class ConnectionId {
public:
  static constexpr std::size_t kInlineSize = 20;

  /// The zero-length connection ID.
  ConnectionId() = default;

  /// A copy of `bytes`, which may be empty; nothing if there are more than
  /// kMaxConnectionIdLength, which is all that can be wrong with them.
  [[nodiscard]] static std::optional<ConnectionId> From(std::span<const std::uint8_t> bytes);

  ConnectionId(const ConnectionId &other);
  ConnectionId &operator=(const ConnectionId &other);
  /// What was moved from is the zero-length connection ID.
  ConnectionId(ConnectionId &&other) noexcept;
  ConnectionId &operator=(ConnectionId &&other) noexcept;
  ~ConnectionId() = default;

  /// Valid until this object is assigned to, moved from or destroyed.
  std::span<const std::uint8_t> bytes() const noexcept {
    return {heap_ ? heap_.get() : inline_.data(), size_};
  }

  /// In bytes, 0 to 255.
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

  /// Whether `longer` begins with this one, or is equal to it.
  [[nodiscard]] bool IsPrefixOf(const ConnectionId &longer) const noexcept;

  friend bool operator==(const ConnectionId &a, const ConnectionId &b) noexcept {
    return Compare(a.bytes(), b.bytes()) == Relation::kEqual;
  }

  /// Lexicographic, and a prefix comes before what it is a prefix of.
  friend std::strong_ordering operator<=>(const ConnectionId &a, const ConnectionId &b) noexcept;

private:
  std::unique_ptr<std::uint8_t[]> heap_; // Null for up to kInlineSize bytes.
  std::array<std::uint8_t, kInlineSize> inline_{};
  std::uint8_t size_{};
};

/// Lexicographic order of byte strings; a prefix comes first.
[[nodiscard]] std::strong_ordering Order(std::span<const std::uint8_t> a,
                                         std::span<const std::uint8_t> b) noexcept;

} // namespace ngmasque
