// The Capsule Protocol: what is on the data stream of a request that has negotiated it.
// RFC 9297, section 3.
#pragma once

#include "ngmasque/wire/error.h"
#include "ngmasque/wire/varint.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <vector>

namespace ngmasque {

/// The DATAGRAM capsule: RFC 9297, section 3.5.
inline constexpr std::uint64_t kDatagramCapsule = 0;

/// The longest of the headers that are written here, in bytes: two integers.
inline constexpr std::size_t kMaxCapsuleHeader = 2 * kVarintMaxLength;

/// A capsule; the view is into the input, or into the parser.
struct Capsule {
  std::uint64_t type = 0; ///< 0 to 2^62-1.
  std::span<const std::uint8_t> value;
};

/// Writes what stands before the value; returns its length, 2 to 16 bytes.
/// Errors, with which `out` is unchanged: kTooLarge (`type` or `length` above 2^62-1), kNoSpace.
[[nodiscard]] std::expected<std::size_t, WireError>
WriteCapsuleHeader(std::uint64_t type, std::uint64_t length, std::span<std::uint8_t> out);

/// Takes capsules off a stream, however it is cut into pieces.
///
/// Memory: a capsule that lies in one piece is not copied.  Of one that does not, the bytes of its
/// value that have arrived are kept, never space for those that a length only promises: at most
/// what `max_length` says for its type, and nothing more once it has been handed out and the next
/// piece comes.  Capsules of unknown types, of whatever length, are left out without being stored.
class CapsuleParser {
public:
  /// How long the value of a capsule of this type may be, in bytes; nothing: the type is unknown.
  using MaxLength = std::optional<std::size_t> (*)(std::uint64_t type);

  explicit CapsuleParser(MaxLength max_length) : max_length_(max_length) {}

  /// Returns the next known capsule of `input` and takes what it has read off the front of it.  To
  /// be called until it says kIncomplete; `input` is empty then.  The view is valid until the next
  /// call and as long as the input is.  Longer encodings of types and lengths than needed are
  /// accepted.
  /// Errors: kIncomplete; kTooLong, once for each known capsule that is too long and as soon as its
  /// length is known: what follows is left out as if the type were unknown, if the caller goes on.
  [[nodiscard]] std::expected<Capsule, WireError> Next(std::span<const std::uint8_t> &input);

  /// Leaves the last capsule out, of which there is no more than a part, or which has been handed
  /// out: nothing of it is kept any more.  One whose length has not come is not left out, as
  /// nothing of it is kept.  The stream is still in step.
  void Skip();

  /// False in the middle of a capsule.  A stream that ends there was cut off (RFC 9297, section
  /// 3.3).
  [[nodiscard]] bool AtBoundary() const;

  /// How many bytes of a capsule are kept.
  [[nodiscard]] std::size_t buffered() const { return buffer_.size(); }

  /// Of which type that capsule is.  If none is kept, it is of no account.
  [[nodiscard]] std::uint64_t type() const { return type_; }

private:
  enum class State : std::uint8_t {
    kType,   ///< Before or in a type.
    kLength, ///< Before or in a length.
    kValue,  ///< missing_ bytes of a value are to come.
    kSkip,   ///< missing_ bytes are to be left out.
  };

  bool ReadInteger(std::uint8_t byte);
  bool BeginValue();
  void Keep(std::span<const std::uint8_t> part);

  MaxLength max_length_;
  State state_ = State::kType;
  bool handed_out_ = false;          ///< buffer_ is what the last call returned.
  std::uint8_t integer_missing_ = 0; ///< Bytes of an integer that are to come; 0 before one.
  std::uint64_t integer_ = 0;         ///< What has come of it.
  std::uint64_t type_ = 0;
  std::uint64_t missing_ = 0;
  std::vector<std::uint8_t> buffer_;
};

} // namespace ngmasque
