// The inside of ProxyServer.
#pragma once

#include "ngmasque/io/proxy_server.h"
#include "ngmasque/io/resolver.h"

#include <ev.h>

#include <algorithm>
#include <array>
#include <deque>
#include <format>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "batch_reader.h"
#include "common.h"
#include "held_packets.h"
#include "tunnelled_batch.h"

namespace ngmasque {

struct ProxyServer::State {
  struct Target {
    State *state;
    SocketId id;
    const ServerSocket *handle; // Until Close.
    UdpSocket socket;           // Connected: nothing comes from elsewhere.
    ev_io watcher{};
  };

  State(struct ev_loop *l, Options options, const HashKey &key);
  ~State();

  static void OnReadable(struct ev_loop *loop, ev_io *watcher, int events);

  void Log(LogLevel level, std::string_view line) const;
  // What a peer can bring about.
  template <typename... Args>
  void Log(LogLimit &limit, LogLevel level, std::format_string<Args...> line,
           Args &&...args) const {
    if (const auto end = limit.Take(SteadyNow())) {
      Log(level, std::format(line, std::forward<Args>(args)...) + *end);
    }
  }
  void Perform(ProxyActions actions);
  // Says it to the access log.
  void Record(const TunnelRecord &of) const {
    if (record) {
      record(of);
    }
  }
  void Lookup(const proxy_action::Lookup &action);
  void Open(const proxy_action::OpenSocket &action);
  void Grow(const proxy_action::GrowSocket &action);
  void Close(SocketId id);
  void Read(Target &target);
  void OnSocketError(const Target &target, int error);

  // Packets: proxy_server_packets.cc.
  // What of it has not left, and why.
  struct Unsent {
    Traffic traffic;
    DropReason reason{};
  };
  static Traffic TrafficOf(const Burst &burst);
  // In a batch the payload waits for its end, and otherwise it leaves at once.
  void SendTunnelled(const PayloadToTarget &payload);
  // Sends what waits of `batch`.
  void EndTunnelled();
  void SendTunnelled(std::span<const TunnelledBatch::Entry> entries);
  void ReportTunnelled(std::span<const TunnelledBatch::Entry> entries, DropReason reason);
  // `on_stream`: what is too large for a datagram, too.
  void ToClients(const ServerSocket *socket, const ReceivedBurst &burst, bool on_stream = false);
  // Keeps a packet of FromTarget until ForwardHeld; false: it cannot wait.
  [[nodiscard]] bool Hold(const ServerSocket &socket, const PacketToClient &packet, unsigned ecn,
                          std::uint64_t now);
  // The client may have what waits for it forwarded now, or else `on_stream`.
  void ForwardHeld(OuterConnection connection, bool on_stream = false);
  void Forward(Tunnel &tunnel, const Burst &packets);
  [[nodiscard]] Unsent SendToTarget(Target &target, const Burst &packets);
  // What has become of packets to `where`.
  [[nodiscard]] Unsent Account(const Burst &packets, const SendOutcome &outcome,
                               std::string_view where);
  // Those of a tunnel's packets that have not left are drops.
  void Report(Tunnel &tunnel, Way way, const Unsent &unsent);
  void EndRun();
  // Sends what there is and forgets `path`: before tunnels and connections come, move and go.
  void EndBatch();
  void ActOnFailed();

  // The program's connection; null if it is gone.
  Client *Find(OuterConnection connection) const;
  static Client &ClientOf(const ClientConnection &connection) {
    return *static_cast<Client *>(connection.user_data);
  }
  static Target &TargetOf(const ServerSocket &socket) {
    return *static_cast<Target *>(socket.user_data);
  }

  struct ev_loop *loop;
  LogFunction log;
  std::function<void(const TunnelRecord &)> record;
  Proxy proxy;
  std::map<SocketId, std::unique_ptr<Target>> targets; // At most RoutingLimits::max_sockets.
  std::vector<std::unique_ptr<Target>> closed;         // Not to be destroyed yet.
  bool reading = false;
  std::deque<ProxyAction> todo; // Empty but during Perform.
  bool performing = false;
  LogLimit refused_lines, lookup_lines, open_lines, reset_lines, unreachable_lines, moved_lines;
  std::array<LogLimit, kDropReasons> drop_lines;
  std::set<std::string> gave_up; // What has been logged of SendOutcome::gave_up, a few texts.

  // Forwarded packets of a tunnel that lie one after the other in memory.  They are sent before
  // anything else is done, so that the tunnel is there still.
  Tunnel *run_of = nullptr;
  Burst run;
  const std::uint8_t *run_end = nullptr; // Where the last one of them ended, as it came.
  // Payloads of tunnels, which were in datagrams.  They, too, are sent before anything else is
  // done, and before later packets for the same socket.
  TunnelledBatch batch;
  BurstPlan plan;
  // Where the last packet of a client came from, until OnClientPacketsDone; null if not known.
  const ClientPath *path = nullptr;
  FourTuple path_tuple;
  bool in_batch = false;
  std::uint64_t batch_began = 0; // While in_batch, by SteadyNow: read once, and not per packet.
  // Sockets whose targets are unreachable: not acted on in the middle of a batch, whose tunnels may
  // be theirs.
  std::set<SocketId> failed; // At most one per socket.

  std::map<OuterConnection, HeldPackets> held; // Those of connections that are there.

  BatchReader reader;
  // The last one, so that it is the first to go: it calls back no more.
  std::unique_ptr<Resolver> resolver;
};

} // namespace ngmasque
