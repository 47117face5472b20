#include "session_bench_rewritten.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <utility>
#include <variant>

using namespace ngmasque;

namespace {

constexpr std::size_t kPerConnection = 100, kIdLength = 8;
constexpr Timestamp kNow = 1;

void Require(bool condition) {
  if (!condition) {
    std::fputs("session-bench: something was refused\n", stderr);
    std::exit(1);
  }
}

} // namespace

// Until its connection IDs are registered.
class RewrittenScene::Client {
public:
  Client(Proxy &proxy, const StreamKey &stream, Transform transform, std::string host)
    : proxy_(proxy),
      stream_(stream),
      dialect_(MakeRfc9298Client(
        {.uri = UriTemplate::Parse("https://proxy.example/.well-known/masque/udp/{target_host}/"
                                   "{target_port}/")
                  .value(),
         .key = {.k0 = 3, .k1 = 4},
         .transforms = {transform}},
        {.datagrams = true,
         .settings = PeerSettings{.datagrams = true, .connect_protocol = true}})),
      tunnel(ids_, *dialect_, {.authority = {.host = std::move(host), .port = 443}}) {}

  void Do(const std::vector<ClientAction> &actions) {
    for (const auto &action : actions) {
      if (const auto *request = std::get_if<client_action::SendRequest>(&action)) {
        tunnel.OnSent(0, stream_.stream);
        Do(proxy_.OnRequest(stream_, request->fields, kNow));
      } else if (const auto *send = std::get_if<client_action::SendOnStream>(&action)) {
        for (auto rest = std::span(send->message); !rest.empty();) {
          ProxyActions answers;
          (void)proxy_.OnStreamData(stream_, rest, kNow, answers);
          Do(answers);
        }
      } else {
        Require(std::holds_alternative<client_action::Opened>(action));
      }
    }
  }

private:
  void Do(const ProxyActions &actions) {
    for (const auto &action : actions) {
      if (const auto *open = std::get_if<proxy_action::OpenSocket>(&action)) {
        Do(proxy_.OnSocket(open->socket, nullptr, kNow));
      } else if (const auto *respond = std::get_if<proxy_action::Respond>(&action)) {
        Require(respond->status == 200);
        Do(tunnel.OnResponse(0, respond->fields));
      } else if (const auto *send = std::get_if<proxy_action::SendOnStream>(&action)) {
        for (auto rest = std::span(send->message); !rest.empty();) {
          std::vector<ClientAction> answers;
          (void)tunnel.OnStreamData(0, rest, answers);
          Do(answers);
        }
      }
    }
  }

  Proxy &proxy_;
  StreamKey stream_;
  ClientIds ids_{HashKey{.k0 = 5, .k1 = 6}};
  std::unique_ptr<ClientDialect> dialect_;

public:
  ClientTunnel tunnel;
};

RewrittenScene::RewrittenScene(std::size_t tunnels, Transform transform)
  : proxy({.k0 = 1, .k1 = 2}, ProxyOptions{.routing = {.max_connections = 1 << 20}}, {}) {
  std::mt19937_64 random(1);
  for (std::size_t i = 0; i < tunnels; ++i) {
    const OuterConnection connection{i / kPerConnection};
    const auto number = i % kPerConnection;
    const FourTuple tuple{
      .local = {.address = {1}, .port = 443},
      .remote = {.address = {2, static_cast<std::uint8_t>(i / kPerConnection >> 16),
                             static_cast<std::uint8_t>(i / kPerConnection >> 8),
                             static_cast<std::uint8_t>(i / kPerConnection)},
                 .port = 443}};
    if (number == 0) {
      Require(proxy.AddConnection(connection, tuple).has_value());
      proxy.SetDatagrams(connection, true, true);
    }
    Sample sample;
    const auto draw = [&](std::span<std::uint8_t> id) {
      std::ranges::generate(id, [&] { return static_cast<std::uint8_t>(random()); });
      return *ConnectionId::From(id);
    };
    // A hundred targets.
    Client client(proxy, {connection, 4 * number}, transform, "5.6.7." + std::to_string(number));
    client.Do(client.tunnel.Start(draw(std::span(sample.to_client).subspan(1))));
    std::vector<std::uint8_t> packet(kRewrittenSize), room(kRewrittenSize + ClientTunnel::kMaxGrowth);
    packet[0] = 0x40;
    client.Do(client.tunnel.AddServerId(draw(std::span(packet).subspan(1, kIdLength)), {}));
    Require(client.tunnel.FromInner(packet) == ClientWay::kForward);
    const auto written = client.tunnel.ToProxy(packet, room);
    sample.virtual_size = written.size() - packet.size() + kIdLength;
    std::ranges::copy(written.subspan(1, sample.virtual_size), sample.to_target.begin() + 1);
    sample.path = proxy.FindPath(tuple);
    const auto copy = room.data();
    const auto passed =
      proxy.FromClient(sample.path, {.bytes = {copy, written.size()}}, kNow).value();
    Require(passed.mapping);
    sample.socket = passed.mapping->tunnel->socket;
    samples.push_back(sample);
  }
  std::ranges::shuffle(samples, random);
}

// What a packet carries is of no account, so only its beginning is written anew.

[[gnu::noinline]] std::size_t MeasuredRewrittenToTarget(RewrittenScene &scene,
                                                        std::size_t packets) {
  std::array<std::uint8_t, kRewrittenSize> packet{};
  std::size_t passed = 0;
  for (std::size_t i = 0, next = 0; i < packets; ++i) {
    const auto &sample = scene.samples[next];
    std::ranges::copy(sample.to_target, packet.begin());
    const auto to = scene.proxy.FromClient(sample.path, {.bytes = packet}, kNow);
    passed += to && to->mapping;
    next = next + 1 == scene.samples.size() ? 0 : next + 1;
  }
  return passed;
}

[[gnu::noinline]] std::size_t MeasuredRewrittenToClient(RewrittenScene &scene,
                                                        std::size_t packets) {
  std::array<std::uint8_t, ClientTunnel::kMaxGrowth + kRewrittenSize> room{};
  const auto packet = std::span(room).subspan(ClientTunnel::kMaxGrowth);
  std::size_t passed = 0;
  for (std::size_t i = 0, next = 0; i < packets; ++i) {
    const auto &sample = scene.samples[next];
    std::ranges::copy(sample.to_client, packet.begin());
    const auto to = scene.proxy.FromTarget(
      sample.socket, {.bytes = packet, .before = ClientTunnel::kMaxGrowth}, kNow);
    passed += to && to->form == ClientForm::kForward;
    next = next + 1 == scene.samples.size() ? 0 : next + 1;
  }
  return passed;
}
