// What a proxy's session objects cost: a packet that is passed on, and a tunnel with two connection
// IDs.  Run by hand:
//
//     ninja -C build tests/unit/session-bench && build/tests/unit/session-bench
//
// It prints nanoseconds per packet, of tunnels in random order, the best of 15 rounds, and what a
// tunnel allocates.  With many tunnels that is the time that memory takes, and depends on what else
// the machine does; tests/bench/session counts instructions.
//
//     to target    a client's packet with a short header, forwarded
//     to client    a target's, forwarded
//     in datagram  a client's packet in a datagram
//
// All of that in dialect draft-00.  With --transform=identity or --transform=scramble-dt it is rfc9298,
// and its packets are of 1350 bytes.
#include "session_bench_rewritten.h"

#include "ngmasque/session/message.h"
#include "ngmasque/session/proxy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

// Allocations that were made, those that are kept, and their bytes.
std::size_t made, kept, bytes;

// What was asked for lies before what is handed out.
constexpr std::size_t kHeader = 16;

} // namespace

void *operator new(std::size_t size) {
  auto *memory = static_cast<std::size_t *>(std::malloc(size + kHeader));
  if (!memory) {
    throw std::bad_alloc();
  }
  *memory = size;
  ++made;
  ++kept;
  bytes += size;
  return reinterpret_cast<char *>(memory) + kHeader;
}
void operator delete(void *pointer) noexcept {
  if (pointer) {
    auto *memory = reinterpret_cast<std::size_t *>(static_cast<char *>(pointer) - kHeader);
    --kept;
    bytes -= *memory;
    std::free(memory);
  }
}
void operator delete(void *pointer, std::size_t) noexcept { operator delete(pointer); }

namespace {

using namespace ngmasque;

constexpr std::size_t kPerConnection = 100, kIdLength = 8;
constexpr Timestamp kNow = 1;

// What is looked at of one packet of each kind, and where it arrives.
struct Sample {
  // The shortest that has what authenticates it, with a number in that, as no packet comes twice.
  std::array<std::uint8_t, 1 + kIdLength + 16> to_target{0x40}, to_client{0x40};
  std::array<std::uint8_t, 2> datagram{};
  const ClientPath *path = nullptr;
  const ServerSocket *socket = nullptr;
  OuterConnection connection;
};

struct Scene {
  explicit Scene(std::size_t tunnels)
    : proxy({.k0 = 1, .k1 = 2}, ProxyOptions{.routing = {.max_connections = 1 << 20}}, {}) {
    std::mt19937_64 random(1);
    for (std::size_t i = 0; i < tunnels; ++i) {
      const OuterConnection connection{i / kPerConnection};
      const auto flow = 2 * (i % kPerConnection);
      const FourTuple tuple{
        .local = {.address = {1}, .port = 443},
        .remote = {.address = {2, static_cast<std::uint8_t>(i / kPerConnection >> 16),
                               static_cast<std::uint8_t>(i / kPerConnection >> 8),
                               static_cast<std::uint8_t>(i / kPerConnection)},
                   .port = 443}};
      if (flow == 0) {
        Require(proxy.AddConnection(connection, tuple).has_value());
      }
      Sample sample{.datagram = {static_cast<std::uint8_t>(0x40), static_cast<std::uint8_t>(flow)},
                    .connection = connection};
      const auto draw = [&](std::span<std::uint8_t> id) {
        std::ranges::generate(id, [&] { return static_cast<std::uint8_t>(random()); });
        return *ConnectionId::From(id);
      };
      // A hundred targets.
      const auto host = "5.6.7." + std::to_string(flow / 2);
      ConnectUdpRequest request{.authority = {.host = host, .port = 443},
                                .flow = flow,
                                .id_header = IdHeader::kClient,
                                .id = draw(std::span(sample.to_client).subspan(1, kIdLength))};
      Ask({connection, 8 * flow}, RequestFields(request));
      request.id_header = IdHeader::kServer;
      request.id = draw(std::span(sample.to_target).subspan(1, kIdLength));
      Ask({connection, 8 * flow + 4}, RequestFields(request));
      sample.path = proxy.FindPath(tuple);
      ProxyActions none;
      sample.socket = proxy.OnDatagram(connection, sample.datagram, kNow, none).value().tunnel->socket;
      samples.push_back(sample);
    }
    std::ranges::shuffle(samples, random);
    // The clients have forwarded, so the targets' packets are.
    for (auto &sample : samples) {
      Require(proxy.FromClient(sample.path, {.bytes = sample.to_target}, kNow).value().mapping);
    }
  }

  static void Require(bool condition) {
    if (!condition) {
      std::fputs("session-bench: something was refused\n", stderr);
      std::exit(1);
    }
  }

  void Ask(const StreamKey &stream, std::span<const HeaderField> fields) {
    Do(proxy.OnRequest(stream, fields, kNow));
  }

  void Do(const ProxyActions &actions) {
    for (const auto &action : actions) {
      if (const auto *open = std::get_if<proxy_action::OpenSocket>(&action)) {
        Do(proxy.OnSocket(open->socket, nullptr, kNow));
      } else if (const auto *respond = std::get_if<proxy_action::Respond>(&action)) {
        Require(respond->status == 200);
      }
    }
  }

  void Number(std::span<std::uint8_t> packet) {
    ++number;
    std::memcpy(packet.last(sizeof(number)).data(), &number, sizeof(number));
  }

  Proxy proxy;
  std::vector<Sample> samples; // In random order.
  std::uint32_t number = 0;    // Of packets.
};

} // namespace

// Not static and not inlined, for callgrind.

[[gnu::noinline]] std::size_t MeasuredToTarget(Scene &scene, std::size_t packets) {
  std::size_t passed = 0;
  for (std::size_t i = 0, next = 0; i < packets; ++i) {
    auto &sample = scene.samples[next];
    scene.Number(sample.to_target);
    const auto to = scene.proxy.FromClient(sample.path, {.bytes = sample.to_target}, kNow);
    passed += to && to->mapping;
    next = next + 1 == scene.samples.size() ? 0 : next + 1;
  }
  return passed;
}

[[gnu::noinline]] std::size_t MeasuredToClient(Scene &scene, std::size_t packets) {
  std::size_t passed = 0;
  for (std::size_t i = 0, next = 0; i < packets; ++i) {
    auto &sample = scene.samples[next];
    scene.Number(sample.to_client);
    const auto to = scene.proxy.FromTarget(sample.socket, {.bytes = sample.to_client}, kNow);
    passed += to && to->form == ClientForm::kForward;
    next = next + 1 == scene.samples.size() ? 0 : next + 1;
  }
  return passed;
}

[[gnu::noinline]] std::size_t MeasuredInDatagram(Scene &scene, std::size_t packets) {
  std::size_t passed = 0;
  ProxyActions none;
  for (std::size_t i = 0, next = 0; i < packets; ++i) {
    auto &sample = scene.samples[next];
    const auto to = scene.proxy.OnDatagram(sample.connection, sample.datagram, kNow, none);
    passed += to && to->tunnel;
    next = next + 1 == scene.samples.size() ? 0 : next + 1;
  }
  return passed;
}

namespace {

constexpr int kRounds = 15;

// Nanoseconds for each packet.
double Time(Scene &scene, std::size_t (&measured)(Scene &, std::size_t)) {
  constexpr std::size_t packets = 200'000;
  auto best = std::chrono::nanoseconds::max();
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    Scene::Require(measured(scene, packets) == packets);
    best = std::min<std::chrono::nanoseconds>(best, std::chrono::steady_clock::now() - start);
  }
  return static_cast<double>(best.count()) / static_cast<double>(packets);
}

void Row(std::size_t tunnels) {
  Scene scene(tunnels);
  std::printf("%9zu %14.1f %13.1f %15.1f\n", tunnels, Time(scene, MeasuredToTarget),
              Time(scene, MeasuredToClient), Time(scene, MeasuredInDatagram));
  std::fflush(stdout);
}

// What a tunnel with two connection IDs makes and keeps, of a connection that has others.
void Allocations(std::string_view what, std::string_view host) {
  Scene scene(1'050);
  constexpr OuterConnection connection{10};
  ConnectUdpRequest request{.authority = {.host = std::string(host), .port = 443},
                            .flow = 198,
                            .id_header = IdHeader::kClient,
                            .id = *ConnectionId::From(std::array<std::uint8_t, kIdLength>{1})};
  const auto client = RequestFields(request);
  request.id_header = IdHeader::kServer;
  const auto server = RequestFields(request);
  const auto made_before = made, kept_before = kept, bytes_before = bytes;
  scene.Ask({connection, 2000}, client);
  scene.Ask({connection, 2004}, server);
  std::printf("%-22s %11zu %5zu %6zu\n", std::string(what).c_str(), made - made_before,
              kept - kept_before, bytes - bytes_before);
}

} // namespace

int main(int argc, char **argv) {
  std::size_t tunnels = 1, packets = 0;
  std::string_view way;
  std::optional<Transform> transform;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto number = [&](std::string_view option, std::size_t &value) {
      if (!argument.starts_with(option)) {
        return false;
      }
      const auto *end = argument.data() + argument.size();
      const auto read = std::from_chars(argument.data() + option.size(), end, value);
      return read.ec == std::errc() && read.ptr == end && value > 0 && value <= 10'000'000;
    };
    constexpr std::string_view kTransform = "--transform=";
    if (argument.starts_with(kTransform) &&
        (transform = FindTransform(argument.substr(kTransform.size())))) {
      continue;
    }
    if (!number("--tunnels=", tunnels) && !number("--packets=", packets) &&
        (way = argument, way != "to-target" && way != "to-client" && way != "in-datagram")) {
      std::fputs("usage: session-bench [--tunnels=N --packets=N to-target|to-client|in-datagram]\n"
                 "       session-bench --transform=NAME --tunnels=N --packets=N to-target|to-client\n",
                 stderr);
      return 2;
    }
  }
  if (packets != 0 && transform) {
    RewrittenScene scene(tunnels, *transform);
    Scene::Require((way == "to-target" ? MeasuredRewrittenToTarget(scene, packets)
                                       : MeasuredRewrittenToClient(scene, packets)) == packets);
    return 0;
  }
  if (packets != 0) {
    Scene scene(tunnels);
    const auto passed = way == "to-target"   ? MeasuredToTarget(scene, packets)
                        : way == "to-client" ? MeasuredToClient(scene, packets)
                                             : MeasuredInDatagram(scene, packets);
    Scene::Require(passed == packets);
    return 0;
  }
  std::puts("  tunnels  to target, ns to client, ns in datagram, ns");
  for (const std::size_t count : {1, 1'000, 100'000}) {
    Row(count);
  }
  std::puts("\na tunnel with          allocations,  kept, bytes");
  Allocations("a shared socket", "5.6.7.99");
  Allocations("a new socket", "5.6.8.99");
  return 0;
}
