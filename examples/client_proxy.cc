// gtlsclient --proxy: the sample client's connection through a CONNECT-UDP proxy.
//
// The client's seam (client_ext.h in the patched sample programs) on the one side, libngmasque's
// ProxyClient on the other.
#include "ngmasque/io/path_tunnels.h"
#include "ngmasque/quic/socket_address.h"
#include "client_proxy_options.h"
#include "client_proxy_via.h"
#include "proxy_options.h"

#include "client.h"
#include "client_ext.h"
#include "util.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <map>
#include <optional>
#include <print>
#include <string>
#include <utility>
#include <vector>

#include <ev.h>
#include <getopt.h>

extern Config config;

namespace {

using ngmasque::ConnectionId;
using namespace ngmasque::examples;

// A new inner connection is made so often when its connection ID conflicts with another client's.
constexpr int kMaxRetries = 3;

// So many further connection IDs are replaced when the proxy has refused them.  After that they are
// kept unused: ngtcp2 asks for another one for each that is discarded, and a proxy that has reached
// a bound would refuse them all.
constexpr int kMaxDiscards = 4;

// Where the connection began if the target has a name, which only the proxy looks up.
constexpr in_addr kUnknownAddress{};

ngtcp2_cid ToCid(const ConnectionId &id) {
  ngtcp2_cid cid;
  ngtcp2_cid_init(&cid, id.bytes().data(), id.size());
  return cid;
}

class ProxyExt final : public ClientExt,
                       public ngmasque::ProxyClient::Handler,
                       public ngmasque::PathTunnels::Handler {
public:
  // Command line.

  std::span<const option> options() const override { return ClientProxyTable(); }
  std::expected<void, Error> set_option(std::string_view name, const char *arg) override;
  void print_help(FILE *out) const override { std::println(out, "{}", ClientProxyHelp()); }
  bool enabled() const override { return !options_.host.empty(); }
  std::string stats() const override;

  // ClientExt.

  std::expected<void, Error> open(struct ev_loop *loop, const char *addr,
                                  const char *port) override;
  Address local_addr(int family) const override;
  Address remote_addr() const override;
  std::expected<void, Error> start(Client *client) override;
  void stop() override;
  bool retry() const override { return retry_; }
  std::span<const uint8_t> send_packet(const ngtcp2_addr &remote_addr, unsigned int ecn,
                                       std::span<const uint8_t> data, size_t gso_size) override;
  void new_scid(const ngtcp2_cid &cid) override;
  void remove_scid(const ngtcp2_cid &cid) override;
  void dcid_status(ngtcp2_connection_id_status_type type, const ngtcp2_cid &cid,
                   const ngtcp2_stateless_reset_token *token) override;
  void change_local_addr() override;

  // ProxyClient::Handler.

  void OnReady() override;
  void OnClosed(std::string_view text) override;

  // PathTunnels::Handler.

  void OnPacket(const ngmasque::Endpoint &remote, std::span<const std::uint8_t> packet,
                unsigned ecn) override;
  void OnPacketsDone() override;
  std::chrono::nanoseconds ProbeTimeout() const override;
  void OnReleaseClientId(const ConnectionId &id) override;
  void OnDiscardClientId(const ConnectionId &id) override;
  void OnOpened() override { opened_ = true; }
  void OnWritable() override;
  void OnPathEnded(const ngmasque::Endpoint &remote, const ngmasque::TunnelEnd &end) override;
  void OnEnded(const ngmasque::TunnelEnd &end) override;

private:
  /// Says which path the connection uses its new Destination Connection IDs on.
  void PlaceDcids();
  /// For messages about a tunnel that does not work; empty unless packets went on the stream.
  std::string OnStream() const;
  /// Of all tunnels that there have been.
  ngmasque::ProxyTunnelStatistics TunnelStatistics() const;

  ClientProxyOptions given_{
    .client = {.dialects = {.dialect = ngmasque::ProxyDialect::kRfc9298}}, .tunnel = {}};
  ngmasque::ProxyClient::Options &options_ = given_.client;
  struct ev_loop *loop_ = nullptr;
  ProxyVia via_;
  std::unique_ptr<ngmasque::ProxyClient> proxy_;
  std::unique_ptr<ngmasque::PathTunnels> tunnels_; // Those of client_, or of the one before.
  ngmasque::ProxyTunnelStatistics earlier_;        // Of tunnels before them.
  ngmasque::Authority target_;
  Client *client_ = nullptr; // Null unless a connection is there.
  // Activated ones that have no path yet; ngtcp2 bounds them.
  std::map<ConnectionId, std::optional<ngmasque::ResetToken>> new_dcids_;
  bool ready_ = false;
  bool opened_ = false;   // The proxy has accepted the tunnel.
  bool reported_ = false; // What ended the connection has been said.
  bool retry_ = false;
  int retries_ = 0;
  int discards_ = 0;
};

std::expected<void, Error> ProxyExt::set_option(std::string_view name, const char *arg) {
  if (const auto set = SetClientProxyOption(given_, name, arg); !set) {
    std::println(stderr, "{}: {}", name, set.error());
    return std::unexpected(Error::INVALID_ARGUMENT);
  }
  return {};
}

std::string ProxyExt::stats() const {
  const auto s = TunnelStatistics();
  const auto outer = proxy_ ? proxy_->statistics() : ngmasque::ProxyClientStatistics{};
  const auto proxy = ToJson(given_.tunnel.forward ? "forward" : "tunnel",
                            proxy_ ? proxy_->dialect() : "", s, outer);
  const auto via = proxy_ && options_.via
                     ? std::format(", \"via\": {}", via_.Stats(*proxy_).text())
                     : std::string();
  return std::format("\"proxy\": {}{}", proxy.text(), via);
}

std::expected<void, Error> ProxyExt::open(struct ev_loop *loop, const char *addr,
                                          const char *port) {
  retry_ = false;
  if (ready_) {
    return {};
  }
  // The target is checked before anything is sent.
  const bool v6 = std::string_view(addr).contains(':');
  auto target = ngmasque::ParseAuthority(std::format("{}{}{}:{}", v6 ? "[" : "", addr, v6 ? "]" : "", port));
  if (!target) {
    std::println(stderr, "proxy: {} {} cannot be asked for: a host name or address and a port in "
                         "digits are needed", addr, port);
    return std::unexpected(Error::INVALID_ARGUMENT);
  }
  target_ = std::move(*target);

  loop_ = loop;
  if (const auto *file = getenv("SSLKEYLOGFILE")) {
    options_.key_log_file = file;
  }
  options_.gso = !config.no_gso;
  if (config.handshake_timeout != UINT64_MAX) {
    options_.handshake_timeout = std::chrono::milliseconds(
      std::max<ngtcp2_duration>(config.handshake_timeout / NGTCP2_MILLISECONDS, 1));
  }
  options_.idle_timeout = std::chrono::milliseconds(config.timeout / NGTCP2_MILLISECONDS);
  options_.log = [](ngmasque::LogLevel level, std::string_view line) {
    // What ends the connection is said below, once.
    if (!config.quiet && level < ngmasque::LogLevel::kError) {
      std::println(stderr, "proxy: {}", line);
    }
  };
  if (!via_.Start(loop, given_)) {
    return std::unexpected(Error::INTERNAL);
  }
  proxy_ = std::make_unique<ngmasque::ProxyClient>(loop, options_, *this);
  if (auto started = proxy_->Start(); !started) {
    if (started.error() == ngmasque::IoError::kTls && !options_.ca_file.empty()) {
      std::println(stderr, "proxy-ca: no certificate could be read from {}", options_.ca_file.native());
    } else {
      std::println(stderr, "proxy: {}:{}: {}", options_.host, options_.port,
                   ngmasque::ErrorText(started.error()));
    }
    return std::unexpected(Error::INTERNAL);
  }
  ev_run(loop, 0); // OnReady or OnClosed ends it.
  if (!ready_) {
    return std::unexpected(Error::INTERNAL);
  }
  return {};
}

// There is nothing on this side that a path could differ in.
Address ProxyExt::local_addr(int family) const {
  Address address;
  if (family == AF_INET6) {
    address.skaddr.emplace<sockaddr_in6>(sockaddr_in6{.sin6_family = AF_INET6});
  } else {
    address.skaddr.emplace<sockaddr_in>(sockaddr_in{.sin_family = AF_INET});
  }
  return address;
}

// That of a name makes loopback and link-local addresses unsuitable for the target to move to.
Address ProxyExt::remote_addr() const {
  Address address;
  in6_addr ipv6{};
  if (inet_pton(AF_INET6, target_.host.c_str(), &ipv6) == 1) {
    address.skaddr.emplace<sockaddr_in6>(sockaddr_in6{.sin6_family = AF_INET6, .sin6_addr = ipv6});
  } else {
    auto ipv4 = kUnknownAddress;
    inet_pton(AF_INET, target_.host.c_str(), &ipv4);
    address.skaddr.emplace<sockaddr_in>(sockaddr_in{.sin_family = AF_INET, .sin_addr = ipv4});
  }
  address.port(target_.port);
  return address;
}

std::expected<void, Error> ProxyExt::start(Client *client) {
  ngtcp2_conn_hold_new_connection_id(client->conn(), 1);
  ngtcp2_cid scid;
  if (ngtcp2_conn_get_scid2(client->conn(), nullptr) != 1) {
    return std::unexpected(Error::INTERNAL);
  }
  ngtcp2_conn_get_scid2(client->conn(), &scid);
  new_dcids_.clear();
  earlier_ = TunnelStatistics();
  tunnels_ = std::make_unique<ngmasque::PathTunnels>(
    loop_, *proxy_, *this, ngmasque::PathTunnels::Options{.tunnel = given_.tunnel});
  const auto remote = remote_addr();
  if (auto opened = tunnels_->Open(target_, *ngmasque::ToEndpoint(remote.as_sockaddr()),
                                   ToConnectionId(scid));
      !opened) {
    std::println(stderr, "proxy: {}", ngmasque::ErrorText(opened.error()));
    return std::unexpected(Error::INTERNAL);
  }
  client_ = client;
  opened_ = false;
  reported_ = false;
  discards_ = 0;
  return {};
}

void ProxyExt::stop() {
  if (client_ && !client_->complete() && !reported_) {
    if (!opened_) {
      std::println(stderr, "proxy: {}:{} has not answered the request{}", options_.host,
                   options_.port, OnStream());
    } else if (!ngtcp2_conn_get_handshake_completed2(client_->conn())) {
      const auto s = tunnels_->statistics();
      std::println(stderr,
                   "proxy: {}: handshake through the tunnel: {} packets sent, {} received{}",
                   AuthorityText(target_), s.tunnelled_tx.packets, s.tunnelled_rx.packets,
                   OnStream());
    } else if (via_.IsSilent()) {
      // It is said.
    } else if (proxy_->silence() > options_.idle_timeout / 2) {
      // Forwarded packets get no answer if the proxy is gone, which looks like a silent target.
      std::println(stderr, "proxy: nothing has come from {}:{} for {:.1f} seconds", options_.host,
                   options_.port, std::chrono::duration<double>(proxy_->silence()).count());
    }
  }
  client_ = nullptr;
  if (tunnels_) {
    tunnels_->Close();
  }
  if (!retry_) {
    ready_ = false;
    proxy_->Close();
    if (via_.client()) {
      via_.client()->Close();
    }
  }
  ev_break(loop_, EVBREAK_ALL);
}

// A proxy that has agreed on datagrams need not expect anything else.
std::string ProxyExt::OnStream() const {
  const auto sent = TunnelStatistics().on_stream_tx;
  return sent == 0
           ? std::string()
           : std::format("; {} packets went on the stream, as they fit no datagram", sent);
}

ngmasque::ProxyTunnelStatistics ProxyExt::TunnelStatistics() const {
  auto sum = earlier_;
  if (tunnels_) {
    sum += tunnels_->statistics();
  }
  return sum;
}

std::span<const uint8_t> ProxyExt::send_packet(const ngtcp2_addr &remote_addr, unsigned int ecn,
                                               std::span<const uint8_t> data, size_t gso_size) {
  PlaceDcids();
  return tunnels_->SendBurst(*ngmasque::ToEndpoint(remote_addr.addr), data, gso_size, ecn);
}

void ProxyExt::new_scid(const ngtcp2_cid &cid) { tunnels_->AddClientId(ToConnectionId(cid)); }

void ProxyExt::remove_scid(const ngtcp2_cid &cid) {
  tunnels_->RemoveClientId(ToConnectionId(cid));
}

void ProxyExt::dcid_status(ngtcp2_connection_id_status_type type, const ngtcp2_cid &cid,
                           const ngtcp2_stateless_reset_token *token) {
  const auto id = ToConnectionId(cid);
  if (type == NGTCP2_CONNECTION_ID_STATUS_TYPE_DEACTIVATE) {
    new_dcids_.erase(id);
    tunnels_->RemoveServerId(id);
    return;
  }
  auto &known = new_dcids_[id];
  if (token) {
    std::ranges::copy(token->data, known.emplace().begin());
  }
  // At once if the path is known already: a proxy may allow few, and this one is worth more than others
  // of this client's.
  PlaceDcids();
}

void ProxyExt::PlaceDcids() {
  if (new_dcids_.empty()) {
    return;
  }
  std::vector<ngtcp2_cid_token2> active(ngtcp2_conn_get_active_dcid3(client_->conn(), nullptr));
  active.resize(ngtcp2_conn_get_active_dcid3(client_->conn(), active.data()));
  for (const auto &one : active) {
    if (const auto found = new_dcids_.find(ToConnectionId(one.cid)); found != new_dcids_.end()) {
      const auto [id, token] = *found;
      new_dcids_.erase(found);
      tunnels_->AddServerId(*ngmasque::ToEndpoint(one.ps.path.remote.addr), id, token);
    }
  }
}

void ProxyExt::change_local_addr() {
  auto &socket = via_.client() ? *via_.client() : *proxy_;
  if (auto changed = socket.ChangeLocalAddress(); !changed) {
    std::println(stderr, "proxy: Could not change local address: {}",
                 ngmasque::ErrorText(changed.error()));
  }
}

void ProxyExt::OnReady() {
  ready_ = true;
  ev_break(loop_, EVBREAK_ALL);
}

void ProxyExt::OnPacket(const ngmasque::Endpoint &remote, std::span<const std::uint8_t> packet,
                        unsigned ecn) {
  // A packet may end the connection, and so make client_ null, while others are still to come.
  if (client_) {
    Address address;
    address.set(ngmasque::SocketAddress(remote).get());
    (void)client_->recv_packet(address, ecn, packet);
  }
}

void ProxyExt::OnPacketsDone() {
  if (!client_) {
    return;
  }
  PlaceDcids();
  if (client_->recv_done()) {
    (void)client_->on_write();
  }
}

std::chrono::nanoseconds ProxyExt::ProbeTimeout() const {
  return client_ ? std::chrono::nanoseconds(ngtcp2_conn_get_pto2(client_->conn()))
                 : ngmasque::PathTunnels::Handler::ProbeTimeout();
}

void ProxyExt::OnReleaseClientId(const ConnectionId &id) {
  if (!client_) {
    return;
  }
  const auto cid = ToCid(id);
  if (const auto rv = ngtcp2_conn_release_connection_id(client_->conn(), &cid); rv != 0) {
    std::println(stderr, "ngtcp2_conn_release_connection_id: {}", ngtcp2_strerror(rv));
    return;
  }
  (void)client_->on_write();
}

void ProxyExt::OnDiscardClientId(const ConnectionId &id) {
  if (!client_ || discards_++ >= kMaxDiscards) {
    return;
  }
  const auto cid = ToCid(id);
  if (const auto rv = ngtcp2_conn_discard_connection_id(client_->conn(), &cid); rv != 0) {
    std::println(stderr, "ngtcp2_conn_discard_connection_id: {}", ngtcp2_strerror(rv));
  }
}

void ProxyExt::OnWritable() {
  if (client_) {
    (void)client_->on_write();
  }
}

void ProxyExt::OnPathEnded(const ngmasque::Endpoint &remote, const ngmasque::TunnelEnd &end) {
  if (!config.quiet) {
    Address address;
    address.set(ngmasque::SocketAddress(remote).get());
    std::println(stderr, "proxy: {}: {}", util::straddr(address), end.text);
  }
}

void ProxyExt::OnEnded(const ngmasque::TunnelEnd &end) {
  if (end.kind == ngmasque::TunnelEnd::Kind::kConnection) {
    return; // OnClosed follows.
  }
  retry_ = end.retry && retries_++ < kMaxRetries;
  reported_ = true;
  std::println(stderr, "proxy: {}: {}{}{}", AuthorityText(target_), end.text, OnStream(),
               retry_ ? "; trying again with another connection ID" : "");
  if (client_) {
    client_->disconnect();
  }
}

void ProxyExt::OnClosed(std::string_view text) {
  std::println(stderr, "proxy: {}:{}: {}", options_.host, options_.port, text);
  ready_ = false;
  reported_ = true;
  if (client_) {
    client_->disconnect();
  }
  ev_break(loop_, EVBREAK_ALL);
}

// Before main(); it is there until the end of the program, when the statistics are written.  The
// pointer stays, for LeakSanitizer, when the program forgets an extension that is not enabled.
[[gnu::used]] ProxyExt *const registered = [] {
  auto *const extension = new ProxyExt;
  client_ext = extension;
  return extension;
}();

} // namespace
