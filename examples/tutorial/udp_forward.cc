// Sends one UDP service through a proxy: what comes to a local port goes to the target, and what the
// target answers goes to whoever has sent last.  The tutorial of plugin/README.md, "Build on it".
//
//     udp-forward PROXY-HOST PROXY-PORT TARGET-HOST:PORT LOCAL-PORT [CA-FILE]
//
//     udp-forward proxy.example 443 192.0.2.53:53 5353 &  dig @127.0.0.1 -p 5353 example.com
#include <ngmasque/io/proxy_client.h>
#include <ngmasque/io/udp_listener.h>
#include <ngmasque/session/target_policy.h>

#include <charconv>
#include <cstdint>
#include <memory>
#include <print>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ev.h>

namespace {

// Of the local port, of the connection to the proxy, and of its only tunnel.  All is called from the
// loop.
class Forwarder final : public ngmasque::UdpListener::Handler,
                        public ngmasque::ProxyClient::Handler,
                        public ngmasque::ProxyTunnel::Handler {
public:
  Forwarder(struct ev_loop *loop, ngmasque::ProxyClient::Options proxy)
    : loop_(loop), client_(loop, std::move(proxy), *this) {}

  // Packets can be sent before the proxy has answered: they wait for the connection.
  bool Start(const ngmasque::Authority &target, std::uint16_t local_port) {
    const ngmasque::Endpoint local{.address = *ngmasque::ParseAddress("127.0.0.1"),
                                   .port = local_port};
    auto listener = ngmasque::UdpListener::Create(loop_, {.addresses = {local}}, *this);
    if (!listener) {
      std::println(stderr, "{}", ngmasque::ErrorText(listener.error()));
      return false;
    }
    listener_ = *std::move(listener);
    // The service is not QUIC: there are no connection IDs by which its packets could be told apart.
    auto tunnel = client_.Open(target, {}, *this, {.connection_ids = false});
    if (!tunnel) {
      std::println(stderr, "{}", ngmasque::ErrorText(tunnel.error()));
      return false;
    }
    tunnel_ = *std::move(tunnel);
    if (const auto started = client_.Start(); !started) {
      std::println(stderr, "{}", ngmasque::ErrorText(started.error()));
      return false;
    }
    return true;
  }

  // To the target.  What has arrived together also leaves together, and what finds no room is lost, as
  // UDP allows.
  void OnPacket(const ngmasque::FourTuple &path, unsigned, std::span<std::uint8_t> packet,
                ngmasque::Nanoseconds) override {
    path_ = path;
    static_cast<void>(tunnel_->Send(packet, 0));
  }
  void OnBatchEnd(ngmasque::Nanoseconds) override {}
  void OnWritable() override {} // Of the tunnel, and of the port.

  // And from it.  Packets of one size, of which the last may be shorter, leave with one system call.
  void OnPacket(std::span<const std::uint8_t> packet, unsigned) override {
    if (!answers_.empty() && (answers_.size() % segment_ != 0 || packet.size() > segment_)) {
      SendAnswers();
    }
    if (packet.empty()) {
      listener_->Send({.path = path_, .data = packet, .segment = 1});
    } else if (answers_.empty()) {
      segment_ = packet.size();
    }
    answers_.insert(answers_.end(), packet.begin(), packet.end());
  }
  void OnPacketsDone() override { SendAnswers(); }

  void OnOpened() override { std::println("open"), std::fflush(stdout); }
  void OnEnded(const ngmasque::TunnelEnd &end) override {
    std::println(stderr, "{}", end.text);
    client_.Close();
    ev_break(loop_);
  }
  // Connection IDs of an inner QUIC connection, which is not there.
  void OnReleaseClientId(const ngmasque::ConnectionId &) override {}
  void OnDiscardClientId(const ngmasque::ConnectionId &) override {}
  void OnClosed(std::string_view text) override { std::println(stderr, "{}", text); }

private:
  void SendAnswers() {
    if (!answers_.empty()) {
      listener_->Send({.path = path_, .data = answers_, .segment = segment_});
      answers_.clear();
    }
  }

  struct ev_loop *loop_;
  std::unique_ptr<ngmasque::UdpListener> listener_;
  ngmasque::FourTuple path_; // Of whoever has sent last.
  std::vector<std::uint8_t> answers_;
  std::size_t segment_ = 1; // In bytes, of one of them.
  ngmasque::ProxyClient client_;
  std::unique_ptr<ngmasque::ProxyTunnel> tunnel_;
};

} // namespace

int main(int argc, char **argv) {
  const std::span args(argv, static_cast<std::size_t>(argc));
  std::uint16_t port = 0;
  const auto target = argc > 4 ? ngmasque::ParseAuthority(args[3])
                               : std::unexpected(ngmasque::SessionError::kAuthority);
  if (!target || std::from_chars(args[4], args[4] + std::string_view(args[4]).size(), port).ec != std::errc()) {
    std::println(stderr, "usage: udp-forward PROXY-HOST PROXY-PORT TARGET-HOST:PORT LOCAL-PORT [CA-FILE]");
    return 2;
  }
  auto *loop = ev_default_loop(0);
  Forwarder forwarder(loop, {.host = args[1], .port = args[2], .ca_file = argc > 5 ? args[5] : ""});
  if (!forwarder.Start(*target, port)) {
    return 1;
  }
  ev_run(loop, 0);
  return 1; // Only an error ends it.
}
