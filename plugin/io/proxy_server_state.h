// The inside of ProxyServer.
#pragma once

#include "ngmasque/io/proxy_server.h"
#include "ngmasque/io/resolver.h"

#include <ev.h>

#include <algorithm>
#include <deque>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common.h"

namespace ngmasque {

struct ProxyServer::State {
  struct Target {
    State *state;
    SocketId id;
    UdpSocket socket; // Connected: nothing comes from elsewhere (P15).
    ev_io watcher{};
  };

  State(struct ev_loop *l, Options options, Clients &c, const HashKey &key);
  ~State();

  static void OnReadable(struct ev_loop *loop, ev_io *watcher, int events);

  void Log(LogLevel level, std::string_view line) const;
  void Perform(ProxyActions actions);
  void Lookup(const proxy_action::Lookup &action);
  void Open(const proxy_action::OpenSocket &action);
  void Close(SocketId id);
  void Read(Target &target);
  void OnSocketError(Target &target, int error);

  // Packets: proxy_server_packets.cc.
  void Tunnel(const PayloadToTarget &payload);
  void ToClients(SocketId id, const Burst &burst);
  void Forward(const PacketToClient &to, const Burst &packets);
  void SendToTarget(SocketId id, const Burst &packets);
  void EndRun();
  void Drop(ServerDrop reason, std::size_t packets);

  struct ev_loop *loop;
  Clients &clients;
  LogFunction log;
  Proxy proxy;
  std::map<SocketId, std::unique_ptr<Target>> targets; // At most RoutingLimits::max_sockets.
  std::vector<std::unique_ptr<Target>> closed;         // Not to be destroyed yet.
  bool reading = false;
  std::deque<ProxyAction> todo; // Empty but during Perform.
  bool performing = false;
  ProxyServerStatistics statistics;
  std::set<std::string> gave_up; // What has been logged of SendOutcome::gave_up, a few texts.

  // Forwarded packets of clients that go to the same socket and lie one after the other.
  ToTarget run_to{};
  Burst run;

  std::vector<std::uint8_t> buffer = std::vector<std::uint8_t>(kReadBufferSize);
  // The last one, so that it is the first to go: it calls back no more.
  std::unique_ptr<Resolver> resolver;
};

} // namespace ngmasque
