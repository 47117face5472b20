#include "ngmasque/quic/datagram_queue.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

namespace ngmasque {

namespace {

// Memory is a multiple of so many bytes, so that it can be used for another datagram; few, as the
// bounds count the datagram's size.
constexpr std::size_t kStep = 128;
// Of each multiple there is a list; a larger datagram is rare, and its memory is given back.
constexpr std::size_t kSteps = 12;

} // namespace

// Owns nothing that a queue refers to, so that a queue may go from one thread to another.
struct DatagramQueue::Spares {
  // What is kept at most; more is given back.  Ten reads of 64 KiB from targets, as steps round up.
  static constexpr std::size_t kMaxBytes = 1 << 20;
  static constexpr std::size_t kMaxTunnels = 1024;

  std::array<Datagrams, kSteps> datagrams; // By capacity.
  std::size_t bytes = 0;                   // With kOverhead for each.
  Turns tunnels;
  std::vector<ByKey::node_type> keys; // As many as tunnels.

  // At least one step: an empty datagram has memory as well.
  static std::size_t StepsFor(std::size_t size) {
    return std::max<std::size_t>((size + kStep - 1) / kStep, 1);
  }
};

DatagramQueue::Spares &DatagramQueue::ThisThreads() {
  thread_local Spares spares;
  return spares;
}

bool DatagramQueue::Push(Key key, std::span<const std::uint8_t> header,
                         std::span<const std::uint8_t> payload) {
  const auto size = header.size() + payload.size() + kOverhead;
  auto known = by_key_.find(key);
  const bool waits = known != by_key_.end();
  if (!MakeRoom(size, waits ? known->second->bytes : 0, turns_.size() + (waits ? 0 : 1))) {
    return false;
  }
  if (!waits) {
    known = AddTunnel(key);
  }
  auto &tunnel = *known->second;
  auto &datagram = Make(tunnel.datagrams, header.size() + payload.size());
  std::ranges::copy(payload, std::ranges::copy(header, datagram.memory.get()).out);
  tunnel.bytes += size;
  Add(size);
  ++size_;
  BeginTurn();
  return true;
}

DatagramQueue::Datagram &DatagramQueue::Make(Datagrams &to, std::size_t size) {
  const auto steps = Spares::StepsFor(size);
  auto &spares = ThisThreads();
  if (steps <= kSteps && !spares.datagrams[steps - 1].empty()) {
    auto &from = spares.datagrams[steps - 1];
    to.splice(to.end(), from, from.begin());
    spares.bytes -= to.back().capacity + kOverhead;
  } else {
    const auto capacity = steps * kStep;
    to.push_back({.memory = std::make_unique_for_overwrite<std::uint8_t[]>(capacity),
                  .capacity = capacity});
  }
  to.back().size = size;
  return to.back();
}

void DatagramQueue::Take(Datagrams &from, Datagrams::iterator datagram) {
  const auto steps = datagram->capacity / kStep;
  const auto bytes = datagram->capacity + kOverhead;
  auto &spares = ThisThreads();
  if (steps <= kSteps && bytes <= Spares::kMaxBytes - spares.bytes) {
    // The one that was used last is the first to be used again: it is in the cache.
    auto &to = spares.datagrams[steps - 1];
    to.splice(to.begin(), from, datagram);
    spares.bytes += bytes;
  } else {
    from.erase(datagram);
  }
}

DatagramQueue::ByKey::iterator DatagramQueue::AddTunnel(Key key) {
  auto &spares = ThisThreads();
  if (spares.keys.empty()) {
    return by_key_.emplace(key, turns_.insert(turns_.end(), Tunnel{.key = key})).first;
  }
  turns_.splice(turns_.end(), spares.tunnels, spares.tunnels.begin());
  auto &tunnel = turns_.back();
  tunnel.key = key;
  tunnel.bytes = tunnel.credit = 0;
  auto node = std::move(spares.keys.back());
  spares.keys.pop_back();
  node.key() = key;
  node.mapped() = std::prev(turns_.end());
  return by_key_.insert(std::move(node)).position;
}

// A tunnel with less than its share is never the one that has most, as then all would have less.
bool DatagramQueue::MakeRoom(std::size_t size, std::size_t has, std::size_t tunnels) {
  // What is dropped here makes as much room in the budget: the bound stays.
  const auto bound = budget_ ? std::min(max_bytes_, bytes_ + budget_->room()) : max_bytes_;
  if (bytes_ + size > bound && has + size > bound / tunnels) {
    return false;
  }
  while (bytes_ + size > bound) {
    const auto most = std::ranges::max_element(turns_, {}, &Tunnel::bytes);
    const auto newest = std::prev(most->datagrams.end());
    const auto bytes = newest->size + kOverhead;
    most->bytes -= bytes;
    Subtract(bytes);
    --size_;
    dropped_(most->key, newest->view());
    Take(most->datagrams, newest);
    if (most->datagrams.empty()) {
      Remove(most);
    }
  }
  return true;
}

std::size_t DatagramQueue::NextSize() const {
  const auto &datagrams = turns_.front().datagrams;
  const auto next = std::next(datagrams.begin());
  const auto with = next == datagrams.end() ? 0 : datagrams.front().size + next->size + 2 * kOverhead;
  if (with != 0 && (turns_.size() == 1 || with <= turns_.front().credit)) {
    return next->size;
  }
  return std::next(turns_.begin())->datagrams.front().size;
}

void DatagramQueue::Pop() {
  auto &tunnel = turns_.front();
  const auto size = tunnel.datagrams.front().size + kOverhead;
  Take(tunnel.datagrams, tunnel.datagrams.begin());
  tunnel.bytes -= size;
  tunnel.credit -= std::min(tunnel.credit, size);
  Subtract(size);
  --size_;
  if (tunnel.datagrams.empty()) {
    Remove(turns_.begin());
  } else if (tunnel.credit < tunnel.datagrams.front().size + kOverhead) {
    turns_.splice(turns_.end(), turns_, turns_.begin());
  }
  BeginTurn();
}

void DatagramQueue::Add(std::size_t bytes) {
  bytes_ += bytes;
  if (budget_) {
    budget_->Take(bytes);
  }
}

void DatagramQueue::Subtract(std::size_t bytes) {
  bytes_ -= bytes;
  if (budget_) {
    budget_->Give(bytes);
  }
}

DatagramQueue::Waiting DatagramQueue::waiting(Key tunnel) const {
  const auto known = by_key_.find(tunnel);
  return known == by_key_.end() ? Waiting{}
                                : Waiting{.datagrams = known->second->datagrams.size(),
                                          .bytes = known->second->bytes};
}

void DatagramQueue::Remove(Turns::iterator tunnel) {
  auto &spares = ThisThreads();
  if (spares.keys.size() == Spares::kMaxTunnels) {
    by_key_.erase(tunnel->key);
    turns_.erase(tunnel);
    return;
  }
  spares.keys.push_back(by_key_.extract(tunnel->key));
  spares.tunnels.splice(spares.tunnels.end(), turns_, tunnel);
}

void DatagramQueue::BeginTurn() {
  if (!empty()) {
    auto &tunnel = turns_.front();
    while (tunnel.credit < tunnel.datagrams.front().size + kOverhead) {
      tunnel.credit += kTurn;
    }
  }
}

} // namespace ngmasque
