// gtlsserver --connect-udp: the sample server as a CONNECT-UDP proxy.
//
// The server's seam (server_ext.h in the patched sample programs) on the one side, libngmasque's
// ProxyServer on the other.
#include "server_proxy.h"

#include "ngmasque/io/local_addresses.h"
#include "ngmasque/quic/packet_size.h"

#include "server.h"
#include "util.h"

#include <print>
#include <utility>

extern Config config;

namespace ngmasque::examples {

std::span<const option> ServerProxy::options() const { return ServerProxyLongOptions(); }

void ServerProxy::print_help(FILE *out) const { PrintHelp(out); }

std::expected<void, Error> ServerProxy::set_option(std::string_view name, const char *arg) {
  if (const auto set = SetOption(options_, name, arg); !set) {
    std::println(stderr, "{}: {}", name, set.error());
    return std::unexpected(Error::INVALID_ARGUMENT);
  }
  return {};
}

std::expected<void, Error> ServerProxy::start(struct ev_loop *loop, Server *server) {
  auto &policy = options_.proxy.policy;
  for (const auto &ep : server->endpoints()) {
    if (const auto own = ToEndpoint(ep.addr.as_sockaddr())) {
      policy.own.push_back(*own);
    }
  }
  policy.local = LocalAddresses();
  for (const auto &prefix : config.alternate_prefixes) {
    if (const auto own = ToEndpoint(prefix.addr.as_sockaddr())) {
      policy.local.push_back(
        {.address = own->address,
         .length = static_cast<unsigned>(prefix.len) + (IsIpv4(*own) ? 96 : 0)});
    }
  }
  options_.proxy.log = [](LogLevel level, std::string_view line) {
    if (!config.quiet || level >= LogLevel::kWarning) {
      std::println(stderr, "connect-udp: {}", line);
    }
  };
  proxy_ = ProxyServer::Create(loop, options_.proxy);
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
  params.max_datagram_frame_size = kMaxDatagramFrame;
  params.initial_max_streams_bidi =
    std::max<std::uint64_t>(params.initial_max_streams_bidi,
                            options_.proxy.proxy.routing.max_streams_per_client + kSpareRequests);
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
  if (!local || !remote) {
    return false;
  }
  arrival_ = {.path = {.local = *local, .remote = *remote}, .packet = data};
  return proxy_->OnClientPacket(arrival_.path, data, pi.ecn);
}

void ServerProxy::recv_done() {
  arrival_.packet = {};
  proxy_->OnClientPacketsDone();
}

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
