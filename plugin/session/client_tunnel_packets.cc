// The client's side of one inner connection: which way its packets go, and what they look like there.

#include "ngmasque/session/client_tunnel.h"

#include "ngmasque/wire/quic_header.h"

#include "forwarded_packet.h"

#include <algorithm>
#include <cstddef>
#include <tuple>

namespace ngmasque {

//= draft-00, section 4.3
//# When forwarding, the client sends a QUIC packet with the target server's Connection ID in the
//# QUIC short header, using the same socket between client and proxy that was used for the main
//# QUIC connection between client and proxy.
ClientWay ClientTunnel::FromInner(std::span<const std::uint8_t> packet) {
  if (state_ == State::kIdle || state_ == State::kOver) {
    return ClientWay::kDrop;
  }
  //= draft-00, section 1
  //# QUIC long header packets MUST use this mode.
  //
  //= draft-ietf-masque-quic-proxy, section 1
  //# QUIC long header packets between clients and targets MUST be proxied in tunnelled mode
  //
  //= draft-ietf-masque-quic-proxy, section 6.1
  //# QUIC long header packets MUST NOT be forwarded.
  //
  // An empty UDP payload is no QUIC packet, but of a service that is not QUIC it says something.
  if (PeekHeaderForm(packet) != HeaderForm::kShort) {
    return ClientWay::kTunnel;
  }
  //= draft-00, section 4.3
  //# The client MUST wait for a successful (2xx) response before using forwarded mode.  Prior to
  //# receiving the server response, the client MUST send short header packets tunnelled in DATAGRAM
  //# frames.
  const auto *const mapping = servers_.Find(packet.subspan(1));
  //= draft-ietf-masque-quic-proxy, section 6.1
  //# The client MUST wait for an ACK_TARGET_CID capsule that contains the echoed connection ID and
  //# target VCID before using forwarded mode.
  //
  //= draft-ietf-masque-quic-proxy, section 6.1
  //# Prior to receiving the proxy server response, the client MUST send short header packets
  //# tunnelled in HTTP Datagram frames.
  //
  //= draft-ietf-masque-quic-proxy, section 6.1
  //# it MUST NOT forward packets to the requested target CID, but only use tunnelled mode.
  if (!mapping || (*mapping)->stage != Stage::kAcknowledged) {
    return ClientWay::kTunnel;
  }
  if (dialect_->virtual_ids() &&
      ((*mapping)->virtual_id.empty() ||
       (scramble_ && packet.size() < 1 + (*mapping)->id.size() + Scramble::kMinBehindId))) {
    return ClientWay::kTunnel;
  }
  begun_ = true;
  usual_.Add(packet.size());
  if (siblings_->current != this) {
    BecomeCurrent();
  }
  return ClientWay::kForward;
}

// What is acknowledged has a virtual connection ID, up to a move: those of zero length are refusals.
bool ClientTunnel::MayWait(std::span<const std::uint8_t> packet) const {
  if (state_ != State::kOpen || PeekHeaderForm(packet) != HeaderForm::kShort ||
      packet.size() > usual_.get()) {
    return false;
  }
  const auto *const mapping = servers_.Find(packet.subspan(1));
  return mapping && (*mapping)->stage == Stage::kAcknowledged && dialect_->virtual_ids() &&
         (*mapping)->virtual_id.empty();
}

std::span<const std::uint8_t> ClientTunnel::ToProxy(std::span<const std::uint8_t> packet,
                                                    std::span<std::uint8_t> room) const {
  const auto *const mapping = servers_.Find(packet.subspan(1));
  if (!mapping || (*mapping)->virtual_id.empty()) {
    return packet;
  }
  const auto &virtual_id = (*mapping)->virtual_id;
  const auto rest = packet.subspan(1 + (*mapping)->id.size());
  const auto written = room.first(1 + virtual_id.size() + rest.size());
  written[0] = packet[0];
  //= draft-ietf-masque-quic-proxy, section 6.1
  //# Prior to sending a forwarded mode packet, the sender MUST replace the Connection ID with the
  //# Virtual Connection ID.
  //
  //= draft-ietf-masque-quic-proxy, section 5.4
  //# The proxy-chosen connection ID that the client MUST use when sending in forwarded mode.
  std::ranges::copy(virtual_id.bytes(), written.begin() + 1);
  std::ranges::copy(rest, written.end() - static_cast<std::ptrdiff_t>(rest.size()));
  if (scramble_) {
    std::ignore = scramble_->Encode(written, virtual_id.size()); // FromInner has seen to its length.
  }
  return written;
}

std::optional<std::span<const std::uint8_t>>
ClientTunnel::FromProxy(const ForwardedPacket &found, std::span<std::uint8_t> packet) const {
  if (!dialect_->virtual_ids()) {
    return packet;
  }
  // No proxy makes it shorter than the client's: see its codec.
  return FromClientLink({.bytes = packet}, found.id_length, found.mapping->id, scramble_.get())
    .transform([](const MutablePacket &read) -> std::span<const std::uint8_t> {
      return read.bytes;
    });
}

} // namespace ngmasque
