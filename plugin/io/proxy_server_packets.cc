// ProxyServer: packets.

#include "proxy_server_state.h"

#include "ngmasque/wire/stream_length.h"

#include <cerrno>
#include <format>
#include <utility>

namespace ngmasque {

namespace {

std::size_t Packets(const Burst &burst) {
  return std::max<std::size_t>((burst.data.size() + burst.segment - 1) / burst.segment, 1);
}

} // namespace

void ProxyServer::State::Drop(ServerDrop reason, std::size_t packets) {
  statistics.dropped[static_cast<std::size_t>(reason)] += packets;
}

// They are not marked: the bits of the outer connection's packets are not theirs.
void ProxyServer::State::SendTunnelled(Target &target, std::span<const std::uint8_t> payload) {
  const auto packet = OnePacket(payload);
  Count(statistics.tunnelled_rx, packet);
  SendToTarget(target, packet);
}

void ProxyServer::State::SendToTarget(Target &target, const Burst &packets) {
  const auto outcome = target.socket.Send(packets);
  if (IsNews(outcome, gave_up)) {
    Log(LogLevel::kWarning, std::format("server-facing sockets: {}", outcome.gave_up));
  }
  if (!outcome.sent) {
    const auto reason = outcome.error == 0          ? ServerDrop::kBlocked
                        : outcome.error == EMSGSIZE ? ServerDrop::kTooLarge
                                                    : ServerDrop::kSendError;
    Drop(reason, Packets({.data = outcome.rest, .segment = packets.segment}));
  }
  // What ICMP says of earlier packets is told to whoever uses the socket next, reader or sender.
  if (const int error = outcome.refused ? ECONNREFUSED : outcome.error) {
    OnSocketError(target, error);
  }
}

void ProxyServer::State::EndRun() {
  if (run.data.empty()) {
    return;
  }
  const auto packets = std::exchange(run, {});
  ClientOf(*run_of->connection).OnActivity();
  SendToTarget(TargetOf(*run_of->socket), packets);
}

void ProxyServer::State::EndBatch() {
  EndRun();
  path = nullptr;
  in_batch = false;
  ActOnFailed();
}

void ProxyServer::State::ToClients(const ServerSocket *socket, const Burst &burst) {
  const auto now = SteadyNow();
  // Neighbours that are forwarded to the same client go together.
  PacketToClient to;
  Burst together{.data = {}, .segment = burst.segment, .ecn = burst.ecn};
  const auto end = [&] {
    if (!together.data.empty()) {
      Forward(to, together);
      together.data = {};
    }
  };

  auto rest = burst.data;
  do {
    const auto packet = rest.first(std::min(burst.segment, rest.size()));
    rest = rest.subspan(packet.size());
    const auto way = proxy.FromTarget(socket, packet, now);
    if (!way) {
      continue; // The proxy has counted it.
    }
    if (way->form == ClientForm::kForward) {
      if (!together.data.empty() && *way == to &&
          together.data.data() + together.data.size() == packet.data()) {
        together.data = {together.data.data(), together.data.size() + packet.size()};
      } else {
        end();
        to = *way;
        together.data = packet;
      }
      continue;
    }
    auto sent = std::expected<void, ServerDrop>(std::unexpect, ServerDrop::kTooLarge);
    auto &client = ClientOf(*way->tunnel->connection);
    const bool datagram = way->form == ClientForm::kDatagram;
    if (datagram) {
      sent = client.SendDatagram(way->tunnel->flow, packet);
    }
    if (!datagram || (!sent && sent.error() == ServerDrop::kTooLarge && IsForStream(packet))) {
      sent = client.SendOnStream(way->stream, packet);
      if (sent) {
        ++statistics.on_stream_tx;
      }
    }
    if (sent) {
      Count(statistics.tunnelled_tx, OnePacket(packet));
    } else {
      Drop(sent.error(), 1);
    }
  } while (!rest.empty());
  end();
}

void ProxyServer::State::Forward(const PacketToClient &to, const Burst &packets) {
  if (const auto sent = ClientOf(*to.tunnel->connection).Forward(packets); !sent) {
    Drop(sent.error(), Packets(packets));
    return;
  }
  Count(statistics.forwarded_tx, packets);
}

bool ProxyServer::OnDatagram(OuterConnection connection, std::span<const std::uint8_t> datagram) {
  const auto payload = state_->proxy.OnDatagram(connection, datagram, SteadyNow());
  if (payload) {
    state_->SendTunnelled(State::TargetOf(*payload->tunnel->socket), payload->payload);
    return true;
  }
  return payload.error() != NotPassed::kMalformed;
}

void ProxyServer::OnStreamData(const StreamKey &stream, std::span<const std::uint8_t> data) {
  const auto now = SteadyNow();
  while (!data.empty()) {
    if (const auto payload = state_->proxy.OnStreamData(stream, data, now)) {
      state_->SendTunnelled(State::TargetOf(*payload->tunnel->socket), payload->payload);
    }
  }
}

bool ProxyServer::OnClientPacket(const FourTuple &tuple, std::span<const std::uint8_t> packet,
                                 unsigned ecn) {
  auto &s = *state_;
  s.in_batch = true;
  // One look-up for those that arrive together.
  if (!s.path || s.path_tuple != tuple) {
    s.path = s.proxy.FindPath(tuple);
    s.path_tuple = tuple;
  }
  const auto mapping = s.proxy.FromClient(s.path, packet, SteadyNow());
  if (!mapping) {
    return !IsForQuic(mapping.error());
  }
  auto *tunnel = (*mapping)->tunnel;
  Count(s.statistics.forwarded_rx, OnePacket(packet));

  auto &run = s.run;
  // The last packet of a run may be shorter than the others.
  const bool joins = !run.data.empty() && s.run_of == tunnel && run.ecn == ecn &&
                     run.data.size() % run.segment == 0 && packet.size() <= run.segment &&
                     run.data.data() + run.data.size() == packet.data();
  if (joins) {
    run.data = {run.data.data(), run.data.size() + packet.size()};
  } else {
    s.EndRun();
    s.run_of = tunnel;
    run = {.data = packet, .segment = packet.size(), .ecn = ecn};
  }
  return true;
}

void ProxyServer::OnClientPacketsDone() { state_->EndBatch(); }

} // namespace ngmasque
