// UDP payloads on the request stream, for peers that have not negotiated QUIC datagrams, and for
// paths whose packets are too small for them: each is preceded by its length in bytes, 16 bits in
// network byte order.  draft-ietf-masque-connect-udp-00, section 4.
#pragma once

#include "ngmasque/wire/datagram.h"
#include "ngmasque/wire/error.h"
#include "ngmasque/wire/quic_header.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <vector>

namespace ngmasque {

/// The length of the length, in bytes.
inline constexpr std::size_t kStreamLengthSize = 2;

/// What stands before a payload of `payload_length` bytes, which may be 0.
/// Errors: kTooLong, above kMaxUdpPayload.
[[nodiscard]] std::expected<std::array<std::uint8_t, kStreamLengthSize>, WireError>
WriteStreamLength(std::size_t payload_length);

/// Takes payloads off a stream, however it is cut into pieces.
///
/// Memory: a payload that lies in one piece is not copied.  Of one that does not, the bytes that
/// have arrived are kept, never space for those that a length only promises: at most `max_payload`
/// bytes, and nothing more once it has been handed out and the next piece comes.
class StreamLengthParser {
public:
  /// Payloads of more than `max_payload` bytes are reported as kTooLong and left out
  /// without being stored.  Values above kMaxUdpPayload count as that.
  explicit StreamLengthParser(std::size_t max_payload = kMaxUdpPayload);

  /// Returns the next payload of `input` and takes what it has read off the front of it.  To be
  /// called until it says kIncomplete; `input` is empty then.  The view is valid until the next
  /// call and as long as the input is.
  /// Errors: kIncomplete; kTooLong, once for each such payload and as soon as its length is
  /// known: go on, the stream is still in step.
  [[nodiscard]] std::expected<std::span<const std::uint8_t>, WireError>
  Next(std::span<const std::uint8_t> &input);

  /// Leaves the last payload out, of which there is no more than a part, or which has been handed out:
  /// nothing of it is kept any more.  The stream is still in step.
  void Skip();

  /// False in the middle of a length or a payload.  A stream that ends there was cut off.
  [[nodiscard]] bool AtBoundary() const;

  /// How many bytes of a payload are kept.
  [[nodiscard]] std::size_t buffered() const { return buffer_.size(); }

private:
  enum class State {
    kFirst,   ///< Before the first byte of a length.
    kSecond,  ///< Before the second one.
    kPayload, ///< missing_ bytes of a payload are to come.
    kSkip,    ///< missing_ bytes are to be left out.
  };

  void Keep(std::span<const std::uint8_t> part);

  std::size_t max_payload_;
  State state_ = State::kFirst;
  std::size_t missing_ = 0;
  bool handed_out_ = false; ///< buffer_ is what the last call returned.
  std::vector<std::uint8_t> buffer_;
};

} // namespace ngmasque
