// Dialect rfc9298, the proxy's side: requests come, are answered and go.

#include "rfc9298_proxy.h"

#include "ngmasque/session/proxy.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

namespace {

using rfc9298::Refuse;

} // namespace

void rfc9298::Refuse(StreamId stream, SessionError error, TunnelModel &model, Tunnel *tunnel) {
  model.Refuse(stream, error,
               UdpResponseFields({.status = HttpStatus(error),
                                  .forwarding = {},
                                  .proxy_status = ProxyStatus(error)}),
               tunnel);
}

std::unique_ptr<Dialect> MakeRfc9298(const ProxyOptions &options, const HashKey &) {
  return std::make_unique<Rfc9298>(options);
}

Rfc9298::Rfc9298(const ProxyOptions &options)
  : forwarding_(options.forwarding && options.connection_ids),
    port_sharing_(options.port_sharing && options.connection_ids),
    options_(options) {}

void Rfc9298::OnRequest(StreamId stream, std::span<const HeaderField> fields, TunnelModel &model) {
  const auto asked = ParseUdpRequest(fields, options_.path_template);
  if (!asked) {
    Refuse(stream, asked.error(), model);
    return;
  }
  if (!model.AddRequest()) {
    Refuse(stream, SessionError::kTooManyStreams, model);
    return;
  }
  auto request = std::make_unique<Request>(stream, model.waiting());
  Negotiate(*request, *asked);
  const auto added =
    model.Add(stream, asked->target, !request->forwarding && !request->port_sharing);
  if (!added) {
    model.RemoveRequest();
    Refuse(stream, added.error(), model);
    return;
  }
  auto &tunnel = **added;
  //= draft-ietf-masque-quic-proxy, section 5.10
  //# If the client did not send a value of "?1" for the "Proxy-QUIC-Port-Sharing" header, port
  //# reuse is not permitted and the proxy MUST allocate a new UDP 4-tuple.
  tunnel.alone = tunnel.own_socket = !request->port_sharing;
  //= RFC 9297, section 2
  //# HTTP Datagrams MUST only be sent with an association to an HTTP request that explicitly
  //# supports them.
  tunnel.datagram_prefix = rfc9298::DatagramPrefix(stream);
  tunnel.client_first = false;
  tunnel.dialect = std::move(request);
  tunnels_.emplace(stream, &tunnel);
  model.Open(tunnel);
}

//= draft-ietf-masque-quic-proxy, section 3
//# If the proxy does not recognize or accept any of the transforms offered by the client, it MUST
//# omit this parameter and set the header field value to "?0", or omit the header entirely.
void Rfc9298::Negotiate(Request &request, const UdpRequest &asked) const {
  //= draft-ietf-masque-quic-proxy, section 3
  //# If this header is not included, the client MUST NOT send any connection ID capsules.
  //
  // And without them nothing would come back by a shared socket.
  if (!asked.forwarding) {
    return;
  }
  request.aware = forwarding_ || port_sharing_;
  request.port_sharing = port_sharing_ && asked.port_sharing;
  if (!forwarding_ || !asked.forwarding->forwarding) {
    return;
  }
  for (const auto transform : asked.forwarding->transforms) {
    //= draft-ietf-masque-quic-proxy, section 6.3.2
    //# If either side receives a `scramble` transform without the "scramble-key" parameter, forwarded
    //# mode MUST be disabled.
    if (transform == Transform::kScrambleDt && !asked.forwarding->key) {
      return;
    }
    if (std::ranges::contains(options_.transforms, transform)) {
      request.forwarding = true;
      request.transform = transform;
      request.client_key = asked.forwarding->key;
      return;
    }
  }
}

UdpResponse Rfc9298::Accept(Tunnel &tunnel, TunnelModel &model) const {
  const auto &request = RequestOf(tunnel);
  //= RFC 9298, section 3.5
  //# the HTTP status code on the response SHALL be in the 2xx (Successful) range.
  //
  //= RFC 9298, section 3.5
  //# the response SHALL meet the requirements of HTTP responses that start the Capsule Protocol
  UdpResponse response{.status = 200,
                       .forwarding = {},
                       .port_sharing = request.port_sharing,
                       .capsule_protocol = true,
                       .proxy_status = ProxyStatus(tunnel.socket->target)};
  //= draft-ietf-masque-quic-proxy, section 3
  //# If the proxy supports QUIC-aware proxying, it will include the "Proxy-QUIC-Forwarding" header in
  //# successful HTTP responses.
  if (request.aware) {
    response.forwarding.emplace();
  }
  if (request.forwarding) {
    auto &answer = *response.forwarding;
    answer.forwarding = true;
    answer.transform = TransformName(request.transform);
    if (request.transform == Transform::kScrambleDt) {
      answer.key = model.source().DrawKey();
      tunnel.scramble = std::make_shared<Scramble>(*answer.key, *request.client_key);
    }
  }
  return response;
}

//= draft-ietf-masque-quic-proxy, section 5
//# In order to avoid introducing an additional round trip on setup, a REGISTER_CLIENT_CID capsule
//# SHOULD be sent at the same time as the client's first flight.
//
// So it has come before there was a socket.
Opened Rfc9298::OnOpen(Tunnel &tunnel, TunnelModel &model) {
  auto &request = RequestOf(tunnel);
  const auto first = std::ranges::find(request.held, CidCapsuleKind::kRegisterClientCid,
                                       &CidCapsule::kind);
  if (tunnel.socket->shared && first != request.held.end()) {
    const auto &id = first->id;
    const auto mapped = model.Map(tunnel, Direction::kToClient, id,
                                  {.stream = request.stream, .acknowledged = false});
    if (mapped) {
      request.clients[id].mapping = *mapped;
    } else if (SocketIsFull(mapped.error())) {
      return Opened::kAnotherSocket;
    }
  } else if (tunnel.socket->shared && tunnel.socket->ids.full()) {
    return Opened::kAnotherSocket; // Whatever is to come.
  }
  tunnel.stream = request.stream;
  tunnel.silent = tunnel.socket->shared && request.clients.empty();
  model.Respond(request.stream, 200, UdpResponseFields(Accept(tunnel, model)));
  for (const auto &capsule : std::exchange(request.held, {})) {
    if (const auto code = Act(tunnel, capsule, model)) {
      model.Reset(request.stream, code);
      return Opened::kRefused;
    }
  }
  return Opened::kAccepted;
}

void Rfc9298::OnRefused(Tunnel &tunnel, SessionError error, TunnelModel &model) {
  Refuse(RequestOf(tunnel).stream, error, model, &tunnel);
}

void Rfc9298::End(Tunnel &tunnel, std::uint64_t code, TunnelModel &model) {
  if (tunnel.stage == Tunnel::Stage::kOpen) {
    model.Reset(RequestOf(tunnel).stream, code);
  } else {
    Refuse(RequestOf(tunnel).stream, SessionError::kCapsule, model, &tunnel);
  }
  model.Close(tunnel, EndReason::kProtocol);
}

void Rfc9298::OnStreamClosed(StreamId stream, bool finished, TunnelModel &model) {
  const auto known = tunnels_.find(stream);
  if (known == tunnels_.end()) {
    return;
  }
  auto &tunnel = *known->second;
  //= RFC 9297, section 3.3
  //# If the receive side of a stream carrying capsules is terminated cleanly (for example, in HTTP/3
  //# this is defined as receiving a QUIC STREAM frame with the FIN bit set) and the last capsule on
  //# the stream was truncated, this MUST be treated as if it were a malformed or incomplete message.
  if (finished && !RequestOf(tunnel).parser.AtBoundary()) {
    End(tunnel, kH3MessageError, model);
    return;
  }
  model.Close(tunnel, tunnel.stage == Tunnel::Stage::kOpen ? EndReason::kClosed
                                                           : EndReason::kRefused);
}

//= RFC 9298, section 5
//# An endpoint that receives an HTTP Datagram using Context ID zero whose UDP Proxying Payload field
//# is longer than 65527 MUST abort the corresponding stream.
void Rfc9298::OnBadDatagram(std::span<const std::uint8_t> datagram, TunnelModel &model) {
  if (const auto stream = rfc9298::StreamOf(datagram)) {
    if (const auto known = tunnels_.find(*stream); known != tunnels_.end()) {
      End(*known->second, kH3DatagramError, model);
    }
  }
}

// Others have filled the new 4-tuple: in conflict it is only by chance.
void Rfc9298::OnLost(Mapping &mapping, TunnelModel &model) {
  auto &tunnel = *mapping.tunnel;
  model.Reset(RequestOf(tunnel).stream, kH3ConnectError);
  model.Close(tunnel, EndReason::kConflict);
}

//= draft-ietf-masque-quic-proxy, section 6.5
//# In the event of active migration, the proxy removes forwarding rules in order to not send packets
//# with the same connection ID bytes over multiple network paths.
//
// What it has forwarded before may come after it, over the path that it has left.
void Rfc9298::OnMigrating(Tunnel &tunnel, TunnelModel &model) {
  if (tunnel.stage != Tunnel::Stage::kOpen) {
    return;
  }
  auto &request = RequestOf(tunnel);
  for (auto &[id, client] : request.clients) {
    // What was only tunnelled, such as without a connection ID, still is.
    tunnel.interrupted |= std::exchange(client.mapping->acknowledged, false);
    client.mapping->virtual_id = {};
    for (auto &[virtual_id, is_void] : client.offered) {
      is_void = true;
    }
  }
  for (auto &[id, mappings] : request.targets) {
    for (auto *mapping : std::exchange(mappings, {})) {
      model.Retire(*mapping);
    }
  }
}

//= RFC 9297, section 2.1
//# HTTP/3 Datagrams MUST NOT be sent unless the corresponding stream's send side is open.
void Rfc9298::OnEnded(Tunnel &tunnel, EndReason reason, TunnelModel &model) {
  const auto stream = RequestOf(tunnel).stream;
  if (reason == EndReason::kUnreachable) {
    model.Reset(stream);
  }
  tunnels_.erase(stream);
  model.RemoveRequest();
}

} // namespace ngmasque
