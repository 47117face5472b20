// The client's way through a CONNECT-UDP proxy: one HTTP/3 connection to it (the outer one), and on
// it one tunnel at a time for an inner connection.  draft-pauly-masque-quic-proxy-00, section 4.
//
// The inner connection is the program's: packets go in with Send and come out with OnPacket.
#pragma once

#include "ngmasque/io/common.h"
#include "ngmasque/quic/packet_size.h"
#include "ngmasque/routing/connection_id.h"
#include "ngmasque/session/client_tunnel.h"
#include "ngmasque/session/message.h"
#include "ngmasque/session/traffic.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct ev_loop;

namespace ngmasque {

/// Why a packet was dropped; ReasonName says it in words.
enum class ClientDrop : std::uint8_t {
  // Of Send.
  kEmpty,     ///< It had no bytes.
  kTooLarge,  ///< It does not fit the datagrams of the outer connection, nor is it one for the
              ///< stream (IsForStream): never cut.
  kNoTunnel,  ///< No tunnel is there, or it is over.
  kSendError, ///< The system refused to send it forwarded, for example as larger than the path.
  // Of what arrived.
  kUnknownFlow, ///< A datagram of another flow id than the tunnel's.
  kMalformed,   ///< A datagram too short for its flow id, or a payload that no UDP packet can have.
  kCount,
};

[[nodiscard]] std::string_view ReasonName(ClientDrop reason);

/// Of the inner connection, since the ProxyClient was made.
struct ProxyClientStatistics {
  Traffic tunnelled_tx; ///< Counted when it is taken into the queue of the outer connection.
  Traffic tunnelled_rx;
  Traffic forwarded_tx; ///< Counted when it has left.
  Traffic forwarded_rx;
  /// Of tunnelled_tx and tunnelled_rx, the packets that went on a stream.
  std::uint64_t on_stream_tx{};
  std::uint64_t on_stream_rx{};
  std::array<std::uint64_t, static_cast<std::size_t>(ClientDrop::kCount)> dropped{};
  /// By Fallback: how often it happened.
  std::array<std::uint64_t, static_cast<std::size_t>(Fallback::kRequestEnded) + 1> fallbacks{};

  [[nodiscard]] std::uint64_t of(ClientDrop reason) const {
    return dropped[static_cast<std::size_t>(reason)];
  }
  [[nodiscard]] std::uint64_t of(Fallback reason) const {
    return fallbacks[static_cast<std::size_t>(reason)];
  }
};

/// What became of a packet.
enum class SendStatus : std::uint8_t {
  kSent,    ///< It has left, or is in the queue of the outer connection.
  kDropped, ///< See ProxyClientStatistics::dropped.
  kBlocked, ///< Not now: OnWritable says when to try it again.
};

enum class ProxyClientError : std::uint8_t {
  kResolve,    ///< The proxy's name has no address.
  kSocket,     ///< No socket towards the proxy could be opened.
  kTls,        ///< GnuTLS refused the configuration, for example the CA file.
  kQlog,       ///< A qlog or key log file could not be opened.
  kNotReady,   ///< The outer connection is not there yet, or not any more.
  kFlowIds,    ///< All flow ids of the outer connection have been used.
  kIdConflict, ///< The inner connection ID conflicts with one of the outer connection (C8): choose
               ///< another one.
  kNotSupported, ///< The proxy does not want its clients to migrate.
  kInternal,     ///< A library refused what it should not; see the log.
};

[[nodiscard]] std::string_view ErrorName(ProxyClientError error);

/// See above.  Everything happens on the thread of the loop; objects can neither be copied nor
/// moved.  From Start to Close, or OnClosed, its watchers keep ev_run running.
class ProxyClient {
public:
  struct Options {
    std::string host{};       ///< A name or an address, IPv6 without brackets.
    std::string port = "443"; ///< In decimal digits.
    /// The name in SNI and, with `ca_file`, that of the certificate.  Empty: `host`.
    std::string sni{};
    /// PEM; the only roots that are trusted.  Empty: the certificate is not verified, as in the
    /// sample client.
    std::filesystem::path ca_file{};
    std::filesystem::path qlog_dir{}; ///< Empty: no qlog.  File: ID.outer.sqlog, ID in hex.
    /// Empty: none.  The program passes the value of SSLKEYLOGFILE.
    std::filesystem::path key_log_file{};
    bool forward = true; ///< Whether forwarded mode is wanted.
    /// Of the outer connection.  A third of it without packets makes a PING, since in forwarded
    /// mode nothing else flows there.
    std::chrono::milliseconds idle_timeout{30'000};
    /// For each address of the proxy.  A third of it is for packets of max_udp_payload bytes, the
    /// rest for a second attempt that begins with kMinUdpPayload.
    std::chrono::milliseconds handshake_timeout{10'000};
    std::size_t max_udp_payload = kOuterUdpPayload; ///< Of outer packets in bytes, 1200 to 65527.
    bool gso = true;
    ClientTunnelLimits limits{};
    LogFunction log{}; ///< Null: no log.
  };

  /// Called from the loop alone, never from within a member function of ProxyClient;
  /// every member function may be called from within, but for the destructor.
  class Handler {
  public:
    virtual ~Handler() = default;

    /// The outer connection is there: OpenTunnel will do.  `max_payload` is max_payload().
    virtual void OnReady(std::size_t max_payload) = 0;

    /// A packet for the inner connection.  `ecn`: that of the IP header, 0 to 3; 0 if tunnelled.
    /// The view is valid during the call.
    virtual void OnPacket(std::span<const std::uint8_t> packet, unsigned ecn) = 0;

    /// All packets that were there have been handed over: time to answer.
    virtual void OnPacketsDone() {}

    /// How long the inner connection waits for an answer before it probes (RFC 9002, section 6.2).
    /// When nothing has come for so long after a forwarded packet, the outer connection sends a
    /// PING: if a NAT has given the client another port, the proxy does not know it before that.
    /// Also called from within Send and SendBurst.
    [[nodiscard]] virtual std::chrono::nanoseconds ProbeTimeout() const {
      return std::chrono::seconds(1);
    }

    /// The proxy has accepted the tunnel.  (Packets may be sent before.)
    virtual void OnOpened() {}

    /// The target may be told of this client connection ID (C10) ...
    virtual void OnReleaseClientId(const ConnectionId &id) = 0;
    /// ... must never be told of it.
    virtual void OnDiscardClientId(const ConnectionId &id) = 0;

    /// After kBlocked: there is room.
    virtual void OnWritable() = 0;

    /// The tunnel is over.  `retry`: OpenTunnel with a new inner connection, and another connection
    /// ID, may work (C9); it takes the next flow id.  Otherwise it is as good to give up.
    virtual void OnFailed(std::string_view text, bool retry) = 0;

    /// The outer connection is over, or did not come about; nothing else is called any more.
    virtual void OnClosed(std::string_view text) = 0;
  };

  /// `loop` and `handler` have to outlive it.
  ProxyClient(struct ev_loop *loop, Options options, Handler &handler);
  /// As Close, but without a word to the proxy.
  ~ProxyClient();
  ProxyClient(const ProxyClient &) = delete;
  ProxyClient &operator=(const ProxyClient &) = delete;

  /// Looks the proxy up, which may block, and starts the outer connection.  The addresses are tried
  /// in turn until one has answered; OnReady or OnClosed follows.  To be called once.
  /// Errors: kResolve, kSocket, kTls, kQlog, kInternal.
  [[nodiscard]] std::expected<void, ProxyClientError> Start();

  /// Starts a tunnel to `target` for an inner connection whose Initial has the Source Connection ID
  /// `inner_scid`.  An older tunnel ends.  Packets can be sent at once (C7).
  /// Errors: kNotReady, kFlowIds, kIdConflict.
  [[nodiscard]] std::expected<void, ProxyClientError> OpenTunnel(const Authority &target,
                                                                 const ConnectionId &inner_scid);

  /// Ends the tunnel; its requests are closed (C15).  Without one nothing happens.
  void CloseTunnel();

  // Connection IDs of the inner connection: as in ClientTunnel.  Without a tunnel nothing happens.

  /// To be answered by OnReleaseClientId or OnDiscardClientId.
  void AddClientId(const ConnectionId &id);
  void RemoveClientId(const ConnectionId &id);
  void AddServerId(const ConnectionId &id);
  void RemoveServerId(const ConnectionId &id);

  /// Sends one UDP payload of the inner connection.  `ecn`, 0 to 3, is that of forwarded packets;
  /// tunnelled ones have none.
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

  /// How long nothing has come from the proxy, forwarded packets included; 0 before Start.
  [[nodiscard]] std::chrono::nanoseconds silence() const;

  /// Moves the outer connection to a socket of its own with another local port, and forwarded
  /// packets with it once the proxy has answered there.
  /// Errors: kNotReady (also from within OnPacket, or before the handshake is confirmed), kSocket,
  /// kNotSupported (the proxy forbids it, or has given no connection ID to do it with).
  [[nodiscard]] std::expected<void, ProxyClientError> ChangeLocalAddress();

  /// Closes the tunnel and the outer connection, and stops all watchers.  Nothing is called any
  /// more.
  void Close();

  [[nodiscard]] const ProxyClientStatistics &statistics() const;

private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

} // namespace ngmasque
