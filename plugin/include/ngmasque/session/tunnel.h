// What a proxy knows of its clients, their tunnels and its sockets: the records of class Tunnels.
//
//     Client --< ClientConnection --< Tunnel --< Mapping      whom limits count for, its connections,
//                      |                 |                    what they are associated with, and the
//                 ClientPath        ServerSocket              connection IDs of that; where packets
//                                                             come from
//
// Pointers to records are the handles that packets are passed on with.  They are valid until the
// record is removed; records do not move.  Others than Tunnels and Proxy only read them.
#pragma once

#include "ngmasque/routing/connection_id.h"
#include "ngmasque/routing/connection_id_table.h"
#include "ngmasque/routing/scramble.h"
#include "ngmasque/routing/types.h"
#include "ngmasque/session/authority.h"
#include "ngmasque/session/client.h"
#include "ngmasque/session/drop_reason.h"
#include "ngmasque/session/error.h"
#include "ngmasque/session/loop_watch.h"
#include "ngmasque/session/traffic.h"
#include "ngmasque/session/usual_size.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque {

struct ClientConnection;
struct ServerSocket;
struct ClientPath;
struct Tunnel;
class TargetPolicy;

/// A look-up of a name; the numbers are the proxy's, from 0 upwards.
enum class LookupId : std::uint64_t {};

/// Which way packets go, and how.
enum class Way : std::uint8_t {
  kTunnelledToTarget, ///< In datagrams or on streams between client and proxy, as the next one.
  kTunnelledToClient,
  kForwardedToTarget,
  kForwardedToClient,
};
inline constexpr std::size_t kWays = 4;

/// What has become of a tunnel's packets.
struct TunnelStatistics {
  struct OneWay {
    Traffic passed;
    Drops dropped{};
    [[nodiscard]] bool operator==(const OneWay &) const = default;
  };

  [[nodiscard]] OneWay &operator[](Way way) { return ways[static_cast<std::size_t>(way)]; }
  [[nodiscard]] const OneWay &operator[](Way way) const {
    return ways[static_cast<std::size_t>(way)];
  }
  [[nodiscard]] std::uint64_t &Dropped(Way way, DropReason reason) {
    return (*this)[way].dropped[static_cast<std::size_t>(reason)];
  }
  void Add(const TunnelStatistics &other);
  [[nodiscard]] bool operator==(const TunnelStatistics &) const = default;

  std::array<OneWay, kWays> ways{};
  std::uint64_t on_stream{}; ///< Of those that were tunnelled to the client, on a stream.
};

/// Why a tunnel has ended.
enum class EndReason : std::uint8_t {
  kRefused,          ///< It was never open: its first request was refused, or closed before.
  kClosed,           ///< The client has closed the last stream.
  kConnectionClosed, ///< The connection to the client is gone.
  kUnreachable,      ///< The target is not there.
  kConflict,         ///< The client moved, and all that was left belongs to another one there.
  kProtocol,         ///< The client has broken the rules of its dialect.
  kRevoked,          ///< Its user may not use the proxy any more: Proxy::Review.
};

inline constexpr std::size_t kEndReasons = 7;

/// The reason in words, for logs.
[[nodiscard]] std::string_view ReasonName(EndReason reason);

/// Nanoseconds on a clock of the caller's that does not go back.
using Timestamp = std::uint64_t;

/// A UDP payload in memory of the caller's, which may be written anew where it lies.
struct MutablePacket {
  std::span<std::uint8_t> bytes;
  std::size_t before = 0; ///< How many bytes in front of it are free to be written.
  std::size_t behind = 0; ///< How many after it.
};

/// By what datagrams on a connection, and early payloads of it, say which tunnel they are for.  The
/// numbers are the dialect's.
using TunnelKey = std::uint64_t;

/// What a dialect puts in front of a payload.
struct Prefix {
  /// Two varints: no dialect needs more.
  static constexpr std::size_t kMaxSize = 16;
  std::array<std::uint8_t, kMaxSize> bytes{};
  std::uint8_t size = 0; ///< At most kMaxSize.
  [[nodiscard]] std::span<const std::uint8_t> view() const { return std::span(bytes).first(size); }
};

/// What comes next on a stream: a payload; or nothing, if the rest of it is to come or it was a message.
using StreamPayload = std::expected<std::optional<std::span<const std::uint8_t>>, DropReason>;

/// What others hang on a record: a dialect on a tunnel, Proxy on a connection.
class Attachment {
public:
  virtual ~Attachment() = default;
};

/// Which way the packets go that begin with a connection ID.
enum class Direction : std::uint8_t {
  kToTarget, ///< It is the target's.
  kToClient, ///< It is the client's.
};

/// One connection ID of a tunnel.
struct Mapping {
  Tunnel *tunnel = nullptr;
  Direction direction{};
  ConnectionId id;
  /// What stands for `id` between client and proxy, in dialects that have that; otherwise empty.  With
  /// kToTarget it never changes.
  ConnectionId virtual_id{};
  std::optional<ResetToken> token{}; ///< With kToTarget, of stateless resets of the target.
  StreamId stream{};   ///< On which it was asked for.
  bool indexed = true; ///< False once a move has taken it out of its table.
  /// Tunnels::Retire: the 4-tuple on which what comes late still goes to the target.
  ClientPath *late = nullptr;
  /// Both sides know that the other one knows it: no packet is forwarded by it before.
  bool acknowledged = true;
  std::uint64_t reference = 0; ///< The dialect's.
  /// Of packets that are forwarded as they are.  One that the proxy has drawn a virtual connection ID
  /// for leads to what was registered before that, and so to no loop.
  LoopWatch loop_watch{};
  std::list<Mapping>::iterator self{};

  /// What packets between client and proxy have.
  [[nodiscard]] const ConnectionId &client_facing() const {
    return virtual_id.empty() ? id : virtual_id;
  }
};

/// What a client's payloads have come in, so far.
enum class Carrier : std::uint8_t {
  kUnknown,
  kLargeOnStream, ///< On a stream what may have fitted no datagram, and nothing else yet.
  kStream,
  kDatagrams, ///< Some of them.
};

/// One client's association with one target, from its first request on.
///
///     kLookup --OnLookup--> kOpening --OnSocket--> kOpen
///        |                     |  ^                  |
///        +---- refused <-------+--+ next address     +--> ended
///
/// What the client is told meanwhile, and in how many requests it asks, is the dialect's.
struct Tunnel {
  enum class Stage : std::uint8_t {
    kNone, ///< Between the others.
    kLookup,
    kOpening,
    kOpen,
  };

  ClientConnection *connection = nullptr;
  std::uint64_t number = 0; ///< No other one has it, ever.
  Authority authority{};
  TunnelKey key{};
  std::unique_ptr<Attachment> dialect{}; ///< The dialect's.
  /// What stands before a payload in a datagram to the client; empty if none can carry it.
  Prefix datagram_prefix{};
  StreamId stream{};        ///< kOpen: on which payloads go to the client that fit no datagram.
  bool client_first = true; ///< Nothing is forwarded to the client before it has forwarded itself.
  bool plain = false;       ///< It has no connection IDs, and its socket is never shared.
  /// What is between client and proxy instead of forwarded packets; null: themselves.
  std::shared_ptr<const Scramble> scramble{};
  /// Nothing may go to the target yet, as nothing could come back: it shares its socket, and has no
  /// connection ID of the client.
  bool silent = false;
  /// With silent: its connection ID was rejected, and what has come for the target is dropped.
  bool rejected = false;
  /// On a stream: what goes to the client does so as well.
  Carrier carrier = Carrier::kUnknown;
  Stage stage = Stage::kNone;

  // kLookup
  LookupId lookup{};
  // kOpening and kOpen
  ServerSocket *socket = nullptr; ///< Otherwise null.
  std::uint64_t ticket = 0;       ///< See ServerSocket::users.
  bool alone = false;    ///< It needs a socket for itself, as the shared one is full.
  /// It has asked for a socket that nobody else gets: a client connection ID of zero length, which
  /// leads all that comes there to the client, is in nobody's way but its own.
  bool own_socket = false;
  bool named = false;    ///< The socket is known by its authority because of it, too.
  bool answered = false; ///< The target has sent it something.
  /// The client has forwarded a packet, and can do so still.
  bool forwarding = false;
  UsualSize usual{};        ///< Of what the target sends to connection IDs of the client.
  bool interrupted = false; ///< A move has ended its being forwarded; until something is again.
  std::vector<Endpoint> targets{}; ///< To be tried yet, in order; at most max_addresses.
  SessionError error = SessionError::kUnroutable; ///< Of the last one that was tried.
  Timestamp begun{};                            ///< When its first request came.
  std::string_view protocol{};                  ///< TunnelRecord::dialect
  /// Which targets it may have; null: those of the proxy's own policy.
  std::shared_ptr<const TargetPolicy> policy{};
  std::optional<SessionError> refused{}; ///< Before it was open: why a request of it was.
  TunnelStatistics statistics{};

  std::list<Mapping> mappings{}; ///< At most as many as its client has; none that is retired.
  std::size_t to_target = 0;     ///< Of these, with that direction.
};

/// A client-facing 4-tuple.
struct ClientPath {
  ClientPath(const FourTuple &t, const HashKey &key, const ConnectionIdTableLimits &limits)
    : tuple(t), ids(key, limits), late(key, limits) {}

  FourTuple tuple;
  std::size_t connections = 0; ///< Those that use it.
  std::size_t others = 0;      ///< Those that have it in ClientConnection::others.  Not both are 0.
  /// Mapping::client_facing of kToTarget; null: issued by the proxy itself.
  ConnectionIdTable<Mapping *> ids;
  /// What else is taken here, of those in `others`: in nobody's way, and looked at last.
  ConnectionIdTable<Mapping *> late;
};

/// A client's connection to the proxy.
struct ClientConnection {
  OuterConnection id{};
  /// As whose it was added, wherever it moves, or whose it was found to be: Tunnels::Assign.
  Client *client = nullptr;
  void *user_data = nullptr; ///< The caller's.
  ClientPath *path = nullptr;
  /// Where its packets may come from besides, the latest one last: at most Tunnels::kMaxOthers.
  std::vector<ClientPath *> others{};
  std::list<Mapping> retired{}; ///< The latest one last: at most Tunnels::kMaxRetired.
  bool datagrams = true; ///< It has QUIC datagrams.
  bool moving = false;   ///< From OnMigrating on, until it has moved: `path` is the old one.
  std::string certificate{};         ///< AccessRequest::certificate
  std::optional<std::string> user{}; ///< Admission::user of its first request that was admitted.
  std::uint64_t grant = 0;           ///< Admission::grant of that one.
  std::set<ConnectionId> reserved{};         ///< At most max_reserved_per_connection.
  std::map<std::uint64_t, Tunnel> tunnels{}; ///< By number; at most as many as its client has.
  std::unique_ptr<Attachment> state{}; ///< Proxy's: its dialect, and what that has not found yet.
};

/// A server-facing socket.
struct ServerSocket {
  ServerSocket(SocketId s, const Endpoint &t, bool is_shared, const HashKey &key,
               const ConnectionIdTableLimits &limits)
    : id(s), target(t), shared(is_shared), ids(key, limits) {}

  SocketId id;
  Endpoint target;
  bool shared;
  bool open = false;         ///< The caller has opened it.
  void *user_data = nullptr; ///< The caller's, from then on.
  /// By the order in which they came; never empty; at most max_flows_per_socket.
  std::map<std::uint64_t, Tunnel *> users{};
  ConnectionIdTable<Mapping *> ids; ///< kToClient
  /// Mapping::token; at most one for each mapping of its tunnels.
  std::map<ResetToken, const Mapping *> tokens{};
};

} // namespace ngmasque
