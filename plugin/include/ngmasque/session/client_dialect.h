// A dialect of CONNECT-UDP as ClientTunnel sees it: how a client says what it wants, and what the
// proxy has to say of it.  The proxy's counterpart is dialect.h.
//
//     responses, datagrams,       ClientDialect          ClientTunnelModel
//     bytes on streams      -->  one per connection  -->  tunnel and mappings
//     requests, messages,   <--    TunnelDialect    <--
//     prefixes of payloads         one per tunnel
//
// The dialect alone knows header fields, messages, and how payloads are marked.  Which connection
// IDs there are, which of them are asked for, and which way a packet goes is the tunnel's.
#pragma once

#include "ngmasque/session/tunnel.h"
#include "ngmasque/wire/h3_error.h"
#include "ngmasque/wire/h3_settings.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque {

class ClientTunnel;

/// A request of a tunnel, with a number of the dialect's choice: no other one of it has that, ever.
using RequestId = std::uint64_t;

/// A mapping of a tunnel: from 0 upwards, and none is used twice.
using MappingId = std::uint64_t;

/// A connection ID of the inner connection that is to be asked for.
struct ClientMapping {
  enum class Stage : std::uint8_t {
    kHeld, ///< The tunnel is not open yet.
    kAsked,
    kAcknowledged,
  };
  Direction direction{};
  ConnectionId id;
  Stage stage{};
  std::optional<ResetToken> token{}; ///< With kToTarget, if it is known.
  /// What stands for `id` between client and proxy, in dialects that have that; otherwise empty.
  ConnectionId virtual_id{};
  /// With kToTarget, of the stateless resets by which the proxy says that `virtual_id` leads nowhere
  /// any more, if it has given one.
  std::optional<ResetToken> virtual_token{};
  /// With kToClient, those before, the latest one last, at most kMaxPrevious: packets with them may be
  /// on their way, of several when the outer connection moves more than once in a round trip.
  std::vector<ConnectionId> previous_ids{};
  static constexpr std::size_t kMaxPrevious = 4;
  /// Whether `id` may come on the link as it is: ClientTunnel::Options::chained.
  bool on_link = false;
};

/// Why the proxy does not do what it was asked for, or not any more.
struct ProxyRefusal {
  unsigned status = 0;           ///< Its answer, or 0 if there was none.
  std::string proxy_status = {}; ///< As it came.
  /// Seconds after which it says to try again (RFC 9110, section 10.2.3).
  std::optional<unsigned> retry_after = std::nullopt;
  std::uint64_t code = 0;        ///< What the stream was reset with, if it came of that.
  bool conflict = false;         ///< The connection ID is in the way of another one.
};

/// What a dialect can do about its tunnel.  To be used during the call that it is handed to, not
/// later.
class ClientTunnelModel {
public:
  [[nodiscard]] virtual const Authority &authority() const = 0;

  /// Whether forwarded mode is wanted.
  [[nodiscard]] virtual bool forward() const = 0;

  /// Whether a virtual connection ID with kToClient is to be acknowledged to the proxy by OnLinkId
  /// only, and with it the mapping: ClientTunnel::Options::chained.
  [[nodiscard]] virtual bool chained() const = 0;

  /// Null if it is not there, or not any more.
  [[nodiscard]] virtual const ClientMapping *Find(MappingId mapping) const = 0;

  // To the proxy, in this order.

  /// Sends a request on a stream of its own, which may have to wait for the proxy to allow it one.
  virtual void Request(RequestId request, std::vector<HeaderField> fields) = 0;

  /// Sends a message on the stream of a request, as it is.  It arrives, in order with other
  /// messages and payloads there, or the request is closed.
  virtual void Send(RequestId request, std::vector<std::uint8_t> message) = 0;

  /// Resets the stream of a request, or does not open it.
  virtual void CloseRequest(RequestId request, std::uint64_t code = kH3RequestCancelled) = 0;

  // From the proxy.  After a call that ends the tunnel, which calls TunnelDialect::Close, the
  // dialect does nothing more.

  /// The tunnel is there, to be called once.  `connection_ids`: the proxy knows them.  Otherwise
  /// the tunnel has no mappings any more, and never will have.  `forwarding`: it may forward packets.
  virtual void Opened(bool connection_ids, bool forwarding = true) = 0;

  /// What is between client and proxy instead of forwarded packets.
  virtual void SetScramble(std::shared_ptr<const Scramble> scramble) = 0;

  /// What stands for the mapping's connection ID between client and proxy from now on; empty: nothing
  /// is forwarded by it until there is another one.  False, and nothing changes, if with kToClient it
  /// is in conflict with another one.  `token`: ClientMapping::virtual_token.
  [[nodiscard]] virtual bool SetVirtual(MappingId mapping, const ConnectionId &virtual_id,
                                        const std::optional<ResetToken> &token = {}) = 0;

  /// Packets may be forwarded by the mapping from now on.
  virtual void Acknowledge(MappingId mapping) = 0;

  /// The proxy does not make the mapping, or has ended it: it is gone.  May end the tunnel.
  virtual void Refuse(MappingId mapping, const ProxyRefusal &refusal) = 0;

  /// The proxy refuses the tunnel, or has ended it.
  virtual void End(const ProxyRefusal &refusal) = 0;

protected:
  ~ClientTunnelModel() = default;
};

/// One tunnel's side of a dialect.  Requests and mappings that it does not know (any more) are
/// ignored: they may have crossed the proxy's word on them.
class TunnelDialect {
public:
  virtual ~TunnelDialect() = default;

  // From the tunnel.  In these the model takes what goes to the proxy, and nothing else.

  /// Asks for the tunnel: the first call of all.  `first` is the mapping of the inner connection's
  /// first client connection ID, or nothing if there are to be none; to ask for it is up to the
  /// dialect, now or when it has opened the tunnel.
  virtual void Open(std::optional<MappingId> first, ClientTunnelModel &model) = 0;

  /// Asks for another mapping, of a tunnel that is open.
  virtual void Map(MappingId mapping, ClientTunnelModel &model) = 0;

  /// A mapping that was asked for is not wanted any more.
  virtual void Unmap(MappingId mapping, ClientTunnelModel &model) = 0;

  /// The client has moved the outer connection by itself, and not only its address has changed.
  virtual void OnMigrated(ClientTunnelModel & /*model*/) {}

  /// The proxy has said with ClientMapping::virtual_token that it knows a mapping no more, and nothing is
  /// forwarded by it now: asks for it again.
  virtual void OnReset(MappingId /*mapping*/, ClientTunnelModel & /*model*/) {}

  /// Of a mapping with kToClient: packets with this virtual connection ID can reach the client, or
  /// never will, and then the mapping ends.  See ClientTunnelModel::chained.
  virtual void OnLinkId(MappingId /*mapping*/, const ConnectionId & /*virtual_id*/, bool /*usable*/,
                        ClientTunnelModel & /*model*/) {}

  /// The tunnel is over: closes the requests that are left.  The last call.
  virtual void Close(ClientTunnelModel &model) = 0;

  // From the proxy.

  /// The request has left on this stream.
  virtual void OnSent(RequestId, StreamId) {}

  /// The final response to a request.
  virtual void OnResponse(RequestId request, std::span<const HeaderField> fields,
                          ClientTunnelModel &model) = 0;

  /// Takes the next payload or message, or what there is of it, off the front of `input`, which is
  /// not empty.  Messages are acted on.  The payload is valid until the next call, and as long as
  /// the input is.
  /// Errors: kUnknownFlow, kTooLong.
  virtual StreamPayload OnStreamData(RequestId request, std::span<const std::uint8_t> &input,
                                     ClientTunnelModel &model) = 0;

  /// A datagram that breaks the rules of the tunnel: Undelivered::tunnel.
  virtual void OnBadDatagram(ClientTunnelModel & /*model*/) {}

  /// The stream of a request has ended, without CloseRequest.  `code`: what it was reset with.
  virtual void OnRequestClosed(RequestId request, std::uint64_t code, ClientTunnelModel &model) = 0;

  /// Whether what has come on the stream of a request ends in the middle of something.
  [[nodiscard]] virtual bool cut_off() const { return false; }

  /// Whether forwarded packets have virtual connection IDs.
  [[nodiscard]] virtual bool virtual_ids() const { return false; }

  // Payloads to the proxy.

  /// What stands before one in a datagram; empty if none can be sent yet.
  [[nodiscard]] virtual const Prefix &datagram_prefix() const = 0;

  /// On whose stream they go if not in datagrams; nothing if on none.
  [[nodiscard]] virtual std::optional<RequestId> payload_request() const = 0;

  /// What stands before one of `size` bytes there.  Error: kTooLarge.
  [[nodiscard]] virtual std::expected<Prefix, DropReason> StreamPrefix(std::size_t size) const = 0;
};

/// A payload for a tunnel.
struct ClientPayload {
  ClientTunnel *tunnel = nullptr;
  std::span<const std::uint8_t> payload;
};

/// Why what was in a datagram is for no tunnel.
struct Undelivered {
  DropReason reason{}; ///< kUnknownFlow, kUnknownContext, kTooLong, kMalformed or kBadDatagram.
  std::uint64_t close = 0;    ///< kMalformed: what the connection is to be closed with, or 0.
  std::string_view text = {}; ///< Of that, for people.
  ClientTunnel *tunnel = nullptr; ///< kBadDatagram: that ClientTunnel::OnBadDatagram is to be told.
};

/// One connection's side of a dialect, at the client.
class ClientDialect {
public:
  virtual ~ClientDialect() = default;

  /// For logs and statistics.
  [[nodiscard]] virtual std::string_view name() const = 0;

  /// Whether its tunnels have no connection IDs, as the proxy takes no datagrams.
  [[nodiscard]] virtual bool plain() const = 0;

  /// Whether payloads go in QUIC datagrams.  Otherwise they go on TunnelDialect::payload_request,
  /// all of them.
  [[nodiscard]] virtual bool datagrams() const { return !plain(); }

  /// A tunnel begins; null if the connection can have no more, ever.  The tunnel has to outlive
  /// what is returned, and the dialect both.
  [[nodiscard]] virtual std::unique_ptr<TunnelDialect> Add(ClientTunnel &tunnel) = 0;

  /// Reads what was in a QUIC DATAGRAM frame.
  [[nodiscard]] virtual std::expected<ClientPayload, Undelivered>
  OnDatagram(std::span<const std::uint8_t> datagram) const = 0;
};

/// What a dialect has to know of its connection, which is there.
struct ClientDialectOptions {
  bool datagrams = true; ///< Whether the proxy takes QUIC datagrams: max_datagram_frame_size.
  std::optional<PeerSettings> settings{}; ///< The proxy's; nothing: they have not come yet.
};

/// Makes the dialect of a connection.  Null without `settings`: it depends on them, and is asked
/// again when they have come.  Null with them: the proxy speaks none that is wanted.
using ClientDialectFactory =
  std::function<std::unique_ptr<ClientDialect>(const ClientDialectOptions &options)>;

} // namespace ngmasque
