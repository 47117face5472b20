// Payloads from tunnels that wait for the end of a batch, to be sent together.
#pragma once

#include "ngmasque/io/udp_socket.h"
#include "ngmasque/session/tunnel.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace ngmasque {

/// Copies payloads, which are views into what is gone after the call that brings them.
class TunnelledBatch {
public:
  /// What waits at most, in bytes and payloads: what is there is to be sent, and there is room
  /// again.
  static constexpr std::size_t kMaxBytes = kReadBufferSize;
  static constexpr std::size_t kMaxPayloads = 1024;

  struct Entry {
    Tunnel *tunnel{}; ///< Has a socket.
    std::span<const std::uint8_t> payload;
    std::size_t number{}; ///< Counts those that were added.
  };

  TunnelledBatch();

  /// False if it is full.  Any payload fits an empty batch.
  [[nodiscard]] bool Add(Tunnel &tunnel, std::span<const std::uint8_t> payload);
  [[nodiscard]] bool empty() const { return waiting_.entries.empty(); }
  [[nodiscard]] bool Has(const ServerSocket *socket) const;

  /// All of them, and the batch is empty.  Those for one socket stand together, lie one after the
  /// other in memory, and are in the order in which they came.  Valid until the next call.
  [[nodiscard]] std::span<const Entry> Take();

private:
  struct Store {
    std::unique_ptr<std::uint8_t[]> memory;
    std::size_t used = 0;
    std::vector<Entry> entries;

    [[nodiscard]] std::span<const std::uint8_t> Copy(std::span<const std::uint8_t> payload);
  };

  Store waiting_, taken_;
  std::size_t added_ = 0;
};

/// Bursts of what is for one socket.
class BurstPlan {
public:
  /// As few as there can be: payloads of the same size go together, and a shorter one may be the
  /// last.
  void Make(std::span<const TunnelledBatch::Entry> entries, const UdpSocket &socket);

  [[nodiscard]] std::size_t size() const { return bursts_.size(); }
  [[nodiscard]] std::span<const Burst> From(std::size_t index) const {
    return std::span(bursts_).subspan(index);
  }
  [[nodiscard]] const Burst &operator[](std::size_t index) const { return bursts_[index]; }
  /// Where the burst's entries begin; those of all are as many as there were.
  [[nodiscard]] std::size_t First(std::size_t index) const { return firsts_[index]; }
  /// Only the last `payload` of a burst is left to be sent.
  void KeepLast(std::size_t index, std::span<const std::uint8_t> payload);

private:
  std::vector<Burst> bursts_;
  std::vector<std::size_t> firsts_; // One more than bursts, for the end.
};

} // namespace ngmasque
