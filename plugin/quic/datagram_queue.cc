#include "ngmasque/quic/datagram_queue.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

bool DatagramQueue::Push(Key key, std::span<const std::uint8_t> header,
                         std::span<const std::uint8_t> payload) {
  const auto size = header.size() + payload.size() + kOverhead;
  auto known = by_key_.find(key);
  const bool waits = known != by_key_.end();
  if (!MakeRoom(size, waits ? known->second->bytes : 0, turns_.size() + (waits ? 0 : 1))) {
    return false;
  }
  if (!waits) {
    known = by_key_.emplace(key, turns_.insert(turns_.end(), Tunnel{.key = key})).first;
  }
  auto &tunnel = *known->second;
  auto &datagram = tunnel.datagrams.emplace_back();
  datagram.reserve(header.size() + payload.size());
  datagram.insert(datagram.end(), header.begin(), header.end());
  datagram.insert(datagram.end(), payload.begin(), payload.end());
  tunnel.bytes += size;
  Add(size);
  ++size_;
  BeginTurn();
  return true;
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
    const auto datagram = std::move(most->datagrams.back());
    const auto bytes = datagram.size() + kOverhead;
    most->bytes -= bytes;
    Subtract(bytes);
    most->datagrams.pop_back();
    --size_;
    dropped_(most->key, datagram);
    if (most->datagrams.empty()) {
      Remove(most);
    }
  }
  return true;
}

std::span<const std::uint8_t> DatagramQueue::Front() const {
  return empty() ? std::span<const std::uint8_t>() : turns_.front().datagrams.front();
}

void DatagramQueue::Pop() {
  auto &tunnel = turns_.front();
  const auto size = tunnel.datagrams.front().size() + kOverhead;
  tunnel.datagrams.pop_front();
  tunnel.bytes -= size;
  tunnel.credit -= std::min(tunnel.credit, size);
  Subtract(size);
  --size_;
  if (tunnel.datagrams.empty()) {
    Remove(turns_.begin());
  } else if (tunnel.credit < tunnel.datagrams.front().size() + kOverhead) {
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
  by_key_.erase(tunnel->key);
  turns_.erase(tunnel);
}

void DatagramQueue::BeginTurn() {
  if (!empty()) {
    auto &tunnel = turns_.front();
    while (tunnel.credit < tunnel.datagrams.front().size() + kOverhead) {
      tunnel.credit += kTurn;
    }
  }
}

} // namespace ngmasque
