// ProxyClient: the tunnel, its requests and its packets.

#include "proxy_client_impl.h"

#include "ngmasque/wire/datagram.h"
#include "ngmasque/wire/structured_field.h"
#include "ngmasque/wire/varint.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <format>

namespace ngmasque {

namespace {

constexpr std::uint8_t kLongHeaderBit = 0x80;

// `packets` are whole ones of `segment` bytes each, the last may be shorter.
void Count(PacketCount &count, std::span<const std::uint8_t> packets, std::size_t segment) {
  count.bytes += packets.size();
  for (; !packets.empty(); packets = packets.subspan(std::min(segment, packets.size()))) {
    ++count.packets;
    count.long_headers += (packets.front() & kLongHeaderBit) != 0;
  }
}

} // namespace

std::expected<void, ProxyClientError>
ProxyClient::Impl::OpenTunnel(const Authority &target, const ConnectionId &inner_scid) {
  if (!ready_ || closed_) {
    return std::unexpected(ProxyClientError::kNotReady);
  }
  if (next_flow_ > static_cast<FlowId>(sf::kMaxInteger)) {
    return std::unexpected(ProxyClientError::kFlowIds);
  }
  CloseTunnel();

  auto tunnel = std::make_unique<ClientTunnel>(
    key_,
    ClientTunnel::Options{.authority = target,
                          .flow = next_flow_,
                          .forward = options_.forward,
                          .datagrams = http3_->datagrams()},
    options_.limits);
  for (const auto &id : local_ids_) {
    // None of them is in the way of another, and no client connection ID is there yet.
    (void)tunnel->AddOuterId(id);
    if (!inner_scid.empty() && Compare(id.bytes(), inner_scid.bytes()) != Relation::kUnrelated) {
      return std::unexpected(ProxyClientError::kIdConflict);
    }
  }
  tunnel_ = std::move(tunnel);
  //= draft-00, section 4.1
  //# The first time that a client uses a proxy for a given QUIC connection, it selects a new
  //# datagram flow ID with an even-numbered value [H3DGRAM].
  next_flow_ += 2;
  Run(tunnel_->Start(inner_scid));
  return {};
}

void ProxyClient::Impl::CloseTunnel() {
  if (!tunnel_) {
    return;
  }
  Run(tunnel_->Close());
  tunnel_.reset();
  first_request_.reset();
  std::erase_if(events_, [](const Event &event) {
    return !std::holds_alternative<Ready>(event) && !std::holds_alternative<Writable>(event) &&
           !std::holds_alternative<Closed>(event);
  });
}

void ProxyClient::Impl::Run(std::vector<ClientAction> actions) {
  for (auto &any : actions) {
    std::visit(
      Overloaded{
        [&](client_action::SendRequest &action) {
          if (!first_request_) {
            first_request_ = action.request;
          }
          requests_.push_back(
            {.key = {tunnel_->flow(), action.request}, .fields = std::move(action.fields)});
        },
        [&](client_action::CloseRequest &action) {
          requests_.push_back({.key = {tunnel_->flow(), action.request}, .fields = {}});
        },
        [&](client_action::FellBack &action) {
          ++statistics_.fallbacks[static_cast<std::size_t>(action.reason)];
          Log(LogLevel::kWarning, ReasonName(action.reason));
        },
        [&](auto &action) { Tell(std::move(action)); },
      },
      any);
  }
  RunRequests();
  Wake();
}

// What the peer's limit of streams holds back stays in the queue; to close others is what makes
// room.
void ProxyClient::Impl::RunRequests() {
  if (in_http3_ || !ready_ || closed_) {
    return;
  }
  bool blocked = false;
  for (auto &action : std::exchange(requests_, {})) {
    if (action.fields.empty()) {
      CloseRequest(action.key);
    } else if (blocked || !SubmitRequest(action.key, action.fields)) {
      blocked = true;
      requests_.push_back(std::move(action));
    }
  }
}

bool ProxyClient::Impl::SubmitRequest(RequestKey key, const std::vector<HeaderField> &fields) {
  const auto stream = http3_->SubmitRequest(fields);
  if (stream) {
    streams_.emplace(key, *stream);
    by_stream_.emplace(*stream, key);
    return true;
  }
  if (stream.error() == Http3Error::kStreamsBlocked) {
    return false;
  }
  Log(LogLevel::kWarning, std::format("request cannot be sent: {}", ErrorName(stream.error())));
  if (tunnel_ && tunnel_->flow() == key.first) {
    // What comes of it is put at the end of the queue, and done with the next Flush.
    in_http3_ = true;
    Run(tunnel_->OnRequestClosed(key.second));
    in_http3_ = false;
  }
  return true;
}

//= draft-00, section 5.1
//# A client that no longer wants a given Connection ID to be forwarded by the proxy, for either
//# direction, MUST cancel its CONNECT-UDP HTTP/3 request by closing the corresponding stream.
void ProxyClient::Impl::CloseRequest(RequestKey key) {
  if (const auto unsent = std::ranges::find(requests_, key, &RequestAction::key);
      unsent != requests_.end()) {
    requests_.erase(unsent);
    return;
  }
  const bool malformed = malformed_.erase(key) != 0;
  if (const auto found = streams_.find(key); found != streams_.end()) {
    http3_->CloseStream(found->second, malformed ? kH3MessageError : kH3RequestCancelled);
    by_stream_.erase(found->second);
    streams_.erase(found);
  }
}

void ProxyClient::Impl::OnResponse(StreamId stream, std::span<const HeaderField> fields) {
  const auto found = by_stream_.find(stream);
  if (found == by_stream_.end()) {
    return;
  }
  const auto key = found->second;
  const auto response = ParseResponse(fields);
  if (!response) {
    Log(LogLevel::kWarning, std::format("malformed response: {}", ErrorName(response.error())));
    malformed_.insert(key);
  } else {
    Log(LogLevel::kDebug, std::format("response {} {}", response->status, response->proxy_status));
  }
  if (tunnel_ && tunnel_->flow() == key.first) {
    Run(tunnel_->OnResponse(key.second, fields));
  }
}

void ProxyClient::Impl::OnStreamClosed(StreamId stream, StreamEnd, std::uint64_t code) {
  const auto found = by_stream_.find(stream);
  if (found == by_stream_.end()) {
    return;
  }
  const auto key = found->second;
  Log(LogLevel::kDebug, std::format("request stream {} has ended, code {:#x}", stream, code));
  by_stream_.erase(found);
  streams_.erase(key);
  malformed_.erase(key);
  if (tunnel_ && tunnel_->flow() == key.first) {
    Run(tunnel_->OnRequestClosed(key.second));
  }
}

void ProxyClient::Impl::OnDatagram(std::span<const std::uint8_t> datagram) {
  const auto parsed = ParseFlowDatagram(datagram);
  if (!parsed) {
    Drop(ClientDrop::kMalformed);
    if (parsed.error() == DatagramError::kTruncated && failure_.empty()) {
      //= draft-schinazi-quic-h3-datagram-05, section 2
      //# If an HTTP/3 DATAGRAM frame is received with a payload that is too short to parse the Flow
      //# Identifier, that MUST be treated as a connection error of type H3_GENERAL_PROTOCOL_ERROR.
      failure_ = "the proxy has sent a datagram without flow id";
      failure_code_ = kH3GeneralProtocolError;
      final_ = true;
    }
    return;
  }
  if (!tunnel_ || parsed->flow_id != tunnel_->flow()) {
    Drop(ClientDrop::kUnknownFlow);
    return;
  }
  TakePayload(parsed->payload);
}

void ProxyClient::Impl::OnPayload(StreamId stream, std::span<const std::uint8_t> payload) {
  const auto found = by_stream_.find(stream);
  if (found == by_stream_.end() || !tunnel_ || tunnel_->flow() != found->second.first) {
    Drop(ClientDrop::kUnknownFlow);
    return;
  }
  TakePayload(payload);
}

void ProxyClient::Impl::TakePayload(std::span<const std::uint8_t> payload) {
  if (close_wanted_) {
    return; // Nothing is told any more.
  }
  if (payload.empty()) {
    Drop(ClientDrop::kEmpty);
    return;
  }
  Count(statistics_.tunnelled_rx, payload, payload.size());
  delivered_ = true;
  handler_.OnPacket(payload, 0);
}

void ProxyClient::Impl::TakeForwarded(std::span<const std::uint8_t> packet, unsigned ecn) {
  Count(statistics_.forwarded_rx, packet, packet.size());
  delivered_ = true;
  handler_.OnPacket(packet, ecn);
}

SendStatus ProxyClient::Impl::Send(std::span<const std::uint8_t> packet, unsigned ecn) {
  if (packet.empty()) {
    Drop(ClientDrop::kEmpty);
    return SendStatus::kDropped;
  }
  const auto way = tunnel_ && !closed_ ? tunnel_->FromInner(packet) : ClientWay::kDrop;
  switch (way) {
  case ClientWay::kTunnel: return Tunnel(packet);
  case ClientWay::kForward: return Forward(packet, packet.size(), ecn);
  case ClientWay::kDrop: break;
  }
  Drop(ClientDrop::kNoTunnel);
  return SendStatus::kDropped;
}

std::span<const std::uint8_t> ProxyClient::Impl::SendBurst(std::span<const std::uint8_t> packets,
                                                           std::size_t segment, unsigned ecn) {
  const bool alive = tunnel_ && !closed_;
  while (!packets.empty()) {
    // As many as are forwarded, in one go.
    std::size_t run = 0;
    while (alive && run < packets.size() &&
           tunnel_->FromInner(packets.subspan(run).first(
             std::min(segment, packets.size() - run))) == ClientWay::kForward) {
      run += std::min(segment, packets.size() - run);
    }
    if (run != 0) {
      auto rest = packets.first(run);
      if (Forward(rest, segment, ecn) == SendStatus::kBlocked) {
        return packets.subspan(run - rest.size());
      }
      packets = packets.subspan(run);
      continue;
    }
    const auto size = std::min(segment, packets.size());
    if (Send(packets.first(size), ecn) == SendStatus::kBlocked) {
      return packets;
    }
    packets = packets.subspan(size);
  }
  return {};
}

SendStatus ProxyClient::Impl::Tunnel(std::span<const std::uint8_t> packet) {
  auto sent = std::expected<void, Http3Error>(std::unexpect, Http3Error::kFull);
  if (http3_->datagrams()) {
    std::array<std::uint8_t, kMaxDatagramHeader> header;
    const auto size = WriteFlowDatagramHeader(tunnel_->flow(), header);
    // A flow id is no larger than it may be.
    sent = http3_->SendDatagram(std::span(header).first(*size), packet);
  } else if (const auto stream = streams_.find({tunnel_->flow(), first_request_.value_or(0)});
             stream != streams_.end()) {
    sent = http3_->SendPayload(stream->second, packet);
  } // Otherwise the request has not been sent yet: the peer allows no stream now.

  if (sent) {
    Count(statistics_.tunnelled_tx, packet, packet.size());
    Wake();
    return SendStatus::kSent;
  }
  if (sent.error() == Http3Error::kFull) {
    writable_wanted_ = true;
    return SendStatus::kBlocked;
  }
  Drop(sent.error() == Http3Error::kTooLarge ? ClientDrop::kTooLarge : ClientDrop::kNoTunnel);
  return SendStatus::kDropped;
}

//= draft-00, section 4.3
//# When forwarding, the client sends a QUIC packet with the target server's Connection ID in the
//# QUIC short header, using the same socket between client and proxy that was used for the main QUIC
//# connection between client and proxy.
///
/// Takes what was sent or dropped off the front of `packets`.
SendStatus ProxyClient::Impl::Forward(std::span<const std::uint8_t> &packets, std::size_t segment,
                                      unsigned ecn) {
  auto status = SendStatus::kSent;
  while (!packets.empty()) {
    const auto outcome = current_->udp.Send(packets, segment, ecn);
    Count(statistics_.forwarded_tx, packets.first(packets.size() - outcome.rest.size()), segment);
    packets = outcome.rest;
    if (packets.empty()) {
      break;
    }
    if (outcome.error == 0) {
      writable_wanted_ = true;
      WaitForRoom(*current_);
      return SendStatus::kBlocked;
    }
    // What is wrong with the first one may be wrong with it alone, such as its size.
    Log(LogLevel::kDebug,
        std::format("forwarded packet is not sent: {}", std::strerror(outcome.error)));
    Drop(ClientDrop::kSendError);
    packets = packets.subspan(std::min(segment, packets.size()));
    status = SendStatus::kDropped;
  }
  return status;
}

void ProxyClient::Impl::Drop(ClientDrop reason) {
  ++statistics_.dropped[static_cast<std::size_t>(reason)];
}

} // namespace ngmasque
