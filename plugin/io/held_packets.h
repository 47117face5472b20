// Packets of targets that are too large for a datagram, while the client that has moved has not
// registered again what it had forwarded.
#pragma once

#include "ngmasque/io/udp_socket.h"
#include "ngmasque/routing/types.h"
#include "ngmasque/wire/byte_budget.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

namespace ngmasque {

/// Those of a client's connection.  That takes it two round trips or so, in which the target sends what
/// its window has room for.  If it moves again before, or does not register at all, they go on the
/// stream, where they hold up what comes behind them.
class HeldPackets {
public:
  struct Packet {
    SocketId socket;
    std::size_t size = 0; ///< Of the packet, in bytes.
    unsigned ecn = 0;
    std::vector<std::uint8_t> memory; ///< kPacketRoom before it, and as much behind.
  };

  /// Of one connection.  What is beyond it is dropped.
  static constexpr std::size_t kMaxBytes = std::size_t{512} << 10;

  /// `waiting`: Client::waiting, of which they are taken.
  explicit HeldPackets(std::shared_ptr<ByteBudget> waiting) : share_(std::move(waiting)) {}

  /// How long they wait, in nanoseconds: it is looked at when another one comes.
  static constexpr std::uint64_t kMaxWait = 1'000'000'000;

  [[nodiscard]] bool Late(std::uint64_t now) const {
    return !packets_.empty() && now - since_ > kMaxWait;
  }

  /// False if too much waits for the client already.
  [[nodiscard]] bool Add(SocketId socket, std::span<const std::uint8_t> packet, unsigned ecn,
                         std::uint64_t now) {
    const auto size = packet.size() + 2 * kPacketRoom;
    if (share_.bytes() + size > kMaxBytes || !share_.Resize(share_.bytes() + size)) {
      return false;
    }
    since_ = packets_.empty() ? now : since_;
    std::vector<std::uint8_t> memory(size);
    std::ranges::copy(packet, memory.begin() + kPacketRoom);
    packets_.push_back(
      {.socket = socket, .size = packet.size(), .ecn = ecn, .memory = std::move(memory)});
    return true;
  }

  /// All of them, in the order in which they came.
  [[nodiscard]] std::vector<Packet> Take() {
    std::ignore = share_.Resize(0);
    return std::exchange(packets_, {});
  }

private:
  std::vector<Packet> packets_;
  std::uint64_t since_ = 0; // When the first of them came.
  BudgetShare share_;
};

} // namespace ngmasque
