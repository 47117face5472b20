// The proxy's way to the targets: look-ups and server-facing sockets on a libev loop around the
// Proxy of session/.  The connections to the clients are the program's.
#pragma once

#include "ngmasque/io/common.h"
#include "ngmasque/io/udp_socket.h"
#include "ngmasque/routing/types.h"
#include "ngmasque/session/proxy.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

struct ev_loop;

namespace ngmasque {

/// See above.  Everything happens on the thread of the loop.
class ProxyServer {
public:
  struct Options {
    ProxyOptions proxy;
    TargetPolicy::Options policy;
    LogFunction log; ///< Null: no log.
    /// An access log: told of each tunnel that has ended, and of each request that was refused.  In
    /// draft-00 a tunnel has several of those.  Nothing of ProxyServer may be called from within but
    /// counters.  Null: none.
    std::function<void(const TunnelRecord &)> record{};
  };

  /// A connection to a client, which is the program's.  Nothing of ProxyServer may be called from
  /// within but OnDatagramDropped.
  class Client {
  public:
    virtual ~Client() = default;

    /// Sends `prefix` and `payload` in a datagram; `tunnel` (Tunnel::number) tells those of
    /// different tunnels apart.  Nothing is returned if it was taken; kTooLarge if no packet on the
    /// path takes it now, kQueueFull, kBlocked or kSendError.
    virtual std::expected<void, DropReason> SendDatagram(std::uint64_t tunnel,
                                                         std::span<const std::uint8_t> prefix,
                                                         std::span<const std::uint8_t> payload) = 0;
    /// Sends `prefix` and `payload` on the stream.  Errors: kQueueFull, and neither is sent.
    virtual std::expected<void, DropReason> SendOnStream(StreamId stream,
                                                         std::span<const std::uint8_t> prefix,
                                                         std::span<const std::uint8_t> payload) = 0;
    /// Sends on the stream what must not be left out, and so has room where payloads have taken all of
    /// theirs.  Errors: kQueueFull; the tunnel is ended then.
    virtual std::expected<void, DropReason> SendMessage(StreamId stream,
                                                        std::span<const std::uint8_t> message) = 0;
    /// Sends packets as they are on the 4-tuple of the connection.
    virtual SendOutcome Forward(const FourTuple &tuple, const Burst &packets) = 0;
    /// Whose the connection is has turned out with a request: what waits for it is to be taken of this
    /// one from now on.  Nothing waits in datagrams or on streams of tunnels yet.
    virtual void ShareWith(std::shared_ptr<ByteBudget> /*waiting*/) {}
    /// The client has forwarded packets: its connection is not idle.
    virtual void OnActivity() = 0;
    /// Answers a request; a status of 300 or more ends the stream.
    virtual void Respond(StreamId stream, unsigned status,
                         std::span<const HeaderField> fields) = 0;
    /// Resets a request's stream in both directions, with a code of HTTP/3.
    virtual void ResetStream(StreamId stream, std::uint64_t code) = 0;
  };

  /// `loop` has to outlive it.  Lets the process have the descriptors that RoutingLimits::max_sockets
  /// takes, as far as the system allows.  Nothing is returned if look-ups cannot be set up.
  [[nodiscard]] static std::unique_ptr<ProxyServer> Create(struct ev_loop *loop, Options options);
  ~ProxyServer();
  ProxyServer(const ProxyServer &) = delete;
  ProxyServer &operator=(const ProxyServer &) = delete;

  /// See Proxy::SetPolicy.
  void SetPolicy(TargetPolicy::Options policy);

  /// See Proxy::SetRate.
  void SetRate(std::uint64_t max_bytes_per_second_per_client);

  /// See Proxy::Review.  Returns the connections that are to be closed.
  [[nodiscard]] std::vector<OuterConnection> Review(const ReviewFunction &review);

  // Connections: as in Proxy.

  /// `client` is used until RemoveConnection.  What waits in memory for it is to be taken of what is
  /// returned, Client::waiting of the one whose connection it is, until Client::ShareWith.
  std::expected<std::shared_ptr<ByteBudget>, SessionError>
  AddConnection(OuterConnection connection, const FourTuple &tuple, Client &client,
                const std::optional<ClientKey> &whose = std::nullopt);
  void SetDatagrams(OuterConnection connection, bool datagrams, bool rfc9297);
  void SetCertificate(OuterConnection connection, std::string_view name);
  void RemoveConnection(OuterConnection connection);
  void MoveConnection(OuterConnection connection, const FourTuple &tuple);
  void OnMigrating(OuterConnection connection);
  void Expect(OuterConnection connection, const FourTuple &tuple);
  [[nodiscard]] bool Reserve(OuterConnection connection, const ConnectionId &id);
  void Unreserve(OuterConnection connection, const ConnectionId &id);

  // Requests.

  void OnRequest(const StreamKey &stream, std::span<const HeaderField> fields);
  void OnStreamClosed(const StreamKey &stream, bool finished);

  // Packets.

  /// Returns the error code of HTTP/3 to close the connection with, 0 for none.  After an
  /// OnClientPacket the payload may wait, as a copy, for OnClientPacketsDone, to leave together with
  /// others; otherwise it leaves at once.
  [[nodiscard]] std::uint64_t OnDatagram(OuterConnection connection,
                                         std::span<const std::uint8_t> datagram);
  void OnStreamData(const StreamKey &stream, std::span<const std::uint8_t> data);

  /// A datagram that SendDatagram took is dropped after all, prefix and all: kQueueFull, kTooLarge or
  /// kSendError.
  void OnDatagramDropped(OuterConnection connection, std::uint64_t tunnel,
                         std::span<const std::uint8_t> datagram, DropReason reason);

  /// See Proxy::IsOver.
  [[nodiscard]] bool IsOver(std::span<const std::uint8_t> bytes) const;

  /// A UDP packet from a client.  False: it is for the proxy's own QUIC,
  /// and as it was; otherwise it may be written anew.  Packets that lie one after
  /// the other in memory are sent together; they have to be there until OnClientPacketsDone.
  [[nodiscard]] bool OnClientPacket(const FourTuple &tuple, std::span<std::uint8_t> packet,
                                    unsigned ecn);
  void OnClientPacketsDone();

  [[nodiscard]] ProxyCounters counters() const;
  /// How many tunnels there are, as ProxyCounters::flows has it.  Cost: O(1).
  [[nodiscard]] std::size_t tunnels() const;

private:
  struct State;
  explicit ProxyServer(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

} // namespace ngmasque
