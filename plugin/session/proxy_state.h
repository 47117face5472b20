// The records behind Proxy.  All pointers and references are into containers whose elements do not
// move.
//
// A flow and its requests:      kLookup --OnLookup--> kOpening --OnSocket--> kOpen
//                                  |                     |  ^                  |
//                                  +---- refused <-------+--+ next address     +--> ended
//
// In the first two, requests wait, in order; the first one's answer decides about the flow.
#pragma once

#include "ngmasque/session/proxy.h"
#include "ngmasque/wire/stream_length.h"

#include "early_datagrams.h"
#include "token_bucket.h"

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
#include <unordered_map>
#include <utility>
#include <vector>

namespace ngmasque {

// The flow id of a request without datagram-flow-id, outside of what the wire can carry.
inline constexpr FlowId kStreamFlow = FlowId{1} << 63;

// Why a request is refused, or 200.
struct Verdict {
  unsigned status = 0;
  std::string proxy_status = {}; // May be empty.
};

// `details` is free of quotes and backslashes.
Verdict BadRequest(std::string_view details);
Verdict TooMany(std::string_view details); // Bounds of one client.
Verdict Exhausted();                       // Bounds of all.
Verdict WithError(unsigned status, std::string_view error);
Verdict ToVerdict(RefusalReason reason, IdHeader header, bool shared);

struct Proxy::State {
  struct Connection;

  // A flow of any client.
  struct FlowKey {
    OuterConnection connection{};
    FlowId flow{};
  };

  // Who has asked for a look-up, and whether it is still waited for.
  struct Asked {
    FlowKey by;
    bool wanted = true;
  };

  struct Request {
    ConnectUdpRequest parsed;
    FlowId flow{};
    // From the first byte on the stream.
    std::unique_ptr<StreamLengthParser> payloads;
  };

  enum class Stage : std::uint8_t {
    kNone, // Between the others.
    kLookup,
    kOpening,
    kOpen,
  };

  struct Flow {
    FlowId id{};
    Authority authority;
    bool plain = false; // It has no connection IDs (P14).
    Stage stage = Stage::kNone;

    LookupId lookup{};             // kLookup
    SocketId socket{};             // kOpening and kOpen
    std::uint64_t ticket = 0;      // kOpening and kOpen: see Socket::users.
    bool alone = false;            // It needs a socket for itself, as the shared one is full.
    bool named = false;            // It is counted in by_authority.
    bool answered = false;         // The target has sent it something.
    std::vector<Endpoint> targets; // That are still to be tried, in order; at most max_addresses.
    SocketError error = SocketError::kUnroutable; // Of the last one that was tried.

    // Both together: at most max_streams_per_connection; never both empty.
    std::vector<StreamId> waiting; // kLookup and kOpening
    std::set<StreamId> accepted;   // kOpen
  };

  struct Connection {
    Request *Find(StreamId stream) {
      const auto found = requests.find(stream);
      return found == requests.end() ? nullptr : &found->second;
    }

    OuterConnection id{};
    bool datagrams = true;
    TokenBucket bucket;
    EarlyDatagrams early;
    std::size_t lookups = 0;              // At most max_lookups_per_connection.
    std::map<FlowId, Flow> flows;         // At most max_flows_per_connection.
    std::map<StreamId, Request> requests; // At most max_streams_per_connection.
  };

  struct Socket {
    Endpoint target;
    bool shared = false;
    bool open = false;
    // By the order in which they came; never empty.  The router bounds those of an open socket, and
    // what waits for one is bounded by max_connections and max_flows_per_connection.
    std::map<std::uint64_t, FlowKey> users;
  };

  //= draft-00, section 5
  //# If a proxy reuses server-facing sockets, it SHOULD store which authorities (which could be a
  //# domain name or IP address literal) are being accessed over a particular server-facing socket
  //# so it can avoid performing a new DNS query and potentially choosing a different server IP
  //# address which could map to a different server.
  struct Named {
    SocketId socket{};
    std::size_t flows = 0; // Of it that were opened for the authority; never 0.
  };

  State(const HashKey &key, const ProxyOptions &o, TargetPolicy p)
    : options(o), policy(std::move(p)), router(key, o.routing) {}

  Connection *Find(OuterConnection connection);

  // Requests: proxy_requests.cc.  What may end with the flow being gone says so.

  // Why the request does not fit what there is (P5, P10, P13); `flow` is null if it is new.
  std::optional<Verdict> Validate(const Connection &connection, const ConnectUdpRequest &request,
                                  const Flow *flow) const;
  void Respond(const StreamKey &stream, const ConnectUdpRequest &request, const Verdict &verdict,
               ProxyActions &actions);
  // Refuses one request that is kept, and forgets it.
  void Refuse(Connection &connection, StreamId stream, const Verdict &verdict,
              ProxyActions &actions);
  // Refuses all requests that wait; the flow is gone.
  void RefuseAll(Connection &connection, Flow &flow, const Verdict &verdict, ProxyActions &actions);
  // Answers the requests that wait for the flow's socket, which is open.  The flow may be gone.
  void Register(Connection &connection, Flow &flow, ProxyActions &actions);
  std::expected<void, Refusal> Route(const Connection &connection, const Flow &flow,
                                     StreamId stream, const ConnectUdpRequest &request);
  // Forgets a request that the router does not know (any more); the flow is gone with its last one.
  void Drop(const StreamKey &stream, ProxyActions &actions);
  // The same for requests that the router has given up.
  void Reset(std::span<const StreamKey> streams, ProxyActions &actions);
  // The flow is gone; its requests have been seen to.
  void Remove(Connection &connection, Flow &flow, ProxyActions &actions);

  // Look-ups and sockets: proxy_targets.cc.  In the first four the flow may be gone afterwards.

  void FindTarget(Connection &connection, Flow &flow, ProxyActions &actions);
  void UseAddresses(Connection &connection, Flow &flow, std::span<const Endpoint> addresses,
                    ProxyActions &actions);
  void TryNext(Connection &connection, Flow &flow, ProxyActions &actions);
  // The flow has that socket from now on, whether it is open or not yet.
  void Join(Connection &connection, Flow &flow, SocketId socket, ProxyActions &actions);
  // The flow waits for no look-up and has no socket any more.
  void Leave(Flow &flow, ProxyActions &actions);
  // New flows can use the socket of this one for its authority from now on.
  void Name(Flow &flow);
  void Forget(SocketId socket);
  bool Shares(const Flow &flow) const { return options.port_sharing && !flow.plain && !flow.alone; }

  // Packets: proxy_packets.cc

  // A payload of a client's, for a flow that is there or not yet.
  std::expected<PayloadToTarget, NotPassed>
  Pass(Connection &connection, FlowId flow, std::span<const std::uint8_t> payload, Timestamp now);
  std::unexpected<NotPassed> Count(NotPassed reason);

  ProxyOptions options;
  TargetPolicy policy;
  Router router;
  ProxyCounters counters;
  std::uint64_t next_lookup = 0;
  std::uint64_t next_socket = 0;
  std::uint64_t next_ticket = 0;
  std::unordered_map<OuterConnection, Connection> connections; // At most max_connections.
  std::unordered_map<LookupId, Asked> lookups;                 // At most max_lookups.
  std::unordered_map<SocketId, Socket> sockets;                // At most max_sockets.
  // Shared ones.  Ordered, as peers choose the keys.
  std::map<Endpoint, SocketId> by_endpoint;  // At most max_sockets.
  std::map<std::string, Named> by_authority; // At most one per flow.
};

} // namespace ngmasque
