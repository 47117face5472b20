// Sends one UDP service through a proxy: what comes to a local port goes to the target, and what the
// target answers goes to whoever has sent last.  The tutorial of plugin/README.md, "Build on it".
//
//     udp-forward PROXY-HOST PROXY-PORT TARGET-HOST:PORT LOCAL-PORT [CA-FILE]
//
//     udp-forward proxy.example 443 192.0.2.53:53 5353 &  dig @127.0.0.1 -p 5353 example.com
#include <ngmasque/io/proxy_client.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <memory>
#include <print>
#include <span>
#include <string>
#include <string_view>

#include <arpa/inet.h>
#include <ev.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

// Of the connection to the proxy and of its only tunnel.  All is called from the loop.
class Forwarder final : public ngmasque::ProxyClient::Handler,
                        public ngmasque::ProxyTunnel::Handler {
public:
  Forwarder(struct ev_loop *loop, ngmasque::ProxyClient::Options proxy)
    : loop_(loop), client_(loop, std::move(proxy), *this) {}
  ~Forwarder() override {
    ev_io_stop(loop_, &readable_);
    close(fd_);
  }

  // Packets can be sent before the proxy has answered: they wait for the connection.
  bool Start(const ngmasque::Authority &target, std::uint16_t local_port) {
    const sockaddr_in local{.sin_family = AF_INET,
                            .sin_port = htons(local_port),
                            .sin_addr = {htonl(INADDR_LOOPBACK)},
                            .sin_zero = {}};
    if (bind(fd_, reinterpret_cast<const sockaddr *>(&local), sizeof local) != 0) {
      std::println(stderr, "port {} is in use", local_port);
      return false;
    }
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
    ev_io_init(&readable_, &Forwarder::OnReadable, fd_, EV_READ);
    readable_.data = this;
    ev_io_start(loop_, &readable_);
    return true;
  }

  void OnOpened() override { std::println("open"), std::fflush(stdout); }
  void OnPacket(std::span<const std::uint8_t> packet, unsigned) override {
    sendto(fd_, packet.data(), packet.size(), 0, reinterpret_cast<sockaddr *>(&peer_), sizeof peer_);
  }
  void OnWritable() override { ev_io_start(loop_, &readable_); }
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
  static void OnReadable(struct ev_loop *, ev_io *watcher, int) {
    auto &self = *static_cast<Forwarder *>(watcher->data);
    std::array<std::uint8_t, 65536> packet;
    socklen_t size = sizeof self.peer_;
    const auto got = recvfrom(self.fd_, packet.data(), packet.size(), MSG_DONTWAIT,
                              reinterpret_cast<sockaddr *>(&self.peer_), &size);
    if (got >= 0 && self.tunnel_->Send(std::span(packet).first(got), 0) ==
                      ngmasque::SendStatus::kBlocked) {
      ev_io_stop(self.loop_, watcher); // That one is lost, as UDP allows; the others wait here.
    }
  }

  struct ev_loop *loop_;
  int fd_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ev_io readable_{};
  sockaddr_in peer_{};
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
