// A dialect of the modern kind, in small: a request is a tunnel, and messages on its stream open
// and close its mappings, as many as there are.
//
//     request        :authority alone; its datagrams begin with the stream's id / 4, and 0
//     on the stream  type, length of what follows; each of them a byte
//       'P'          a payload
//       'O'          number, 't' or 'c', connection ID: the client opens a mapping to the target,
//                    or to itself; number alone: the proxy acknowledges it, and then, if it is to
//                    the client, the client does as well
//       'C'          number: there is no such mapping (any more); from either side
//
// Wrong numbers reset the stream.  The two sides are in session_toy_dialect.h (the proxy) and
// session_toy_client.h.
#pragma once

#include "ngmasque/session/dialect.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <vector>

namespace ngmasque {

struct ToyMessage {
  std::uint8_t type = 0;
  std::span<const std::uint8_t> value; // Valid until the next one is read.
};

// Takes messages off a stream, however it is cut.
class ToyReader {
public:
  // Nothing if all input is used up and the message is not there yet.
  std::optional<ToyMessage> Next(std::span<const std::uint8_t> &input) {
    if (IsComplete()) {
      bytes_.clear(); // The last call has handed it out.
    }
    while (!input.empty() && !IsComplete()) {
      bytes_.push_back(input.front());
      input = input.subspan(1);
    }
    if (!IsComplete()) {
      return std::nullopt;
    }
    return ToyMessage{.type = bytes_[0], .value = std::span(bytes_).subspan(2)};
  }

private:
  bool IsComplete() const {
    return bytes_.size() >= 2 && bytes_.size() == std::size_t{2} + bytes_[1];
  }

  std::vector<std::uint8_t> bytes_; // What there is of it; at most 257.
};

// What stands before a payload in a datagram.
inline Prefix ToyDatagramPrefix(StreamId stream) {
  return {.bytes = {static_cast<std::uint8_t>(stream / 4), 0}, .size = 2};
}

inline std::expected<TunnelledPayload, DropReason>
ReadToyDatagram(std::span<const std::uint8_t> datagram) {
  if (datagram.size() < 2 || datagram[1] != 0) {
    return std::unexpected(DropReason::kMalformed);
  }
  return TunnelledPayload{.key = datagram[0], .payload = datagram.subspan(2)};
}

// What stands before a payload on the stream.
inline std::expected<Prefix, DropReason> ToyStreamPrefix(std::size_t size) {
  if (size > 255) {
    return std::unexpected(DropReason::kTooLarge);
  }
  return Prefix{.bytes = {'P', static_cast<std::uint8_t>(size)}, .size = 2};
}

} // namespace ngmasque
