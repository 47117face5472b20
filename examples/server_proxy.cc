// gtlsserver --connect-udp: the sample server as a CONNECT-UDP proxy.
//
// The server's seam (server_ext.h in the patched sample programs) on the one side, libngmasque's
// ProxyServer on the other.
#include "server_proxy.h"

#include "ngmasque/quic/packet_size.h"

#include "server.h"
#include "util.h"

#include <print>
#include <utility>

#include <ifaddrs.h>

extern Config config;

namespace ngmasque::examples {

namespace {

constexpr option kOptions[] = {
  {"connect-udp", no_argument, nullptr, 0},
  {"connect-udp-forwarding", required_argument, nullptr, 0},
  {"connect-udp-connection-ids", required_argument, nullptr, 0},
  {"connect-udp-port-sharing", required_argument, nullptr, 0},
  {"connect-udp-allow", required_argument, nullptr, 0},
  {"connect-udp-ports", required_argument, nullptr, 0},
  {"connect-udp-min-connection-id", required_argument, nullptr, 0},
  {"connect-udp-max-connections-per-client", required_argument, nullptr, 0},
  {"connect-udp-max-flows-per-client", required_argument, nullptr, 0},
  {"connect-udp-max-connection-ids-per-client", required_argument, nullptr, 0},
  {"connect-udp-max-sockets", required_argument, nullptr, 0},
  {"connect-udp-max-lookups-per-client", required_argument, nullptr, 0},
  {"connect-udp-max-lookups", required_argument, nullptr, 0},
  {"connect-udp-max-early-datagrams", required_argument, nullptr, 0},
  {"connect-udp-rate-per-client", required_argument, nullptr, 0},
  {"connect-udp-max-waiting-per-client", required_argument, nullptr, 0},
  {"connect-udp-max-waiting", required_argument, nullptr, 0},
};

// QUIC DATAGRAM frames of any size (RFC 9221, section 3).
constexpr std::uint64_t kMaxDatagramFrameSize = 65'535;

// What a client may open besides its requests for tunnels: so that one too many gets an answer.
// Credit is per connection, and any one of its connections may have all of a client's requests.
constexpr std::uint64_t kSpareStreams = 16;

// Those of the interfaces, and the prefixes that the server takes addresses from.
std::vector<AddressBlock> LocalAddresses() {
  std::vector<AddressBlock> found;
  for (const auto &prefix : config.alternate_prefixes) {
    if (const auto endpoint = ToEndpoint(prefix.addr.as_sockaddr())) {
      found.push_back({.address = endpoint->address,
                       .length = static_cast<unsigned>(prefix.len) + (IsIpv4(*endpoint) ? 96 : 0)});
    }
  }
  ifaddrs *list = nullptr;
  if (getifaddrs(&list) != 0) {
    return found;
  }
  for (const auto *item = list; item; item = item->ifa_next) {
    if (const auto endpoint = item->ifa_addr ? ToEndpoint(item->ifa_addr) : std::nullopt) {
      found.push_back({.address = endpoint->address});
    }
  }
  freeifaddrs(list);
  return found;
}

} // namespace

std::span<const option> ServerProxy::options() const { return kOptions; }

void ServerProxy::print_help(FILE *out) const {
  const ProxyOptions defaults;
  std::println(out,
               R"(  --connect-udp
              Be a CONNECT-UDP proxy, too (draft-pauly-masque-quic-
              proxy-00).
  --connect-udp-forwarding=(on|off)
              Forward short header packets without  encrypting them
              again.  off: such requests are answered with 403.
              Default: on
  --connect-udp-connection-ids=(on|off)
              Look at connection IDs at all.  off: a plain proxy which
              ignores their header fields.
              Default: on
  --connect-udp-port-sharing=(on|off)
              Use one socket for all flows to the same target.
              Default: on
  --connect-udp-allow=<CIDR>
              Allow targets in <CIDR>, for example 127.0.0.0/8.  It can
              be repeated.   By default,  only  global  addresses  are
              allowed; all others are answered with 403.   Those that
              this machine has when the server starts  are never  al-
              lowed, except for loopback addresses.
  --connect-udp-ports=<PORT>[-<PORT>][,...]
              Allow targets on these ports only;  all others  are  an-
              swered with 403.
              Default: 80, 443, and those from 1024 on, but  for those
              that are known to amplify
  --connect-udp-min-connection-id=<N>
              Requests with  shorter connection IDs are answered with
              409.
              Default: {}
  --connect-udp-max-connections-per-client=<N>
              Connections of one client: an  IPv4  address, or  an IPv6
              /64.  Requests on any more are answered with 429.
              Default: {}
  --connect-udp-max-flows-per-client=<N>
              Flows of one client, on all of its connections.  More are
              answered with 429.
              Default: {}
  --connect-udp-max-connection-ids-per-client=<N>
              Requests of one client, each with one connection ID.  More
              are answered with 429.
              Default: {}
  --connect-udp-max-sockets=<N>
              Sockets towards the targets, of all clients.  A request
              that needs one more is answered with 503.
              Default: {}
  --connect-udp-max-lookups-per-client=<N>
              Names that are looked up at a time for one client.  More
              are answered with 429.
              Default: {}
  --connect-udp-max-lookups=<N>
              The same for all clients.  More are answered with 503.
              Default: {}
  --connect-udp-max-early-datagrams=<N>
              Datagrams that are kept for a flow without answer.  More
              are dropped.
              Default: {}
  --connect-udp-rate-per-client=<SIZE>
              Bytes per second of one client, both ways.  What exceeds
              it is dropped.  0 means that there is no limit.
              Default: {}
  --connect-udp-max-waiting-per-client=<SIZE>
              Bytes that wait to be sent to one client, or until its re-
              quest is there.  More are dropped.
              Default: {}M
  --connect-udp-max-waiting=<SIZE>
              The same for all clients.
              Default: {}M)",
               defaults.routing.min_connection_id, defaults.routing.max_connections_per_client,
               defaults.routing.max_flows_per_client, defaults.routing.max_streams_per_client,
               defaults.routing.max_sockets, defaults.max_lookups_per_client, defaults.max_lookups,
               defaults.max_early_datagrams, defaults.max_bytes_per_second_per_client,
               defaults.routing.max_waiting_bytes_per_client >> 20,
               defaults.routing.max_waiting_bytes >> 20);
}

std::expected<void, Error> ServerProxy::set_option(std::string_view name, const char *arg) {
  const auto refuse = [&](std::string_view why) -> std::expected<void, Error> {
    std::println(stderr, "{}: {}", name, why);
    return std::unexpected(Error::INVALID_ARGUMENT);
  };
  const auto set_switch = [&](bool &target) -> std::expected<void, Error> {
    const std::string_view value(arg);
    if (value != "on" && value != "off") {
      return refuse("must be on or off");
    }
    target = value == "on";
    return {};
  };
  const auto set_number = [&](auto &target, std::uint64_t least) -> std::expected<void, Error> {
    const auto value = util::parse_uint_iec(arg);
    if (!value || *value < least) {
      return refuse(std::format("must be a number of {} or more", least));
    }
    target = *value;
    return {};
  };
  auto &proxy = options_.proxy;

  if (name == "connect-udp") {
    enabled_ = true;
    return {};
  }
  if (name == "connect-udp-forwarding") {
    return set_switch(proxy.forwarding);
  }
  if (name == "connect-udp-connection-ids") {
    return set_switch(proxy.connection_ids);
  }
  if (name == "connect-udp-port-sharing") {
    return set_switch(proxy.port_sharing);
  }
  if (name == "connect-udp-allow") {
    const auto block = ParseAddressBlock(arg);
    if (!block) {
      return refuse("must be an address or <ADDRESS>/<LENGTH> without further bits");
    }
    options_.policy.allow.push_back(*block);
    return {};
  }
  if (name == "connect-udp-ports") {
    auto ports = ParsePorts(arg);
    if (!ports) {
      return refuse("must be ports of 1 to 65535 and ranges of them, separated by commas");
    }
    options_.policy.ports = *std::move(ports);
    return {};
  }
  if (name == "connect-udp-min-connection-id") {
    if (auto set = set_number(proxy.routing.min_connection_id, 0); !set) {
      return set;
    }
    if (proxy.routing.min_connection_id > kMaxConnectionIdLength) {
      return refuse(std::format("must not exceed {}", kMaxConnectionIdLength));
    }
    return {};
  }
  if (name == "connect-udp-max-connections-per-client") {
    return set_number(proxy.routing.max_connections_per_client, 1);
  }
  if (name == "connect-udp-max-flows-per-client") {
    return set_number(proxy.routing.max_flows_per_client, 1);
  }
  if (name == "connect-udp-max-connection-ids-per-client") {
    return set_number(proxy.routing.max_streams_per_client, 1);
  }
  if (name == "connect-udp-max-sockets") {
    return set_number(proxy.routing.max_sockets, 1);
  }
  if (name == "connect-udp-max-early-datagrams") {
    return set_number(proxy.max_early_datagrams, 0);
  }
  if (name == "connect-udp-max-lookups-per-client") {
    return set_number(proxy.max_lookups_per_client, 1);
  }
  if (name == "connect-udp-max-lookups") {
    return set_number(proxy.max_lookups, 1);
  }
  if (name == "connect-udp-rate-per-client") {
    return set_number(proxy.max_bytes_per_second_per_client, 0);
  }
  if (name == "connect-udp-max-waiting-per-client") {
    return set_number(proxy.routing.max_waiting_bytes_per_client, 0);
  }
  if (name == "connect-udp-max-waiting") {
    return set_number(proxy.routing.max_waiting_bytes, 0);
  }
  std::unreachable();
}

std::expected<void, Error> ServerProxy::start(struct ev_loop *loop, Server *server) {
  for (const auto &ep : server->endpoints()) {
    if (const auto own = ToEndpoint(ep.addr.as_sockaddr())) {
      options_.policy.own.push_back(*own);
    }
  }
  options_.policy.local = LocalAddresses();
  options_.log = [](LogLevel level, std::string_view line) {
    if (!config.quiet || level >= LogLevel::kWarning) {
      std::println(stderr, "connect-udp: {}", line);
    }
  };
  proxy_ = ProxyServer::Create(loop, options_);
  if (!proxy_) {
    std::println(stderr, "connect-udp: Could not set up name look-ups");
    return std::unexpected(Error::INTERNAL);
  }
  return {};
}

void ServerProxy::stop() {
  if (proxy_) {
    stats_ = stats();
    proxy_.reset();
  }
}

void ServerProxy::configure(ngtcp2_callbacks &callbacks, ngtcp2_settings &settings,
                            ngtcp2_transport_params &params) {
  ServerProxyConn::SetCallbacks(callbacks);
  if (!settings.no_tx_udp_payload_size_shaping) {
    if (last_packet_ < kOuterUdpPayload) {
      ProbePacketSize(settings, kOuterUdpPayload);
    } else {
      FixPacketSize(settings, kOuterUdpPayload);
    }
  }
  params.max_datagram_frame_size = kMaxDatagramFrameSize;
  params.initial_max_streams_bidi =
    std::max<std::uint64_t>(params.initial_max_streams_bidi,
                            options_.proxy.routing.max_streams_per_client + kSpareStreams);
}

std::unique_ptr<ServerConnExt> ServerProxy::new_conn(::Handler *handler, ngtcp2_ccerr &last_error) {
  return std::make_unique<ServerProxyConn>(*this, *handler, last_error,
                                           OuterConnection(next_connection_++));
}

bool ServerProxy::recv_packet(const ngtcp2::Address &local_addr,
                              const ngtcp2::Address &remote_addr,
                              const ngtcp2_pkt_info &pi, std::span<std::uint8_t> data) {
  last_packet_ = data.size();
  const auto local = ToEndpoint(local_addr.as_sockaddr());
  const auto remote = ToEndpoint(remote_addr.as_sockaddr());
  return local && remote &&
         proxy_->OnClientPacket({.local = *local, .remote = *remote}, data, pi.ecn);
}

void ServerProxy::recv_done() { proxy_->OnClientPacketsDone(); }

void ServerProxy::Complain(std::string_view line) {
  if (const auto end = complaints_.Take(util::timestamp())) {
    std::println(stderr, "connect-udp: {}{}", line, *end);
  }
}

std::string ServerProxy::stats() const {
  if (!proxy_) {
    return stats_;
  }
  const auto c = proxy_->counters();
  JsonObject dropped;
  for (std::size_t i = 0; i < c.dropped.size(); ++i) {
    dropped.AddIfNot0(ReasonName(static_cast<DropReason>(i)), c.dropped[i]);
  }
  JsonObject refused;
  for (const auto &[status, n] : c.refused) {
    refused.Add(std::to_string(status), n);
  }
  JsonObject proxy;
  proxy.Add("connections", connections_);
  proxy.Add("requests", c.requests);
  proxy.Add("accepted", c.accepted);
  proxy.Add("refused", refused);
  proxy.Add("flows", c.flows.highest);
  proxy.Add("sockets", c.sockets.highest);
  proxy.Add("tunnelled_tx", ToJson(c.tunnels[Way::kTunnelledToClient].passed));
  proxy.Add("tunnelled_rx", ToJson(c.tunnels[Way::kTunnelledToTarget].passed));
  proxy.Add("forwarded_tx", ToJson(c.tunnels[Way::kForwardedToClient].passed));
  proxy.Add("forwarded_rx", ToJson(c.tunnels[Way::kForwardedToTarget].passed));
  proxy.Add("on_stream_tx", c.tunnels.on_stream);
  proxy.Add("dropped", dropped);
  return std::format("\"proxy\": {}", proxy.text());
}

namespace {

// Before main(); it is there until the end of the program, when the statistics are written.  The
// pointer stays, for LeakSanitizer, when the program forgets an extension that is not enabled.
[[gnu::used]] ServerProxy *const registered = [] {
  auto *const extension = new ServerProxy;
  server_ext = extension;
  return extension;
}();

} // namespace

} // namespace ngmasque::examples
