// ProxyServer: packets.

#include "proxy_server_state.h"

#include "ngmasque/wire/stream_length.h"

#include <cerrno>
#include <cstring>
#include <format>
#include <utility>

namespace ngmasque {

namespace {

NotPassed ToDrop(int error) {
  switch (error) {
  case 0:
  case ENOBUFS:
  case ENOMEM: return NotPassed::kBlocked;
  case EMSGSIZE: return NotPassed::kTooLarge;
  case ECONNREFUSED:
  case EHOSTUNREACH:
  case ENETDOWN:
  case ENETUNREACH: return NotPassed::kUnreachable;
  default: return NotPassed::kSendError;
  }
}

} // namespace

Traffic ProxyServer::State::TrafficOf(const Burst &burst) {
  Traffic traffic;
  Count(traffic, burst);
  return traffic;
}

ProxyServer::State::Unsent ProxyServer::State::Account(const Burst &packets,
                                                       const SendOutcome &outcome,
                                                       std::string_view where) {
  if (IsNews(outcome, gave_up)) {
    Log(LogLevel::kWarning, std::format("packets to {}: {}", where, outcome.gave_up));
  }
  if (outcome.sent) {
    return {};
  }
  const auto reason = ToDrop(outcome.error);
  if (outcome.error != 0) {
    Log(drop_lines[static_cast<std::size_t>(reason)], LogLevel::kWarning,
        "packets to {} are dropped: {}", where, std::strerror(outcome.error));
  }
  return {.traffic = TrafficOf({.data = outcome.rest, .segment = packets.segment}),
          .reason = reason};
}

// They are not marked: the bits of the outer connection's packets are not theirs.
void ProxyServer::State::SendTunnelled(const PayloadToTarget &payload) {
  auto &tunnel = *payload.tunnel;
  // If the target is unreachable, the tunnel is gone afterwards and not before.
  const auto was_in_batch = std::exchange(in_batch, true);
  const auto unsent = SendToTarget(TargetOf(*tunnel.socket), OnePacket(payload.payload));
  if (unsent.traffic.packets > 0) {
    proxy.NotSent(tunnel, Way::kTunnelledToTarget, unsent.reason, unsent.traffic);
  }
  in_batch = was_in_batch;
  if (!in_batch) {
    ActOnFailed();
  }
}

ProxyServer::State::Unsent ProxyServer::State::SendToTarget(Target &target, const Burst &packets) {
  const auto outcome = target.socket.Send(packets);
  // What ICMP says of earlier packets is told to whoever uses the socket next, reader or sender.
  if (const int error = outcome.refused ? ECONNREFUSED : outcome.error) {
    OnSocketError(target, error);
  }
  return Account(packets, outcome, "targets");
}

void ProxyServer::State::EndRun() {
  if (run.data.empty()) {
    return;
  }
  const auto packets = std::exchange(run, {});
  ClientOf(*run_of->connection).OnActivity();
  const auto unsent = SendToTarget(TargetOf(*run_of->socket), packets);
  if (unsent.traffic.packets > 0) {
    proxy.NotSent(*run_of, Way::kForwardedToTarget, unsent.reason, unsent.traffic);
  }
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
    auto sent = std::expected<void, NotPassed>(std::unexpect, NotPassed::kTooLarge);
    auto &client = ClientOf(*way->tunnel->connection);
    const bool datagram = way->form == ClientForm::kDatagram;
    if (datagram) {
      sent = client.SendDatagram(way->tunnel->flow, packet);
    }
    if (!datagram || (!sent && sent.error() == NotPassed::kTooLarge && IsForStream(packet))) {
      sent = client.SendOnStream(way->stream, packet);
      if (sent) {
        proxy.SentOnStream(*way->tunnel);
      }
    }
    if (!sent) {
      proxy.NotSent(*way->tunnel, Way::kTunnelledToClient, sent.error(),
                    TrafficOf(OnePacket(packet)));
    }
  } while (!rest.empty());
  end();
}

void ProxyServer::State::Forward(const PacketToClient &to, const Burst &packets) {
  const auto &connection = *to.tunnel->connection;
  const auto unsent = Account(
    packets, ClientOf(connection).Forward(connection.path->tuple, packets), "clients");
  if (unsent.traffic.packets > 0) {
    proxy.NotSent(*to.tunnel, Way::kForwardedToClient, unsent.reason, unsent.traffic);
  }
}

bool ProxyServer::OnDatagram(OuterConnection connection, std::span<const std::uint8_t> datagram) {
  const auto payload = state_->proxy.OnDatagram(connection, datagram, SteadyNow());
  if (payload) {
    state_->SendTunnelled(*payload);
    return true;
  }
  return payload.error() != NotPassed::kMalformed;
}

void ProxyServer::OnStreamData(const StreamKey &stream, std::span<const std::uint8_t> data) {
  const auto now = SteadyNow();
  while (!data.empty()) {
    if (const auto payload = state_->proxy.OnStreamData(stream, data, now)) {
      state_->SendTunnelled(*payload);
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
