// The proxy while it runs: signals, reloads, logs.
#pragma once

#include "access.h"
#include "access_log.h"
#include "metrics.h"
#include "configured.h"

#include "ngmasque/exit_code.h"
#include "ngmasque/log.h"

#include <array>
#include <memory>
#include <vector>

#include <ev.h>
#include <ngmasque/io/connect_udp_proxy.h>

namespace ngmasque::programs {

class Runner {
public:
  /// `command_line` is what a reload begins with.
  Runner(Settings command_line, Configured setup);
  ~Runner();
  Runner(const Runner &) = delete;
  Runner &operator=(const Runner &) = delete;

  /// Until it ends.  `passed`: see PassedSockets.
  [[nodiscard]] ExitCode Run(std::vector<int> passed);

private:
  [[nodiscard]] std::expected<void, Complaint> Start(std::vector<int> passed);
  void Reload();
  [[nodiscard]] std::expected<Configured, Complaint> TryReload();
  void Stop(int signal);
  void Drain();
  void End();
  [[nodiscard]] std::expected<void, Complaint> StartMoves();
  void MoveOn();
  void Admit(const Configured &setup);
  [[nodiscard]] static Policies MakePolicies(const Configured &setup);
  [[nodiscard]] ProgramCounters counters() const;

  Settings command_line_;
  Configured setup_;
  Log log_;
  struct ev_loop *loop_;
  std::array<ev_signal, 4> signals_{};
  ev_timer drain_timer_{}; // Active while it drains.
  ev_timer move_timer_{};  // Of --migrate-every.
  Access access_;
  AccessLog access_log_;
  std::unique_ptr<ConnectUdpProxy> proxy_;
  std::unique_ptr<MetricsServer> metrics_;
  std::vector<Endpoint> ring_; // Where clients are sent, in turn.
  std::size_t next_ = 0;
  std::vector<int> passed_; // As numbers for Load; the listener has them.
  ProgramCounters counters_;
};

} // namespace ngmasque::programs
