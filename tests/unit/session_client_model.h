// A model of ClientTunnel that knows no more than what the events and the actions say: which
// requests are open, what was answered, what was refused.
#pragma once

#include "session_client_support.h"

#include <optional>
#include <set>

namespace ngmasque {

// How often what happened, so that the test can tell that it has tested something.
struct ClientTally {
  std::map<Fallback, int> fell_back;
  int forwarded = 0, tunnelled = 0, received = 0, released = 0, discarded = 0, closed = 0;
  int opened = 0, failed = 0, retried = 0, ended = 0;
};

// How a proxy answers.
struct Answer {
  unsigned status = 200;
  bool malformed = false;
  // What it echoes, if it is a 2xx; nothing for what was asked for.
  bool without_id = false;
  std::optional<ConnectionId> other_id;
  FlowId flow_offset = 0;
};

// Does to a tunnel what it is told to, and asserts what has to come of it: look for fatal failures
// after each call.
class ClientModel {
public:
  ClientModel(const HashKey &key, const Draft00Options &options,
              const ClientTunnelLimits &limits, ClientTally &tally)
    : options_(options),
      limits_(limits),
      tally_(tally),
      ids_(key),
      dialect_(options.Dialect()),
      tunnel_(ids_, *dialect_, options.Tunnel(), limits),
      plain_(!options.datagrams) {}

  void Start(const ConnectionId &id);
  void AddClientId(const ConnectionId &id);
  void RemoveClientId(const ConnectionId &id);
  void AddServerId(const ConnectionId &id);
  void RemoveServerId(const ConnectionId &id);
  void AddOuterId(const ConnectionId &id);
  void RemoveOuterId(const ConnectionId &id);
  void Respond(RequestId number, const Answer &answer);
  void Ended(RequestId number); // By the proxy.
  void Close();

  // Packets with what follows the first byte, in both directions; `id` is one that `rest` has.
  void Packets(const ConnectionId &id, const Bytes &rest);

  // Whether the tunnel has everything right that does not depend on an event.
  void Invariants();

  // One more than the largest number of a request.
  RequestId next() const { return next_; }
  // Whether the first request was accepted.
  bool opened() const { return opened_; }

private:
  struct Request {
    IdHeader kind{};
    ConnectionId id;
    bool accepted = false;
  };

  bool HasOpen(IdHeader kind, const ConnectionId &id) const;
  bool HasAccepted(IdHeader kind, const Bytes &rest) const;
  std::set<ConnectionId> OpenIds(IdHeader kind) const;
  std::set<ConnectionId> Clients() const;
  bool ConflictsWithOwn(const ConnectionId &id) const;
  std::size_t Known() const;
  void Remember(const ConnectionId &id);
  void Refused(const ConnectionId &id, unsigned status);

  void Apply(const std::vector<ClientAction> &actions);
  void Take(const client_action::SendRequest &send);
  void Take(const client_action::SendOnStream &send);
  void Take(const client_action::CloseRequest &close);
  void Take(const client_action::ReleaseClientId &release);
  void Take(const client_action::DiscardClientId &discard);
  void Take(const client_action::Opened &opened);
  void Take(const client_action::FellBack &fell_back);
  void Take(const client_action::Failed &failed);

  Draft00Options options_;
  ClientTunnelLimits limits_;
  ClientTally &tally_;
  ClientIds ids_;
  std::unique_ptr<ClientDialect> dialect_;
  ClientTunnel tunnel_;

  bool started_ = false, opened_ = false, over_ = false, plain_, begun_ = false;
  bool stopped_ = false; // A server connection ID was refused, not with 409, or too many were.
  RequestId first_ = ~RequestId{0}, next_ = 0;
  std::map<RequestId, Request> open_; // Sent, and neither closed nor ended.
  std::set<RequestId> sent_;
  std::set<ConnectionId> held_;         // Client connection IDs without a verdict.
  std::set<ConnectionId> held_servers_; // Not asked for yet.
  std::set<ConnectionId> outer_;
  std::set<ConnectionId> refused_; // Server connection IDs, by the proxy,
  std::set<ConnectionId> local_;   // and those that were not even asked for.

  // What happens at the moment.
  bool starting_ = false, opening_ = false;
  std::optional<Request> accepting_;
};

} // namespace ngmasque
