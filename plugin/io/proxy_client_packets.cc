// ProxyClient: packets of the inner connection.

#include "proxy_client_impl.h"

#include "ngmasque/wire/datagram.h"
#include "ngmasque/wire/stream_length.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <format>

namespace ngmasque {

void ProxyClient::Impl::OnDatagram(std::span<const std::uint8_t> datagram) {
  const auto parsed = ParseFlowDatagram(datagram);
  if (!parsed) {
    Drop(ClientDrop::kMalformed);
    if (parsed.error() == DatagramError::kTruncated && failure_.empty()) {
      // draft-schinazi-quic-h3-datagram-05: too short for its flow id is a connection error.
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
  ++statistics_.on_stream_rx;
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
  Count(statistics_.tunnelled_rx, OnePacket(payload));
  delivered_ = true;
  handler_.OnPacket(payload, 0);
}

void ProxyClient::Impl::TakeForwarded(std::span<const std::uint8_t> packet, unsigned ecn) {
  Count(statistics_.forwarded_rx, OnePacket(packet));
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
  auto sent = std::expected<void, Http3Error>(std::unexpect, Http3Error::kTooLarge);
  const bool datagrams = http3_->datagrams();
  if (datagrams) {
    std::array<std::uint8_t, kMaxDatagramHeader> header;
    const auto size = WriteFlowDatagramHeader(tunnel_->flow(), header);
    // A flow id is no larger than it may be.
    sent = http3_->SendDatagram(std::span(header).first(*size), packet);
  }
  if (!datagrams || (!sent && sent.error() == Http3Error::kTooLarge && IsForStream(packet))) {
    sent = SendOnStream(packet);
  }
  if (sent) {
    Count(statistics_.tunnelled_tx, OnePacket(packet));
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

// On that of the first request that is open: all of a tunnel's are for the same flow.
std::expected<void, Http3Error>
ProxyClient::Impl::SendOnStream(std::span<const std::uint8_t> packet) {
  const auto stream = streams_.lower_bound({tunnel_->flow(), 0});
  if (stream == streams_.end() || stream->first.first != tunnel_->flow()) {
    // The request has not been sent yet: the peer allows no stream now.
    return std::unexpected(Http3Error::kFull);
  }
  auto sent = http3_->SendPayload(stream->second, packet);
  if (sent) {
    ++statistics_.on_stream_tx;
  }
  return sent;
}

//= draft-00, section 4.3
//# When forwarding, the client sends a QUIC packet with the target server's Connection ID in the
//# QUIC short header, using the same socket between client and proxy that was used for the main
//# QUIC connection between client and proxy.
///
/// Takes what was sent or dropped off the front of `packets`.
SendStatus ProxyClient::Impl::Forward(std::span<const std::uint8_t> &packets, std::size_t segment,
                                      unsigned ecn) {
  auto status = SendStatus::kSent;
  while (!packets.empty()) {
    const auto outcome = SendOn(*current_, {.data = packets, .segment = segment, .ecn = ecn});
    if (const auto sent = packets.size() - outcome.rest.size()) {
      Count(statistics_.forwarded_tx, {.data = packets.first(sent), .segment = segment});
      AwaitAnswer();
    }
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
    Log(unsent_lines_, LogLevel::kDebug,
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
