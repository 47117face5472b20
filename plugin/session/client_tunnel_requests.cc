// The client's side of one inner connection: its requests and their responses.

#include "ngmasque/session/client_tunnel.h"

#include "ngmasque/session/client_ids.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

namespace {

constexpr unsigned kConflict = 409;

} // namespace

std::vector<ClientAction> ClientTunnel::OnResponse(RequestId request,
                                                   std::span<const HeaderField> fields) {
  Actions actions;
  const auto found = requests_.find(request);
  if (found == requests_.end() || found->second.stage != Stage::kSent) {
    return actions;
  }
  const auto response = ParseResponse(fields);
  const auto echoed = response && Echoes(found->second, *response);
  if (response && response->success() && (echoed || request == first_)) {
    found->second.stage = Stage::kAccepted;
    if (request == first_) {
      AcceptFirst(actions, found->second, echoed);
    } else if (found->second.kind == IdHeader::kClient) {
      actions.emplace_back(client_action::ReleaseClientId{found->second.id});
    }
    return actions;
  }
  actions.emplace_back(client_action::CloseRequest{request});
  // A malformed one is as good as none.
  Refuse(actions, found, response ? *response : ConnectUdpResponse{});
  return actions;
}

std::vector<ClientAction> ClientTunnel::OnRequestClosed(RequestId request, std::uint64_t code) {
  Actions actions;
  const auto found = requests_.find(request);
  if (found == requests_.end() || found->second.stage == Stage::kHeld) {
    return actions;
  }
  if (found->second.stage == Stage::kSent) {
    Refuse(actions, found, {}, code);
    return actions;
  }
  Erase(found);
  if (HasClientId()) {
    actions.emplace_back(client_action::FellBack{Fallback::kRequestEnded});
  } else {
    Fail(actions, {}, false, code);
  }
  return actions;
}

//= draft-00, section 3
//# Clients that do not receive an echoed Client-Connection-Id or Server-Connection-Id header MUST
//# fall back to using CONNECT-UDP without the extended behavior defined in this document.
void ClientTunnel::AcceptFirst(Actions &actions, Request &request, bool echoed) {
  state_ = State::kOpen;
  actions.emplace_back(client_action::Opened{});
  if (echoed) {
    SendHeld(actions);
    return;
  }
  if (!plain_) {
    plain_ = true;
    EraseClientId(request.id);
    request.kind = IdHeader::kNone;
    actions.emplace_back(client_action::FellBack{Fallback::kNotEchoed});
  }
  // The others were all held back.
  for (auto other = requests_.begin(); other != requests_.end();) {
    if (other->first == first_) {
      ++other;
      continue;
    }
    if (other->second.kind == IdHeader::kClient) {
      actions.emplace_back(client_action::ReleaseClientId{other->second.id});
    }
    other = Erase(other);
  }
}

void ClientTunnel::SendHeld(Actions &actions) {
  for (auto request = requests_.begin(); request != requests_.end();) {
    if (request->second.stage != Stage::kHeld) {
      ++request;
    } else if (request->second.kind == IdHeader::kServer && !ask_) {
      request = Erase(request);
    } else {
      Send(actions, request->first);
      ++request;
    }
  }
}

// The request's stream is closed, or being closed.
void ClientTunnel::Refuse(Actions &actions, Requests::iterator request,
                          const ConnectUdpResponse &response, std::uint64_t code) {
  const auto [kind, id, stage] = request->second;
  const auto was_first = request->first == first_;
  Erase(request);
  if (was_first) {
    Fail(actions, response, !plain_ && response.status == kConflict, code);
    return;
  }
  if (kind == IdHeader::kServer) {
    RefuseServerId(actions, id,
                   response.status == kConflict ? Fallback::kServerIdConflict
                                                : Fallback::kForwardingRefused);
    return;
  }
  actions.emplace_back(client_action::DiscardClientId{id});
  actions.emplace_back(client_action::FellBack{Fallback::kClientIdRefused});
  if (!HasClientId()) {
    Fail(actions, response, false, code);
  }
}

//= draft-00, section 4.3
//# For any response code other than a 2xx success, the client MUST NOT retry a request for the same
//# Server Connection ID.  For errors other than 409 (Conflict), clients SHOULD stop sending
//# requests for other Server Connection IDs in the future.
void ClientTunnel::RefuseServerId(Actions &actions, const ConnectionId &id, Fallback reason) {
  const auto asked = ask_;
  if (refused_.size() < limits_.max_refused) {
    refused_.insert(id);
  } else {
    reason = Fallback::kTooManyRequests;
    ask_ = false;
  }
  if (reason == Fallback::kForwardingRefused) {
    ask_ = false;
    if (!asked) {
      return; // It is known already.
    }
  }
  actions.emplace_back(client_action::FellBack{reason});
}

//= draft-00, section 4.1
//# If the server rejects the first request that uses a specific datagram flow ID, the client MUST
//# retire that datagram flow ID.  If the rejection indicated a conflict due to the Client
//# Connection ID, the client MUST select a new Connection ID before sending a new request, and
//# generate a new packet.
void ClientTunnel::Fail(Actions &actions, const ConnectUdpResponse &response, bool retry,
                        std::uint64_t code) {
  const auto opened = state_ == State::kOpen;
  for (const auto &[number, request] : requests_) {
    if (request.kind == IdHeader::kClient && request.stage != Stage::kAccepted) {
      actions.emplace_back(client_action::DiscardClientId{request.id});
    }
  }
  CloseAll(actions);
  actions.emplace_back(client_action::Failed{.status = response.status,
                                             .proxy_status = response.proxy_status,
                                             .code = code,
                                             .opened = opened,
                                             .retry = retry});
}

// A response without datagram-flow-id is taken as an echo all the same: the connection ID says that
// the proxy knows this extension, in which every flow has one.
bool ClientTunnel::Echoes(const Request &request, const ConnectUdpResponse &response) const {
  return request.kind != IdHeader::kNone && response.id_header == request.kind &&
         response.id == request.id && response.flow.value_or(options_.flow) == options_.flow;
}

RequestId ClientTunnel::Add(IdHeader kind, const ConnectionId &id) {
  const auto number = next_++;
  const auto &request =
    requests_.emplace(number, Request{.kind = kind, .id = id, .stage = Stage::kHeld}).first->second;
  // The caller has seen to it that there are no conflicts.
  if (kind == IdHeader::kServer) {
    servers_.Insert(id, &request);
  } else if (kind == IdHeader::kClient && !id.empty()) {
    ids_.table_.Insert(id, {.tunnel = this, .request = &request});
  }
  return number;
}

ClientTunnel::Requests::iterator ClientTunnel::Erase(Requests::iterator request) {
  const auto &[kind, id, stage] = request->second;
  if (kind == IdHeader::kServer) {
    servers_.Erase(id);
  } else if (kind == IdHeader::kClient) {
    EraseClientId(id);
  }
  return requests_.erase(request);
}

// A zero-length one that is in the table is not the tunnel's.
void ClientTunnel::EraseClientId(const ConnectionId &id) {
  if (!id.empty()) {
    ids_.table_.Erase(id);
  }
}

ClientTunnel::Requests::iterator ClientTunnel::Find(IdHeader kind, const ConnectionId &id) {
  return std::ranges::find_if(requests_, [&](const Requests::value_type &entry) {
    return entry.second.kind == kind && entry.second.id == id;
  });
}

bool ClientTunnel::HasClientId() const {
  return std::ranges::any_of(requests_, [](const Requests::value_type &entry) {
    return entry.second.kind == IdHeader::kClient;
  });
}

//= draft-00, section 4
//# Each request MUST contain a Datagram-Flow-Id header and an authority pseudo-header identifying
//# the target.  All requests for the same QUIC Connection between a client and a target MUST
//# contain the same authority, and SHOULD contain the same Datagram-Flow-Id.
void ClientTunnel::Send(Actions &actions, RequestId request) {
  auto &[kind, id, stage] = requests_.at(request);
  stage = Stage::kSent;
  const ConnectUdpRequest message{.authority = options_.authority,
                                  .flow = options_.datagrams ? std::optional(options_.flow)
                                                             : std::nullopt,
                                  .id_header = kind,
                                  .id = id};
  actions.emplace_back(
    client_action::SendRequest{.request = request, .fields = RequestFields(message)});
}

// Nothing is to be closed that was never sent.
ClientTunnel::Requests::iterator ClientTunnel::CloseRequest(Actions &actions,
                                                            Requests::iterator request) {
  if (request->second.stage != Stage::kHeld) {
    actions.emplace_back(client_action::CloseRequest{request->first});
  }
  return Erase(request);
}

void ClientTunnel::CloseAll(Actions &actions) {
  for (auto request = requests_.begin(); request != requests_.end();) {
    request = CloseRequest(actions, request);
  }
  state_ = State::kOver;
}

std::string_view ReasonName(Fallback fallback) {
  switch (fallback) {
  case Fallback::kNotEchoed: return "proxy knows no connection IDs";
  case Fallback::kForwardingRefused: return "proxy refuses to forward";
  case Fallback::kServerIdConflict: return "server connection ID is in conflict";
  case Fallback::kClientIdRefused: return "client connection ID is refused or in conflict";
  case Fallback::kTooManyRequests: return "too many requests";
  case Fallback::kNoDatagrams: return "proxy has no datagrams";
  case Fallback::kRequestEnded: return "proxy has ended a request";
  }
  return "unknown reason";
}

} // namespace ngmasque
