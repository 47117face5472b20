// A client of a proxy with a tunnel to each of several targets on one connection, for
// test_proxy_tunnels.py.
//
//     many-tunnels PROXY-HOST PROXY-PORT ROUNDS TARGET...
//
// In each round a tunnel sends a packet to its target and waits for the answer.  The packets are QUIC
// to the proxy and to nobody else: every third one has a long header.  Tunnel N has the connection
// IDs client-N and server-N, two digits.  What became of it is a line of output.
#include "ngmasque/io/proxy_client.h"

#include <charconv>
#include <cstdint>
#include <deque>
#include <format>
#include <memory>
#include <numeric>
#include <print>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ev.h>

namespace {

using ngmasque::ConnectionId;

ConnectionId ToId(std::string_view text) {
  return *ConnectionId::From({reinterpret_cast<const std::uint8_t *>(text.data()), text.size()});
}

class Client;

class Flow final : public ngmasque::ProxyTunnel::Handler {
public:
  Flow(Client &client, std::size_t number) : client_(client), number_(number) {}

  bool Open(ngmasque::ProxyClient &client, std::string_view target);
  void OnOpened() override {
    tunnel_->AddServerId(ToId(Name("server")));
    Send();
  }
  void OnPacket(std::span<const std::uint8_t> packet, unsigned ecn) override;
  void OnReleaseClientId(const ConnectionId &) override {}
  void OnDiscardClientId(const ConnectionId &) override {}
  void OnWritable() override {}
  void OnEnded(const ngmasque::TunnelEnd &end) override;
  void Print() const;

private:
  std::string Name(std::string_view whose) const { return std::format("{}-{:02}", whose, number_); }
  // What `whose` connection ID makes of the packet of this round.
  std::string Packet(std::string_view whose) const;
  void Send();
  void Finish(std::string how);

  Client &client_;
  const std::size_t number_;
  std::unique_ptr<ngmasque::ProxyTunnel> tunnel_;
  int round_ = 0;
  std::string how_;
};

class Client final : public ngmasque::ProxyClient::Handler {
public:
  Client(std::string host, std::string port, int rounds)
    : rounds_(rounds),
      proxy_(ev_default_loop(0), {.host = std::move(host), .port = std::move(port)}, *this) {}

  int Run(std::span<const std::string_view> targets) {
    for (const auto target : targets) {
      if (!flows_.emplace_back(*this, flows_.size()).Open(proxy_, target)) {
        std::println("{}: cannot be opened", target);
        return 1;
      }
    }
    left_ = targets.size();
    if (const auto started = proxy_.Start(); !started) {
      std::println("{}", ngmasque::ErrorText(started.error()));
      return 1;
    }
    ev_run(ev_default_loop(0), 0);
    for (const auto &flow : flows_) {
      flow.Print();
    }
    std::println("unknown={}", proxy_.statistics().of(ngmasque::DropReason::kUnknownFlow));
    return left_ == 0 ? 0 : 1;
  }

  void OnClosed(std::string_view text) override { std::println("closed: {}", text); }
  void OnFlowDone() {
    if (--left_ == 0) {
      proxy_.Close(); // Which ends ev_run.
    }
  }
  int rounds() const { return rounds_; }

private:
  const int rounds_;
  ngmasque::ProxyClient proxy_;
  std::deque<Flow> flows_;
  std::size_t left_ = 0;
};

bool Flow::Open(ngmasque::ProxyClient &client, std::string_view target) {
  const auto authority = ngmasque::ParseAuthority(target);
  if (!authority) {
    return false;
  }
  auto made = client.Open(*authority, ToId(Name("client")), *this);
  if (made) {
    tunnel_ = std::move(*made);
  }
  return made.has_value();
}

std::string Flow::Packet(std::string_view whose) const {
  const auto id = Name(whose);
  std::string packet;
  if (round_ % 3 == 0) {
    packet = std::string("\xc0\0\0\0\1", 5) + static_cast<char>(id.size()) + id + '\0';
  } else {
    packet = '\x40' + id;
  }
  // Long enough for any transform of forwarded packets.
  return packet + std::format("round {}, as there are several", round_);
}

void Flow::Send() {
  const auto packet = Packet("server");
  (void)tunnel_->Send({reinterpret_cast<const std::uint8_t *>(packet.data()), packet.size()}, 0);
}

void Flow::OnPacket(std::span<const std::uint8_t> packet, unsigned) {
  const std::string text(packet.begin(), packet.end());
  if (text != Packet("client")) {
    Finish("another packet than was expected");
  } else if (++round_ == client_.rounds()) {
    Finish("done");
  } else {
    Send();
  }
}

void Flow::OnEnded(const ngmasque::TunnelEnd &end) {
  how_ = end.text;
  client_.OnFlowDone();
}

void Flow::Finish(std::string how) {
  how_ = std::move(how);
  tunnel_->Close();
  client_.OnFlowDone();
}

void Flow::Print() const {
  const auto &s = tunnel_->statistics();
  std::println("{} tunnelled_tx={} forwarded_tx={} tunnelled_rx={} forwarded_rx={} dropped={} {}",
               number_, s.tunnelled_tx.packets, s.forwarded_tx.packets, s.tunnelled_rx.packets,
               s.forwarded_rx.packets,
               std::accumulate(s.dropped.begin(), s.dropped.end(), std::uint64_t{0}), how_);
}

} // namespace

int main(int argc, char **argv) {
  const std::vector<std::string_view> args(argv + 1, argv + argc);
  int rounds = 0;
  const auto parse = [](std::string_view text, int &number) {
    return std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc();
  };
  if (args.size() < 4 || !parse(args[2], rounds) || rounds <= 0) {
    std::println(stderr, "usage: many-tunnels PROXY-HOST PROXY-PORT ROUNDS TARGET...");
    return 2;
  }
  return Client(std::string(args[0]), std::string(args[1]), rounds).Run(std::span(args).subspan(3));
}
