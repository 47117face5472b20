// ProxyTunnel: packets of the inner connection.

#include "proxy_client_impl.h"
#include "proxy_tunnel_impl.h"
#include "socket_error.h"

#include "ngmasque/wire/quic_header.h"

#include <algorithm>
#include <cstring>
#include <format>

namespace ngmasque {

namespace {

// How long the program is to keep packets that are to be forwarded again: twice a round trip or so
// is what that takes.
constexpr Nanoseconds kMaxWait = 1'000'000'000;

} // namespace

void ProxyTunnel::Impl::TakePayload(std::span<const std::uint8_t> payload) {
  if (client->close_wanted_) {
    return; // Nothing is told any more.
  }
  Count(statistics.tunnelled_rx, OnePacket(payload));
  Deliver(payload, 0);
}

void ProxyTunnel::Impl::TakeForwarded(const ForwardedPacket &found, std::span<std::uint8_t> packet,
                                      unsigned ecn) {
  const auto inner = session->FromProxy(found, packet);
  if (!inner) {
    Drop(DropReason::kMalformed);
    return;
  }
  Count(statistics.forwarded_rx, OnePacket(*inner));
  Deliver(*inner, ecn);
}

void ProxyTunnel::Impl::Deliver(std::span<const std::uint8_t> packet, unsigned ecn) {
  if (!std::exchange(delivered, true)) {
    client->delivered_.push_back(shared_from_this());
  }
  handler->OnPacket(packet, ecn);
}

SendStatus ProxyTunnel::Impl::Send(std::span<const std::uint8_t> packet, unsigned ecn) {
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
  const bool too_large = datagrams && !sent && sent.error() == QuicError::kTooLarge;
  const bool waiting = too_large && !IsForStream(packet) && session->MayWait(packet);
  if (waiting && Waits()) {
    writable_wanted = true;
    return SendStatus::kBlocked;
  }
  if (!datagrams || waiting || (too_large && IsForStream(packet))) {
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

// The program keeps it, and what comes behind it stays behind it.  If the proxy takes long, or moves on
// and on, it goes on the stream.
bool ProxyTunnel::Impl::Waits() {
  const auto now = SteadyNow();
  if (!waits_since) {
    waits_since = now;
  }
  if (now - *waits_since >= kMaxWait) {
    return false;
  }
  client->WakeAfter(kMaxWait);
  return true;
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

// As many as leave with one system call: of one size, but for the last.
ProxyTunnel::Impl::Written ProxyTunnel::Impl::Write(std::span<const std::uint8_t> packets,
                                                    std::size_t segment, unsigned ecn) {
  if (!session->dialect().virtual_ids()) {
    return {.size = packets.size(), .burst = {.data = packets, .segment = segment, .ecn = ecn}};
  }
  auto &buffer = client->forward_buffer_;
  std::size_t taken = 0, used = 0, size = 0;
  while (taken < packets.size()) {
    const auto packet = packets.subspan(taken, std::min(segment, packets.size() - taken));
    const auto room = std::span(buffer).subspan(used);
    if (room.size() < packet.size() + ClientTunnel::kMaxGrowth) {
      break;
    }
    const auto written = session->ToProxy(packet, room).size();
    size = size == 0 ? written : size;
    if (written > size) {
      break; // Another connection ID.
    }
    taken += packet.size();
    used += written;
    if (written < size) {
      break;
    }
  }
  return {.size = taken,
          .burst = {.data = std::span(buffer).first(used), .segment = size, .ecn = ecn}};
}

//= draft-00, section 4.3
//# When forwarding, the client sends a QUIC packet with the target server's Connection ID in the
//# QUIC short header, using the same socket between client and proxy that was used for the main
//# QUIC connection between client and proxy.
SendStatus ProxyTunnel::Impl::Forward(std::span<const std::uint8_t> &packets, std::size_t segment,
                                      unsigned ecn) {
  auto status = SendStatus::kSent;
  while (!packets.empty()) {
    const auto [size, burst] = Write(packets, segment, ecn);
    const auto outcome = client->SendOn(*client->current_, burst);
    // Of what was not sent all but the last one are of the full size.
    const auto left = (outcome.rest.size() + burst.segment - 1) / burst.segment;
    const auto all = (size + segment - 1) / segment;
    if (const auto sent = left == 0 ? size : (all - left) * segment) {
      Count(statistics.forwarded_tx, {.data = packets.first(sent), .segment = segment});
      waits_since.reset();
      client->AwaitAnswer(*handler);
      packets = packets.subspan(sent);
    }
    if (left == 0) {
      continue;
    }
    if (outcome.error == 0) {
      writable_wanted = true;
      client->current_->link->WaitForRoom();
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
