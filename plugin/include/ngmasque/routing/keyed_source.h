// What nobody else can predict, from a key: virtual connection IDs, which say what they are for to
// those who have the key, and the keys of transforms.
#pragma once

#include "ngmasque/routing/connection_id.h"
#include "ngmasque/routing/scramble.h"
#include "ngmasque/routing/siphash.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace ngmasque {

/// AES-128 of a counter: what it draws never comes again, and looks random.  The key is made of a
/// HashKey, for this alone.
class KeyedSource {
public:
  /// From this length on a connection ID carries a worker's number.
  static constexpr std::size_t kRoutedLength = 16;

  /// `worker`: what WorkerOf is to find.  Those of one process need not have different keys.
  /// `first`: where its counter begins.  Whoever uses a key again, after a restart for example, draws
  /// that at random: that two of them draw the same is as unlikely as guessing 64 bits.
  explicit KeyedSource(const HashKey &key, std::uint16_t worker = 0, std::uint64_t first = 0);
  ~KeyedSource();
  KeyedSource(KeyedSource &&) noexcept;
  KeyedSource &operator=(KeyedSource &&) noexcept;

  /// A connection ID of 1 to 255 bytes.  Shorter ones than kRoutedLength may come again, as others
  /// of their length.
  [[nodiscard]] ConnectionId DrawId(std::size_t length);

  [[nodiscard]] ScrambleKey DrawKey();

  /// Who has drawn a connection ID that `bytes` begins with, so that a packet can be handed to whoever
  /// has its mapping, before any table is looked into.  Nothing if it was drawn with another key, or
  /// is shorter than kRoutedLength: by chance, one of 2^40 others is taken for one.
  [[nodiscard]] std::optional<std::uint16_t> WorkerOf(std::span<const std::uint8_t> bytes) const;

private:
  struct Keys;
  [[nodiscard]] std::array<std::uint8_t, 16> Draw(std::uint8_t use);

  std::unique_ptr<const Keys> keys_;
  std::uint16_t worker_;
  std::uint64_t counter_;
};

} // namespace ngmasque
