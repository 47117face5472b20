// The client's side of one inner connection: its connection IDs and packets.

#include "ngmasque/session/client_tunnel.h"

#include "ngmasque/session/client_ids.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

namespace {

// As many lengths as there can be: the client's own choice, or no more than max_requests.
constexpr ConnectionIdTableLimits TableLimits(std::size_t max_ids) {
  return {.max_ids = max_ids, .max_lengths = kMaxConnectionIdLength + 1};
}

} // namespace

ClientTunnel::ClientTunnel(ClientIds &ids, Options options, const ClientTunnelLimits &limits)
  : ids_(ids),
    options_(std::move(options)),
    limits_(limits),
    plain_(!options_.datagrams),
    ask_(options_.forward && options_.datagrams),
    servers_(ids.key_, TableLimits(limits.max_requests)) {}

ClientTunnel::~ClientTunnel() {
  while (!requests_.empty()) {
    Erase(requests_.begin());
  }
}

//= draft-00, section 4.1
//# The first request the clients makes MUST contain the authority pseudo-header, the
//# Datagram-Flow-Id header, and the Client-Connection-Id header.
std::vector<ClientAction> ClientTunnel::Start(const ConnectionId &id) {
  Actions actions;
  if (state_ != State::kIdle) {
    return actions;
  }
  if (plain_) {
    //= draft-00, section 3
    //# Like the Datagram-Flow-Id header [CONNECT-UDP], the Client-Connection-Id and
    //# Server-Connection-Id headers can only be supported by an HTTP/3 proxy.
    first_ = Add(IdHeader::kNone, {});
  } else {
    //= draft-00, section 4.1
    //# A client also SHOULD NOT select a Client Connection ID that matches the ID used for the QUIC
    //# connection to the proxy, as this inherently creates a conflict.
    const auto possible = ids_.Check(id);
    const bool known = Find(IdHeader::kClient, id) != requests_.end();
    if (!possible || known) {
      Fail(actions, {}, known || IsConflict(possible.error()));
      return actions;
    }
    first_ = Add(IdHeader::kClient, id);
  }
  state_ = State::kWaiting;
  Send(actions, first_);
  if (plain_) {
    actions.emplace_back(client_action::FellBack{Fallback::kNoDatagrams});
  }
  return actions;
}

//= draft-00, section 4.2
//# Prior to informing the target of a new chosen client connection ID, the client MUST send a
//# CONNECT-UDP request with the Client-Connection-Id header to the proxy, and only inform the
//# target of the new client connection ID once a 2xx (Successful) response is received.
std::vector<ClientAction> ClientTunnel::AddClientId(const ConnectionId &id) {
  Actions actions;
  if (state_ == State::kOver || Find(IdHeader::kClient, id) != requests_.end()) {
    return actions;
  }
  if (plain_) {
    actions.emplace_back(client_action::ReleaseClientId{id});
    return actions;
  }
  const auto possible = ids_.Check(id);
  const auto full =
    requests_.size() >= limits_.max_requests || (!possible && !IsConflict(possible.error()));
  if (full || !possible) {
    actions.emplace_back(client_action::DiscardClientId{id});
    actions.emplace_back(
      client_action::FellBack{full ? Fallback::kTooManyRequests : Fallback::kClientIdRefused});
    return actions;
  }
  const auto request = Add(IdHeader::kClient, id);
  if (state_ == State::kOpen) {
    Send(actions, request);
  }
  return actions;
}

std::vector<ClientAction> ClientTunnel::RemoveClientId(const ConnectionId &id) {
  Actions actions;
  const auto request = Find(IdHeader::kClient, id);
  if (request == requests_.end()) {
    return actions;
  }
  const auto was_awaited = state_ == State::kWaiting && request->first == first_;
  //= draft-00, section 5.1
  //# A client that no longer wants a given Connection ID to be forwarded by the proxy, for either
  //# direction, MUST cancel its CONNECT-UDP HTTP/3 request by closing the corresponding stream.
  CloseRequest(actions, request);
  if (was_awaited || (state_ == State::kOpen && !HasClientId())) {
    CloseAll(actions);
  }
  return actions;
}

//= draft-00, section 4.3
//# Once the client has learned the target server's Connection ID, such as in the response to a QUIC
//# Initial packet, it can send a request containing the Server-Connection-Id header to request the
//# ability to forward packets.
std::vector<ClientAction> ClientTunnel::AddServerId(const ConnectionId &id) {
  Actions actions;
  if (state_ == State::kOver || plain_ || !options_.forward || refused_.contains(id) ||
      Find(IdHeader::kServer, id) != requests_.end()) {
    return actions;
  }
  const auto conflicts = [&id](const ConnectionId &other) {
    return Compare(id.bytes(), other.bytes()) != Relation::kUnrelated;
  };
  auto in_conflict = id.empty() || std::ranges::any_of(refused_, conflicts);
  for (auto request = requests_.begin(); request != requests_.end();) {
    if (request->second.kind != IdHeader::kServer || !conflicts(request->second.id)) {
      ++request;
      continue;
    }
    in_conflict = true;
    const auto other = request->second.id;
    request = CloseRequest(actions, request);
    RefuseServerId(actions, other, Fallback::kServerIdConflict);
  }
  if (in_conflict) {
    RefuseServerId(actions, id, Fallback::kServerIdConflict);
  } else if (ask_ && requests_.size() >= limits_.max_requests) {
    RefuseServerId(actions, id, Fallback::kTooManyRequests);
  } else if (ask_) {
    const auto request = Add(IdHeader::kServer, id);
    if (state_ == State::kOpen) {
      Send(actions, request);
    }
  }
  return actions;
}

std::vector<ClientAction> ClientTunnel::RemoveServerId(const ConnectionId &id) {
  Actions actions;
  if (const auto request = Find(IdHeader::kServer, id); request != requests_.end()) {
    CloseRequest(actions, request);
  }
  return actions;
}

std::vector<ClientAction> ClientTunnel::Close() {
  Actions actions;
  CloseAll(actions);
  return actions;
}

//= draft-00, section 4.3
//# When forwarding, the client sends a QUIC packet with the target server's Connection ID in the
//# QUIC short header, using the same socket between client and proxy that was used for the main
//# QUIC connection between client and proxy.
ClientWay ClientTunnel::FromInner(std::span<const std::uint8_t> packet) {
  const auto form = PeekHeaderForm(packet);
  if (!form || state_ == State::kIdle || state_ == State::kOver) {
    return ClientWay::kDrop;
  }
  //= draft-00, section 1
  //# QUIC long header packets MUST use this mode.
  if (*form == HeaderForm::kLong) {
    return ClientWay::kTunnel;
  }
  //= draft-00, section 4.3
  //# The client MUST wait for a successful (2xx) response before using forwarded mode.  Prior to
  //# receiving the server response, the client MUST send short header packets tunnelled in DATAGRAM
  //# frames.
  const auto *const request = servers_.Find(packet.subspan(1));
  if (!request || (*request)->stage != Stage::kAccepted) {
    return ClientWay::kTunnel;
  }
  begun_ = true;
  return ClientWay::kForward;
}

bool ClientTunnel::open() const { return state_ == State::kOpen; }

bool ClientTunnel::over() const { return state_ == State::kOver; }

FlowId ClientTunnel::flow() const { return options_.flow; }

} // namespace ngmasque
