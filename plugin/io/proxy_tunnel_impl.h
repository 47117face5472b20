// What a ProxyTunnel is made of.  proxy_tunnel.cc is the interface and the tunnel's life,
// proxy_tunnel_packets.cc its packets.
#pragma once

#include "ngmasque/io/proxy_client.h"
#include "ngmasque/io/udp_socket.h"
#include "ngmasque/quic/http3_client.h"

#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace ngmasque {

/// Shared by the program's handle, the ProxyClient while it is not over, and whoever is in the middle
/// of a call of the handler: each of the three may be gone at any time.
struct ProxyTunnel::Impl : std::enable_shared_from_this<ProxyTunnel::Impl> {
  /// An event of ClientTunnel about a connection ID.
  using IdEvent = std::function<std::vector<ClientAction>(ClientTunnel &)>;

  Impl(ProxyClient::Impl &client_in, Handler &handler_in, Authority target_in,
       ConnectionId first_id_in, std::uint64_t number_in, const Options &options_in)
    : client(&client_in),
      handler(&handler_in),
      target(std::move(target_in)),
      first_id(std::move(first_id_in)),
      number(number_in),
      options(options_in) {}

  // The functions of ProxyTunnel.
  void Tell(IdEvent event);
  SendStatus Send(std::span<const std::uint8_t> packet, unsigned ecn);
  std::span<const std::uint8_t> SendBurst(std::span<const std::uint8_t> packets,
                                          std::size_t segment, unsigned ecn);
  std::size_t MaxPayload() const;
  void Close();

  // Of the ProxyClient.
  /// The outer connection is there.
  void Begin();
  /// Does what an event of the session has brought.
  void Run(std::vector<ClientAction> actions);
  /// The tunnel is over; what is to be told of it is left.  The ProxyClient has forgotten it.
  void End();
  void TakePayload(std::span<const std::uint8_t> payload);
  /// Of what SendTunnelled has counted as sent.
  void QueueDropped(std::span<const std::uint8_t> datagram, DropReason reason);
  void TakeForwarded(const ForwardedPacket &found, std::span<std::uint8_t> packet, unsigned ecn);

  SendStatus SendTunnelled(std::span<const std::uint8_t> packet);
  /// Whether a packet that is to be forwarded again is to be tried later.
  bool Waits();
  std::expected<void, QuicError> SendOnStream(std::span<const std::uint8_t> packet);
  /// Takes what was sent or dropped off the front of `packets`.
  SendStatus Forward(std::span<const std::uint8_t> &packets, std::size_t segment, unsigned ecn);
  /// What Forward is to send of them: the first `size` bytes, as they are between client and proxy.
  struct Written {
    std::size_t size = 0;
    Burst burst;
  };
  Written Write(std::span<const std::uint8_t> packets, std::size_t segment, unsigned ecn);
  void Deliver(std::span<const std::uint8_t> packet, unsigned ecn);
  void Drop(DropReason reason) { ++statistics.dropped[static_cast<std::size_t>(reason)]; }

  ProxyClient::Impl *client; ///< Null: the tunnel is over.
  Handler *handler;          ///< Null: nothing is told any more.
  const Authority target;
  const ConnectionId first_id;
  const std::uint64_t number; ///< ProxyClient::Impl::TunnelNumber
  const Options options;
  std::weak_ptr<ClientTunnel> sibling; ///< For the session.
  ProxyTunnelStatistics statistics;
  /// Null before the outer connection is there, and once over.  Shared with who has taken a payload
  /// from it.
  std::shared_ptr<ClientTunnel> session;
  /// What came before the session; the program alone fills it.
  std::vector<IdEvent> early;
  bool writable_wanted = false; ///< The program was told kBlocked.
  /// Since when the program was told so because of a packet that is to be forwarded again; none is left
  /// when one was.
  std::optional<Nanoseconds> waits_since;
  bool delivered = false;       ///< It has been handed packets: OnPacketsDone.
};

} // namespace ngmasque
