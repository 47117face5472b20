// Which flow ids of a connection are used up, and for what.
#pragma once

#include "ngmasque/routing/types.h"
#include "ngmasque/session/message.h"

#include <cstddef>
#include <cstdint>
#include <map>

namespace ngmasque {

/// The flows of a connection that have ended or were refused.
///
/// Clients count their flow ids up, so the lowest ones are forgotten first, and none up to the
/// highest one of these can be used any more, whatever its authority.  A client that chooses its
/// flow ids in another way comes to need a new connection.
class EndedFlows {
public:
  /// `key`: see HashKey.
  explicit EndedFlows(const HashKey &key) : key_(key) {}

  void Add(FlowId flow, const Authority &authority) {
    if (flow < first_) {
      return;
    }
    flows_.insert_or_assign(flow, Hash(authority));
    if (flows_.size() > kMaxRemembered) {
      first_ = flows_.begin()->first + 1;
      flows_.erase(flows_.begin());
    }
  }

  //= draft-00, section 5
  //# The proxy also MUST reject the request if the requested datagram flow ID has already been used
  //# on that client <-> proxy QUIC connection with a different requested authority.
  [[nodiscard]] bool Allow(FlowId flow, const Authority &authority) const {
    if (flow < first_) {
      return false;
    }
    const auto ended = flows_.find(flow);
    return ended == flows_.end() || ended->second == Hash(authority);
  }

  /// So many flow ids are remembered with their authorities.
  static constexpr std::size_t kMaxRemembered = 256;

private:
  // Instead of the authority, which can be long.  Nobody can look for two that have the same.
  [[nodiscard]] std::uint64_t Hash(const Authority &authority) const {
    const auto text = AuthorityText(authority);
    return SipHash<1, 3>(key_, {reinterpret_cast<const std::uint8_t *>(text.data()), text.size()});
  }

  HashKey key_;
  FlowId first_ = 0;                      // Of those that can still be used.
  std::map<FlowId, std::uint64_t> flows_; // At most kMaxRemembered.
};

} // namespace ngmasque
