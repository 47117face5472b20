#include "closed_connections.h"

#include <algorithm>
#include <bit>

namespace ngmasque {

namespace {
//= RFC 9000, section 10.2.1
//# To avoid being used for an amplification attack, such endpoints MUST limit the cumulative size
//# of packets it sends to three times the cumulative size of the packets that are received and
//# attributed to the connection.
constexpr std::uint64_t kMaxAmplification = 3;
} // namespace

void ClosedConnections::Add(std::span<const ConnectionId> ids, std::span<const std::uint8_t> close,
                            Nanoseconds until) {
  if (entries_.size() >= kMaxConnections) {
    Remove(entries_.begin()->first);
  }
  const auto number = next_++;
  auto &entry = entries_[number];
  ids = ids.first(std::min(ids.size(), kMaxIds));
  entry.ids.assign(ids.begin(), ids.end());
  if (close.size() <= kMaxClosePacket) {
    entry.close.assign(close.begin(), close.end());
  }
  entry.until = until;
  expiries_.emplace(until, number);
  for (const auto &id : ids) {
    // The first ID of a client may be that of another one, too: the later one has it.
    by_id_.insert_or_assign(id, number);
  }
}

std::optional<std::span<const std::uint8_t>> ClosedConnections::OnPacket(const ConnectionId &id,
                                                                         std::size_t size) {
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) {
    return {};
  }
  auto &entry = entries_.at(found->second);
  entry.received += size;
  const auto after = entry.sent + entry.close.size();
  if (!std::has_single_bit(++entry.packets) || after > kMaxAmplification * entry.received) {
    return std::span<const std::uint8_t>{};
  }
  entry.sent = after;
  return entry.close;
}

void ClosedConnections::Expire(Nanoseconds now) {
  while (!expiries_.empty() && expiries_.begin()->first <= now) {
    Remove(expiries_.begin()->second);
  }
}

Nanoseconds ClosedConnections::NextExpiry() const {
  return expiries_.empty() ? kNever : expiries_.begin()->first;
}

void ClosedConnections::Remove(Number number) {
  const auto found = entries_.find(number);
  for (const auto &id : found->second.ids) {
    if (const auto by = by_id_.find(id); by != by_id_.end() && by->second == number) {
      by_id_.erase(by);
    }
  }
  expiries_.erase({found->second.until, number});
  entries_.erase(found);
}

} // namespace ngmasque
