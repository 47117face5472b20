// ProxyTunnel: packets of the inner connection.

#include "proxy_client_impl.h"
#include "proxy_tunnel_impl.h"
#include "socket_error.h"

#include "ngmasque/wire/quic_header.h"

#include <algorithm>
#include <cstring>
#include <format>

namespace ngmasque {

void ProxyTunnel::Impl::TakePayload(std::span<const std::uint8_t> payload) {
  if (client->close_wanted_) {
    return; // Nothing is told any more.
  }
  if (payload.empty()) {
    Drop(DropReason::kEmpty);
    return;
  }
  Count(statistics.tunnelled_rx, OnePacket(payload));
  Deliver(payload, 0);
}

void ProxyTunnel::Impl::TakeForwarded(std::span<const std::uint8_t> packet, unsigned ecn) {
  Count(statistics.forwarded_rx, OnePacket(packet));
  Deliver(packet, ecn);
}

void ProxyTunnel::Impl::Deliver(std::span<const std::uint8_t> packet, unsigned ecn) {
  if (!std::exchange(delivered, true)) {
    client->delivered_.push_back(shared_from_this());
  }
  handler->OnPacket(packet, ecn);
}

SendStatus ProxyTunnel::Impl::Send(std::span<const std::uint8_t> packet, unsigned ecn) {
  if (packet.empty()) {
    Drop(DropReason::kEmpty);
    return SendStatus::kDropped;
  }
  if (client && !session) {
    writable_wanted = true;
    return SendStatus::kBlocked;
  }
  const auto way = session ? session->FromInner(packet) : ClientWay::kDrop;
  switch (way) {
  case ClientWay::kTunnel: return SendTunnelled(packet);
  case ClientWay::kForward: return Forward(packet, packet.size(), ecn);
  case ClientWay::kDrop: break;
  }
  Drop(DropReason::kNoTunnel);
  return SendStatus::kDropped;
}

std::span<const std::uint8_t> ProxyTunnel::Impl::SendBurst(std::span<const std::uint8_t> packets,
                                                           std::size_t segment, unsigned ecn) {
  while (!packets.empty()) {
    // As many as are forwarded, in one go.
    std::size_t run = 0;
    while (session && run < packets.size() &&
           session->FromInner(packets.subspan(run).first(
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

SendStatus ProxyTunnel::Impl::SendTunnelled(std::span<const std::uint8_t> packet) {
  auto &http3 = *client->http3_;
  auto sent = std::expected<void, QuicError>(std::unexpect, QuicError::kTooLarge);
  const bool datagrams = client->dialect_->datagrams();
  const auto prefix = session->dialect().datagram_prefix().view();
  if (datagrams && prefix.empty()) {
    sent = std::unexpected(QuicError::kFull); // The request has not been sent yet.
  } else if (datagrams) {
    sent = http3.SendDatagram(number, prefix, packet);
  }
  if (!datagrams || (!sent && sent.error() == QuicError::kTooLarge && IsForStream(packet))) {
    sent = SendOnStream(packet);
  }
  if (sent) {
    Count(statistics.tunnelled_tx, OnePacket(packet));
    client->Wake();
    return SendStatus::kSent;
  }
  if (sent.error() == QuicError::kFull) {
    writable_wanted = true;
    return SendStatus::kBlocked;
  }
  Drop(sent.error() == QuicError::kTooLarge ? DropReason::kTooLarge : DropReason::kNoTunnel);
  return SendStatus::kDropped;
}

void ProxyTunnel::Impl::QueueDropped(std::span<const std::uint8_t> datagram, DropReason reason) {
  const auto packet = datagram.subspan(session->dialect().datagram_prefix().size);
  Traffic taken_back;
  Count(taken_back, OnePacket(packet));
  statistics.tunnelled_tx -= taken_back;
  Drop(reason);
}

std::expected<void, QuicError>
ProxyTunnel::Impl::SendOnStream(std::span<const std::uint8_t> packet) {
  const auto request = session->dialect().payload_request();
  const auto stream = request ? client->streams_.find({number, *request}) : client->streams_.end();
  if (stream == client->streams_.end()) {
    // The request has not been sent yet: the peer allows no stream now.
    return std::unexpected(QuicError::kFull);
  }
  const auto prefix = session->dialect().StreamPrefix(packet.size());
  if (!prefix) {
    return std::unexpected(QuicError::kTooLarge);
  }
  auto sent = client->http3_->SendData(stream->second, prefix->view(), packet);
  if (sent) {
    ++statistics.on_stream_tx;
  }
  return sent;
}

//= draft-00, section 4.3
//# When forwarding, the client sends a QUIC packet with the target server's Connection ID in the
//# QUIC short header, using the same socket between client and proxy that was used for the main
//# QUIC connection between client and proxy.
SendStatus ProxyTunnel::Impl::Forward(std::span<const std::uint8_t> &packets, std::size_t segment,
                                      unsigned ecn) {
  auto status = SendStatus::kSent;
  while (!packets.empty()) {
    const auto outcome =
      client->SendOn(*client->current_, {.data = packets, .segment = segment, .ecn = ecn});
    if (const auto sent = packets.size() - outcome.rest.size()) {
      Count(statistics.forwarded_tx, {.data = packets.first(sent), .segment = segment});
      client->AwaitAnswer(*handler);
    }
    packets = outcome.rest;
    if (packets.empty()) {
      break;
    }
    if (outcome.error == 0) {
      writable_wanted = true;
      client->WaitForRoom(*client->current_);
      return SendStatus::kBlocked;
    }
    // What is wrong with the first one may be wrong with it alone, such as its size.
    client->Log(client->unsent_lines_, LogLevel::kDebug,
                std::format("forwarded packet is not sent: {}", std::strerror(outcome.error)));
    Drop(ToDropReason(outcome.error));
    packets = packets.subspan(std::min(segment, packets.size()));
    status = SendStatus::kDropped;
  }
  return status;
}

} // namespace ngmasque
