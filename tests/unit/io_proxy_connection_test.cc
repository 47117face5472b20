// ProxyConnection: which way payloads go to a client, of what its SETTINGS and requests say.

#include "io_support.h"
#include "quic_server_network.h"
#include "session_toy_dialect.h"

#include "ngmasque/io/proxy_connection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <format>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <ev.h>

namespace ngmasque {
namespace {

using quic_test::Network;

// A toy whose requests are whole ones.
class WholeRequests final : public Dialect {
public:
  static std::unique_ptr<Dialect> Make(const ProxyOptions &, const HashKey &) {
    return std::make_unique<WholeRequests>();
  }
  bool OnRequest(StreamId stream, std::span<const HeaderField> fields,
                 TunnelModel &model) override {
    const auto authority = std::ranges::find(fields, ":authority", &HeaderField::name);
    return inner_.OnRequest(stream, {authority, 1}, model);
  }
  void OnStreamClosed(StreamId stream, TunnelModel &model) override {
    inner_.OnStreamClosed(stream, model);
  }
  std::expected<TunnelledPayload, DropReason>
  OnDatagram(std::span<const std::uint8_t> datagram) const override {
    return inner_.OnDatagram(datagram);
  }
  StreamInput OnStreamData(StreamId stream, std::span<const std::uint8_t> &input,
                           TunnelModel &model) override {
    return inner_.OnStreamData(stream, input, model);
  }
  std::expected<Prefix, DropReason> StreamPrefix(const Tunnel &tunnel,
                                                 std::size_t size) const override {
    return inner_.StreamPrefix(tunnel, size);
  }
  Opened OnOpen(Tunnel &tunnel, TunnelModel &model) override {
    return inner_.OnOpen(tunnel, model);
  }
  void OnRefused(Tunnel &tunnel, SessionError error, TunnelModel &model) override {
    inner_.OnRefused(tunnel, error, model);
  }
  void OnLost(Mapping &mapping, TunnelModel &model) override { inner_.OnLost(mapping, model); }
  void OnEnded(Tunnel &tunnel, EndReason reason, TunnelModel &model) override {
    inner_.OnEnded(tunnel, reason, model);
  }

private:
  ToyDialect inner_;
};

class Connection final : public ProxyConnection {
public:
  using ProxyConnection::ProxyConnection;
  ~Connection() override { Deregister(); }
  SendOutcome Forward(const FourTuple &, const Burst &) override { return {}; }
  void OnActivity() override {}
  void OnClosed(const CloseReason &) override { Deregister(); }
};

class ProxyConnectionTest : public testing::Test {
protected:
  ProxyConnectionTest() {
    ProxyServer::Options options;
    options.proxy.dialect = &WholeRequests::Make;
    options.proxy.port_sharing = false; // Its tunnels have no connection IDs to tell packets by.
    options.policy.allow.push_back(*ParseAddressBlock("127.0.0.0/8"));
    proxy = ProxyServer::Create(loop, std::move(options));
    network.app.handle = [this](Http3Server::Connection &made) {
      connection = std::make_unique<Connection>(*proxy, OuterConnection{1}, made);
      EXPECT_TRUE(connection->Register(made.path(), made.local_ids()));
      return connection.get();
    };
  }
  ~ProxyConnectionTest() override {
    connection.reset();
    proxy.reset();
    ev_loop_destroy(loop);
  }

  // A request of one client that announces `features`, and a payload from its target.
  Network::Client &Answered(const Http3Features &features, bool extended_connect) {
    auto &client = network.Add({.features = features});
    EXPECT_TRUE(network.RunUntil([&] { return client.ready(); }));
    std::vector<HeaderField> request{{":method", extended_connect ? "CONNECT" : "CONNECT-UDP"},
                                     {":authority",
                                      std::format("127.0.0.1:{}", target.endpoint->port)}};
    if (extended_connect) {
      request.push_back({":scheme", "https"});
      request.push_back({":path", "/"});
      request.push_back({":protocol", "connect-udp"});
    }
    const auto stream = client->SubmitRequest(request).value();
    EXPECT_TRUE(network.RunUntil([&] { return client.recorder.responses.contains(stream); }));
    const auto prefix = ToyStreamPrefix(1).value();
    const Bytes payload{0x40};
    EXPECT_TRUE(client->SendData(stream, prefix.view(), payload));
    network.Run(1'000'000'000);
    const auto from = target.Receive().second;
    SocketAddress to(from);
    EXPECT_EQ(::sendto(target.fd, payload.data(), payload.size(), 0, to.get(), to.size()), 1);
    EXPECT_TRUE(network.RunUntil([&] {
      ev_run(loop, EVRUN_NOWAIT);
      return !client.recorder.datagrams.empty() || !client.recorder.data.empty();
    }));
    return client;
  }

  struct ev_loop *loop = ev_loop_new(0);
  Bound target{At("::ffff:127.0.0.1")};
  std::unique_ptr<ProxyServer> proxy;
  std::unique_ptr<Connection> connection;
  Network network{{.queues = kProxyQueueBounds}};
};

//= RFC 9297, section 2.1.1
//# QUIC DATAGRAM frames MUST NOT be sent until the SETTINGS_H3_DATAGRAM setting has been both sent
//# and received with a value of 1.
TEST_F(ProxyConnectionTest, ExtendedConnectWithoutSettingHasPayloadsOnTheStream) {
  const auto &client = Answered({.datagrams = false, .draft_datagrams = true}, true);
  EXPECT_TRUE(client.recorder.datagrams.empty());
  ASSERT_FALSE(client.recorder.data.empty());
  EXPECT_EQ(client.recorder.data.back(), 0x40);
}

TEST_F(ProxyConnectionTest, ExtendedConnectWithSettingHasDatagrams) {
  const auto &client = Answered({.datagrams = true, .draft_datagrams = false}, true);
  EXPECT_EQ(client.recorder.datagrams.size(), 1u);
  EXPECT_TRUE(client.recorder.data.empty());
}

// The transport parameter does.
TEST_F(ProxyConnectionTest, DraftHasDatagramsWithItsOwnSetting) {
  const auto &client = Answered({.datagrams = false, .draft_datagrams = true}, false);
  EXPECT_EQ(client.recorder.datagrams.size(), 1u);
  EXPECT_TRUE(client.recorder.data.empty());
}

} // namespace
} // namespace ngmasque
