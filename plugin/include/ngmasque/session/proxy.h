// The proxy's side of all tunnels: requests in, answers and packets out.
// draft-pauly-masque-quic-proxy-00, sections 2 and 5.
#pragma once

#include "ngmasque/session/access.h"
#include "ngmasque/session/authority.h"
#include "ngmasque/session/dialect.h"
#include "ngmasque/session/forwarding_fields.h"
#include "ngmasque/session/target_policy.h"
#include "ngmasque/session/tunnel_record.h"
#include "ngmasque/session/tunnels.h"
#include "ngmasque/wire/uri_template.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace ngmasque {

/// The options of a proxy, and its bounds.  What a peer gets when a bound is reached stands
/// with each; what is there already keeps working, and nobody else notices.
struct ProxyOptions {
  bool forwarding = true;     ///< Without it server-connection-id is answered with 403 (section 5).
  bool port_sharing = true;   ///< Flows to one target share a server-facing socket.
  bool connection_ids = true; ///< Without it the proxy is a plain one: the headers are ignored.
  /// Whether a name is used that has prohibited addresses besides others, by way of the others.
  /// Otherwise 403: names that lead into a private network are mostly there to get in.
  bool mixed_addresses = false;

  /// Conflicts: 409.  Bounds of one client: 429.  Those of all, max_sockets for example: 503.
  RoutingLimits routing{};
  std::size_t max_early_datagrams = 16;        ///< Of a flow without answer yet; more are dropped.
  std::size_t max_early_flows = 8;      ///< Per connection; datagrams of more are dropped.
  /// Per connection, and out of Client::waiting; more are dropped.
  std::size_t max_early_bytes = 65'536;
  /// Of one client: 429.  A small part of those of all, see RoutingLimits.
  std::size_t max_lookups_per_client = 32;
  std::size_t max_lookups = 1024; ///< Of all clients together: 503
  std::size_t max_addresses = 8;  ///< That are tried, of one name.
  /// Of one client, all of its connections, both ways; 0: no bound.  A client without a connection
  /// is forgotten, and what it had used with it.
  std::uint64_t max_bytes_per_second_per_client = 0;
  /// What may come at once.
  std::uint64_t burst_bytes_per_client = std::uint64_t{1} << 20;
  DialectFactory dialect = nullptr; ///< What connections speak; null: what their requests do.
  /// Path and query of the URI template: RFC 9298, section 2.
  UriTemplate path_template = UriTemplate::Parse(kDefaultUdpPath).value();
  /// Packet transforms that a client may choose from.
  std::vector<Transform> transforms{Transform::kScrambleDt, Transform::kIdentity};
  std::uint16_t worker = 0; ///< What virtual connection IDs carry: see KeyedSource.
  /// What virtual connection IDs are drawn with: the same for all workers of a port, and for a proxy
  /// that is started again.  Nothing: a key of its own.
  std::optional<HashKey> id_key = {};
  /// What ACK_TARGET_CID says beside a virtual connection ID; see Proxy::IsOver.  Null: no tokens.
  ResetTokenFunction reset_token = nullptr;
  /// Asked for each request, before anything else is done for it.  Null: everybody may.
  AccessFunction access = nullptr;
};

/// What is to be done, in this order.
namespace proxy_action {
/// Look `host` up and call OnLookup, once.  Literal addresses are not looked up.
struct Lookup {
  LookupId lookup{};
  std::string host;
};
/// Nobody waits for it any more.  It counts for the bounds until OnLookup is called all the same.
struct CancelLookup {
  LookupId lookup{};
};
/// Open a UDP socket, connect it to `target`, and call OnSocket, once.
struct OpenSocket {
  SocketId socket{};
  Endpoint target;
};
/// A shared socket has so many flows: what may wait there to be read should grow with them.  Said
/// for each power of two.
struct GrowSocket {
  SocketId socket{};
  std::size_t flows{};
};
/// Close a socket.  It is said once of each that OnSocket said was opened, and of one that is not
/// opened yet when nobody waits for it any more; OnSocket is ignored from then on.
struct CloseSocket {
  SocketId socket{};
};
/// Answer the request; a status of 300 or more ends the stream, and the proxy has forgotten it.
struct Respond {
  StreamKey stream;
  unsigned status{};
  std::vector<HeaderField> fields; ///< `:status` included.
  /// Of a request that is refused; null otherwise.
  std::shared_ptr<const TunnelRecord> refused = nullptr;
};
/// Send a message of the dialect on the stream of an accepted request.  If it cannot be sent, the
/// stream is to be reset, and OnStreamClosed called.
struct SendOnStream {
  StreamKey stream;
  std::vector<std::uint8_t> message;
};
/// Reset the stream: its tunnel or mapping is gone, and the proxy has forgotten it.
struct ResetStream {
  StreamKey stream;
  std::uint64_t code = kH3ConnectError; ///< Of HTTP/3.
};
/// Send a payload to the target: an early datagram whose flow has come into being.
struct SendToTarget {
  SocketId socket{};
  std::vector<std::uint8_t> payload;
};
/// Nothing is to be done: a tunnel has ended, which is said once of each.  With TunnelRecord::error
/// it was never there, and its requests have been refused, each with a record of its own.
using Ended = TunnelRecord;
} // namespace proxy_action

using ProxyAction =
  std::variant<proxy_action::Lookup, proxy_action::CancelLookup, proxy_action::OpenSocket,
               proxy_action::GrowSocket, proxy_action::CloseSocket, proxy_action::Respond,
               proxy_action::SendOnStream, proxy_action::ResetStream, proxy_action::SendToTarget,
               proxy_action::Ended>;
using ProxyActions = std::vector<ProxyAction>;

/// A payload for a target.
struct PayloadToTarget {
  /// Null if there is nothing to be sent: it is kept until its flow is there, or refused, or the rest
  /// of it is to come on the stream.
  Tunnel *tunnel{};
  std::span<const std::uint8_t> payload; ///< A view into what the proxy was given, or into itself.
};

/// How a packet of a target gets to the client.
enum class ClientForm : std::uint8_t {
  kDatagram, ///< In a datagram, after `prefix`; if it fits none, on the stream: see StreamPrefix.
  kStream,   ///< On `stream`, after what StreamPrefix says.
  kForward,  ///< As it is, on the 4-tuple of the tunnel's connection.
};

/// A client's packet, forwarded to the socket of the mapping's tunnel.
struct PacketToTarget {
  Mapping *mapping{}; ///< Null if it is not forwarded: it is for the proxy's own QUIC.
  MutablePacket packet; ///< To be sent like this.
};

/// Where a packet of a target goes.
struct PacketToClient {
  Tunnel *tunnel{};
  const Mapping *mapping{}; ///< Null if it has no registered connection ID.
  ClientForm form{};
  StreamId stream{};    ///< For kStream and kDatagram.
  std::span<const std::uint8_t> prefix{}; ///< For kDatagram; valid as long as the tunnel is.
  MutablePacket packet; ///< To be sent like this.
};

/// How many there are, and how many there were at most.
struct Level {
  std::size_t now{};
  std::size_t highest{};
  [[nodiscard]] bool operator==(const Level &) const = default;
  Level &operator++() {
    highest = std::max(highest, ++now);
    return *this;
  }
  Level &operator--() {
    --now;
    return *this;
  }
};

struct ProxyCounters {
  std::uint64_t requests{};                  ///< That were received.
  std::uint64_t accepted{};                  ///< Of these.
  std::map<unsigned, std::uint64_t> refused; ///< Of these, by status.
  std::map<SessionError, std::uint64_t> errors; ///< The same ones, by why.
  std::uint64_t reset{};                     ///< Accepted ones that the proxy has ended.
  TunnelStatistics tunnels;                  ///< Of all of them together.
  /// Those of the tunnels included; what is for the proxy's own QUIC is none.
  Drops dropped{};
  std::uint64_t lookups{}; ///< That were started.
  std::size_t lookups_running{}; ///< Of these, now.
  std::array<std::uint64_t, kEndReasons> ended{}; ///< Tunnels that are gone, by EndReason.
  TunnelCounts counts; ///< Of what there is now.
  std::size_t waiting_bytes{}; ///< Of RoutingLimits::max_waiting_bytes, now.
  Level flows;             ///< Waiting ones included.
  Level sockets;           ///< Those that are being opened included.
};

/// All of a proxy's connections, tunnels and targets.
///
/// Each request that is not closed first gets exactly one Respond.  Unknown connections, streams,
/// look-ups and sockets, and streams that are known already, are ignored.
class Proxy {
public:
  /// `key`: see HashKey.
  Proxy(const HashKey &key, const ProxyOptions &options, TargetPolicy policy);
  ~Proxy();
  Proxy(Proxy &&) noexcept;
  Proxy &operator=(Proxy &&) noexcept;

  /// Which targets are allowed from now on, where Admission::policy says nothing else.  Tunnels that
  /// are there stay, those without a socket yet are checked by this one.
  void SetPolicy(TargetPolicy policy);

  /// ProxyOptions::max_bytes_per_second_per_client from now on, also of clients that are there and have
  /// no rate of their own.
  void SetRate(std::uint64_t max_bytes_per_second_per_client);

  struct Reviewed {
    ProxyActions actions;
    std::vector<OuterConnection> revoked; ///< To be closed by the caller: they have no tunnels.
  };

  /// Who may use the proxy has changed: asks about each connection of which a request was admitted.  A
  /// user has the rate of the answer from now on, and targets as of the next request.  Tunnels of one
  /// that would not be admitted any more end, with kRevoked; their streams are not answered or reset.
  [[nodiscard]] Reviewed Review(const ReviewFunction &review, Timestamp now);

  // Connections.

  /// A client's connection and the 4-tuple that it uses; `user_data` is what
  /// ClientConnection::user_data says from then on; `client`: whose it is, if that is known by
  /// credentials, and otherwise whoever is at the remote end of the 4-tuple.
  /// Errors: kConnectionInUse, kTooManyConnections, kTooManyClientConnections.
  std::expected<void, SessionError>
  AddConnection(OuterConnection connection, const FourTuple &tuple, void *user_data = nullptr,
                const std::optional<ClientKey> &client = std::nullopt);

  /// Null if it is not known.
  [[nodiscard]] const ClientConnection *Find(OuterConnection connection) const;

  /// Whether the connection has QUIC datagrams, which is assumed, and whether its client has said
  /// that it takes those of RFC 9297.  Without datagrams payloads go to the client on a stream.
  void SetDatagrams(OuterConnection connection, bool datagrams, bool rfc9297 = false);

  /// What AccessRequest::certificate says of the connection's requests from now on.
  void SetCertificate(OuterConnection connection, std::string_view name);

  /// The connection is gone: nothing is to be sent on it.
  [[nodiscard]] ProxyActions RemoveConnection(OuterConnection connection, Timestamp now);

  struct Moved {
    ProxyActions actions;
    /// The proxy's own connection IDs that another connection has mapped on the new 4-tuple.  As
    /// nothing is taken away from others, a packet with one of them goes to the other's target as
    /// long as that mapping is there; the caller does not issue them again, and replaces them if it
    /// can (RFC 9000, section 19.15, Retire Prior To).  With unpredictable connection IDs it does
    /// not happen by chance.
    std::vector<ConnectionId> reserved;
  };

  /// The connection uses another 4-tuple, which the caller has validated.  Its mappings go with it;
  /// those that conflict with others there are lost, and their streams reset.  It stays a connection
  /// of the client that it was added for: see Tunnels::Move.
  [[nodiscard]] Moved MoveConnection(OuterConnection connection, const FourTuple &tuple,
                                     Timestamp now);

  /// The client moves by itself: packets come from another address with another connection ID, which
  /// is being validated.  To be called before those of them are handed over that have other frames
  /// than probing ones (RFC 9000, section 9.2); MoveConnection follows, or not.
  [[nodiscard]] ProxyActions OnMigrating(OuterConnection connection, Timestamp now);

  /// A path of the connection is being validated: what is forwarded from there is taken, as the client
  /// may know that it is valid before the proxy does.  See Tunnels::Expect.
  void Expect(OuterConnection connection, const FourTuple &tuple);

  /// Keeps requests from taking a connection ID that the proxy issues for `connection`; to be
  /// called before the client is told of it.  False: issue another one.
  [[nodiscard]] bool Reserve(OuterConnection connection, const ConnectionId &id);
  void Unreserve(OuterConnection connection, const ConnectionId &id);

  // Requests.

  /// A request of any kind.
  [[nodiscard]] ProxyActions OnRequest(const StreamKey &stream,
                                       std::span<const HeaderField> fields, Timestamp now);

  /// The addresses of a name, in order of preference; their ports are not looked at.  None at all
  /// counts as kNoAddress.  Errors: kNoName, kNoAddress, kLookupTimeout.
  [[nodiscard]] ProxyActions
  OnLookup(LookupId lookup, const std::expected<std::vector<Endpoint>, SessionError> &found,
           Timestamp now);

  /// What has become of OpenSocket: what ServerSocket::user_data is to say, or kUnroutable or
  /// kNoSocket.  After an error the next address is tried.
  [[nodiscard]] ProxyActions
  OnSocket(SocketId socket, const std::expected<void *, SessionError> &opened, Timestamp now);

  /// Null if it is not known (any more): after CloseSocket.
  [[nodiscard]] const ServerSocket *Find(SocketId socket) const;

  /// The network says that the target of a socket is not there, which may be forged by somebody who
  /// knows the ports: it only ends flows that the target has never sent anything to.  Their requests
  /// are reset, and with its last flow the socket is closed.
  [[nodiscard]] ProxyActions OnSocketFailed(SocketId socket, Timestamp now);

  /// The client has reset a request's stream, in whatever state it is, or ended it: `finished`.
  [[nodiscard]] ProxyActions OnStreamClosed(const StreamKey &stream, Timestamp now,
                                            bool finished = false);

  // Packets.  None of these allocates, except to keep an early payload or a part of one on a
  // stream.

  /// What was in a QUIC DATAGRAM frame of `connection`.  What it brings about is added to `actions`.
  /// Errors: kUnknownFlow, kUnknownContext, kRateLimited, kTooLong, kBadDatagram; kMalformed, which is
  /// an error of the connection: DatagramError.
  [[nodiscard]] std::expected<PayloadToTarget, DropReason>
  OnDatagram(OuterConnection connection, std::span<const std::uint8_t> datagram, Timestamp now,
             ProxyActions &actions);

  /// The code of HTTP/3 that a connection is to be closed with after a malformed datagram.
  [[nodiscard]] std::uint64_t DatagramError(OuterConnection connection) const;

  /// What was in the DATA frames of a request's stream: takes the next payload or message, or what
  /// there is of it, off the front of `input`.  To be called until that is empty, whatever it
  /// returns; the payload is valid until the next call and as long as the input is.  What a message
  /// brings about is added to `actions`.
  /// Errors: kUnknownFlow, kRateLimited, kTooLong; kQueueFull, if the part of a
  /// payload that has come has no room in Client::waiting: then the whole payload is dropped.
  [[nodiscard]] std::expected<PayloadToTarget, DropReason>
  OnStreamData(const StreamKey &stream, std::span<const std::uint8_t> &input, Timestamp now,
               ProxyActions &actions);

  /// Whether `bytes` begin with a virtual connection ID that this proxy has drawn, it or one before it
  /// with the same id_key and worker, and that leads nowhere any more, on whatever 4-tuple.  Of such a
  /// packet the client can be told with ProxyOptions::reset_token.  Of one that is in use it must not
  /// be: whoever sees a packet could send it from another address, and learn the token.
  [[nodiscard]] bool IsOver(std::span<const std::uint8_t> bytes) const;

  /// The place where UDP packets of clients have arrived, null if no connection uses it.  Valid
  /// until a connection is added, moved or removed: one call will do for packets that arrive
  /// together.
  [[nodiscard]] const ClientPath *FindPath(const FourTuple &tuple) const;

  /// A UDP packet of a client.  One that is forwarded restarts the idle timer of the tunnel's
  /// connection.  `path`: null if no connection uses it.
  /// Errors: kRateLimited, kMalformed, kLoop.
  [[nodiscard]] std::expected<PacketToTarget, DropReason>
  FromClient(const ClientPath *path, const MutablePacket &packet, Timestamp now);

  /// A packet that has arrived on a server-facing socket, which the system has connected.
  /// Errors: kUnknownSocket if it is null, kUnknownConnectionId, kMalformed, kRateLimited, kLoop.
  [[nodiscard]] std::expected<PacketToClient, DropReason>
  FromTarget(const ServerSocket *socket, const MutablePacket &packet, Timestamp now);

  /// The same for sockets that are not connected.  Errors: kWrongSource, too.
  [[nodiscard]] std::expected<PacketToClient, DropReason> FromTarget(const ServerSocket *socket,
                                                                     const Endpoint &source,
                                                                     const MutablePacket &packet,
                                                                     Timestamp now);

  /// What stands before a packet of FromTarget on its stream.  Error: kTooLarge, if it was for a
  /// datagram and is not for the stream either (IsForStream).
  [[nodiscard]] std::expected<Prefix, DropReason> StreamPrefix(const PacketToClient &packet) const;

  /// Whether a packet of FromTarget that has no other way may wait for the client to have it
  /// forwarded again, as others were before it moved: no larger than such as come in a row.
  [[nodiscard]] bool MayWait(const PacketToClient &packet) const;
  /// It does, and is not counted: it comes by FromTarget again, or not at all.
  void Waits(const PacketToClient &packet);

  /// What was handed out to be sent `way` has not left, after all: it is a drop of its tunnel.
  /// `reason`: kQueueFull or a later one.
  void NotSent(Tunnel &tunnel, Way way, DropReason reason, const Traffic &traffic);

  /// The same for a datagram to the client, prefix and all.  Ignored if the tunnel (Tunnel::number)
  /// is not there any more.
  void DatagramNotSent(OuterConnection connection, std::uint64_t tunnel,
                       std::span<const std::uint8_t> datagram, DropReason reason);

  /// What was to be sent in a datagram has gone on a stream.
  void SentOnStream(Tunnel &tunnel);

  /// How many tunnels there are, those whose look-up runs or whose socket is being opened included.
  /// Cost: O(1).
  [[nodiscard]] std::size_t tunnels() const;

  /// Cost: O(tunnels).
  [[nodiscard]] ProxyCounters counters() const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace ngmasque
