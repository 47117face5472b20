// Datagrams of several tunnels that wait for the congestion window of one connection.
#pragma once

#include "ngmasque/wire/byte_budget.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <utility>

namespace ngmasque {

/// A queue in which tunnels take turns, of about the same number of bytes each (deficit round
/// robin): a bulk transfer in one delays another by one turn, and not by what it has waiting.
///
/// When there is no room left, whoever has more than its share of it drops: that is the new datagram
/// or, if its tunnel has less than the share, the newest ones of the tunnel that has most.
class DatagramQueue {
public:
  /// Any number that tells tunnels of the connection apart.
  using Key = std::uint64_t;

  /// What each datagram counts besides its bytes, about what it takes: small ones are not for free.
  static constexpr std::size_t kOverhead = 64;
  /// Bytes of a turn: a packet, or several small ones.  A larger datagram takes several at once.
  static constexpr std::size_t kTurn = 1500;

  /// Takes a datagram that is dropped to make room for another tunnel's; must not call the queue.
  using Dropped = std::function<void(Key tunnel, std::span<const std::uint8_t> datagram)>;

  /// `max_bytes`: what may wait, of all tunnels, with kOverhead for each datagram.
  DatagramQueue(std::size_t max_bytes, Dropped dropped)
    : max_bytes_(max_bytes), dropped_(std::move(dropped)) {}
  ~DatagramQueue() { ShareWith(nullptr); }
  DatagramQueue(const DatagramQueue &) = delete;
  DatagramQueue &operator=(const DatagramQueue &) = delete;

  /// What waits counts there as well from now on, if it is not null: where there is no room in it,
  /// there is none in the queue.  To be called while the queue is empty.
  void ShareWith(std::shared_ptr<ByteBudget> budget) {
    if (budget_) {
      budget_->Give(bytes_);
    }
    budget_ = std::move(budget);
  }

  /// Puts a datagram behind those of its tunnel, the two parts one after the other, and drops others
  /// for it where it must.  False: there is no room for it.
  [[nodiscard]] bool Push(Key tunnel, std::span<const std::uint8_t> header,
                          std::span<const std::uint8_t> payload);

  /// Whose turn it is; empty if nothing waits, or if it is an empty datagram's turn.  Valid until
  /// the next call of Push or Pop.
  [[nodiscard]] std::span<const std::uint8_t> Front() const {
    return empty() ? std::span<const std::uint8_t>() : turns_.front().datagrams.front().view();
  }

  /// Whose that is.  Not if the queue is empty.
  [[nodiscard]] Key front_tunnel() const { return turns_.front().key; }

  /// Bytes of the one whose turn comes after the front one's.  Not if fewer than two wait.
  [[nodiscard]] std::size_t NextSize() const;

  /// Takes the front one off a queue that is not empty.
  void Pop();

  /// What waits of one tunnel, in bytes as bytes() has them.
  struct Waiting {
    std::size_t datagrams = 0;
    std::size_t bytes = 0;
  };
  [[nodiscard]] Waiting waiting(Key tunnel) const;

  [[nodiscard]] bool empty() const { return turns_.empty(); }
  /// With kOverhead for each datagram.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  /// How many datagrams wait.
  [[nodiscard]] std::size_t size() const { return size_; }

private:
  struct Datagram {
    std::unique_ptr<std::uint8_t[]> memory{};
    std::size_t capacity = 0;
    std::size_t size = 0;

    [[nodiscard]] std::span<const std::uint8_t> view() const { return {memory.get(), size}; }
  };
  using Datagrams = std::list<Datagram>;

  struct Tunnel {
    Key key{};
    Datagrams datagrams{};  // Never empty.
    std::size_t bytes = 0;  // As bytes_.
    std::size_t credit = 0; // What is left of its turn.
  };
  using Turns = std::list<Tunnel>;
  using ByKey = std::map<Key, Turns::iterator>;

  // What is not in use, to be used again: a datagram costs no allocation as long as there is some.
  // All queues of a thread have it together, as a connection that is idle has no use for it.
  struct Spares;
  [[nodiscard]] static Spares &ThisThreads();

  // At the end, with memory for `size` bytes.
  [[nodiscard]] static Datagram &Make(Datagrams &to, std::size_t size);
  static void Take(Datagrams &from, Datagrams::iterator datagram);
  [[nodiscard]] ByKey::iterator AddTunnel(Key key);
  // Room for `size` bytes of a tunnel that has `has` so far, by dropping of others; false if none.
  bool MakeRoom(std::size_t size, std::size_t has, std::size_t tunnels);
  void Add(std::size_t bytes);
  void Subtract(std::size_t bytes);
  void Remove(Turns::iterator tunnel);
  // The first tunnel can send its first datagram.
  void BeginTurn();

  std::size_t max_bytes_;
  Dropped dropped_;
  std::shared_ptr<ByteBudget> budget_; // May be null.
  std::size_t size_ = 0;
  std::size_t bytes_ = 0; // At most max_bytes_, which bounds the others as well.
  Turns turns_;           // The first one has its turn.
  ByKey by_key_;
};

} // namespace ngmasque
