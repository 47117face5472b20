// When a client begins to move by itself.
#pragma once

#include "ngmasque/routing/connection_id.h"
#include "ngmasque/routing/types.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace ngmasque {

//= RFC 9000, section 9.5
//# An endpoint MUST NOT reuse a connection ID when sending from more than one local address -- for
//# example, when initiating connection migration as described in Section 9.2 or when probing a new
//# network path as described in Section 9.1.
//
/// So a client that has moved sends to another of the server's connection IDs, and one that a NAT has
/// given another address to does not.  ngtcp2 decides about the path when it is done with a packet,
/// but what is in that packet may depend on it: this is told of packets before their frames are.
class PeerMoves {
public:
  /// Whether packets from `path` to `id` are nothing new, which saves the caller of OnFrame if the
  /// connection still uses the same local address.
  [[nodiscard]] bool Knows(const FourTuple &path, std::span<const std::uint8_t> id) const {
    return !used_.empty() && std::ranges::equal(used_.back().bytes(), id) && path_ == path;
  }

  /// A frame other than those for probing a path has come from `path`, in a packet to `id` with a short
  /// header; also for such a packet as a whole, when ngtcp2 has come to the path.  `current`: the path
  /// in use.
  /// Returns true, once for each move, if the client has moved by itself.
  ///
  /// A packet that was overtaken by the move is known by its connection ID, also while ngtcp2 is where
  /// the client was.  If a client goes back to one that it has used on a path before, the move is known
  /// when ngtcp2 has followed.
  [[nodiscard]] bool OnFrame(const FourTuple &path, const ConnectionId &id,
                             const FourTuple &current) {
    OnPath(current);
    // A packet without such a frame may have brought it there.  No NAT changes the server's address.
    const bool unnoticed = path_ && followed_ && current.local != path_->local;
    if (unnoticed) {
      Leave();
      path_ = current;
    }
    const bool known = std::ranges::contains(used_, id);
    const bool left = std::ranges::contains(left_, id);
    if (path == current ? left && !followed_ : known || left || !path_) {
      return unnoticed;
    }
    const bool moved = !known && path_ && path != *path_;
    if (moved) {
      Leave();
      followed_ = path == current;
    }
    path_ = path;
    OnRetired(id);
    used_.push_back(id);
    return moved || unnoticed;
  }

  /// The connection uses `current`.
  void OnPath(const FourTuple &current) { followed_ = followed_ || current == path_; }

  /// The client may not send to it any more.
  void OnRetired(const ConnectionId &id) {
    std::erase(used_, id);
    std::erase(left_, id);
  }

private:
  void Leave() {
    left_.insert(left_.end(), used_.begin(), used_.end());
    used_.clear();
  }

  std::optional<FourTuple> path_; // That of the packets that were told of.
  bool followed_ = true;          // ngtcp2 has been there since.
  // Those that it has sent to on that path, the last one last, and on others: together no more than it
  // may send to.
  std::vector<ConnectionId> used_, left_;
};

} // namespace ngmasque
