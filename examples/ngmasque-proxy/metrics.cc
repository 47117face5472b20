#include "metrics.h"

#include <format>
#include <iterator>
#include <utility>

#include <ngmasque/io/version.h>

namespace ngmasque::programs {

namespace {

struct WayName {
  Way way;
  std::string_view labels;
};
constexpr WayName kWayNames[] = {
  {Way::kTunnelledToTarget, R"(mode="tunnelled",direction="to_target")"},
  {Way::kTunnelledToClient, R"(mode="tunnelled",direction="to_client")"},
  {Way::kForwardedToTarget, R"(mode="forwarded",direction="to_target")"},
  {Way::kForwardedToClient, R"(mode="forwarded",direction="to_client")"}};

// Lines of the page.  Names of labels' values are ours, and need no escaping.
class Page {
public:
  void Begin(std::string_view name, std::string_view type, std::string_view help) {
    name_ = std::format("ngmasque_{}", name);
    text_ += std::format("# HELP {0} {1}\n# TYPE {0} {2}\n", name_, help, type);
  }
  void Value(std::uint64_t value, std::string_view labels = {}) {
    text_ += labels.empty() ? std::format("{} {}\n", name_, value)
                            : std::format("{}{{{}}} {}\n", name_, labels, value);
  }
  void Counter(std::string_view name, std::string_view help, std::uint64_t value) {
    Begin(name, "counter", help);
    Value(value);
  }
  void Gauge(std::string_view name, std::string_view help, std::uint64_t value) {
    Begin(name, "gauge", help);
    Value(value);
  }
  [[nodiscard]] std::string Take() { return std::move(text_); }

private:
  std::string name_;
  std::string text_;
};

void AddConnections(Page &page, const ConnectUdpProxy &proxy) {
  const auto server = proxy.server_statistics();
  page.Gauge("connections", "Connections of clients, those in their handshake included.",
             proxy.connections());
  page.Counter("connections_begun_total", "Connections that were begun.", server.accepted);
  page.Counter("handshakes_total", "Handshakes that were completed.", server.handshakes);
  page.Counter("retries_total", "Clients that had to show where they are.", server.retries);
  page.Counter("connections_refused_total", "Connections that were refused.", server.refused);
  page.Counter("moves_announced_total", "Addresses that clients were sent to.", server.announced);
  page.Counter("moves_total", "Clients that have gone on at another address.", server.moves);
  page.Counter("stateless_resets_total", "Stateless resets that were sent.", server.resets);
  const auto &sockets = proxy.listener_statistics();
  page.Begin("listener_packets_total", "counter", "UDP packets between clients and proxy.");
  page.Value(sockets.received.packets, R"(direction="received")");
  page.Value(sockets.sent.packets, R"(direction="sent")");
  page.Begin("listener_bytes_total", "counter", "Bytes of these.");
  page.Value(sockets.received.bytes, R"(direction="received")");
  page.Value(sockets.sent.bytes, R"(direction="sent")");
}

void AddRequests(Page &page, const ProxyCounters &counters) {
  page.Counter("requests_total", "Requests that were received.", counters.requests);
  page.Counter("requests_accepted_total", "Requests that were accepted.", counters.accepted);
  page.Begin("requests_refused_total", "counter", "Requests that were refused, by status.");
  for (const auto &[status, requests] : counters.refused) {
    page.Value(requests, std::format("status=\"{}\"", status));
  }
  page.Begin("requests_refused_by_error_total", "counter", "The same, by why.");
  for (const auto &[error, requests] : counters.errors) {
    page.Value(requests, std::format("error=\"{}\"", ErrorName(error)));
  }
  page.Begin("tunnels_ended_total", "counter", "Tunnels that have ended, by why.");
  for (std::size_t reason = 0; reason < kEndReasons; ++reason) {
    page.Value(counters.ended[reason], std::format("reason=\"{}\"", ReasonName(EndReason(reason))));
  }
  page.Counter("tunnels_reset_total", "Tunnels that the proxy has ended.", counters.reset);
  page.Counter("lookups_total", "Names that were looked up.", counters.lookups);
  page.Gauge("lookups", "Those of them that run.", counters.lookups_running);
  page.Gauge("clients", "Users, and addresses of those who are none.", counters.counts.clients);
  page.Gauge("waiting_bytes", "Bytes that wait, for clients and for their targets.",
             counters.waiting_bytes);
  page.Gauge("tunnels", "Tunnels, those without an answer included.", counters.flows.now);
  page.Gauge("tunnels_highest", "The most that there were at a time.", counters.flows.highest);
  page.Gauge("connection_ids", "Connection IDs that tunnels have.", counters.counts.mappings);
  page.Gauge("target_sockets", "Sockets towards targets.", counters.sockets.now);
  page.Gauge("target_sockets_highest", "The most that there were at a time.",
             counters.sockets.highest);
}

void AddTunnels(Page &page, const ProxyCounters &counters) {
  page.Begin("packets_total", "counter", "Packets that have passed through tunnels.");
  for (const auto &[way, labels] : kWayNames) {
    page.Value(counters.tunnels[way].passed.packets, labels);
  }
  page.Begin("bytes_total", "counter", "Bytes of these.");
  for (const auto &[way, labels] : kWayNames) {
    page.Value(counters.tunnels[way].passed.bytes, labels);
  }
  page.Begin("dropped_packets_total", "counter", "Packets that were dropped, by reason.");
  for (std::size_t reason = 0; reason < kDropReasons; ++reason) {
    page.Value(counters.dropped[reason],
               std::format("reason=\"{}\"", ReasonName(DropReason(reason))));
  }
}

} // namespace

std::string MetricsText(const ConnectUdpProxy &proxy, const ProgramCounters &program) {
  Page page;
  const auto versions = LibraryVersions();
  page.Begin("build_info", "gauge", "Versions, as labels.");
  page.Value(1, std::format(R"(version="{}",ngtcp2="{}",nghttp3="{}",gnutls="{}")",
                            versions.ngmasque, versions.ngtcp2, versions.nghttp3, versions.gnutls));
  page.Gauge("draining", "1 if no more tunnels are taken.", program.draining ? 1 : 0);
  page.Counter("reloads_total", "Configurations that were read again.", program.reloads);
  page.Counter("reloads_failed_total", "Configurations that were wrong, and not taken.",
               program.failed_reloads);
  page.Counter("access_log_lines_lost_total", "Lines of the access log that could not be written.",
               program.lost_access_lines);
  const auto counters = proxy.counters();
  AddConnections(page, proxy);
  AddRequests(page, counters);
  AddTunnels(page, counters);
  return page.Take();
}

} // namespace ngmasque::programs
