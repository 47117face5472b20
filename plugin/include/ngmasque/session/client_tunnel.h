// The client's side of one inner connection: which connection IDs to ask the proxy for, and how
// each packet goes.  draft-pauly-masque-quic-proxy-00, sections 4.1 to 4.5.  How the proxy is asked
// is the dialect's: client_dialect.h.
#pragma once

#include "ngmasque/routing/connection_id_table.h"
#include "ngmasque/routing/siphash.h"
#include "ngmasque/session/client_dialect.h"
#include "ngmasque/session/usual_size.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace ngmasque {

class ClientIds;

/// Whose a forwarded packet is.
struct ForwardedPacket {
  ClientTunnel *tunnel = nullptr; ///< Null: nobody's.
  const ClientMapping *mapping = nullptr;
  std::size_t id_length = 0; ///< Of the connection ID that the packet has.
};

/// A connection ID that forwarded packets have between client and proxy.
struct LinkId {
  Direction direction{};
  ConnectionId id;
  /// With kToTarget, of the stateless resets by which the proxy says that it leads nowhere any more.
  std::optional<ResetToken> token = {};
  [[nodiscard]] auto operator<=>(const LinkId &) const = default;
};

/// How long the client connection IDs of an inner connection should be at least, in bytes.
/// They are to be unpredictable as well; whoever draws them has to see to both.
///
//= draft-00, section 4.1
//# In order to avoid conflicts, clients SHOULD select Client Connection IDs of at least 8 bytes in
//# length with unpredictable values.
inline constexpr std::size_t kMinClientIdLength = 8;

/// The bounds of a ClientTunnel.
struct ClientTunnelLimits {
  /// Connection IDs that are mapped, asked for or held back at a time, of client and server
  /// together.  One beyond it is handled as if the proxy had refused it.  Its peer can only fill it
  /// by issuing connection IDs, which the transport bounds as well (active_connection_id_limit).
  std::size_t max_mappings = 64;

  /// Server connection IDs that were refused, which are remembered to the end, because none of them
  /// must be asked for again.  When there are more, no server connection ID is asked for any more.
  std::size_t max_refused = 64;
};

/// Why the tunnel does less than it was asked for; ReasonName says it in words.
enum class Fallback : std::uint8_t {
  kNotEchoed,         ///< The proxy knows no connection IDs: plain CONNECT-UDP.
  kForwardingRefused, ///< A server connection ID is refused, and not for a conflict: no more of
                      ///< them are asked for.
  kServerIdConflict,  ///< A server connection ID is refused for a conflict, or in conflict with
                      ///< another one of the target, as zero length always is: it is tunnelled.
  kClientIdRefused,   ///< A further client connection ID is refused, or in conflict with another
                      ///< one of the tunnels or of the outer connection: it is not used.
  kTooManyRequests,   ///< ClientTunnelLimits::max_mappings or max_refused, or ClientIds::kMaxIds.
  kNoDatagrams,       ///< The proxy has no QUIC datagrams: payloads go on the stream.
  kRequestEnded,      ///< The proxy has ended a mapping that it had acknowledged.
  kMappingReset,      ///< The same by a stateless reset: it is asked for again.  The last one.
};

/// The reason in words, for logs.
[[nodiscard]] std::string_view ReasonName(Fallback fallback);

/// What is to be done, in this order.
namespace client_action {
/// Send this request on a new stream.
struct SendRequest {
  RequestId request{};
  std::vector<HeaderField> fields;
};
/// Send this on the request's stream, behind all that was sent there.
struct SendOnStream {
  RequestId request{};
  std::vector<std::uint8_t> message;
};
/// End the request's stream: reset it if it is still open.
struct CloseRequest {
  RequestId request{};
  std::uint64_t code{}; ///< Of HTTP/3.
};
/// The target may be told of this client connection ID.
struct ReleaseClientId {
  ConnectionId id;
};
/// The target must never be told of this client connection ID.
struct DiscardClientId {
  ConnectionId id;
};
/// The tunnel is there.
struct Opened {};
/// For logs and statistics.
struct FellBack {
  Fallback reason{};
};
/// The tunnel is over.
struct Failed {
  ProxyRefusal refusal;
  bool opened = false; ///< Opened came before.
  /// The first client connection ID is in conflict with another one: try again with another tunnel,
  /// client connection ID *and* inner connection.
  bool retry = false;
};
} // namespace client_action

using ClientAction =
  std::variant<client_action::SendRequest, client_action::SendOnStream,
               client_action::CloseRequest, client_action::ReleaseClientId,
               client_action::DiscardClientId, client_action::Opened, client_action::FellBack,
               client_action::Failed>;

/// How one packet of the inner connection goes to the proxy.
enum class ClientWay : std::uint8_t {
  kTunnel,  ///< In a datagram, or on a stream if there are none: see TunnelDialect.
  kForward, ///< As it is, on the socket of the outer connection.
  kDrop,    ///< The tunnel has not started or is over, or the packet is empty.
};

/// One inner connection through a proxy.  There can be several on one outer connection.
///
/// An inner connection whose target has several addresses has a tunnel to each of them: siblings, which
/// have the same client connection IDs.  Where a forwarded packet does not show which of them it came
/// through, as in a dialect without virtual connection IDs, it is taken for one of the tunnel that the
/// inner connection has last forwarded to, if that has the connection ID as well.
///
/// It is asked for with the connection's first client connection ID.  Until it is open, all other
/// ones are held back: only then is it known whether the proxy knows connection IDs at all, and if
/// it does not, none is to be asked for.
///
/// A zero-length client connection ID is asked for as any other, which the draft allows and proxies
/// may refuse; see ClientIds::Check.  A zero-length server connection ID is never asked for: it is in
/// conflict with those of the proxy.
///
/// After Failed or Close the tunnel is over: every event does nothing, every packet is dropped.
class ClientTunnel {
public:
  struct Options {
    Authority authority;
    bool forward = true;      ///< Whether forwarded mode is wanted.
    /// False: plain CONNECT-UDP, for a service that is not QUIC.  All is tunnelled.
    bool connection_ids = true;
    /// The outer connection goes through another proxy, which has to know what forwarded packets
    /// to the client begin with, before there are any: LinkIds, OnLinkId.
    bool chained = false;
    std::uint64_t number = 0; ///< The program's own, for number().
    /// Another tunnel of the same inner connection; read when the tunnel is made, and never again.
    const ClientTunnel *sibling = nullptr;
  };

  /// `ids`, those of the outer connection and of all its tunnels, and `dialect`, that of the outer
  /// connection, have to outlive it.
  ClientTunnel(ClientIds &ids, ClientDialect &dialect, Options options,
               const ClientTunnelLimits &limits = {});

  /// Takes its connection IDs out of `ids`; otherwise nothing is done.
  ~ClientTunnel();
  ClientTunnel(const ClientTunnel &) = delete;
  ClientTunnel &operator=(const ClientTunnel &) = delete;

  // Events.  Each returns what is to be done.

  /// The inner connection starts with the Source Connection ID `id`.  To be called once.  If that
  /// is in conflict with another one of ClientIds or one that was added before, nothing is sent,
  /// and Failed says retry.  If the outer connection can have no more tunnels, it does not.
  [[nodiscard]] std::vector<ClientAction> Start(const ConnectionId &id);

  /// The inner connection has another connection ID for its target to use, which it holds back
  /// until ReleaseClientId or DiscardClientId says what to do with it.  Known ones are ignored.
  [[nodiscard]] std::vector<ClientAction> AddClientId(const ConnectionId &id);

  /// The target has retired a client connection ID, or it will never be used.  Without any client
  /// connection ID left, or without the first one before it is accepted, the tunnel is over as with
  /// Close.  Plain CONNECT-UDP needs none, and nothing happens.
  [[nodiscard]] std::vector<ClientAction> RemoveClientId(const ConnectionId &id);

  /// The target has issued a connection ID.  Known ones are ignored, refused ones for ever.  If it
  /// is a prefix of another one or the reverse, neither is forwarded from then on: a packet does
  /// not show which of them it has.  `token`: the one that came with it.
  [[nodiscard]] std::vector<ClientAction>
  AddServerId(const ConnectionId &id, const std::optional<ResetToken> &token = {});

  /// The inner connection does not use a server connection ID any more.
  [[nodiscard]] std::vector<ClientAction> RemoveServerId(const ConnectionId &id);

  /// A request has left on this stream.
  void OnSent(RequestId request, StreamId stream);

  /// The final response to a request.  Responses to unknown ones are ignored, such as to those that
  /// were closed meanwhile.
  [[nodiscard]] std::vector<ClientAction> OnResponse(RequestId request,
                                                     std::span<const HeaderField> fields);

  /// Bytes on the stream of a request: see TunnelDialect::OnStreamData.  What is to be done is put
  /// behind `actions`.  To be called until `input` is empty.
  [[nodiscard]] StreamPayload OnStreamData(RequestId request,
                                           std::span<const std::uint8_t> &input,
                                           std::vector<ClientAction> &actions);

  /// A datagram was malformed: Undelivered::tunnel.
  [[nodiscard]] std::vector<ClientAction> OnBadDatagram();

  /// The client has moved the outer connection: packets leave on another path from now on, with
  /// another connection ID.
  [[nodiscard]] std::vector<ClientAction> OnMigrated();

  /// The proxy knows one of its mappings no more: ClientIds::FindReset.  Its packets are tunnelled, and
  /// the proxy is asked for it again.  Whether it still knows the tunnel is for the outer connection to
  /// find out, on which that goes; the inner connection has lost nothing but a packet.
  [[nodiscard]] std::vector<ClientAction> OnReset(MappingId mapping);

  /// Of a chained tunnel: what LinkIds has with kToClient may be used now.  Not `usable`: the proxy
  /// before this one does not want it, and might drop packets with it.  So its mapping ends if it
  /// can be done without; of the first one nothing is forwarded, or Failed says retry.
  [[nodiscard]] std::vector<ClientAction> OnLinkId(const ConnectionId &id, bool usable);

  /// The request's stream has ended without CloseRequest.  `code`: the error code that it was reset
  /// with.
  [[nodiscard]] std::vector<ClientAction> OnRequestClosed(RequestId request, std::uint64_t code = 0);

  /// The inner connection is over, or the tunnel is given up: ends all requests.
  [[nodiscard]] std::vector<ClientAction> Close();

  // Packets.

  /// The way of a packet of the inner connection.  Cost: one hash probe for each distinct length of
  /// server connection IDs that were asked for, none for long headers.
  [[nodiscard]] ClientWay FromInner(std::span<const std::uint8_t> packet);

  /// Whether what FromInner says is tunnelled, and has no room there, may wait to be forwarded: others like
  /// it were, before the client or the proxy moved, and are soon to be again.  A larger packet may be
  /// a probe of the path, which must see what that takes.
  [[nodiscard]] bool MayWait(std::span<const std::uint8_t> packet) const;

  /// By how much ToProxy may make a packet longer, in bytes.
  static constexpr std::size_t kMaxGrowth = kMaxConnectionIdLength;

  /// What FromInner says is forwarded, as it is between client and proxy: the packet itself, or one
  /// that is written to the beginning of `room`, of kMaxGrowth bytes more than the packet at least.
  [[nodiscard]] std::span<const std::uint8_t> ToProxy(std::span<const std::uint8_t> packet,
                                                      std::span<std::uint8_t> room) const;

  /// The inverse, for a packet that ClientIds::FindForwarded says is this tunnel's: it is written anew
  /// where it lies.  Nothing if it is too short to be one.
  [[nodiscard]] std::optional<std::span<const std::uint8_t>>
  FromProxy(const ForwardedPacket &found, std::span<std::uint8_t> packet) const;

  /// Whether `id` is one of its client connection IDs: no tunnel but a sibling can have it, too.
  [[nodiscard]] bool HasClientId(const ConnectionId &id) const;
  /// Of a chained tunnel: the connection IDs that its forwarded packets have, or may have soon, on
  /// their way between client and proxy.  Any event may change them.  None of another tunnel.
  [[nodiscard]] std::vector<LinkId> LinkIds() const;

  /// Whether the proxy has accepted it, and it is not over.
  [[nodiscard]] bool open() const { return state_ == State::kOpen; }
  [[nodiscard]] bool over() const { return state_ == State::kOver; }
  [[nodiscard]] std::uint64_t number() const { return options_.number; }

  /// How payloads are marked.  To be called after Start only, and not when that has failed.
  [[nodiscard]] const TunnelDialect &dialect() const { return *dialect_; }

private:
  friend class ClientIds;
  class Model;

  enum class State : std::uint8_t {
    kIdle,    // Before Start.
    kWaiting, // For the proxy to open it.
    kOpen,
    kOver,
  };

  using Stage = ClientMapping::Stage;
  using Actions = std::vector<ClientAction>;
  using Mappings = std::map<MappingId, ClientMapping>;
  using Table = ConnectionIdTable<const ClientMapping *>;

  /// The tunnels of one inner connection.
  struct Siblings {
    std::vector<ClientTunnel *> all;  // As many as the program has opened.
    ClientTunnel *current = nullptr;  // That which was last forwarded to; null: none, or it is gone.
  };

  /// As ClientIds::Check, but for what siblings have.
  [[nodiscard]] std::expected<void, RoutingError> CheckClientId(const ConnectionId &id) const;
  /// Is the current one of its siblings from now on.
  void BecomeCurrent();
  /// In `ids_`, a client connection ID is this tunnel's from now on.
  void Own(const ClientMapping &mapping);
  /// ... is not this tunnel's any more.
  void Disown(const ClientMapping &mapping);
  MappingId Add(Direction direction, const ConnectionId &id,
                const std::optional<ResetToken> &token = {});
  Mappings::iterator Erase(Mappings::iterator mapping);
  void EraseVirtual(const ConnectionId &virtual_id);
  void SetToken(MappingId number, ClientMapping &mapping, const std::optional<ResetToken> &token);
  Mappings::iterator Find(Direction direction, const ConnectionId &id);
  Mappings::const_iterator Find(Direction direction, const ConnectionId &id) const;
  bool HasClientId() const;
  bool MayAsk(const ClientMapping &mapping) const;
  void Ask(Actions &actions, MappingId mapping);
  void AskHeld(Actions &actions);
  Mappings::iterator Unmap(Actions &actions, Mappings::iterator mapping);
  void CloseAll(Actions &actions);
  void BecomePlain(Actions &actions);
  void RefuseServerId(Actions &actions, const ConnectionId &id, Fallback reason);
  void Fail(Actions &actions, const ProxyRefusal &refusal, bool retry);

  // Those of mappings_ with a client connection ID that is not empty are in it, each as one of the
  // siblings that have it.
  ClientIds &ids_;
  ClientDialect &connection_;
  Options options_;
  ClientTunnelLimits limits_;
  std::unique_ptr<TunnelDialect> dialect_; // Null before Start.
  State state_ = State::kIdle;
  bool plain_;         // No connection IDs, or not any more.
  bool ask_;           // Whether server connection IDs are asked for.
  bool begun_ = false; // Whether a packet was forwarded.
  UsualSize usual_;    // Of those that were.
  std::shared_ptr<const Scramble> scramble_;
  std::shared_ptr<Siblings> siblings_;
  std::optional<MappingId> first_; // Asked for with the tunnel.
  MappingId next_ = 0;

  Mappings mappings_; // At most max_mappings, and the first one.
  Table servers_;     // Those of them with a server connection ID.

  std::set<ConnectionId> refused_; // Server connection IDs; at most max_refused.
};

} // namespace ngmasque
