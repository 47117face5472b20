// One tunnel of a ProxyClient: an inner connection to one target.
//
// The inner connection is the program's: packets go in with Send and come out with OnPacket.
#pragma once

#include "ngmasque/routing/connection_id.h"
#include "ngmasque/session/authority.h"
#include "ngmasque/session/client_tunnel.h"
#include "ngmasque/session/drop_reason.h"
#include "ngmasque/session/traffic.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ngmasque {

/// Of one tunnel, from its beginning.
struct ProxyTunnelStatistics {
  /// Counted when it is taken into the queue of the outer connection, unless it is dropped there.
  Traffic tunnelled_tx;
  Traffic tunnelled_rx;
  Traffic forwarded_tx; ///< Counted when it has left.
  Traffic forwarded_rx;
  /// Of tunnelled_tx and tunnelled_rx, the packets that went on a stream.
  std::uint64_t on_stream_tx{};
  std::uint64_t on_stream_rx{};
  Drops dropped{};
  /// By Fallback: how often it happened.
  std::array<std::uint64_t, static_cast<std::size_t>(Fallback::kMappingReset) + 1> fallbacks{};

  [[nodiscard]] std::uint64_t of(DropReason reason) const {
    return dropped[static_cast<std::size_t>(reason)];
  }
  [[nodiscard]] std::uint64_t of(Fallback reason) const {
    return fallbacks[static_cast<std::size_t>(reason)];
  }
  /// For the sum of several.
  ProxyTunnelStatistics &operator+=(const ProxyTunnelStatistics &other);
};

/// What became of a packet.
enum class SendStatus : std::uint8_t {
  kSent,    ///< It has left, or is in the queue of the outer connection.
  kDropped, ///< See ProxyTunnelStatistics::dropped.
  kBlocked, ///< Not now: OnWritable says when to try it again.
};

/// How a tunnel came to its end.
struct TunnelEnd {
  enum class Kind : std::uint8_t {
    kRefused,    ///< The proxy has answered with `status`.
    kNoAnswer,   ///< The first request has ended without an answer, or could not be sent.
    kEnded,      ///< The proxy has ended it after it was opened.
    kRejected,   ///< The proxy is going away, and has not looked at the request: on another
                 ///< connection, to whoever takes its place, it may work.
    kConnection, ///< The outer connection is over: no tunnel is left, and OnClosed of the
                 ///< ProxyClient follows.
  };
  Kind kind{};
  unsigned status{}; ///< Of HTTP, with kRefused; otherwise 0.
  /// Another tunnel with a new inner connection, and another connection ID, may work.  Otherwise
  /// it is as good to give up.
  bool retry = false;
  /// With kRefused: seconds after which the proxy says to try again, if it does (RFC 9110,
  /// section 10.2.3).  It may be years: whoever obeys sets a bound.
  std::optional<unsigned> retry_after{};
  std::string text; ///< For people.
};

/// A tunnel, which the program owns and ProxyClient::Open has made.  It may outlive its ProxyClient,
/// and be destroyed at any time, from within any call of any Handler too.
///
/// After OnEnded or Close it is over: packets are dropped, connection IDs ignored, and nothing of it is
/// called any more.  statistics() stays.
class ProxyTunnel {
public:
  struct Options {
    bool forward = true; ///< Whether forwarded mode is wanted.
    /// False for a service that is not QUIC: none of the functions for connection IDs is to be
    /// called, and the proxy needs a socket for the tunnel alone.
    bool connection_ids = true;
    ClientTunnelLimits limits{};
  };

  /// Called from the loop alone, never from within a member function but for ProbeTimeout.
  class Handler {
  public:
    virtual ~Handler() = default;

    /// The proxy has accepted the tunnel.  (Packets may be sent before.)
    virtual void OnOpened() {}

    /// A packet of the target, which is empty if the UDP payload was (no packet of QUIC).  `ecn`:
    /// that of the IP header, 0 to 3; 0 if tunnelled.  The view is valid during the call.
    virtual void OnPacket(std::span<const std::uint8_t> packet, unsigned ecn) = 0;

    /// All packets that were there have been handed over: time to answer.
    virtual void OnPacketsDone() {}

    /// How long the inner connection waits for an answer before it probes (RFC 9002, section 6.2).
    /// When nothing has come from the proxy for so long after a forwarded packet, the outer
    /// connection sends a PING: if a NAT has given the client another port, the proxy does not know
    /// it before that.  Called from within Send and SendBurst; must call nothing of the tunnel.
    [[nodiscard]] virtual std::chrono::nanoseconds ProbeTimeout() const {
      return std::chrono::seconds(1);
    }

    /// The target may be told of this client connection ID ...
    virtual void OnReleaseClientId(const ConnectionId &id) = 0;
    /// ... must never be told of it.
    virtual void OnDiscardClientId(const ConnectionId &id) = 0;

    /// After kBlocked: it is worth another try.
    virtual void OnWritable() = 0;

    /// The tunnel is over, and not by Close; the last call.
    virtual void OnEnded(const TunnelEnd &end) = 0;
  };

  /// As Close.
  ~ProxyTunnel();
  ProxyTunnel(const ProxyTunnel &) = delete;
  ProxyTunnel &operator=(const ProxyTunnel &) = delete;

  // Connection IDs of the inner connection: as in ClientTunnel.

  /// To be answered by OnReleaseClientId or OnDiscardClientId.  One that conflicts with those of
  /// another tunnel of the ProxyClient is discarded: Fallback::kClientIdRefused.
  void AddClientId(const ConnectionId &id);
  /// Without any left the tunnel is over as with Close.
  void RemoveClientId(const ConnectionId &id);
  /// `token`: the stateless reset token that came with it.
  void AddServerId(const ConnectionId &id, const std::optional<ResetToken> &token = {});
  void RemoveServerId(const ConnectionId &id);

  /// Sends one UDP payload of the inner connection.  `ecn`, 0 to 3, is that of forwarded packets;
  /// tunnelled ones have none.  kBlocked until the outer connection is there, too; and, when that or the
  /// proxy has moved, for packets that were forwarded and fit no datagram, until they are again: a second
  /// at most.
  [[nodiscard]] SendStatus Send(std::span<const std::uint8_t> packet, unsigned ecn);

  /// Sends UDP payloads of `segment` bytes each, more than 0; the last one may be shorter.
  /// Forwarded ones leave with one system call where the system can do that.  Returns what was
  /// blocked, nothing if nothing was.
  [[nodiscard]] std::span<const std::uint8_t> SendBurst(std::span<const std::uint8_t> packets,
                                                        std::size_t segment, unsigned ecn);

  /// The largest inner packet in bytes that fits a datagram of the outer connection now; 0 unless
  /// that is there.  Larger ones go on the stream if IsForStream, and forwarded ones can be as large
  /// as the path.
  [[nodiscard]] std::size_t max_payload() const;

  /// Ends the tunnel; its requests are closed.  Packets that were sent still leave.  Other
  /// tunnels go on.
  void Close();

  [[nodiscard]] bool over() const;
  [[nodiscard]] const Authority &target() const;
  [[nodiscard]] const ProxyTunnelStatistics &statistics() const;

  struct Impl; // Of the implementation.

private:
  friend class ProxyClient;
  explicit ProxyTunnel(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

} // namespace ngmasque
