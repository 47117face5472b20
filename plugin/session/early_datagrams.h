// Payloads that have come before the flow that they belong to.
#pragma once

#include "ngmasque/session/tunnel.h"
#include "ngmasque/wire/byte_budget.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace ngmasque {

/// See ProxyOptions.
struct EarlyLimits {
  std::size_t max_datagrams = 16; ///< Of one flow.
  std::size_t max_flows = 8;
  std::size_t max_bytes = 65'536;
};

/// The early payloads of one connection.
///
//= draft-00, section 4.1
//# The client can start sending packets tunnelled within DATAGRAM frames as soon as this first
//# CONNECT-UDP request for the datagram flow ID has been sent, even in the same QUIC packet to the
//# proxy.
///
/// Where a bound is reached, flows whose request has not come make room, the oldest one first: it
/// may never come.  If there is none of them, the new payload is dropped.
class EarlyDatagrams {
public:
  using Payload = std::vector<std::uint8_t>;

  /// `budget`: what is kept counts there, too.
  EarlyDatagrams(const EarlyLimits &limits, std::shared_ptr<ByteBudget> budget)
    : limits_(limits), budget_(std::move(budget)) {}
  ~EarlyDatagrams() { budget_->Give(bytes_); }
  EarlyDatagrams(const EarlyDatagrams &) = delete;
  EarlyDatagrams &operator=(const EarlyDatagrams &) = delete;

  /// Keeps a payload of 0 bytes or more; false if it is dropped.  `awaited`: the flow's request has
  /// come.  Without it, payloads of a flow that has been retired are late, not early, and dropped.
  [[nodiscard]] bool Keep(TunnelKey flow, bool awaited, std::span<const std::uint8_t> payload);

  /// The flow's request has come.
  void Await(TunnelKey flow);

  /// The flow is there: its payloads, in the order in which they have come.
  [[nodiscard]] std::vector<Payload> Take(TunnelKey flow);

  /// What is kept was read in another form than it will be: all of it is thrown away.
  void Clear() {
    while (!flows_.empty()) {
      Forget(flows_.begin());
    }
  }

  /// What is kept counts in `budget` instead; if it has no room for it, all of it is thrown away.
  void ShareWith(std::shared_ptr<ByteBudget> budget);

  /// The flow was refused or has ended: its payloads are thrown away.
  void Retire(TunnelKey flow);

  /// How many bytes of payload are kept, and of how many flows.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] std::size_t flows() const { return flows_.size(); }

  /// The last flows that were retired, this many, are remembered.
  static constexpr std::size_t kMaxRetired = 32;

private:
  struct Flow {
    std::uint64_t age = 0; // Smaller is older.
    bool awaited = false;
    std::size_t bytes = 0;
    std::vector<Payload> payloads; // At most max_datagrams; never empty.
  };
  using Flows = std::map<TunnelKey, Flow>;

  // Forgets the oldest flow that is not awaited, but not `spared`; false if there is none.
  bool MakeRoom(TunnelKey spared);
  void Forget(Flows::iterator flow);

  // How many more bytes there is room for.
  std::size_t Room() const { return std::min(limits_.max_bytes - bytes_, budget_->room()); }

  EarlyLimits limits_;
  std::shared_ptr<ByteBudget> budget_;
  Flows flows_;           // At most max_flows.
  std::size_t bytes_ = 0; // At most max_bytes.
  std::uint64_t next_age_ = 0;
  std::deque<TunnelKey> retired_; // At most kMaxRetired.
};

} // namespace ngmasque
