// What an Http3Server is made of: http3_server.cc (the interface and the loop over connections) and
// server_connection.cc (one of them).
#pragma once

#include "acceptor.h"
#include "closed_connections.h"
#include "http3_endpoint_impl.h"
#include "local_ids.h"
#include "tls_server.h"

#include "ngmasque/quic/http3_server.h"
#include "ngmasque/routing/siphash.h"
#include "ngmasque/session/client.h"
#include "ngmasque/session/token_bucket.h"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ngmasque {

/// Keyed, as the first connection ID of a connection is the client's choice.
class ConnectionIdHash {
public:
  explicit ConnectionIdHash(const HashKey &key) : key_(key) {}
  [[nodiscard]] std::size_t operator()(const ConnectionId &id) const noexcept {
    return SipHash<1, 3>(key_, id.bytes());
  }

private:
  HashKey key_;
};

class ServerConnection final : public Http3Server::Connection {
public:
  ServerConnection(Http3Server::Impl &server, const Http3Server::Options &options);
  ~ServerConnection();

  [[nodiscard]] std::expected<void, QuicError> Start(const FourTuple &path,
                                                     const Acceptor::Accept &accept,
                                                     Nanoseconds now);

  using Http3Endpoint::endpoint;
  using Http3Endpoint::Receive;

  /// With what Drain waits for.
  [[nodiscard]] Nanoseconds Expiry() const { return std::min(Http3Endpoint::Expiry(), last_call_); }
  void HandleExpiry(Nanoseconds now);
  void Write(Nanoseconds now, const BurstSink &sink);

  /// See Http3Server::Drain.
  void Drain(Nanoseconds now);
  /// See Http3Server::Move.
  void Move(const Endpoint &address);
  /// Drain has been called, and requests are taken still.
  [[nodiscard]] bool in_last_call() const { return last_call_ != kNever; }

  /// By which it is found in Http3Server::Impl::by_id: its own, and the client's first one, which
  /// packets of the handshake have that come late.
  [[nodiscard]] std::span<const ConnectionId> ids() const { return ids_; }

  bool over() const { return endpoint().state == Http3Endpoint::Impl::State::kClosed; }
  bool handshake_completed = false;
  bool queued = false; ///< It is among Http3Server::Impl::writers.
  std::optional<ClientKey> client; ///< While it counts for HandshakesOfClient.
  bool proven = false;             ///< The client had shown its address when it began.
  std::optional<std::uint64_t> close_code; ///< Of CloseSoon.
  std::string client_name;                 ///< As Http3Server::Connection has it.
  Nanoseconds timer = kNever;              ///< When it is among Http3Server::Impl::timers.

private:
  void OnHandshakeCompleted() override;
  void Deliver() override;
  bool OnNewLocalId(const ConnectionId &id) override;
  void OnRetiredLocalId(const ConnectionId &id) override;
  void OnWantWrite() override;

  /// Returns whether there is something to be written then.
  bool Announce();

  std::optional<Endpoint> next_; // Where the client is to go, and is not told yet.
  Endpoint local_;               // Where it is.
  Nanoseconds last_call_ = kNever; // When requests on their way have had their time.
  bool gone_away_ = false;         // They have: none is taken any more.
  Http3Server::Impl &server_;
  const Http3Server::Options &options_;
  // Not asked of ngtcp2, which may not have come to know what was drawn for it.  As many as it
  // keeps at a time, and the first one.
  std::vector<ConnectionId> ids_;
};

struct Http3Server::Impl {
  /// What is drawn once.
  struct Secrets {
    HashKey table;
    LocalIds::Secrets ids;
    QuicSecret token;
    TicketKey ticket;
    HashKey foreign; ///< See Http3Server::foreign_id_key.
  };
  Impl(Options options_in, Handler &handler_in, const Secrets &secrets);

  void Queue(ServerConnection &connection) {
    if (!std::exchange(connection.queued, true)) {
      writers.push_back(&connection);
    }
  }
  /// What the acceptor is told of handshakes in progress, for a packet of this client.
  [[nodiscard]] std::size_t HandshakesFor(const ClientKey &client) const;
  /// A handshake has come to its end.
  void EndHandshake(ServerConnection &connection);
  void SetTimer(ServerConnection &connection, Nanoseconds when);
  void Accept(const FourTuple &path, unsigned ecn, std::span<const std::uint8_t> packet,
              const Acceptor::Accept &accept, Nanoseconds now, const BurstSink &sink);
  /// Answers a packet that is of no connection, if at all.
  void Answer(const FourTuple &path, const Acceptor::Result &result, const BurstSink &sink);
  /// Of by_id, or null.  Packets mostly come from whoever has sent before.
  [[nodiscard]] ServerConnection *Find(const ConnectionId &id) {
    if (!last_found.second || last_found.first != id) {
      const auto found = by_id.find(id);
      last_found = {id, found == by_id.end() ? nullptr : found->second};
    }
    return last_found.second;
  }
  void Forget(const ConnectionId &id) {
    by_id.erase(id);
    last_found.second = nullptr;
  }
  /// It is over.
  void Remove(ServerConnection &connection, Nanoseconds now);

  Options options;
  Handler &handler;
  std::unique_ptr<TlsServerContext> tls;
  HashKey foreign;
  LocalIds ids;
  Acceptor acceptor;
  ClosedConnections closed;
  std::vector<std::uint8_t> buffer = std::vector<std::uint8_t>(kBurstBuffer); ///< For all.
  bool draining = false;          ///< See Drain.
  std::size_t in_last_call = 0;   ///< Connections that take requests even so.
  std::optional<Endpoint> move_on_handshake;
  std::uint64_t announced = 0;    ///< As in Statistics.
  std::uint64_t moves = 0;        ///< The same.
  TokenBucket failed_qlogs{1, 10}; ///< See Options::qlog_dir.
  std::size_t in_handshake = 0;   ///< Connections whose handshake is not complete.
  std::uint64_t handshakes = 0;   ///< That were completed.

  /// In progress.
  struct HandshakesOfClient {
    std::size_t unproven = 0; ///< Of whoever says that it is there.
    std::size_t proven = 0;   ///< Options::max_handshakes_per_client at most.
  };
  std::unordered_map<ClientKey, HandshakesOfClient, ClientKeyHash>
    by_client; ///< Those with any, so Options::max_handshakes at most.
  std::unordered_map<ConnectionId, ServerConnection *, ConnectionIdHash> by_id;
  std::pair<ConnectionId, ServerConnection *> last_found; ///< Of by_id, or null.
  std::unordered_map<ServerConnection *, std::unique_ptr<ServerConnection>>
    connections; ///< At most Options::max_connections.
  std::set<std::pair<Nanoseconds, ServerConnection *>> timers; ///< One for each.
  std::deque<ServerConnection *> writers; ///< Each at most once.
};

} // namespace ngmasque
