// The client's side of one inner connection: which requests to send, and how each packet goes.
// draft-pauly-masque-quic-proxy-00, sections 4.1 to 4.5.
#pragma once

#include "ngmasque/routing/connection_id_table.h"
#include "ngmasque/routing/siphash.h"
#include "ngmasque/session/message.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace ngmasque {

class ClientIds;

/// A request of a ClientTunnel; the numbers are its own, from 0 upwards.
using RequestId = std::uint64_t;

/// How long the client connection IDs of an inner connection should be at least, in bytes.
/// They are to be unpredictable as well; whoever draws them has to see to both.
///
//= draft-00, section 4.1
//# In order to avoid conflicts, clients SHOULD select Client Connection IDs of at least 8 bytes in
//# length with unpredictable values.
inline constexpr std::size_t kMinClientIdLength = 8;

/// The bounds of a ClientTunnel.
struct ClientTunnelLimits {
  /// Requests that are open or held back at a time: client and server connection IDs together.  A
  /// connection ID beyond it is handled as if the proxy had refused it.  Its peer can only fill it
  /// by issuing connection IDs, which the transport bounds as well (active_connection_id_limit).
  std::size_t max_requests = 64;

  /// Server connection IDs that were refused, which are remembered to the end, because none of them
  /// must be asked for again.  When there are more, no server connection ID is asked for any more.
  std::size_t max_refused = 64;
};

/// Why the tunnel does less than it was asked for; ReasonName says it in words.
enum class Fallback : std::uint8_t {
  kNotEchoed,         ///< The proxy knows no connection IDs: plain CONNECT-UDP.
  kForwardingRefused, ///< server-connection-id refused, not with 409: no more of them.
  kServerIdConflict,  ///< server-connection-id refused with 409, or in conflict with another one
                      ///< of the target, as zero length always is: this one is tunnelled.
  kClientIdRefused,   ///< A further client-connection-id refused, or in conflict with another one
                      ///< of the tunnels or of the outer connection: it is not used.
  kTooManyRequests,   ///< ClientTunnelLimits::max_requests or max_refused, or ClientIds::kMaxIds.
  kNoDatagrams,       ///< The proxy has no QUIC datagrams: payloads go on the stream.
  kRequestEnded,      ///< The proxy has ended an accepted request: its mapping is gone.
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
/// End the request's stream: reset it if it is still open.
struct CloseRequest {
  RequestId request{};
};
/// The target may be told of this client connection ID.
struct ReleaseClientId {
  ConnectionId id;
};
/// The target must never be told of this client connection ID.
struct DiscardClientId {
  ConnectionId id;
};
/// The first request was accepted.
struct Opened {};
/// For logs and statistics.
struct FellBack {
  Fallback reason{};
};
/// The tunnel is over.
struct Failed {
  unsigned status{};        ///< The proxy's answer, or 0 if there was none.
  std::string proxy_status; ///< As it came.
  std::uint64_t code{};     ///< What OnRequestClosed had, if it came of that.
  bool opened = false;      ///< Opened came before.
  /// 409 to the first request: try again with another flow id, client connection ID *and* inner
  /// connection (section 4.1).
  bool retry = false;
};
} // namespace client_action

using ClientAction =
  std::variant<client_action::SendRequest, client_action::CloseRequest,
               client_action::ReleaseClientId, client_action::DiscardClientId,
               client_action::Opened, client_action::FellBack, client_action::Failed>;

/// How one packet of the inner connection goes to the proxy.
enum class ClientWay : std::uint8_t {
  kTunnel,  ///< In a datagram of flow(), or on the stream if there are no datagrams.
  kForward, ///< As it is, on the socket of the outer connection.
  kDrop,    ///< The tunnel has not started or is over, or the packet is empty.
};

/// One inner connection through a proxy.  There can be several on one outer connection.
///
/// The first request has the connection's first client connection ID.  Until it is answered, all
/// other ones are held back: only then is it known whether the proxy knows connection IDs at all,
/// and if it does not, none is to be asked for.
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
    FlowId flow = 0;       ///< Even (section 4.1), at most sf::kMaxInteger, and not used before on
                           ///< the outer connection, be it by a tunnel that failed.
    bool forward = true;   ///< Whether forwarded mode is wanted.
    bool datagrams = true; ///< Whether the proxy has negotiated QUIC datagrams.
  };

  /// `ids`, those of the outer connection and of all its tunnels, have to outlive it.
  ClientTunnel(ClientIds &ids, Options options, const ClientTunnelLimits &limits = {});

  /// Takes its connection IDs out of `ids`; otherwise nothing is done.
  ~ClientTunnel();
  ClientTunnel(const ClientTunnel &) = delete;
  ClientTunnel &operator=(const ClientTunnel &) = delete;

  // Events.  Each returns what is to be done.

  /// The inner connection starts with the Source Connection ID `id`.  To be called once.  If
  /// that is in conflict with another one of ClientIds or one that was added before, nothing is sent,
  /// and Failed says retry.
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
  /// not show which of them it has.
  [[nodiscard]] std::vector<ClientAction> AddServerId(const ConnectionId &id);

  /// The inner connection does not use a server connection ID any more.
  [[nodiscard]] std::vector<ClientAction> RemoveServerId(const ConnectionId &id);

  /// The final response to a request.  A malformed one counts as a refusal without an answer; its
  /// stream is closed.  A 2xx that does not echo its connection ID, or echoes another one or
  /// another flow id, makes the tunnel plain CONNECT-UDP if it is the first (section 3), and is a
  /// refusal if not.  Responses to unknown requests are ignored, such as to those that were closed
  /// meanwhile.
  [[nodiscard]] std::vector<ClientAction> OnResponse(RequestId request,
                                                     std::span<const HeaderField> fields);

  /// The request's stream has ended without CloseRequest: before the response it counts as a
  /// refusal, after it the mapping is gone; with the last client connection ID the tunnel is.
  /// `code`: the error code that it was reset with.
  [[nodiscard]] std::vector<ClientAction> OnRequestClosed(RequestId request, std::uint64_t code = 0);

  /// The inner connection is over, or the tunnel is given up: ends all requests.
  [[nodiscard]] std::vector<ClientAction> Close();

  // Packets.

  /// The way of a packet of the inner connection.  Cost: one hash probe for each distinct length of
  /// server connection IDs that were asked for, none for long headers.
  [[nodiscard]] ClientWay FromInner(std::span<const std::uint8_t> packet);

  /// Whether the first request was accepted, and the tunnel is not over.
  [[nodiscard]] bool open() const;
  [[nodiscard]] bool over() const;
  [[nodiscard]] FlowId flow() const;

private:
  friend class ClientIds;

  enum class State : std::uint8_t {
    kIdle,    // Before Start.
    kWaiting, // For the response to the first request.
    kOpen,
    kOver,
  };

  enum class Stage : std::uint8_t {
    kHeld, // Not sent yet: the first request has no response.
    kSent,
    kAccepted,
  };

  struct Request {
    IdHeader kind{}; // kNone: the only one of a plain tunnel.
    ConnectionId id;
    Stage stage{};
  };

  using Actions = std::vector<ClientAction>;
  using Requests = std::map<RequestId, Request>;
  using Table = ConnectionIdTable<const Request *>;

  RequestId Add(IdHeader kind, const ConnectionId &id);
  Requests::iterator Erase(Requests::iterator request);
  void EraseClientId(const ConnectionId &id);
  Requests::iterator Find(IdHeader kind, const ConnectionId &id);
  bool HasClientId() const;
  void Send(Actions &actions, RequestId request);
  void SendHeld(Actions &actions);
  Requests::iterator CloseRequest(Actions &actions, Requests::iterator request);
  void CloseAll(Actions &actions);
  void AcceptFirst(Actions &actions, Request &request, bool echoed);
  void Refuse(Actions &actions, Requests::iterator request, const ConnectUdpResponse &response,
              std::uint64_t code = 0);
  void RefuseServerId(Actions &actions, const ConnectionId &id, Fallback reason);
  void Fail(Actions &actions, const ConnectUdpResponse &response, bool retry, std::uint64_t code = 0);
  bool Echoes(const Request &request, const ConnectUdpResponse &response) const;

  ClientIds &ids_; // Those of requests_ with a client connection ID that is not empty are in it.
  Options options_;
  ClientTunnelLimits limits_;
  State state_ = State::kIdle;
  bool plain_;         // No connection IDs.
  bool ask_;           // Whether server connection IDs are asked for.
  bool begun_ = false; // Whether a packet was forwarded.
  RequestId first_ = 0;
  RequestId next_ = 0;

  Requests requests_; // At most max_requests, and the first one.
  Table servers_;     // Those of them with a server connection ID.

  std::set<ConnectionId> refused_; // Server connection IDs; at most max_refused.
};

} // namespace ngmasque
