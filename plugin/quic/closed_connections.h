// Connections that are over but for the packets that may still come.
#pragma once

#include "ngmasque/quic/types.h"
#include "ngmasque/routing/connection_id.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

namespace ngmasque {

/// What is left of connections in the closing and draining states, RFC 9000, section 10.2: their
/// IDs and the packet that closed them.  Memory is bounded, however many there are.
//= RFC 9000, section 10.2.1
//# An endpoint SHOULD limit the rate at which it generates packets in the closing state.
//
// Answered are the first, second, fourth, eighth ... packet.
class ClosedConnections {
public:
  /// The oldest one goes when there are more; its packets are those of an unknown connection then,
  /// and get stateless resets.
  static constexpr std::size_t kMaxConnections = 1024;
  /// Of one connection: more than a peer may have at a time.  Further ones are unknown at once.
  static constexpr std::size_t kMaxIds = 16;
  /// Of the packet that closes, in bytes: reasons are short.  For a longer one there is no answer.
  static constexpr std::size_t kMaxClosePacket = 1200;

  /// `close`: the UDP payload with CONNECTION_CLOSE; empty for a connection that is draining, which
  /// answers nothing.  `until`: the end of the state.
  void Add(std::span<const ConnectionId> ids, std::span<const std::uint8_t> close,
           Nanoseconds until);

  /// A UDP payload of `size` bytes has come for a connection ID.  Returns nothing if it is unknown
  /// here, otherwise what it is answered with, which may be empty; valid until Add or Expire.
  [[nodiscard]] std::optional<std::span<const std::uint8_t>> OnPacket(const ConnectionId &id,
                                                                      std::size_t size);

  /// Forgets those whose time is over.
  void Expire(Nanoseconds now);

  /// When Expire has something to do; kNever if there is nothing to wait for.
  [[nodiscard]] Nanoseconds NextExpiry() const;

  [[nodiscard]] std::size_t size() const { return entries_.size(); }

private:
  using Number = std::uint64_t;
  struct Entry {
    std::vector<ConnectionId> ids; // At most kMaxIds.
    std::vector<std::uint8_t> close;
    Nanoseconds until = 0;
    std::uint64_t packets = 0;
    std::uint64_t received = 0; // Bytes.
    std::uint64_t sent = 0;     // Bytes.
  };

  void Remove(Number number);

  Number next_ = 0;
  // In the order of Add, at most kMaxConnections; the others refer to it.
  std::map<Number, Entry> entries_;
  std::set<std::pair<Nanoseconds, Number>> expiries_;
  // Ordered, as some of the IDs are the choice of peers: there is no hash that they could aim at.
  std::map<ConnectionId, Number> by_id_;
};

} // namespace ngmasque
