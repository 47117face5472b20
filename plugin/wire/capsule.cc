#include "ngmasque/wire/capsule.h"

#include <algorithm>

namespace ngmasque {

namespace {

std::span<const std::uint8_t> TakeFront(std::span<const std::uint8_t> &input,
                                        std::uint64_t length) {
  const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(length, input.size()));
  const auto front = input.first(taken);
  input = input.subspan(taken);
  return front;
}

} // namespace

std::expected<std::size_t, WireError>
WriteCapsuleHeader(std::uint64_t type, std::uint64_t length, std::span<std::uint8_t> out) {
  const auto type_length = VarintLength(type);
  const auto length_length = VarintLength(length);
  if (type_length == 0 || length_length == 0) {
    return std::unexpected(WireError::kTooLarge);
  }
  if (out.size() < type_length + length_length) {
    return std::unexpected(WireError::kNoSpace);
  }
  (void)EncodeVarint(type, out);
  (void)EncodeVarint(length, out.subspan(type_length));
  return type_length + length_length;
}

bool CapsuleParser::AtBoundary() const {
  return state_ == State::kType && integer_missing_ == 0;
}

void CapsuleParser::Skip() {
  buffer_ = {};
  handed_out_ = false;
  if (state_ == State::kValue) {
    state_ = State::kSkip;
  }
}

// True when integer_ is complete with this byte.
bool CapsuleParser::ReadInteger(std::uint8_t byte) {
  if (integer_missing_ == 0) {
    // The two most significant bits are the base-2 logarithm of the length.
    integer_missing_ = static_cast<std::uint8_t>(1 << (byte >> 6));
    integer_ = byte & 0x3f;
  } else {
    integer_ = integer_ << 8 | byte;
  }
  return --integer_missing_ == 0;
}

// After a length: what is to be done with the value.  False if it is too long.
bool CapsuleParser::BeginValue() {
  missing_ = integer_;
  const auto limit = max_length_(type_);
  if (limit && missing_ <= *limit) {
    state_ = State::kValue;
    return true;
  }
  //= RFC 9297, section 3.2
  //# Endpoints that receive a Capsule with an unknown Capsule Type MUST
  //# silently drop that Capsule and skip over it to parse the next
  //# Capsule.
  //= RFC 9297, section 3.5
  //# If an incoming DATAGRAM Capsule has a length that is known to
  //# be so large as to not be usable, the implementation SHOULD discard
  //# the Capsule without buffering its contents into memory.
  state_ = missing_ == 0 ? State::kType : State::kSkip;
  return !limit;
}

void CapsuleParser::Keep(std::span<const std::uint8_t> part) {
  const auto size = buffer_.size() + part.size();
  if (size > buffer_.capacity()) {
    // Doubling, but never beyond the capsule, which is what the vector itself might do.
    const auto whole = buffer_.size() + static_cast<std::size_t>(missing_);
    buffer_.reserve(std::min(whole, std::max(size, 2 * buffer_.capacity())));
  }
  buffer_.insert(buffer_.end(), part.begin(), part.end());
}

std::expected<Capsule, WireError> CapsuleParser::Next(std::span<const std::uint8_t> &input) {
  if (handed_out_) {
    // Not clear(), which keeps the memory: thousands of idle streams would sum up.
    buffer_ = {};
    handed_out_ = false;
  }
  while (!input.empty()) {
    switch (state_) {
    case State::kType:
      if (ReadInteger(TakeFront(input, 1)[0])) {
        type_ = integer_;
        state_ = State::kLength;
      }
      break;

    case State::kLength:
      if (!ReadInteger(TakeFront(input, 1)[0])) {
        break;
      }
      if (!BeginValue()) {
        return std::unexpected(WireError::kTooLong);
      }
      if (state_ == State::kValue && missing_ == 0) {
        state_ = State::kType;
        return Capsule{.type = type_, .value = {}};
      }
      break;

    case State::kSkip:
      missing_ -= TakeFront(input, missing_).size();
      if (missing_ == 0) {
        state_ = State::kType;
      }
      break;

    case State::kValue: {
      const auto part = TakeFront(input, missing_);
      const bool complete = part.size() == missing_;
      if (complete) {
        state_ = State::kType;
        if (buffer_.empty()) {
          return Capsule{.type = type_, .value = part};
        }
      }
      Keep(part);
      missing_ -= part.size();
      if (complete) {
        handed_out_ = true;
        return Capsule{.type = type_, .value = buffer_};
      }
      break;
    }
    }
  }
  return std::unexpected(WireError::kIncomplete);
}

} // namespace ngmasque
