// Many connections to a proxy, each with one tunnel, that do nothing: what they cost.
//
//     many-connections proxy CERTIFICATE-FILE KEY-FILE
//     many-connections clients HOST PORT COUNT TARGET-HOST:PORT
//
// The first is a proxy whose bounds on one client are wide; it prints its port.  The second prints
// `open` once all tunnels are, and then waits to be stopped.
#include "ngmasque/io/connect_udp_proxy.h"
#include "ngmasque/io/proxy_client.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <print>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ev.h>
#include <sys/resource.h>

namespace {

using namespace ngmasque;

constexpr std::size_t kMost = 100'000;

int RunProxy(struct ev_loop *loop, std::span<char *> args) {
  ConnectUdpProxy::Options options;
  options.listener.addresses = {{.address = ParseAddressBlock("127.0.0.1")->address}};
  options.listener.receive_buffer = std::size_t{4} << 20;
  options.server.certificate_file = args[0];
  options.server.key_file = args[1];
  options.server.idle_timeout = std::chrono::minutes(10);
  options.server.max_connections = kMost;
  options.proxy.policy.allow.push_back(*ParseAddressBlock("127.0.0.0/8"));
  auto &routing = options.proxy.proxy.routing;
  routing.max_connections = routing.max_connections_per_client = routing.max_flows_per_client =
    routing.max_flows_per_socket = routing.max_streams_per_client = kMost;
  auto proxy = ConnectUdpProxy::Create(loop, std::move(options));
  if (!proxy) {
    std::println(stderr, "{}", ErrorText(proxy.error()));
    return 1;
  }
  std::println("port {}", (*proxy)->addresses().front().port);
  std::fflush(stdout);
  ev_run(loop, 0);
  return 0;
}

class Client final : public ProxyClient::Handler, public ProxyTunnel::Handler {
public:
  Client(struct ev_loop *loop, ProxyClient::Options options, std::function<void()> opened)
    : client_(loop, std::move(options), *this), opened_(std::move(opened)) {}

  bool Start(const Authority &target, std::uint64_t number) {
    std::array<std::uint8_t, 8> id{};
    std::memcpy(id.data(), &number, sizeof number);
    auto tunnel = client_.Open(target, *ConnectionId::From(id), *this);
    if (!tunnel || !client_.Start()) {
      return false;
    }
    tunnel_ = *std::move(tunnel);
    return true;
  }
  void OnReady() override {}
  void OnClosed(std::string_view text) override {
    std::println(stderr, "{}", text);
    std::exit(1);
  }
  void OnOpened() override { opened_(); }
  void OnPacket(std::span<const std::uint8_t>, unsigned) override {}
  void OnWritable() override {}
  void OnReleaseClientId(const ConnectionId &) override {}
  void OnDiscardClientId(const ConnectionId &) override {}
  void OnEnded(const TunnelEnd &end) override { OnClosed(end.text); }

private:
  ProxyClient client_;
  std::function<void()> opened_;
  std::unique_ptr<ProxyTunnel> tunnel_;
};

// Each one begins when another is open: what is measured is not how many a server refuses at once.
class Clients {
public:
  static constexpr std::size_t kAtOnce = 50;

  Clients(struct ev_loop *loop, std::string host, std::string port, std::size_t count,
          Authority target)
    : loop_(loop), host_(std::move(host)), port_(std::move(port)), count_(count),
      target_(std::move(target)) {}

  bool Begin() {
    clients_.push_back(std::make_unique<Client>(
      loop_,
      ProxyClient::Options{.host = host_, .port = port_, .idle_timeout = std::chrono::minutes(10)},
      [this] { OnOpened(); }));
    return clients_.back()->Start(target_, clients_.size());
  }

private:
  void OnOpened() {
    if (++open_ == count_) {
      std::println("open");
      std::fflush(stdout);
    }
    if (clients_.size() < count_ && !Begin()) {
      std::exit(1);
    }
  }

  struct ev_loop *loop_;
  std::string host_, port_;
  std::size_t count_, open_ = 0;
  Authority target_;
  std::vector<std::unique_ptr<Client>> clients_;
};

int RunClients(struct ev_loop *loop, std::span<char *> args) {
  const auto count = std::strtoul(args[2], nullptr, 10);
  const auto target = ParseAuthority(args[3]);
  if (!target || count == 0) {
    return 2;
  }
  Clients clients(loop, args[0], args[1], count, *target);
  for (std::size_t i = 0; i < std::min(count, Clients::kAtOnce); ++i) {
    if (!clients.Begin()) {
      return 1;
    }
  }
  ev_run(loop, 0);
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  const std::span args(argv, static_cast<std::size_t>(argc));
  const std::string_view role = argc > 1 ? args[1] : "";
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  auto *loop = ev_default_loop(0);
  if (role == "proxy" && argc == 4) {
    return RunProxy(loop, args.subspan(2));
  }
  if (role == "clients" && argc == 6) {
    return RunClients(loop, args.subspan(2));
  }
  std::println(stderr, "usage: see the first lines of many_connections.cc");
  return 2;
}
