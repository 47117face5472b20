// The hash table underneath the routing tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace ngmasque {

/// From 64-bit hashes to entries that live elsewhere: one array with open
/// addressing and linear probing.  An entry that is not there is mostly found
/// missing by one access to memory, which is what a table with several
/// connection-ID lengths does most of the time.
///
/// At most half of the slots are in use.  No slot is marked as deleted: removal
/// moves what follows (Knuth, volume 3, 6.4, algorithm R), so that a table which
/// changes all the time does not become slower.  Whoever chooses the keys must
/// not be able to foresee the hashes.
///
/// Cost: find, insert and erase O(1) on average; an insert that doubles the
/// array moves every slot, which is O(1) per insert over time.  Memory: 16 bytes
/// per slot, 32 to 64 bytes per entry while it grows; it shrinks again when
/// fewer than one slot of eight is in use.
template <typename Entry> class HashIndex {
public:
  std::size_t size() const noexcept { return size_; }
  std::size_t capacity() const noexcept { return slots_.size(); }

  /// The entry under `hash` for which `matches(const Entry &)` holds, or null.
  /// `matches` is called for entries of exactly this hash alone.
  template <typename Matches> Entry *Find(std::uint64_t hash, Matches &&matches) const {
    if (size_ == 0) {
      return nullptr;
    }
    for (auto i = Home(hash);; i = Next(i)) {
      const auto &slot = slots_[i];
      if (!slot.entry) {
        return nullptr;
      }
      if (slot.hash == hash && matches(std::as_const(*slot.entry))) {
        return slot.entry;
      }
    }
  }

  /// Makes sure that the next Insert allocates nothing and cannot fail.
  void Reserve() {
    if ((size_ + 1) * 2 > slots_.size()) {
      Rehash(slots_.empty() ? kMinCapacity : slots_.size() * 2);
    }
  }

  /// `entry` stays where it is until it is erased here.  The caller made sure
  /// that it is not there yet, and called Reserve.
  void Insert(std::uint64_t hash, Entry &entry) noexcept {
    Place(hash, &entry);
    ++size_;
  }

  /// `entry` must have been inserted under `hash`.
  void Erase(std::uint64_t hash, const Entry &entry) {
    auto hole = Home(hash);
    while (slots_[hole].entry != &entry) {
      hole = Next(hole);
    }
    for (auto i = Next(hole); slots_[i].entry; i = Next(i)) {
      // An entry between its home and the hole closes the hole; one whose home
      // is behind the hole has to stay.
      if (Distance(Home(slots_[i].hash), i) >= Distance(hole, i)) {
        slots_[hole] = slots_[i];
        hole = i;
      }
    }
    slots_[hole] = {};
    --size_;

    if (slots_.size() > kMinCapacity && size_ * 8 < slots_.size()) {
      Rehash(slots_.size() / 2);
    }
  }

private:
  struct Slot {
    std::uint64_t hash{};
    Entry *entry{};
  };

  // Capacities are powers of two.
  static constexpr std::size_t kMinCapacity = 8;

  std::size_t Home(std::uint64_t hash) const noexcept {
    return static_cast<std::size_t>(hash) & (slots_.size() - 1);
  }

  std::size_t Next(std::size_t i) const noexcept { return (i + 1) & (slots_.size() - 1); }

  std::size_t Distance(std::size_t from, std::size_t to) const noexcept {
    return (to - from) & (slots_.size() - 1);
  }

  void Place(std::uint64_t hash, Entry *entry) noexcept {
    auto i = Home(hash);
    while (slots_[i].entry) {
      i = Next(i);
    }
    slots_[i] = {.hash = hash, .entry = entry};
  }

  void Rehash(std::size_t capacity) {
    std::vector<Slot> old(capacity);
    old.swap(slots_);
    for (const auto &slot : old) {
      if (slot.entry) {
        Place(slot.hash, slot.entry);
      }
    }
  }

  std::vector<Slot> slots_;
  std::size_t size_{};
};

} // namespace ngmasque
