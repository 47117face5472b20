// ProxyConnection: which way payloads go to a client, of what its SETTINGS and requests say.

#include "io_support.h"
#include "quic_http3_requests.h"
#include "quic_server_network.h"
#include "quic_tls_support.h"
#include "session_toy_dialect.h"

#include "ngmasque/io/proxy_connection.h"
#include "ngmasque/session/rfc9298.h"

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
  bool Knows(StreamId stream) const override { return inner_.Knows(stream); }
  void OnRequest(StreamId stream, std::span<const HeaderField> fields,
                 TunnelModel &model) override {
    const auto authority = std::ranges::find(fields, ":authority", &HeaderField::name);
    inner_.OnRequest(stream, {authority, 1}, model);
  }
  void OnStreamClosed(StreamId stream, bool finished, TunnelModel &model) override {
    inner_.OnStreamClosed(stream, finished, model);
  }
  std::uint64_t datagram_error() const override { return inner_.datagram_error(); }
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
    EXPECT_TRUE(client->SendData(stream, prefix.view(), kPayload));
    network.Run(1'000'000'000);
    Answer(target.Receive().second);
    EXPECT_TRUE(network.RunUntil([&] {
      ev_run(loop, EVRUN_NOWAIT);
      return !client.recorder.datagrams.empty() || !client.recorder.data.empty();
    }));
    return client;
  }

  // The target sends a payload.
  void Answer(const Endpoint &proxy_socket) const {
    SocketAddress to(proxy_socket);
    EXPECT_EQ(::sendto(target.fd, kPayload.data(), kPayload.size(), 0, to.get(), to.size()), 1);
  }

  const Bytes kPayload{0x40};

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

TEST_F(ProxyConnectionTest, SettingMayComeAfterTheRequest) {
  constexpr std::uint16_t kPort = 9000;
  quic_test::RawClient client("h3");
  network.Talk(client, kPort);
  ASSERT_TRUE(client.completed());
  auto fields = quic_test::ExtendedConnect();
  std::ranges::find(fields, ":authority", &HeaderField::name)->value =
    std::format("127.0.0.1:{}", target.endpoint->port);
  auto request = quic_test::HeadersFrame(fields);
  request.insert(request.end(), {0x00, 3, 'P', 1, 0x40}); // With a payload, in a DATA frame.
  client.Send(request, false);
  network.Talk(client, kPort);
  const auto from = target.Receive().second;
  const auto answer = [&] {
    Answer(from);
    ev_run(loop, EVRUN_ONCE);
    network.Talk(client, kPort);
  };
  const auto before = client.streams[0];
  answer();
  EXPECT_GT(client.streams[0].size(), before.size());
  EXPECT_TRUE(client.datagrams.empty());

  const auto all = client.streams[0];
  client.SendControl({0x00, 0x04, 2, 0x33, 1}); // A control stream, SETTINGS.
  network.Talk(client, kPort);
  answer();
  EXPECT_EQ(client.datagrams.size(), 1u);
  EXPECT_EQ(client.streams[0], all);
}

// The transport parameter does.
TEST_F(ProxyConnectionTest, DraftHasDatagramsWithItsOwnSetting) {
  const auto &client = Answered({.datagrams = false, .draft_datagrams = true}, false);
  EXPECT_EQ(client.recorder.datagrams.size(), 1u);
  EXPECT_TRUE(client.recorder.data.empty());
}

// After a move of the proxy what fits no datagram waits on the stream, and so does, behind it, what the
// client needs for it to be forwarded again.
TEST_F(ProxyConnectionTest, MessagesHaveRoomBehindPayloads) {
  const auto &client = Answered({.datagrams = false, .draft_datagrams = true}, true);
  const auto stream = client.recorder.responses.begin()->first;
  const Bytes payload(1300, 1), message(40, 2);
  while (connection->SendOnStream(stream, {}, payload)) {
  }
  EXPECT_EQ(connection->SendOnStream(stream, {}, payload).error(), DropReason::kQueueFull);
  // As many as there can be connection IDs of a tunnel
  for (std::size_t i = 0; i < rfc9298::kMaxActiveIds; ++i) {
    EXPECT_TRUE(connection->SendMessage(stream, message));
  }
  EXPECT_EQ(connection->SendMessage(stream, Bytes(16 << 10)).error(), DropReason::kQueueFull);
}

// Its client has as many as it may: requests are answered with that, and with when to try again.
TEST_F(ProxyConnectionTest, OneTooMany) {
  ProxyServer::Options options;
  options.proxy.routing.max_connections_per_client = 1;
  proxy = ProxyServer::Create(loop, std::move(options));
  std::unique_ptr<Connection> first;
  network.app.handle = [&](Http3Server::Connection &made) {
    first = std::make_unique<Connection>(*proxy, OuterConnection{0}, made);
    EXPECT_TRUE(first->Register(made.path(), {}));
    connection = std::make_unique<Connection>(*proxy, OuterConnection{1}, made);
    EXPECT_EQ(connection->Register(made.path(), made.local_ids()).error(),
              SessionError::kTooManyClientConnections);
    return connection.get();
  };
  auto &client = network.Connect();
  ASSERT_TRUE(client->SubmitRequest(quic_test::Request()));
  ASSERT_TRUE(network.RunUntil([&] { return client.recorder.responses.contains(0); }));
  const std::vector<HeaderField> answer{{":status", "429"}, {"retry-after", "10"}};
  EXPECT_EQ(client.recorder.responses[0], answer);
}

// With the end of a request its tunnel is not wanted any more, whether it is there or not.
TEST_F(ProxyConnectionTest, ClientEndsItsRequests) {
  constexpr std::uint16_t kPort = 9000;
  quic_test::RawClient client("h3");
  network.Talk(client, kPort);
  ASSERT_TRUE(client.completed());
  const auto send = [&](std::string authority) {
    auto fields = quic_test::ExtendedConnect();
    std::ranges::find(fields, ":authority", &HeaderField::name)->value = std::move(authority);
    client.Send(quic_test::HeadersFrame(fields), true);
    network.Talk(client, kPort);
  };
  send(std::format("127.0.0.1:{}", target.endpoint->port));
  EXPECT_FALSE(client.streams[0].empty());
  EXPECT_TRUE(client.finished.contains(0));
  EXPECT_FALSE(client.reset.contains(0));
  // The loop does not run, so that the look-up does not end.
  send("target.invalid:443");
  EXPECT_TRUE(client.streams[4].empty());
  EXPECT_EQ(client.reset[4], kH3RequestCancelled);

  const auto counters = proxy->counters();
  EXPECT_EQ(counters.requests, 2u);
  EXPECT_EQ(counters.accepted, 1u);
  EXPECT_EQ(counters.flows.now, 0u);
  EXPECT_EQ(counters.flows.highest, 1u);
  EXPECT_EQ(client.streams_left(), 100u);
}

} // namespace
} // namespace ngmasque
