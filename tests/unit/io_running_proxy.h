// A ConnectUdpProxy, ProxyClients with a tunnel each, and a target that answers what comes, on the
// loopback interface.
#pragma once

#include "io_loop_support.h"
#include "quic_certificate_files.h"
#include "quic_proxy_support.h"

#include "ngmasque/io/connect_udp_proxy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ngmasque {

/// A packet with a long header of QUIC version 1, to the client with this connection ID.
inline quic_test::Bytes LongTo(std::uint8_t id, std::size_t size = 1200) {
  quic_test::Bytes packet{0xc0, 0, 0, 0, 1, 8};
  packet.insert(packet.end(), 8, id);
  packet.resize(size);
  return packet;
}

class RunningProxyTest : public testing::Test {
protected:
  static constexpr std::uint8_t kServerId = 0x55; ///< Eight times.

  struct Client final : ProxyClient::Handler {
    Client(struct ev_loop *loop, ProxyClient::Options options, std::uint8_t id_in)
      : id(id_in), proxy(loop, std::move(options), *this) {
      EXPECT_TRUE(proxy.Start());
    }
    void OnDraining() override { ++draining; }
    void OnClosed(std::string_view text) override { closed = text; }

    std::uint8_t id; ///< Of its tunnel: eight times.
    int draining = 0;
    std::optional<std::string> closed;
    quic_test::TunnelRecorder recorder;
    ProxyClient proxy;
    std::unique_ptr<ProxyTunnel> tunnel;
  };

  ~RunningProxyTest() override {
    clients.clear();
    proxy.reset();
  }

  /// One listener, loopback allowed.
  ConnectUdpProxy::Options Options() {
    ConnectUdpProxy::Options options;
    options.listener.addresses = {quic_test::Local(0)};
    options.server.certificate_file = certificate.file();
    options.server.key_file = certificate.key;
    options.proxy.policy.allow.push_back(*ParseAddressBlock("127.0.0.0/8"));
    options.log = [this](LogLevel, std::string_view line) { lines.emplace_back(line); };
    return options;
  }

  void Begin(ConnectUdpProxy::Options options) {
    auto made = ConnectUdpProxy::Create(loop, std::move(options));
    ASSERT_TRUE(made) << ErrorText(made.error());
    proxy = *std::move(made);
  }

  Client &Add(ProxyClient::Options options = {}) {
    options.host = "127.0.0.1";
    options.port = std::to_string(proxy->addresses().front().port);
    options.sni = options.sni.empty() ? "proxy.example" : options.sni;
    const auto id = static_cast<std::uint8_t>(0x60 + clients.size());
    clients.push_back(std::make_unique<Client>(loop, std::move(options), id));
    return *clients.back();
  }

  void Open(Client &client) { Open(client, target->at.port); }
  void Open(Client &client, std::uint16_t port) {
    auto made = client.proxy.Open({.host = "127.0.0.1", .port = port}, quic_test::Id(client.id),
                                  client.recorder);
    ASSERT_TRUE(made);
    client.tunnel = *std::move(made);
  }

  /// With a tunnel that is open.
  Client &Connect(ProxyClient::Options options = {}) {
    auto &client = Add(std::move(options));
    Open(client);
    EXPECT_TRUE(RunUntil([&] { return client.recorder.opened == 1; }));
    return client;
  }

  bool RunUntil(const std::function<bool()> &done) { return loop.RunUntil(done); }

  /// A packet goes to the target and comes back.
  bool Echoes(Client &client) {
    const auto before = client.recorder.packets.size();
    return client.tunnel->Send(LongTo(client.id), 0) == SendStatus::kSent &&
           RunUntil([&] { return client.recorder.packets.size() > before; });
  }

  /// From now on a packet goes to the target and comes back in forwarded mode, once the proxy has
  /// agreed.
  void BeginForwarding(Client &client) {
    answer = [id = client.id](const quic_test::Bytes &packet) {
      return packet.front() & 0x80 ? packet : quic_test::Short(id);
    };
    client.tunnel->AddServerId(quic_test::Id(kServerId));
    EXPECT_TRUE(Forwards(client));
  }

  /// In forwarded mode, both ways.
  bool Forwards(Client &client) {
    const auto before = client.tunnel->statistics();
    return RunUntil([&] {
      SendShort(client);
      const auto &now = client.tunnel->statistics();
      return now.forwarded_tx.packets > before.forwarded_tx.packets &&
             now.forwarded_rx.packets > before.forwarded_rx.packets;
    });
  }

  SendStatus SendShort(Client &client) {
    return client.tunnel->Send(quic_test::Short(kServerId), 0);
  }

  [[nodiscard]] bool Logged(std::string_view text) const {
    return std::ranges::any_of(lines,
                               [text](const std::string &line) { return line.contains(text); });
  }

  quic_test::CertificateFiles certificate;
  std::vector<std::string> lines; ///< Of the proxy's log.
  Loop loop;
  /// Of the target.
  std::function<quic_test::Bytes(const quic_test::Bytes &)> answer =
    [](const quic_test::Bytes &packet) { return packet; };
  std::optional<Socket> target{std::in_place, loop,
                               [this](const quic_test::Bytes &bytes, const Endpoint &from) {
                                 target->Send(from, answer(bytes));
                               }};
  std::unique_ptr<ConnectUdpProxy> proxy;
  std::vector<std::unique_ptr<Client>> clients;
};

} // namespace ngmasque
