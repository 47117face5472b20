// A dialect of CONNECT-UDP as Proxy sees it: how a client says what it wants, and how it is told.
//
//     requests, datagrams,          Dialect            TunnelModel
//     bytes on streams      -->  one per connection  -->  tunnels and mappings
//     answers, messages,    <--                      <--  of the same connection
//     prefixes of payloads
//
// The dialect alone knows header fields, messages, and how payloads are marked.  Tunnels, sockets
// and bounds are the model's.  Packets that are forwarded, and those that get a tunnel's
// datagram_prefix, pass by without the dialect.
//
// Two dialects have shaped it.  In draft-00 a request asks for one connection ID, several requests
// have one tunnel, and an answer acknowledges.  With RFC 9298 and draft-ietf-masque-quic-proxy a
// request is a tunnel, and messages on its stream open, acknowledge and close its mappings, from
// both sides.
#pragma once

#include "ngmasque/routing/keyed_source.h"
#include "ngmasque/session/error.h"
#include "ngmasque/session/tunnels.h"
#include "ngmasque/wire/h3_error.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace ngmasque {

struct ProxyOptions;

/// The stateless reset token of a virtual connection ID of at least KeyedSource::kRoutedLength bytes;
/// nothing: none is given.
using ResetTokenFunction =
  std::function<std::optional<ResetToken>(std::span<const std::uint8_t> virtual_id)>;

/// Where a mapping comes from.
struct MappingOrigin {
  StreamId stream{};           ///< On which it was asked for.
  std::uint64_t reference = 0; ///< Mapping::reference
  bool acknowledged = true;    ///< Otherwise it waits for TunnelModel::Acknowledge.
  ConnectionId virtual_id = {}; ///< Mapping::virtual_id
  std::optional<ResetToken> token = {}; ///< Mapping::token
};

/// What a dialect can do about the tunnels of its connection.  To be used during the call that it
/// is handed to, not later.  Actions (see ProxyAction) are performed afterwards, in their order.
class TunnelModel {
public:
  // Tunnels.

  /// The connection has none.
  [[nodiscard]] virtual bool idle() const = 0;

  /// The keys that OnDatagram has said so far mean nothing any more.
  virtual void ForgetKeys() = 0;

  /// Null if the connection has none by that key.  Cost: O(log tunnels).
  [[nodiscard]] virtual Tunnel *Find(TunnelKey key) = 0;

  /// A new tunnel, by a key that no other one of the connection has; `plain`: it has no connection
  /// IDs, ever.  What the dialect has to set is Tunnel::dialect, datagram_prefix and client_first.
  /// Error: kTooManyFlows.
  virtual std::expected<Tunnel *, SessionError> Add(TunnelKey key, const Authority &authority,
                                                    bool plain) = 0;

  /// Looks for its target and socket: to be called once.  Calls Dialect::OnOpen or OnRefused,
  /// possibly at once: the tunnel may be gone afterwards.
  virtual void Open(Tunnel &tunnel) = 0;

  /// The client does not want it any more, or has lost it; calls Dialect::OnEnded.  The tunnel is
  /// gone afterwards, with its mappings.
  virtual void Close(Tunnel &tunnel, EndReason reason) = 0;

  // Requests.

  /// A request counts for its client from now on, which is for the dialect to say before it keeps
  /// it.  False: the client has max_streams_per_client.
  [[nodiscard]] virtual bool AddRequest() = 0;

  /// The dialect has forgotten one of them.
  virtual void RemoveRequest() = 0;

  /// Where what a dialect keeps of payloads is to be taken of: Client::waiting.
  [[nodiscard]] virtual const std::shared_ptr<ByteBudget> &waiting() const = 0;

  // Mappings of tunnels that have a socket: in Dialect::OnOpen, and with Tunnel::Stage::kOpen.

  /// With kToClient, what has waited for the tunnel to have a connection ID leaves: Tunnel::silent.
  /// Errors: those of Tunnels::AddMapping; kTooManyStreams if the client has
  /// max_streams_per_client mappings.
  virtual std::expected<Mapping *, SessionError>
  Map(Tunnel &tunnel, Direction direction, const ConnectionId &id, const MappingOrigin &origin) = 0;

  /// The connection ID that a tunnel with Tunnel::silent has asked for is rejected: what has waited for
  /// it is dropped, as what comes until there is one, and takes nobody else's place any more.
  virtual void Reject(Tunnel &tunnel) = 0;

  /// Packets may be forwarded by it from now on.  For those to the client that is the client's word
  /// (kToClient), for those to the target the proxy's own, once it has told the client (kToTarget).
  virtual void Acknowledge(Mapping &mapping) = 0;

  virtual void Unmap(Mapping &mapping) = 0;

  /// The same for one to the target in OnMigrating, but what the client has sent before it moved is
  /// still forwarded when it comes from there.  The mapping is not the dialect's any more.
  virtual void Retire(Mapping &mapping) = 0;

  /// Where virtual connection IDs and keys come from.
  [[nodiscard]] virtual KeyedSource &source() = 0;

  // To the client.

  /// Answers a request, once; `fields` begin with `:status`.  300 or more ends the stream.
  virtual void Respond(StreamId stream, unsigned status, std::vector<HeaderField> fields) = 0;

  /// The same of one that is refused, with the status of `error`; `tunnel`: which it belongs to, null if
  /// it has come to none.
  virtual void Refuse(StreamId stream, SessionError error, std::vector<HeaderField> fields,
                      Tunnel *tunnel) = 0;

  /// Sends a message on the stream of a request that was accepted, as it is.  It arrives, in order
  /// with other messages and payloads there, or the stream is reset.
  virtual void Send(StreamId stream, std::vector<std::uint8_t> message) = 0;

  /// Resets the stream of a request that was accepted.  The dialect is not told of it.
  virtual void Reset(StreamId stream, std::uint64_t code = kH3ConnectError) = 0;

protected:
  ~TunnelModel() = default;
};

/// What OnOpen makes of a tunnel.
enum class Opened : std::uint8_t {
  kAccepted, ///< It is there, and Tunnel::stream is set.
  kRefused,  ///< Its requests have been refused: it is to be removed.
  /// Other clients have taken what it needs of a shared socket: it tries one for itself, and has no
  /// mappings yet.  OnOpen or OnRefused comes again.
  kAnotherSocket,
};

/// Whether a tunnel that cannot be on a shared socket for this reason can be on one of its own.
[[nodiscard]] constexpr bool SocketIsFull(SessionError error) {
  return error == SessionError::kTooManyIds || error == SessionError::kTooManyLengths;
}

/// A payload in a datagram.
struct TunnelledPayload {
  TunnelKey key{}; ///< Whether there is such a tunnel or not.
  std::span<const std::uint8_t> payload;
};

/// What comes next on a stream.
struct StreamInput {
  Tunnel *tunnel = nullptr; ///< Whose stream it is; null if it is none's, or not any more.
  StreamPayload payload; ///< Errors: kUnknownFlow, kTooLong; kQueueFull, see waiting.
};

/// One connection's side of a dialect, at the proxy.  Every container that it fills from what a
/// peer says has a bound.
class Dialect {
public:
  virtual ~Dialect() = default;

  // From the client.

  /// Whether a request has come on the stream, and is not forgotten.
  [[nodiscard]] virtual bool Knows(StreamId stream) const = 0;

  /// A request, on a stream that is not known.  It gets one Respond or Refuse, now or when its tunnel
  /// is there, unless it is closed first.
  virtual void OnRequest(StreamId stream, std::span<const HeaderField> fields,
                         TunnelModel &model) = 0;

  /// Which form datagrams of the client probably have: that of RFC 9297, or the draft's.
  virtual void OnDatagramForm(bool /*rfc9297*/, TunnelModel & /*model*/) {}

  /// The client has reset a stream, or ended it, which is `finished`; unknown ones are ignored.
  virtual void OnStreamClosed(StreamId stream, bool finished, TunnelModel &model) = 0;

  /// Reads what was in a QUIC DATAGRAM frame.
  /// Errors: kMalformed, which is one of the connection, see datagram_error; kTooLong;
  /// kUnknownContext; kBadDatagram, after which OnBadDatagram is called.
  [[nodiscard]] virtual std::expected<TunnelledPayload, DropReason>
  OnDatagram(std::span<const std::uint8_t> datagram) const = 0;

  /// With what a connection is closed that has sent a malformed datagram: a code of HTTP/3.
  [[nodiscard]] virtual std::uint64_t datagram_error() const = 0;

  /// What OnDatagram has just called kBadDatagram: its tunnel, if there is one, is to end.
  virtual void OnBadDatagram(std::span<const std::uint8_t> /*datagram*/, TunnelModel & /*model*/) {}

  /// Takes the next payload or message, or what there is of it, off the front of `input`, which is
  /// not empty.  Messages are acted on.  The payload is valid until the next call, and as long as
  /// the input is.
  virtual StreamInput OnStreamData(StreamId stream, std::span<const std::uint8_t> &input,
                                   TunnelModel &model) = 0;

  /// What stands before a payload of `size` bytes on Tunnel::stream.  Error: kTooLarge.
  [[nodiscard]] virtual std::expected<Prefix, DropReason> StreamPrefix(const Tunnel &tunnel,
                                                                       std::size_t size) const = 0;

  // From the model.

  /// The tunnel has an open socket.
  [[nodiscard]] virtual Opened OnOpen(Tunnel &tunnel, TunnelModel &model) = 0;

  /// The tunnel, which is not open yet, cannot be: answers all of its requests, as
  /// HttpStatus says.  OnEnded follows.
  virtual void OnRefused(Tunnel &tunnel, SessionError error, TunnelModel &model) = 0;

  /// A move of the connection has lost the mapping: tells the client and unmaps it, but no other
  /// one.  The tunnel may end with it.
  virtual void OnLost(Mapping &mapping, TunnelModel &model) = 0;

  /// The client moves its connection, and not only its address has changed: where that ends what is
  /// forwarded, mappings to the target are retired, those to the client not acknowledged any more.
  virtual void OnMigrating(Tunnel & /*tunnel*/, TunnelModel & /*model*/) {}

  /// The tunnel is about to be removed, with its mappings: forgets it.  If it is kUnreachable, its
  /// streams are reset; with other reasons they have been seen to, or are gone.
  virtual void OnEnded(Tunnel &tunnel, EndReason reason, TunnelModel &model) = 0;
};

/// Makes the dialect of a new connection, which `options` outlive.  `key`: see HashKey.
using DialectFactory = std::unique_ptr<Dialect> (*)(const ProxyOptions &options,
                                                    const HashKey &key);

} // namespace ngmasque
