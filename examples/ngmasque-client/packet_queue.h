// Packets that wait.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <utility>
#include <vector>

namespace ngmasque::programs {

/// In their order.  What is beyond the bounds is refused: a network would drop it, too.
class PacketQueue {
public:
  struct Packet {
    std::vector<std::uint8_t> bytes;
    unsigned ecn = 0;
  };

  static constexpr std::size_t kMaxPackets = 64;
  static constexpr std::size_t kMaxBytes = std::size_t{96} << 10;

  [[nodiscard]] bool Push(std::span<const std::uint8_t> packet, unsigned ecn) {
    if (packets_.size() == kMaxPackets || bytes_ + packet.size() > kMaxBytes) {
      return false;
    }
    bytes_ += packet.size();
    packets_.push_back({.bytes = {packet.begin(), packet.end()}, .ecn = ecn});
    return true;
  }

  /// The same, but the oldest ones make room: when nobody knows how long it will be.  False: one
  /// was lost.
  [[nodiscard]] bool PushLatest(std::span<const std::uint8_t> packet, unsigned ecn) {
    bool kept = true;
    while (!packets_.empty() &&
           (packets_.size() == kMaxPackets || bytes_ + packet.size() > kMaxBytes)) {
      Pop();
      kept = false;
    }
    return Push(packet, ecn) && kept;
  }

  [[nodiscard]] bool empty() const { return packets_.empty(); }
  [[nodiscard]] const Packet &front() const { return packets_.front(); }
  void Pop() {
    bytes_ -= packets_.front().bytes.size();
    packets_.pop_front();
  }
  [[nodiscard]] std::deque<Packet> Take() {
    bytes_ = 0;
    return std::exchange(packets_, {});
  }

private:
  std::deque<Packet> packets_;
  std::size_t bytes_ = 0;
};

} // namespace ngmasque::programs
