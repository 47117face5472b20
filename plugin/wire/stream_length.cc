#include "ngmasque/wire/stream_length.h"

#include <algorithm>

namespace ngmasque {

namespace {

std::span<const std::uint8_t> TakeFront(std::span<const std::uint8_t> &input, std::size_t length) {
  const auto front = input.first(length);
  input = input.subspan(length);
  return front;
}

} // namespace

std::expected<std::array<std::uint8_t, kStreamLengthSize>, WireError>
WriteStreamLength(std::size_t payload_length) {
  if (payload_length > kMaxUdpPayload) {
    return std::unexpected(WireError::kTooLong);
  }
  return std::array{static_cast<std::uint8_t>(payload_length >> 8),
                    static_cast<std::uint8_t>(payload_length)};
}

StreamLengthParser::StreamLengthParser(std::size_t max_payload)
  : max_payload_{std::min(max_payload, kMaxUdpPayload)} {}

bool StreamLengthParser::AtBoundary() const { return state_ == State::kFirst; }

void StreamLengthParser::Skip() {
  buffer_ = {};
  handed_out_ = false;
  if (state_ == State::kPayload) {
    state_ = State::kSkip;
  }
}

void StreamLengthParser::Keep(std::span<const std::uint8_t> part) {
  const auto size = buffer_.size() + part.size();
  if (size > buffer_.capacity()) {
    // Doubling, but never beyond the payload, which is what the vector itself might do.
    buffer_.reserve(std::min(buffer_.size() + missing_, std::max(size, 2 * buffer_.capacity())));
  }
  buffer_.insert(buffer_.end(), part.begin(), part.end());
}

std::expected<std::span<const std::uint8_t>, WireError>
StreamLengthParser::Next(std::span<const std::uint8_t> &input) {
  if (handed_out_) {
    // Not clear(), which keeps the memory: thousands of idle streams would sum up.
    buffer_ = {};
    handed_out_ = false;
  }
  while (!input.empty()) {
    switch (state_) {
    case State::kFirst:
      missing_ = std::size_t{TakeFront(input, 1)[0]} << 8;
      state_ = State::kSecond;
      break;

    case State::kSecond:
      missing_ |= TakeFront(input, 1)[0];
      if (missing_ == 0) {
        state_ = State::kFirst;
        return std::span<const std::uint8_t>{};
      }
      if (missing_ > max_payload_) {
        state_ = State::kSkip;
        return std::unexpected(WireError::kTooLong);
      }
      state_ = State::kPayload;
      break;

    case State::kSkip: {
      missing_ -= TakeFront(input, std::min(missing_, input.size())).size();
      if (missing_ == 0) {
        state_ = State::kFirst;
      }
      break;
    }

    case State::kPayload: {
      const auto part = TakeFront(input, std::min(missing_, input.size()));
      const bool complete = part.size() == missing_;
      if (complete) {
        state_ = State::kFirst;
        if (buffer_.empty()) {
          return part;
        }
      }
      Keep(part);
      missing_ -= part.size();
      if (complete) {
        handed_out_ = true;
        return std::span<const std::uint8_t>{buffer_};
      }
      break;
    }
    }
  }
  return std::unexpected(WireError::kIncomplete);
}

} // namespace ngmasque
