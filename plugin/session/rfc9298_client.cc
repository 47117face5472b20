// Dialect rfc9298, the client's side: requests and their answers.

#include "rfc9298_client.h"

#include "fields.h"

#include <algorithm>
#include <string>
#include <utility>

namespace ngmasque {

//= RFC 9298, section 3.4
//# This requires that servers send an HTTP Setting as specified in [EXT-CONNECT2] and [EXT-CONNECT3]
//
//= RFC 9297, section 2.1.1
//# QUIC DATAGRAM frames MUST NOT be sent until the SETTINGS_H3_DATAGRAM setting has been both sent and
//# received with a value of 1.
std::unique_ptr<ClientDialect> MakeRfc9298Client(const Rfc9298ClientOptions &options,
                                                 const ClientDialectOptions &connection) {
  const auto &settings = connection.settings;
  if (!settings || !settings->connect_protocol) {
    return nullptr;
  }
  return std::make_unique<Rfc9298Client>(options, connection.datagrams && settings->datagrams);
}

std::unique_ptr<TunnelDialect> Rfc9298Client::Add(ClientTunnel &tunnel) {
  return std::make_unique<UdpTunnel>(*this, tunnel);
}

std::expected<ClientPayload, Undelivered>
Rfc9298Client::OnDatagram(std::span<const std::uint8_t> datagram) const {
  const auto read = rfc9298::ReadDatagram(datagram);
  if (!read && read.error() == DropReason::kMalformed) {
    return std::unexpected(
      Undelivered{.reason = DropReason::kMalformed,
                  .close = kH3DatagramError,
                  .text = "the proxy has sent a datagram without quarter stream ID"});
  }
  const auto stream = rfc9298::StreamOf(datagram);
  const auto found = stream ? tunnels_.find(*stream) : tunnels_.end();
  if (found == tunnels_.end()) {
    return std::unexpected(Undelivered{.reason = DropReason::kUnknownFlow});
  }
  if (!read) {
    const bool bad = read.error() == DropReason::kBadDatagram;
    return std::unexpected(
      Undelivered{.reason = read.error(), .tunnel = bad ? found->second : nullptr});
  }
  return ClientPayload{.tunnel = found->second, .payload = read->payload};
}

void Rfc9298Client::UdpTunnel::Forget() {
  if (stream_) {
    connection_.tunnels_.erase(*stream_);
  }
  open_ = false;
}

//= draft-ietf-masque-quic-proxy, section 5
//# In order to avoid introducing an additional round trip on setup, a REGISTER_CLIENT_CID capsule
//# SHOULD be sent at the same time as the client's first flight.
void Rfc9298Client::UdpTunnel::Open(std::optional<MappingId> first, ClientTunnelModel &model) {
  const auto &options = connection_.options_;
  offer_.forwarding = model.forward() && !options.transforms.empty();
  //= draft-ietf-masque-quic-proxy, section 2.3
  //# If neither header is supplied with a value of "?1", none of the functionality in this document
  //# can be used and handling reduces to normal connect-udp.
  ids_ = first && (offer_.forwarding || options.port_sharing);
  UdpRequest request{.target = model.authority(),
                     .forwarding = {},
                     .port_sharing = ids_ && options.port_sharing};
  if (ids_) {
    offer_.transforms = options.transforms;
    if (std::ranges::any_of(options.transforms, NeedsKey)) {
      offer_.key = connection_.source_.DrawKey();
    }
    request.forwarding = offer_;
  }
  maximum_ = RulesOf(options.revision).initial_maximum;
  open_ = true;
  model.Request(kRequest, UdpRequestFields(request, options.uri, options.uri.authority()));
  if (ids_) {
    Register(*first, model);
  }
}

void Rfc9298Client::UdpTunnel::Map(MappingId mapping, ClientTunnelModel &model) {
  Register(mapping, model);
}

void Rfc9298Client::UdpTunnel::Send(const CidCapsule &capsule, ClientTunnelModel &model) const {
  model.Send(kRequest, WriteCidCapsule(connection_.options_.revision, capsule));
}

//= draft-ietf-masque-quic-proxy, section 5.9
//# The client MUST NOT send a registration capsule with a sequence number greater than what the proxy
//# advertises via the MAX_CONNECTION_IDS capsule.
void Rfc9298Client::UdpTunnel::Register(MappingId number, ClientTunnelModel &model) {
  const auto *const mapping = model.Find(number);
  if (!mapping) {
    return;
  }
  const auto &rules = RulesOf(connection_.options_.revision);
  auto &ids = IdsOf(mapping->direction);
  const auto known = ids.find(mapping->id);
  // What is not acknowledged yet may still be rejected, and the next one is the first one then.
  const bool repeated = known != ids.end() && known->second.acknowledged;
  if (!repeated || !rules.repeats_are_free) {
    if (registered_ >= maximum_ + rules.allowed_by_zero) {
      if (!std::ranges::contains(waiting_, number)) {
        waiting_.push_back(number);
      }
      return;
    }
    ++registered_;
  }
  auto &registered = ids[mapping->id];
  registered.mapping = number;
  ++registered.unanswered;
  const bool to_client = mapping->direction == Direction::kToClient;
  Send({.kind = to_client ? CidCapsuleKind::kRegisterClientCid : CidCapsuleKind::kRegisterTargetCid,
        .id = mapping->id,
        .token = to_client ? std::nullopt : mapping->token},
       model);
}

void Rfc9298Client::UdpTunnel::RegisterWaiting(ClientTunnelModel &model) {
  // Each either leaves, or waits again.
  for (const auto mapping : std::exchange(waiting_, {})) {
    Register(mapping, model);
  }
}

void Rfc9298Client::UdpTunnel::Unregister(RegisteredIds &ids, RegisteredIds::iterator known) {
  auto &registered = known->second;
  if (registered.unanswered == 0) {
    ids.erase(known);
    return;
  }
  registered.mapping.reset();
  registered.closed = registered.unanswered;
  registered.moved = 0;
  registered.again = false;
  registered.acknowledged = false;
}

//= draft-ietf-masque-quic-proxy, section 5.10.1
//# A client that no longer wants a given Connection ID to be forwarded by the proxy sends a
//# CLOSE_CLIENT_CID or CLOSE_TARGET_CID capsule.
void Rfc9298Client::UdpTunnel::Unmap(MappingId number, ClientTunnelModel &model) {
  std::erase(waiting_, number);
  const auto *const mapping = model.Find(number);
  if (!mapping) {
    return;
  }
  auto &ids = IdsOf(mapping->direction);
  const auto known = ids.find(mapping->id);
  if (known == ids.end() || known->second.mapping != number) {
    return;
  }
  SendClose(mapping->direction, mapping->id, CidReason::kDefault, model);
  Unregister(ids, known);
}

void Rfc9298Client::UdpTunnel::SendClose(Direction direction, const ConnectionId &id,
                                         CidReason reason, ClientTunnelModel &model) const {
  Send({.kind = direction == Direction::kToClient ? CidCapsuleKind::kCloseClientCid
                                                  : CidCapsuleKind::kCloseTargetCid,
        .reason = reason,
        .id = id},
       model);
}

//= draft-ietf-masque-quic-proxy, section 6.5
//# Clients can proceed with tunnelled mode or can request new forwarding rules via REGISTER_CLIENT_CID
//# and REGISTER_TARGET_CID capsules.
void Rfc9298Client::UdpTunnel::OnMigrated(ClientTunnelModel &model) {
  // Before the answer, what is on its way was sent from where the client is no more.
  if (!ids_ || !(tunnel_.open() ? forwarding_ : offer_.forwarding)) {
    return;
  }
  for (auto *ids : {&clients_, &targets_}) {
    for (auto &[id, registered] : *ids) {
      if (registered.mapping) {
        registered.moved = registered.unanswered - registered.closed;
        (void)model.SetVirtual(*registered.mapping, {});
        // One at a time, however often the connection moves in a round trip.
        registered.again = registered.moved != 0;
        if (!registered.again) {
          Register(*registered.mapping, model);
        }
      }
    }
  }
}

void Rfc9298Client::UdpTunnel::OnReset(MappingId number, ClientTunnelModel &model) {
  const auto known = targets_.find(model.Find(number)->id);
  // One that is on its way has another virtual connection ID.
  if (known != targets_.end() && known->second.mapping == number &&
      known->second.unanswered == 0) {
    Register(number, model);
  }
}

void Rfc9298Client::UdpTunnel::Close(ClientTunnelModel &model) {
  if (std::exchange(open_, false)) {
    model.CloseRequest(kRequest);
  }
  Forget();
}

void Rfc9298Client::UdpTunnel::OnSent(RequestId, StreamId stream) {
  if (open_) {
    stream_ = stream;
    prefix_ = rfc9298::DatagramPrefix(stream);
    connection_.tunnels_.emplace(stream, &tunnel_);
  }
}

void Rfc9298Client::UdpTunnel::Fail(std::uint64_t code, ClientTunnelModel &model) {
  if (std::exchange(open_, false)) {
    model.CloseRequest(kRequest, code);
    model.End({.code = code});
  }
}

void Rfc9298Client::UdpTunnel::OnResponse(RequestId, std::span<const HeaderField> fields,
                                          ClientTunnelModel &model) {
  if (!open_) {
    return;
  }
  //= RFC 9298, section 3.5
  //# If any of these requirements are not met, the client MUST treat this proxying attempt as failed
  //# and abort the request.
  const auto response = ParseUdpResponse(fields);
  if (!response) {
    Fail(kH3MessageError, model);
    return;
  }
  //= RFC 9298, section 3.1
  //# Any response other than a successful response indicates that the request has failed; thus, the
  //# client MUST abort the request.
  if (!response->success()) {
    open_ = false;
    model.CloseRequest(kRequest);
    model.End({.status = response->status,
               .proxy_status = response->proxy_status,
               .retry_after = ReadRetryAfter(fields)});
    return;
  }
  if (!Accept(*response, model)) {
    Fail(kH3RequestCancelled, model);
  }
}

// False if the proxy has taken what was not offered.
bool Rfc9298Client::UdpTunnel::Accept(const UdpResponse &response, ClientTunnelModel &model) {
  //= draft-ietf-masque-quic-proxy, section 2.3
  //# If this header field is not included, none of the functionality in this document can be used.
  //
  //= draft-ietf-masque-quic-proxy, section 3
  //# If the client does not receive this header in responses, the client SHALL assume that the proxy
  //# does not support this extension.
  const auto &answer = response.forwarding;
  if (!ids_ || !response.capsule_protocol || !answer ||
      (!answer->forwarding && !response.port_sharing)) {
    ids_ = false;
    model.Opened(false);
    return true;
  }
  if (answer->forwarding && answer->transform) {
    //= draft-ietf-masque-quic-proxy, section 3
    //# If the client receives a transform that it did not advertise support for, it MUST abort the
    //# request.
    const auto transform = FindTransform(*answer->transform);
    if (!offer_.forwarding || !transform ||
        !std::ranges::contains(offer_.transforms, *transform)) {
      return false;
    }
    //= draft-ietf-masque-quic-proxy, section 6.3.2
    //# If either side receives a `scramble` transform without the "scramble-key" parameter, forwarded
    //# mode MUST be disabled.
    forwarding_ = !NeedsKey(*transform) || answer->key;
    if (forwarding_ && *transform == Transform::kScrambleDt) {
      model.SetScramble(std::make_shared<Scramble>(*offer_.key, *answer->key));
    }
  }
  model.Opened(true, forwarding_);
  return true;
}

void Rfc9298Client::UdpTunnel::OnRequestClosed(RequestId, std::uint64_t code,
                                               ClientTunnelModel &model) {
  if (std::exchange(open_, false)) {
    model.End({.code = code});
  }
}

} // namespace ngmasque
