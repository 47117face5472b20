#include "tunnelled_batch.h"

#include "common.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace ngmasque {

std::span<const std::uint8_t> TunnelledBatch::Store::Copy(std::span<const std::uint8_t> payload) {
  auto *to = memory.get() + used;
  std::ranges::copy(payload, to);
  used += payload.size();
  return {to, payload.size()};
}

TunnelledBatch::TunnelledBatch() {
  for (auto *store : {&waiting_, &taken_}) {
    store->memory = std::make_unique_for_overwrite<std::uint8_t[]>(kMaxBytes);
  }
}

bool TunnelledBatch::Add(Tunnel &tunnel, std::span<const std::uint8_t> payload) {
  if (waiting_.entries.size() == kMaxPayloads || payload.size() > kMaxBytes - waiting_.used) {
    return false;
  }
  waiting_.entries.push_back(
    {.tunnel = &tunnel, .payload = waiting_.Copy(payload), .number = added_++});
  return true;
}

bool TunnelledBatch::Has(const ServerSocket *socket) const {
  return std::ranges::any_of(waiting_.entries,
                             [&](const Entry &entry) { return entry.tunnel->socket == socket; });
}

std::span<const TunnelledBatch::Entry> TunnelledBatch::Take() {
  std::swap(waiting_, taken_);
  waiting_.entries.clear();
  waiting_.used = 0;
  auto &entries = taken_.entries;
  const auto other = [&](const Entry &entry) {
    return entry.tunnel->socket != entries.front().tunnel->socket;
  };
  if (std::ranges::any_of(entries, other)) {
    // Mostly there is one socket; otherwise a second copy is cheaper than a system call for each.
    std::ranges::sort(entries, [](const Entry &a, const Entry &b) {
      return a.tunnel->socket != b.tunnel->socket
               ? std::less<>()(a.tunnel->socket, b.tunnel->socket)
               : a.number < b.number;
    });
    for (auto &entry : entries) {
      entry.payload = waiting_.Copy(entry.payload);
    }
    std::swap(waiting_.memory, taken_.memory);
    waiting_.used = 0;
  }
  return entries;
}

void BurstPlan::Make(std::span<const TunnelledBatch::Entry> entries, const UdpSocket &socket) {
  bursts_.clear();
  firsts_.clear();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto payload = entries[i].payload;
    if (!bursts_.empty() && !payload.empty()) {
      auto &[data, segment, ecn] = bursts_.back();
      // An empty one is a packet of its own.
      if (!data.empty() && data.size() % segment == 0 && payload.size() <= segment &&
          data.size() + payload.size() <= socket.MaxBurst(segment)) {
        data = {data.data(), data.size() + payload.size()};
        continue;
      }
    }
    // Not marked: the bits of the outer connection's packets are not theirs.
    //
    //= RFC 9298, section 6.2
    //# A UDP proxy MUST ignore ECN bits in the IP header of UDP packets received from the target,
    //# and it MUST set the ECN bits to Not-ECT on UDP packets it sends to the target.
    bursts_.push_back(OnePacket(payload));
    firsts_.push_back(i);
  }
  firsts_.push_back(entries.size());
}

void BurstPlan::KeepLast(std::size_t index, std::span<const std::uint8_t> payload) {
  bursts_[index] = OnePacket(payload);
  firsts_[index] = firsts_[index + 1] - 1;
}

} // namespace ngmasque
