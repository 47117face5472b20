// A page for Prometheus, and whether the proxy is well, over HTTP on a loopback port.
#pragma once

#include "ngmasque/values.h"

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <ngmasque/io/connect_udp_proxy.h>

struct ev_loop;

namespace ngmasque::programs {

/// What else is on the page.
struct ProgramCounters {
  std::uint64_t reloads = 0;
  std::uint64_t failed_reloads = 0;
  std::uint64_t lost_access_lines = 0;
  bool draining = false;
};

/// In Prometheus' text format, version 0.0.4.
[[nodiscard]] std::string MetricsText(const ConnectUdpProxy &proxy, const ProgramCounters &program);

/// Answers GET /metrics with what `metrics` returns, and GET /health with 200, or with 503 as soon
/// as `healthy` is false.  On the thread of the loop.
class MetricsServer {
public:
  struct Options {
    Endpoint address; ///< Port 0 is one that the system chooses.
    std::function<std::string()> metrics;
    std::function<bool()> healthy;
  };

  /// Connections at a time.  More are refused.
  static constexpr unsigned kMaxConnections = 16;
  /// Seconds until a silent one is closed.
  static constexpr unsigned kTimeout = 10;

  /// `loop` has to outlive it.  The error is in words.
  [[nodiscard]] static std::expected<std::unique_ptr<MetricsServer>, std::string>
  Create(struct ev_loop *loop, Options options);
  ~MetricsServer();
  MetricsServer(const MetricsServer &) = delete;
  MetricsServer &operator=(const MetricsServer &) = delete;

  [[nodiscard]] Endpoint address() const;

private:
  struct State;
  explicit MetricsServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace ngmasque::programs
