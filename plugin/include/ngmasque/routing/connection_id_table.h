// Which connection ID on one socket belongs to whom.
#pragma once

#include "ngmasque/routing/connection_id.h"
#include "ngmasque/routing/error.h"
#include "ngmasque/routing/hash_index.h"
#include "ngmasque/routing/siphash.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <iterator>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace ngmasque {

/// The bounds of one table.  What is beyond them is refused, and what is in the table keeps
/// working.
struct ConnectionIdTableLimits {
  /// How many connection IDs there may be.
  std::size_t max_ids = std::size_t{1} << 17;

  /// How many different lengths they may have, 1 to 256.  It is the number of probes that an
  /// unknown packet costs: without a bound one client makes 255 of them for all that share a
  /// socket.
  std::size_t max_lengths = 16;
};

/// The connection IDs of one scope (one server-facing socket, or one client-facing 4-tuple), none
/// of them equal to or a prefix of another, each with a value of the caller.
///
/// Look-up: packets with a short header do not say how long their connection ID is.  So there is
/// one hash probe for each length that is in use, shortest first, until one hits.  At most one can.
///
/// Conflicts: the IDs are also kept in lexicographic order, where everything that begins with an ID
/// follows it at once.  As no ID in the table is a prefix of another, a new one conflicts if and
/// only if it does with the one before or the one after its place.  That costs O(log n) comparisons
/// with n IDs in the table, whatever lengths there are, and no entry more per ID; counted entries
/// for shortened IDs would need up to max_lengths of them per ID, and a walk through the whole
/// table for each length that is new.  The tree is balanced: no choice of IDs makes it deep.
///
/// Memory per ID: a node of the tree (about 96 bytes with a value of one pointer, and its length if
/// it is longer than ConnectionId::kInlineSize) and 32 to 64 bytes of the hash index.
///
/// Pointers to values are valid until their ID is erased.
template <typename Value> class ConnectionIdTable {
public:
  /// `key` must be unknown to the peers; it may be the same for all tables.
  ConnectionIdTable(const HashKey &key, const ConnectionIdTableLimits &limits)
    : key_(key), limits_(limits) {}

  ConnectionIdTable(const ConnectionIdTable &) = delete;
  ConnectionIdTable &operator=(const ConnectionIdTable &) = delete;

  std::size_t size() const noexcept { return ids_.size(); }

  /// How many different lengths are in use: the probes of an unsuccessful look-up.
  std::size_t lengths() const noexcept { return lengths_.size(); }

  /// Whether an ID of a length that is not in use is refused.
  bool full() const noexcept {
    return size() >= limits_.max_ids || lengths() >= limits_.max_lengths;
  }

  /// Adds an ID, or says why not and changes nothing.
  /// Errors: all of RoutingError; a conflict is reported before a bound.
  /// Cost: O(log n), and doubling the hash index once in n inserts.
  std::expected<void, RoutingError> Insert(const ConnectionId &id, Value value) {
    if (auto possible = Check(id); !possible) {
      return possible;
    }
    // What can throw comes first, and leaves nothing behind that matters.
    index_.Reserve();
    lengths_.reserve(lengths_.size() + 1);
    auto &entry = *ids_.emplace(id, std::move(value)).first;
    index_.Insert(Hash(id.bytes()), entry);
    auto place = LengthAt(id.size());
    if (place == lengths_.end() || place->length != id.size()) {
      place = lengths_.insert(place, {.length = id.size(), .ids = 0});
    }
    ++place->ids;
    return {};
  }

  /// Gives an ID another value; false if it is not there.  Cost: O(log n).
  bool Replace(const ConnectionId &id, Value value) {
    const auto found = ids_.find(id);
    if (found == ids_.end()) {
      return false;
    }
    found->second = std::move(value);
    return true;
  }

  /// What Insert would say; the same errors.  Cost: O(log n).
  ///
  //= draft-00, section 2.4
  //# In order to be able to route packets correctly in both tunnelled and forwarded mode, proxies
  //# check for conflicts before creating a new mapping.
  [[nodiscard]] std::expected<void, RoutingError> Check(const ConnectionId &id) const {
    const auto after = ids_.lower_bound(id);
    if (after != ids_.end() && id.IsPrefixOf(after->first)) {
      return std::unexpected(id.size() == after->first.size() ? RoutingError::kEqual
                                                              : RoutingError::kNewIsPrefix);
    }
    if (after != ids_.begin() && std::prev(after)->first.IsPrefixOf(id)) {
      return std::unexpected(RoutingError::kExistingIsPrefix);
    }
    if (ids_.size() >= limits_.max_ids) {
      return std::unexpected(RoutingError::kTooManyIds);
    }
    const auto place = LengthAt(id.size());
    const auto is_new = place == lengths_.end() || place->length != id.size();
    if (is_new && lengths_.size() >= limits_.max_lengths) {
      return std::unexpected(RoutingError::kTooManyLengths);
    }
    return {};
  }

  /// Removes an ID; false if it is not there.  Cost: O(log n), and halving the hash index once in
  /// as many calls as it has entries.
  bool Erase(const ConnectionId &id) {
    const auto found = ids_.find(id);
    if (found == ids_.end()) {
      return false;
    }
    const auto place = LengthAt(id.size());
    if (--place->ids == 0) {
      lengths_.erase(place);
    }
    index_.Erase(Hash(id.bytes()), *found);
    ids_.erase(found);
    return true;
  }

  /// The value of the ID that `bytes` begins with, or null: `bytes` is what follows the first byte
  /// of a short header, of any length.  `probes`, if given, is increased by the hash probes made:
  /// at most lengths(), and exactly that for an unknown ID, less the lengths that `bytes` is too
  /// short for.
  const Value *Find(std::span<const std::uint8_t> bytes, std::uint64_t *probes = nullptr) const {
    for (const auto &[length, ids] : lengths_) {
      if (length > bytes.size()) {
        break;
      }
      if (const auto *value = Probe(bytes.first(length), probes)) {
        return value;
      }
    }
    return nullptr;
  }

  /// The value of the ID that is `bytes`, neither more nor less, or null: for long headers, which
  /// say how long it is.  At most one probe, none for a length that is not in use.
  const Value *FindExact(std::span<const std::uint8_t> bytes,
                         std::uint64_t *probes = nullptr) const {
    const auto place = LengthAt(bytes.size());
    if (place == lengths_.end() || place->length != bytes.size()) {
      return nullptr;
    }
    return Probe(bytes, probes);
  }

private:
  using Entry = std::pair<const ConnectionId, Value>;

  struct Length {
    std::size_t length; // In bytes.
    std::size_t ids;    // That have it; never 0.
  };

  std::uint64_t Hash(std::span<const std::uint8_t> bytes) const noexcept {
    return SipHash<1, 3>(key_, bytes);
  }

  const Value *Probe(std::span<const std::uint8_t> bytes, std::uint64_t *probes) const {
    if (probes) {
      ++*probes;
    }
    const auto *entry = index_.Find(Hash(bytes), [bytes](const Entry &candidate) {
      return Compare(candidate.first.bytes(), bytes) == Relation::kEqual;
    });
    return entry ? &entry->second : nullptr;
  }

  // Where `length` is in lengths_, or would be.
  auto LengthAt(std::size_t length) const {
    return std::ranges::lower_bound(lengths_, length, {}, &Length::length);
  }
  auto LengthAt(std::size_t length) {
    return std::ranges::lower_bound(lengths_, length, {}, &Length::length);
  }

  HashKey key_;
  ConnectionIdTableLimits limits_;
  std::map<ConnectionId, Value> ids_; // At most max_ids.
  HashIndex<Entry> index_;            // The same ones.
  std::vector<Length> lengths_;       // At most max_lengths, in ascending order.
};

} // namespace ngmasque
