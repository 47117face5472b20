// Packets that go round between proxies which forward to each other.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

namespace ngmasque {

/// Sees that the packets of one mapping go round and round, where they leave as they have come: a
/// client can have two proxies forward them to each other for ever, with one connection ID and sockets
/// that are shared.
///
/// No two packets of QUIC are the same (RFC 9000, section 12.3: no packet number is used again).  So one
/// of them is watched, and later another one.  A network may double packets, but not kMaxTimes times;
/// what comes between is what goes round with it, and is dropped as well.  n packets in a loop pass
/// (kMaxTimes + 4) * n times at most, besides 2 * kShortest, and 2 for each that came before and was in
/// none.  A loop of more than kLongest packets at a time is not seen.
///
/// Sixteen bytes are compared, and nothing is allocated.  Cost: O(1).
class LoopWatch {
public:
  /// How often one and the same packet may come.
  static constexpr std::uint32_t kMaxTimes = 16;
  /// After how many others it is not waited for any more: each time twice as many, and then again.
  static constexpr std::uint32_t kShortest = 64;
  static constexpr std::uint32_t kLongest = std::uint32_t{1} << 20;

  /// Whether the packet, or what it came with, has come too often, and is to be dropped.
  [[nodiscard]] bool Drops(std::span<const std::uint8_t> packet) {
    // Most packets are not what is watched.
    if (to_drop_ > 0) [[unlikely]] {
      --to_drop_;
      return true;
    }
    if (IsWatched(packet)) [[unlikely]] {
      return DropsAgain();
    }
    if (++others_ > patience_) [[unlikely]] {
      Watch(packet);
    }
    return false;
  }

private:
  using End = std::array<std::uint64_t, 2>;

  // Where packets have what authenticates them.
  static End EndOf(std::span<const std::uint8_t> packet) {
    End end{};
    const auto size = packet.size();
    if (size >= sizeof(end)) [[likely]] {
      std::memcpy(end.data(), packet.data() + size - sizeof(end), sizeof(end));
    } else {
      std::memcpy(end.data(), packet.data(), size);
    }
    return end;
  }

  [[nodiscard]] bool IsWatched(std::span<const std::uint8_t> packet) const {
    if (size_ != packet.size()) {
      return false;
    }
    const auto end = EndOf(packet);
    return end[0] == end_[0] && end[1] == end_[1]; // As numbers, without a call.
  }

  [[gnu::noinline]] void Watch(std::span<const std::uint8_t> packet) {
    if (times_ > 0) {
      patience_ = patience_ < kLongest ? 2 * patience_ : kShortest;
    }
    end_ = EndOf(packet);
    size_ = static_cast<std::uint32_t>(packet.size());
    times_ = 1;
    others_ = 0;
  }

  // What is watched has come once more.
  [[gnu::noinline]] bool DropsAgain() {
    if (times_ < kMaxTimes) {
      ++times_;
      others_ = 0;
      return false;
    }
    to_drop_ = others_;
    times_ = 0;
    size_ = 0;
    patience_ = kShortest;
    others_ = kShortest; // Of those that are not dropped, the next one is watched.
    return true;
  }

  End end_{};                          // Of the packet that is watched.
  std::uint32_t size_ = 0;             // Its own; 0: none is watched, and no packet has that.
  std::uint32_t times_ = 0;            // How often it has come.
  std::uint32_t others_ = kShortest;   // That have come since.
  std::uint32_t patience_ = kShortest; // How many others there may be.
  std::uint32_t to_drop_ = 0;
};

} // namespace ngmasque
