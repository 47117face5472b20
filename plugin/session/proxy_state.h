// What is behind Proxy: what happens to the tunnels of its registry, and the names of its sockets.
#pragma once

#include "ngmasque/session/proxy.h"
#include "ngmasque/wire/stream_length.h"

#include "early_datagrams.h"
#include "ended_flows.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <optional>
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

// `details` is printable ASCII.
Verdict BadRequest(std::string_view details);
Verdict TooMany(std::string_view details); // Bounds of one client.
Verdict Exhausted();                       // Bounds of all.
Verdict WithError(unsigned status, std::string_view error);
Verdict ToVerdict(RefusalReason reason, IdHeader header, bool shared);

// What draft-00 keeps for a connection: its flow ids, and its requests with a stream each.
struct Draft00 final : DialectState {
  struct Request {
    Tunnel *tunnel = nullptr;
    Mapping *mapping = nullptr;               // Once it is accepted, if it has a connection ID.
    std::unique_ptr<ConnectUdpRequest> asked; // Until it is answered.
    // From the first byte on the stream.  It keeps what is there of one payload, at most
    // kMaxUdpPayload.
    std::unique_ptr<StreamLengthParser> payloads;
  };

  Draft00(const EarlyLimits &limits, const HashKey &key) : early(limits), ended(key) {}

  Request *Find(StreamId stream) {
    const auto found = requests.find(stream);
    return found == requests.end() ? nullptr : &found->second;
  }

  EarlyDatagrams early;
  EndedFlows ended;
  std::map<FlowId, Tunnel *> flows;     // As many as the connection has tunnels.
  std::map<StreamId, Request> requests; // At most max_streams_per_connection.
};

inline Draft00 &DialectOf(ClientConnection &connection) {
  return static_cast<Draft00 &>(*connection.dialect);
}

inline bool IsLong(std::span<const std::uint8_t> packet) {
  return PeekHeaderForm(packet) == HeaderForm::kLong;
}

struct Proxy::State {
  using Stage = Tunnel::Stage;

  // Who has asked for a look-up.
  struct Asked {
    OuterConnection by{};
    Tunnel *tunnel = nullptr; // Null if it is not waited for any more.
  };

  //= draft-00, section 5
  //# If a proxy reuses server-facing sockets, it SHOULD store which authorities (which could be a
  //# domain name or IP address literal) are being accessed over a particular server-facing socket
  //# so it can avoid performing a new DNS query and potentially choosing a different server IP
  //# address which could map to a different server.
  struct Named {
    ServerSocket *socket = nullptr;
    std::size_t tunnels = 0; // Of it that were opened for the authority; never 0.
  };

  State(const HashKey &k, const ProxyOptions &o, TargetPolicy p)
    : key(k), options(o), policy(std::move(p)), tunnels(k, o.routing) {}

  // Requests: proxy_requests.cc.  What may end with the tunnel being gone says so.

  // Why the request does not fit what there is (P5, P10, P13); `tunnel` is null if it is new.
  std::optional<Verdict> Validate(const Draft00 &dialect, const ConnectUdpRequest &request,
                                  const Tunnel *tunnel) const;
  void Respond(const StreamKey &stream, const ConnectUdpRequest &request, const Verdict &verdict,
               ProxyActions &actions);
  // Refuses one request that is kept, and forgets it.
  void Refuse(ClientConnection &connection, StreamId stream, const Verdict &verdict,
              ProxyActions &actions);
  // Refuses all requests that wait; the tunnel is gone.
  void RefuseAll(Tunnel &tunnel, const Verdict &verdict, ProxyActions &actions);
  // Answers the requests that wait for the tunnel's socket, which is open.  The tunnel may be gone.
  void Register(Tunnel &tunnel, ProxyActions &actions);
  // Null if there is no connection ID to be mapped.
  std::expected<Mapping *, RefusalReason> Map(Tunnel &tunnel, StreamId stream,
                                              const ConnectUdpRequest &request);
  // Forgets a request; the tunnel is gone with its last one.
  void Drop(ClientConnection &connection, StreamId stream, EndReason reason,
            ProxyActions &actions);
  // The same, and tells the client.
  void Reset(ClientConnection &connection, StreamId stream, EndReason reason,
             ProxyActions &actions);
  // The tunnel is gone; its requests have been seen to.
  void Remove(Tunnel &tunnel, EndReason reason, ProxyActions &actions);

  // Look-ups and sockets: proxy_targets.cc.  In the first four the tunnel may be gone afterwards.

  void FindTarget(Tunnel &tunnel, ProxyActions &actions);
  void UseAddresses(Tunnel &tunnel, std::span<const Endpoint> addresses, ProxyActions &actions);
  void TryNext(Tunnel &tunnel, ProxyActions &actions);
  // The tunnel has that socket from now on, whether it is open or not yet.
  void Join(Tunnel &tunnel, ServerSocket &socket, ProxyActions &actions);
  // Of a full socket: a socket to the same target for itself.
  void UseAnother(Tunnel &tunnel, const Endpoint &target, ProxyActions &actions);
  // The tunnel waits for no look-up and has no socket any more.
  void Leave(Tunnel &tunnel, ProxyActions &actions);
  // New tunnels can use the socket of this one for its authority from now on.
  void Name(Tunnel &tunnel);
  void Forget(ServerSocket &socket);
  bool Shares(const Tunnel &tunnel) const {
    return options.port_sharing && !tunnel.plain && !tunnel.alone;
  }

  // Packets: proxy_packets.cc

  // A payload of a client's, for a tunnel that is there or not yet.
  std::expected<PayloadToTarget, NotPassed> Pass(ClientConnection &connection, FlowId flow,
                                                 std::span<const std::uint8_t> payload,
                                                 Timestamp now);
  std::unexpected<NotPassed> Count(NotPassed reason);
  // The same for a packet that has a tunnel.
  std::unexpected<NotPassed> Count(Tunnel &tunnel, Way way, NotPassed reason);

  HashKey key;
  ProxyOptions options;
  TargetPolicy policy;
  Tunnels tunnels;
  ProxyCounters counters; // Without those of the tunnels.
  Timestamp now = 0;      // Of the event that is being seen to.
  std::uint64_t next_lookup = 0;
  std::unordered_map<LookupId, Asked> lookups; // At most max_lookups.
  // Shared ones.  Ordered, as peers choose the keys.
  std::map<Endpoint, ServerSocket *> by_endpoint; // At most max_sockets.
  std::map<std::string, Named> by_authority;      // At most one per tunnel.
};

} // namespace ngmasque
