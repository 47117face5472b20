// ProxyServer: packets.

#include "proxy_server_state.h"
#include "socket_error.h"

#include "ngmasque/wire/h3_error.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>
#include <tuple>
#include <utility>

namespace ngmasque {

namespace {

// Whether a run can have `packet` at its end.  The last one may be shorter than the others.
bool HasRoom(const Burst &run, std::span<const std::uint8_t> packet) {
  return !run.data.empty() && run.data.size() % run.segment == 0 && packet.size() <= run.segment;
}

// Whether it can be sent like that, as it lies there.
bool Joins(const Burst &run, std::span<const std::uint8_t> packet) {
  return HasRoom(run, packet) && run.data.data() + run.data.size() == packet.data();
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
  const auto reason = ToDropReason(outcome.error);
  if (outcome.error != 0) {
    Log(drop_lines[static_cast<std::size_t>(reason)], LogLevel::kWarning,
        "packets to {} are dropped: {}", where, std::strerror(outcome.error));
  }
  return {.traffic = TrafficOf({.data = outcome.rest, .segment = packets.segment}),
          .reason = reason};
}

void ProxyServer::State::Report(Tunnel &tunnel, Way way, const Unsent &unsent) {
  if (unsent.traffic.packets > 0) {
    proxy.NotSent(tunnel, way, unsent.reason, unsent.traffic);
  }
}

void ProxyServer::State::SendTunnelled(const PayloadToTarget &payload) {
  auto &tunnel = *payload.tunnel;
  if (in_batch) {
    // Later ones do not overtake earlier ones.
    if (!run.data.empty() && run_of->socket == tunnel.socket) {
      EndRun();
    }
    if (!batch.Add(tunnel, payload.payload)) {
      EndTunnelled();
      std::ignore = batch.Add(tunnel, payload.payload);
    }
    return;
  }
  // If the target is unreachable, the tunnel is gone afterwards and not before.
  in_batch = true;
  Report(tunnel, Way::kTunnelledToTarget,
         SendToTarget(TargetOf(*tunnel.socket), OnePacket(payload.payload)));
  in_batch = false;
  ActOnFailed();
}

void ProxyServer::State::EndTunnelled() {
  if (batch.empty()) {
    return;
  }
  auto rest = batch.Take();
  while (!rest.empty()) {
    const auto *socket = rest.front().tunnel->socket;
    const auto end = std::ranges::find_if(rest, [&](const TunnelledBatch::Entry &entry) {
      return entry.tunnel->socket != socket;
    });
    const auto count = static_cast<std::size_t>(end - rest.begin());
    SendTunnelled(rest.first(count));
    rest = rest.subspan(count);
  }
}

// Of one socket.
void ProxyServer::State::SendTunnelled(std::span<const TunnelledBatch::Entry> entries) {
  auto &target = TargetOf(*entries.front().tunnel->socket);
  plan.Make(entries, target.socket);
  std::size_t next = 0;
  while (next < plan.size()) {
    if (next + 1 < plan.size()) {
      const auto front = target.socket.SendFront(plan.From(next));
      next += front.sent;
      if (front.refused) {
        OnSocketError(target, ECONNREFUSED);
      }
      if (next == plan.size()) {
        return;
      }
    }
    const auto burst = plan[next];
    const auto outcome = target.socket.Send(burst);
    if (const int error = outcome.refused ? ECONNREFUSED : outcome.error) {
      OnSocketError(target, error);
    }
    const auto reason = Account(burst, outcome, "targets").reason;
    if (outcome.sent) {
      ++next;
      continue;
    }
    // What has left is of the full size.
    const auto begin = plan.First(next) + (burst.data.size() - outcome.rest.size()) / burst.segment;
    const auto end = outcome.error == 0 ? entries.size() : plan.First(next + 1);
    const auto last = entries[end - 1].payload;
    // An error may be about the size, and the last one is shorter.
    if (outcome.error != 0 && end - begin > 1 && last.size() < burst.segment &&
        reason != DropReason::kUnreachable) {
      ReportTunnelled(entries.subspan(begin, end - 1 - begin), reason);
      plan.KeepLast(next, last);
      continue;
    }
    ReportTunnelled(entries.subspan(begin, end - begin), reason);
    if (end == entries.size()) {
      return; // The socket is full, or that was all.
    }
    ++next;
  }
}

void ProxyServer::State::ReportTunnelled(std::span<const TunnelledBatch::Entry> entries,
                                         DropReason reason) {
  for (const auto &entry : entries) {
    Report(*entry.tunnel, Way::kTunnelledToTarget,
           {.traffic = TrafficOf(OnePacket(entry.payload)), .reason = reason});
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
  Report(*run_of, Way::kForwardedToTarget, SendToTarget(TargetOf(*run_of->socket), packets));
}

void ProxyServer::State::EndBatch() {
  EndRun();
  EndTunnelled();
  path = nullptr;
  in_batch = false;
  ActOnFailed();
}

void ProxyServer::State::ToClients(const ServerSocket *socket, const ReceivedBurst &burst,
                                   bool on_stream) {
  const auto now = SteadyNow();
  // Neighbours that are forwarded for the same tunnel go together.
  Tunnel *of = nullptr;
  Burst together{.data = {}, .segment = burst.segment, .ecn = burst.ecn};
  const auto end = [&] {
    if (!together.data.empty()) {
      Forward(*of, together);
      together.data = {};
    }
  };

  auto rest = burst.data;
  do {
    const auto bytes = rest.first(std::min(burst.segment, rest.size()));
    rest = rest.subspan(bytes.size());
    // Around the others are packets that wait to be sent, or to be looked at.
    const bool first = bytes.data() == burst.data.data();
    auto way = proxy.FromTarget(socket,
                                      {.bytes = bytes,
                                       .before = first ? kPacketRoom : 0,
                                       .behind = rest.empty() ? kPacketRoom : 0},
                                      now);
    if (!way) {
      continue; // The proxy has counted it.
    }
    const std::span<const std::uint8_t> packet = way->packet.bytes;
    if (way->form == ClientForm::kForward) {
      if (way->tunnel == of && Joins(together, packet)) {
        together.data = {together.data.data(), together.data.size() + packet.size()};
      } else {
        end();
        of = way->tunnel;
        together.data = packet;
        together.segment = std::max<std::size_t>(packet.size(), 1);
      }
      continue;
    }
    auto sent = std::expected<void, DropReason>(std::unexpect, DropReason::kTooLarge);
    auto &client = ClientOf(*way->tunnel->connection);
    const bool datagram = way->form == ClientForm::kDatagram;
    if (datagram) {
      sent = client.SendDatagram(way->tunnel->number, way->prefix, packet);
    }
    if (!sent && sent.error() == DropReason::kTooLarge) {
      way->form = on_stream ? ClientForm::kStream : way->form;
      if (const auto prefix = proxy.StreamPrefix(*way)) {
        sent = client.SendOnStream(way->stream, prefix->view(), packet);
        if (sent) {
          proxy.SentOnStream(*way->tunnel);
        }
      }
    }
    if (!sent && sent.error() == DropReason::kTooLarge && Hold(*socket, *way, burst.ecn, now)) {
      continue;
    }
    if (!sent) {
      proxy.NotSent(*way->tunnel, Way::kTunnelledToClient, sent.error(),
                    TrafficOf(OnePacket(packet)));
    }
  } while (!rest.empty());
  end();
}

bool ProxyServer::State::Hold(const ServerSocket &socket, const PacketToClient &packet,
                              unsigned ecn, std::uint64_t now) {
  if (!proxy.MayWait(packet)) {
    return false;
  }
  const auto &connection = *packet.tunnel->connection;
  const auto of = held.try_emplace(connection.id, connection.client->waiting).first;
  if (!of->second.Add(socket.id, packet.packet.bytes, ecn, now)) {
    return false;
  }
  proxy.Waits(packet);
  if (of->second.Late(now)) {
    ForwardHeld(connection.id, true);
  }
  return true;
}

void ProxyServer::State::ForwardHeld(OuterConnection connection, bool on_stream) {
  const auto found = held.find(connection);
  if (found == held.end()) {
    return;
  }
  for (auto &[socket, size, ecn, memory] : found->second.Take()) {
    if (const auto *known = proxy.Find(socket)) {
      ToClients(known,
                {.data = std::span(memory).subspan(kPacketRoom, size),
                 .segment = size,
                 .ecn = ecn,
                 .local = {},
                 .remote = {}},
                on_stream);
    }
  }
}

void ProxyServer::State::Forward(Tunnel &tunnel, const Burst &packets) {
  const auto &connection = *tunnel.connection;
  Report(tunnel, Way::kForwardedToClient,
         Account(packets, ClientOf(connection).Forward(connection.path->tuple, packets), "clients"));
}

void ProxyServer::OnDatagramDropped(OuterConnection connection, std::uint64_t tunnel,
                                    std::span<const std::uint8_t> datagram, DropReason reason) {
  state_->proxy.DatagramNotSent(connection, tunnel, datagram, reason);
}

std::uint64_t ProxyServer::OnDatagram(OuterConnection connection,
                                      std::span<const std::uint8_t> datagram) {
  auto &s = *state_;
  const auto now = s.in_batch ? s.batch_began : SteadyNow();
  ProxyActions actions;
  const auto payload = s.proxy.OnDatagram(connection, datagram, now, actions);
  if (payload && payload->tunnel) {
    s.SendTunnelled(*payload);
  }
  if (!actions.empty()) {
    s.EndBatch();
    s.Perform(std::move(actions));
  }
  return payload || payload.error() != DropReason::kMalformed ? 0 : s.proxy.DatagramError(connection);
}

void ProxyServer::OnStreamData(const StreamKey &stream, std::span<const std::uint8_t> data) {
  const auto now = SteadyNow();
  // A message may end tunnels that have packets waiting.
  state_->EndBatch();
  while (!data.empty()) {
    ProxyActions actions;
    if (const auto payload = state_->proxy.OnStreamData(stream, data, now, actions);
        payload && payload->tunnel) {
      state_->SendTunnelled(*payload);
    }
    state_->Perform(std::move(actions));
  }
  state_->ForwardHeld(stream.connection);
}

bool ProxyServer::OnClientPacket(const FourTuple &tuple, std::span<std::uint8_t> packet,
                                 unsigned ecn) {
  auto &s = *state_;
  if (!std::exchange(s.in_batch, true)) {
    s.batch_began = SteadyNow();
  }
  // One look-up for those that arrive together.
  if (!s.path || s.path_tuple != tuple) {
    s.path = s.proxy.FindPath(tuple);
    s.path_tuple = tuple;
  }
  // Around it are its neighbours.
  const auto to = s.proxy.FromClient(s.path, {.bytes = packet}, s.batch_began);
  if (!to) {
    return true; // The proxy has counted it.
  }
  if (!to->mapping) {
    return false;
  }
  auto *tunnel = to->mapping->tunnel;
  const auto data = to->packet.bytes;

  auto &run = s.run;
  // What has become shorter leaves a gap in front of it.
  if (s.run_of == tunnel && run.ecn == ecn && s.run_end == packet.data() && HasRoom(run, data)) {
    if (const auto gap = data.data() - (run.data.data() + run.data.size()); gap != 0) {
      std::memmove(data.data() - gap, data.data(), data.size());
    }
    run.data = {run.data.data(), run.data.size() + data.size()};
  } else {
    s.EndRun();
    if (s.batch.Has(tunnel->socket)) {
      s.EndTunnelled();
    }
    s.run_of = tunnel;
    run = {.data = data, .segment = data.size(), .ecn = ecn};
  }
  s.run_end = packet.data() + packet.size();
  return true;
}

void ProxyServer::OnClientPacketsDone() { state_->EndBatch(); }

} // namespace ngmasque
