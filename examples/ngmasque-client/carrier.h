// The connection to the proxy: made again when it is lost, moved when the network changes, and
// replaced when the proxy goes away.
#pragma once

#include "backoff.h"
#include "proxy_name.h"
#include "target_statistics.h"

#include "ngmasque/log.h"

#include <ngmasque/io/proxy_client.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>

#include <ev.h>

namespace ngmasque::programs {

class PeerTunnel;

class Carrier {
public:
  struct Options {
    ProxyClient::Options proxy{};
    bool forward = true; ///< Whether forwarded mode is wanted.
    /// Whether a target that the proxy refuses is the only one there will be.
    bool single_target = false;
    std::chrono::nanoseconds first_pause = std::chrono::milliseconds(500);
    std::chrono::nanoseconds longest_pause = std::chrono::seconds(30);
  };

  /// It is of no use to go on: an exit code, and what to do in one line.
  using Fatal = std::function<void(int code, std::string text)>;

  /// Connections at a time, of which all but the latest are those of a proxy that goes away. Beyond
  /// it the oldest one is closed, and its tunnels begin again.
  static constexpr std::size_t kMaxLinks = 3;
  /// Targets that are told apart in statistics; the others are summed up under kOthers.
  static constexpr std::size_t kMaxTargets = 256;
  static constexpr std::string_view kOthers = "others";

  /// `loop` and `log` have to outlive it.
  Carrier(struct ev_loop *loop, Options options, const Log &log, Fatal fatal);
  ~Carrier();
  Carrier(const Carrier &) = delete;
  Carrier &operator=(const Carrier &) = delete;

  /// Begins to connect; what may pass is tried again, and for the rest Fatal may be called from
  /// within.
  void Start();
  /// Ends all connections, with a word to the proxy.
  void Close();

  /// Addresses or routes of this machine have changed.
  void OnNetworkChanged();

  // For PeerTunnel.

  /// Where tunnels are to be opened; null if there is no connection.
  [[nodiscard]] ProxyClient *client();
  [[nodiscard]] bool forward() const { return options_.forward; }
  /// Whether tunnels may tell the proxy their connection IDs.  Not where it could share a socket
  /// among them, as draft-00 leaves to the proxy: target and local peer agree on others later,
  /// which nobody sees here, and packets with those would be dropped.
  [[nodiscard]] bool MayShowIds() const;
  /// Whether the proxy may take client connection IDs of zero length: as far as is known of it, on
  /// the latest connection.
  [[nodiscard]] bool takes_empty_ids() const { return takes_empty_ids_; }
  void OnEmptyIdRefused() { takes_empty_ids_ = false; }
  void Add(PeerTunnel &tunnel) { tunnels_.insert(&tunnel); }
  void Remove(PeerTunnel &tunnel);
  void OnNotOpened(const PeerTunnel &tunnel, const IoError &error);
  /// A packet of so many bytes has been dropped, as no more than `fits` go through the tunnel.
  /// `probe`: it may be one of a QUIC connection, which finds out what its path takes.
  void OnTooLong(const PeerTunnel &tunnel, std::size_t size, std::size_t fits, bool probe);
  void OnTunnelOpened() { worked_ = true; }
  void OnTunnelEnded(const PeerTunnel &tunnel, const TunnelEnd &end);
  [[nodiscard]] struct ev_loop *loop() const { return loop_; }
  [[nodiscard]] std::uint64_t Now() const; ///< In nanoseconds.
  [[nodiscard]] double Random();           ///< 0 to 1.

  // For statistics.

  /// Of all tunnels so far, by target.
  [[nodiscard]] std::map<std::string, TargetStatistics> targets() const;
  /// In words: `connected to 192.0.2.1:443, dialect rfc9298`.
  [[nodiscard]] std::string state();
  [[nodiscard]] std::uint64_t connections() const { return connections_; }
  [[nodiscard]] std::uint64_t moves() const { return moves_; }
  [[nodiscard]] std::uint64_t server_migrations() const;

private:
  class Link;

  void LookUp();
  void OnLookedUp(const ProxyName::Result &found);
  std::expected<void, IoError> Connect();
  void ConnectLater(std::string_view why);
  void OnReady();
  void OnDraining();
  void OnClosed(Link &link, std::string_view text);
  void Move(Link &link, std::string_view why);
  void Tick();
  void Sweep();
  void Give(int code, std::string text);

  struct ev_loop *const loop_;
  Options options_;
  const Log &log_;
  const Fatal fatal_;
  ProxyName name_;
  std::minstd_rand random_{std::random_device()()};
  std::list<std::unique_ptr<Link>>
    links_;                        // kMaxLinks and those that are over; the latest at the end.
  std::set<PeerTunnel *> tunnels_; // Whoever makes them bounds them.
  std::map<std::string, TargetStatistics>
    earlier_; // Of those that are gone: kMaxTargets and kOthers.
  Backoff pauses_;
  bool begun_ = false;  // A connection was, if only with its first packet.
  bool worked_ = false; // A tunnel was there.
  bool draining_ = false;
  bool takes_empty_ids_ = true;
  std::uint64_t connections_ = 0;
  std::uint64_t moves_ = 0;
  std::uint64_t earlier_migrations_ = 0;
  std::string last_failure_;
  LogLimit refused_lines_;
  LogLimit full_lines_;
  LogLimit long_lines_;
  LogLimit probe_lines_;
  ev_timer retry_{};
  ev_timer tick_{};    // Once a second.
  ev_prepare sweep_{}; // Only fed: links that are over are destroyed from the loop.
};

} // namespace ngmasque::programs
