// A ProxyClient and its proxy on the loopback interface.
#pragma once

#include "quic_proxy_recorder.h"
#include "quic_support.h"

#include "ngmasque/io/proxy_client.h"
#include "ngmasque/session/draft00.h"
#include "ngmasque/quic/socket_address.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ev.h>
#include <sys/socket.h>
#include <unistd.h>

namespace quic_test {

inline ngmasque::Nanoseconds Now() {
  return static_cast<ngmasque::Nanoseconds>(
    std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

inline ngmasque::ConnectionId Id(std::uint8_t byte) {
  return *ngmasque::ConnectionId::From(Bytes(8, byte));
}

// A packet with a short header to `id`.
inline Bytes Short(std::uint8_t id, std::size_t size = 100) {
  Bytes packet(size, 0xee);
  packet[0] = 0x40;
  std::fill_n(packet.begin() + 1, 8, id);
  return packet;
}

inline Bytes Long(std::size_t size = 1200) {
  Bytes packet(size, 0xdd);
  packet[0] = 0xc0;
  return packet;
}

/// The value of a field; empty if it is not there.
inline std::string Field(const std::vector<ngmasque::HeaderField> &fields, std::string_view name) {
  const auto found = std::ranges::find(fields, name, &ngmasque::HeaderField::name);
  return found == fields.end() ? std::string() : found->value;
}

/// The proxy: a socket in front of the Server.  It echoes every request with 200.
class Proxy {
public:
  explicit Proxy(struct ev_loop *loop, Server::Options options) : options_(options), loop_(loop) {
    local_ = Listen();
    ev_timer_init(
      &timer_,
      [](struct ev_loop *, ev_timer *timer, int) { static_cast<Proxy *>(timer->data)->Turn(); }, 0.,
      0.001);
    timer_.data = this;
    ev_timer_start(loop, &timer_);
  }

  ~Proxy() {
    ev_timer_stop(loop_, &timer_);
    for (const auto &[local, fd] : fds_) {
      ::close(fd);
    }
  }

  /// At a further address, too.
  ngmasque::Endpoint Listen() {
    const ngmasque::SocketAddress any(Local(0));
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::bind(fd, any.get(), any.size()), 0);
    ngmasque::SocketAddress bound(Local(0));
    socklen_t size = bound.size();
    EXPECT_EQ(::getsockname(fd, bound.get(), &size), 0);
    const auto local = *ngmasque::ToEndpoint(bound.get());
    fds_.emplace(local, fd);
    return local;
  }

  /// Before anybody has come.
  void Prefer(const ngmasque::Endpoint &address) { options_.preferred = address; }
  [[nodiscard]] const ngmasque::Endpoint &local() const { return local_; }
  [[nodiscard]] std::string port() const { return std::to_string(local_.port); }

  void SendRaw(const ngmasque::Endpoint &to, const Bytes &bytes) { SendRaw(local_, to, bytes); }
  void SendRaw(const ngmasque::Endpoint &from, const ngmasque::Endpoint &to, const Bytes &bytes) {
    const ngmasque::SocketAddress address(to);
    EXPECT_EQ(::sendto(fds_.at(from), bytes.data(), bytes.size(), 0, address.get(), address.size()),
              static_cast<ssize_t>(bytes.size()));
  }

  std::unique_ptr<Server> server;
  std::vector<std::pair<ngmasque::Endpoint, Bytes>> forwarded;
  std::set<ngmasque::Endpoint> dead{}; ///< Of its addresses: what comes there is lost.
  std::set<ngmasque::Endpoint> forwarded_at{}; ///< Where something has been forwarded to.
  std::set<std::uint8_t> forwards{0x55}; ///< What it takes for forwarded: to Id of one of these.
  int received = 0;                                            ///< Packets for its own QUIC.
  std::size_t path_limit = SIZE_MAX; ///< What is larger is lost, both ways.
  std::string status = "200";
  std::map<std::string, std::string> status_of; ///< ... but for requests with these authorities.
  bool echo = true;
  std::vector<ngmasque::HeaderField> extra; ///< Of the responses.

private:
  void Turn() {
    for (const auto &[local, fd] : fds_) {
      Read(local, fd);
    }
    Write();
  }

  void Read(const ngmasque::Endpoint &local, int fd) {
    Bytes buffer(65536);
    ngmasque::SocketAddress from(Local(0));
    socklen_t size = from.size();
    for (ssize_t got = 0;
         (got = ::recvfrom(fd, buffer.data(), buffer.size(), 0, from.get(), &size)) >= 0;) {
      if (static_cast<std::size_t>(got) > path_limit || dead.contains(local)) {
        continue;
      }
      const auto remote = *ngmasque::ToEndpoint(from.get());
      Bytes bytes(buffer.begin(), buffer.begin() + got);
      if (bytes.size() > 9 && forwards.contains(bytes[1]) &&
          std::equal(bytes.begin() + 1, bytes.begin() + 9, Short(bytes[1]).begin() + 1)) {
        forwarded.emplace_back(remote, std::move(bytes));
        forwarded_at.insert(local);
        continue;
      }
      ++received;
      const Packet packet{.path = {.local = local, .remote = remote}, .ecn = 0, .bytes = bytes};
      if (!server) {
        server = std::make_unique<Server>(options_, certificate_, packet, Now());
      }
      server->Receive(packet, Now());
    }
  }

  void Write() {
    if (!server) {
      return;
    }
    for (; answered_ < server->requests.size(); ++answered_) {
      const auto &[stream, fields] =
        *std::next(server->requests.begin(), static_cast<std::ptrdiff_t>(answered_));
      const auto special = status_of.find(Field(fields, ":authority"));
      std::vector<ngmasque::HeaderField> response{
        {.name = ":status", .value = special == status_of.end() ? status : special->second}};
      response.insert(response.end(), extra.begin(), extra.end());
      std::ranges::copy_if(fields, std::back_inserter(response),
                           [this](const ngmasque::HeaderField &field) {
                             return echo && !field.name.starts_with(':');
                           });
      server->Respond(stream, response);
    }
    if (server->Expiry() <= Now()) {
      server->HandleExpiry(Now());
    }
    for (const auto &packet : server->Write(Now())) {
      if (packet.bytes.size() > path_limit) {
        continue;
      }
      SendRaw(packet.path.remote, packet.path.local, packet.bytes);
    }
  }

  const Certificate certificate_;
  Server::Options options_;
  struct ev_loop *loop_;
  std::map<ngmasque::Endpoint, int> fds_;
  ngmasque::Endpoint local_; // The first one.
  ev_timer timer_{};
  std::size_t answered_ = 0;
};

/// With one tunnel, of which the fixture is the handler.
class ProxyClientTest : public testing::Test,
                        public ngmasque::ProxyClient::Handler,
                        public TunnelRecorder {
protected:
  ~ProxyClientTest() override {
    tunnel.reset();
    client.reset();
    proxy.reset();
    ev_loop_destroy(loop);
  }

  void Begin(Server::Options server = {}) {
    Prepare(server);
    ASSERT_TRUE(client->Start());
  }

  // All but Start.
  void Prepare(Server::Options server = {}) {
    proxy = std::make_unique<Proxy>(loop, server);
    proxy->path_limit = path_limit;
    Make(proxy->port());
  }

  void Make(const std::string &port) {
    client = std::make_unique<ngmasque::ProxyClient>(
      loop,
      ngmasque::ProxyClient::Options{.host = "127.0.0.1",
                                     .port = port,
                                     .authorization = authorization,
                                     .handshake_timeout = handshake_timeout,
                                     .max_udp_payload = max_udp_payload,
                                     .server_migration = server_migration,
                                     .max_tunnels = max_tunnels,
                                     .own_dialect = dialect},
      *this);
  }

  void OpenTunnel(const ngmasque::ConnectionId &id = Id(0x11)) {
    auto made = client->Open({.host = "target.example", .port = 443}, id, *this);
    ASSERT_TRUE(made);
    tunnel = std::move(*made);
  }

  void BeginWithTunnel(Server::Options server = {}) {
    Begin(server);
    OpenTunnel();
    ASSERT_TRUE(RunUntil([this] { return opened == 1; }));
    max_payload = tunnel->max_payload();
  }

  // Forwarding of Id(0x55) has begun.
  void BeginForwarding() {
    BeginWithTunnel();
    tunnel->AddServerId(Id(0x55));
    ASSERT_TRUE(RunUntil([this] {
      return tunnel->Send(Short(0x55), 1) == ngmasque::SendStatus::kSent &&
             !proxy->forwarded.empty();
    }));
    ASSERT_TRUE(RunUntil(
      [this] { return proxy->forwarded.size() == tunnel->statistics().forwarded_tx.packets; }));
    proxy->forwarded.clear();
  }

  // Until nothing has come to the proxy's own QUIC for a while.
  void RunUntilQuiet() {
    int before = -1;
    while (std::exchange(before, proxy->received) != proxy->received) {
      RunFor(std::chrono::milliseconds(300));
    }
  }

  void RunFor(std::chrono::nanoseconds time) {
    const auto end = Now() + static_cast<ngmasque::Nanoseconds>(time.count());
    EXPECT_TRUE(RunUntil([&] { return Now() >= end; }));
  }

  bool RunUntil(const std::function<bool()> &done) {
    const auto end = Now() + 20'000'000'000;
    while (!done()) {
      if (Now() > end) {
        return false;
      }
      ev_run(loop, EVRUN_ONCE);
    }
    return true;
  }

  void OnReady() override { ready = true; }
  void OnClosed(std::string_view text) override {
    closed = text;
    ++closed_count;
  }

  std::string authorization{};
  std::chrono::milliseconds handshake_timeout{10'000};
  std::size_t max_udp_payload = ngmasque::kOuterUdpPayload;
  std::size_t path_limit = SIZE_MAX;
  bool server_migration = true;
  std::size_t max_tunnels = 64;
  ngmasque::ClientDialectFactory dialect = ngmasque::MakeDraft00Client;
  struct ev_loop *loop = ev_loop_new(0);
  std::unique_ptr<Proxy> proxy;
  std::unique_ptr<ngmasque::ProxyClient> client;
  std::unique_ptr<ngmasque::ProxyTunnel> tunnel;
  bool ready = false;
  std::size_t max_payload = 0; ///< Of the tunnel, when it was opened.
  std::string closed;
  int closed_count = 0;
};

} // namespace quic_test
