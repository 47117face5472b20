// A whole CONNECT-UDP proxy.
//
//     udp-proxy ADDRESS:PORT CERTIFICATE-FILE KEY-FILE [ALLOWED-ADDRESS[/LENGTH] ...]
//
// Targets are global addresses, and those that are allowed here.  It ends with SIGINT or SIGTERM.
#include <ngmasque/io/connect_udp_proxy.h>

#include <cstdio>
#include <expected>
#include <optional>
#include <print>
#include <span>
#include <string_view>

#include <ev.h>

namespace {

// An address that is written as one, without a name.
std::optional<ngmasque::Endpoint> ParseEndpoint(std::string_view text) {
  const auto authority = ngmasque::ParseAuthority(text);
  if (!authority) {
    return std::nullopt;
  }
  const auto address = ngmasque::ParseAddressBlock(authority->host);
  if (!address) {
    return std::nullopt;
  }
  return ngmasque::Endpoint{.address = address->address, .port = authority->port};
}

void Stop(struct ev_loop *loop, ev_signal *watcher, int) {
  static_cast<ngmasque::ConnectUdpProxy *>(watcher->data)->Close();
  ev_break(loop);
}

} // namespace

int main(int argc, char **argv) {
  const std::span args(argv, static_cast<std::size_t>(argc));
  const auto address = argc > 3 ? ParseEndpoint(args[1]) : std::nullopt;
  if (!address) {
    std::println(stderr, "usage: udp-proxy ADDRESS:PORT CERTIFICATE-FILE KEY-FILE [ALLOWED-ADDRESS[/LENGTH] ...]");
    return 2;
  }

  ngmasque::ConnectUdpProxy::Options options;
  options.listener.addresses = {*address};
  options.server.certificate_file = args[2];
  options.server.key_file = args[3];
  for (const auto *text : args.subspan(4)) {
    const auto block = ngmasque::ParseAddressBlock(text);
    if (!block) {
      std::println(stderr, "{}: {}", text, ngmasque::ErrorName(block.error()));
      return 2;
    }
    options.proxy.policy.allow.push_back(*block);
  }
  options.log = [](ngmasque::LogLevel level, std::string_view line) {
    if (level >= ngmasque::LogLevel::kInfo) {
      std::println(stderr, "{}", line);
    }
  };

  auto *loop = ev_default_loop(0);
  const auto proxy = ngmasque::ConnectUdpProxy::Create(loop, std::move(options));
  if (!proxy) {
    std::println(stderr, "{}", ngmasque::ErrorText(proxy.error()));
    return 1;
  }
  ev_signal interrupted, terminated;
  ev_signal_init(&interrupted, Stop, SIGINT);
  ev_signal_init(&terminated, Stop, SIGTERM);
  for (auto *signal : {&interrupted, &terminated}) {
    signal->data = proxy->get();
    ev_signal_start(loop, signal);
  }
  std::println("port {}", (*proxy)->addresses().front().port);
  std::fflush(stdout);
  ev_run(loop, 0);

  const auto counters = (*proxy)->counters();
  std::println("{} requests, {} accepted", counters.requests, counters.accepted);
  return 0;
}
