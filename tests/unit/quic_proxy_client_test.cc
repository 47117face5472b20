// ProxyClient on the loopback interface, against the server of quic_support.h.

#include "quic_proxy_support.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace quic_test {
namespace {

using ngmasque::ConnectionId;
using ngmasque::DropReason;
using ngmasque::Fallback;
using ngmasque::HeaderField;
using ngmasque::ProxyClient;
using ngmasque::SendStatus;

TEST_F(ProxyClientTest, TunnelsBothWays) {
  Begin();
  ASSERT_TRUE(RunUntil([this] { return ready; }));
  OpenTunnel();
  EXPECT_GE(tunnel->max_payload(), 1280u);
  EXPECT_EQ(tunnel->Send(Long(), 0), SendStatus::kSent) << "C7: not before the response";
  ASSERT_TRUE(RunUntil([this] { return opened == 1 && !proxy->server->datagrams.empty(); }));
  EXPECT_EQ(proxy->server->order, (std::vector<std::string>{"request", "datagram"}));
  Bytes expected = Long();
  expected.insert(expected.begin(), 0); // The flow id.
  EXPECT_EQ(proxy->server->datagrams.front(), expected);

  proxy->server->SendDatagram(expected);
  proxy->server->SendDatagram({2, 1, 1}); // Of another flow.
  proxy->server->SendDatagram({0});       // A payload of no bytes.
  ASSERT_TRUE(RunUntil([this] {
    return client->statistics().of(DropReason::kUnknownFlow) == 1 &&
           packets.size() == 2;
  }));
  EXPECT_EQ(packets, (std::vector<Bytes>{Long(), {}}));
  EXPECT_GE(packets_done, 1);
  const auto &statistics = tunnel->statistics();
  EXPECT_EQ(statistics.tunnelled_tx.packets, 1u);
  EXPECT_EQ(statistics.tunnelled_tx.bytes, 1200u);
  EXPECT_EQ(statistics.tunnelled_tx.long_headers, 1u);
  EXPECT_EQ(statistics.tunnelled_rx.packets, 2u);
  EXPECT_EQ(statistics.forwarded_tx.packets, 0u);
}

TEST_F(ProxyClientTest, DropsWhatDoesNotFit) {
  BeginWithTunnel();
  EXPECT_EQ(tunnel->Send({}, 0), SendStatus::kSent);
  EXPECT_EQ(tunnel->Send(Short(0x55, max_payload + 1), 0), SendStatus::kDropped);
  EXPECT_EQ(tunnel->Send(Long(max_payload), 0), SendStatus::kSent);
  EXPECT_EQ(tunnel->Send(Short(0x55, 65527), 0), SendStatus::kDropped);
  ASSERT_TRUE(RunUntil([this] { return proxy->server->datagrams.size() == 2; }));
  EXPECT_EQ(proxy->server->datagrams.front(), Bytes{0}) << "the flow id of an empty payload";
  EXPECT_EQ(proxy->server->datagrams.back().size(), max_payload + 1);
  EXPECT_EQ(tunnel->statistics().of(DropReason::kTooLarge), 2u);
}

TEST_F(ProxyClientTest, BackPressure) {
  BeginWithTunnel();
  std::size_t sent = 0;
  while (tunnel->Send(Long(), 0) == SendStatus::kSent) {
    ASSERT_LT(++sent, 10'000u);
  }
  EXPECT_EQ(writable, 0) << "told from within a function";
  ASSERT_TRUE(RunUntil([this] { return writable == 1; }));
  // The proxy's socket may have been too small for all of them; in the end one gets through.
  ASSERT_TRUE(RunUntil([&] {
    (void)tunnel->Send(Short(0x66, 50), 0);
    return std::ranges::any_of(proxy->server->datagrams,
                               [](const Bytes &datagram) { return datagram.size() == 51; });
  }));
}

//= draft-00, section 4.3
//# When forwarding, the client sends a QUIC packet with the target server's Connection ID in the
//# QUIC short header, using the same socket between client and proxy that was used for the main
//# QUIC connection between client and proxy.
TEST_F(ProxyClientTest, ForwardsBothWays) {
  BeginForwarding();
  const auto tunnelled = tunnel->statistics().tunnelled_tx.packets;
  // Three in a burst, the last one shorter; then a long header in the middle of others.
  Bytes burst;
  for (const auto &packet : {Short(0x55, 1400), Short(0x55, 1400), Short(0x55, 700)}) {
    burst.insert(burst.end(), packet.begin(), packet.end());
  }
  EXPECT_TRUE(tunnel->SendBurst(burst, 1400, 2).empty());
  burst.clear();
  for (const auto &packet : {Short(0x55), Long(100), Short(0x55)}) {
    burst.insert(burst.end(), packet.begin(), packet.end());
  }
  EXPECT_TRUE(tunnel->SendBurst(burst, 100, 2).empty());
  ASSERT_TRUE(RunUntil([this] { return proxy->forwarded.size() == 5; }));
  for (std::size_t i = 0; i < 5; ++i) {
    constexpr std::array<std::size_t, 5> kSizes{1400, 1400, 700, 100, 100};
    EXPECT_EQ(proxy->forwarded[i].second, Short(0x55, kSizes[i]));
    EXPECT_EQ(proxy->forwarded[i].first, proxy->server->path.remote) << "from another socket";
  }
  EXPECT_EQ(tunnel->statistics().tunnelled_tx.packets, tunnelled + 1);
  EXPECT_EQ(tunnel->statistics().forwarded_tx.long_headers, 0u);

  proxy->SendRaw(proxy->server->path.remote, Short(0x11));
  ASSERT_TRUE(RunUntil([this] { return !packets.empty(); }));
  EXPECT_EQ(packets, (std::vector<Bytes>{Short(0x11)}));
  EXPECT_EQ(tunnel->statistics().forwarded_rx.packets, 1u);
}

// A stateless reset, for example, by a proxy that does not know where a packet comes from.
TEST_F(ProxyClientTest, UnknownPacketMakesTheOuterConnectionSpeak) {
  BeginForwarding();
  RunUntilQuiet();
  const auto began = Now();
  auto before = proxy->received;
  proxy->SendRaw(proxy->server->path.remote, Short(0x99));
  ASSERT_TRUE(RunUntil([&] { return proxy->received > before; }));
  EXPECT_LT(Now() - began, 5'000'000'000u) << "that is half of the time to the next keep-alive";
  // A flood of them does not become one of ours.
  RunUntilQuiet();
  RunFor(probe_timeout);
  before = proxy->received;
  for (int i = 0; i < 50; ++i) {
    proxy->SendRaw(proxy->server->path.remote, Short(0x99));
    RunFor(std::chrono::milliseconds(1));
  }
  EXPECT_GT(proxy->received, before);
  EXPECT_LE(proxy->received, before + 4);
}

TEST_F(ProxyClientTest, SilenceMakesTheOuterConnectionSpeak) {
  probe_timeout = std::chrono::milliseconds(100);
  BeginForwarding();
  RunUntilQuiet();
  const auto began = Now();
  auto before = proxy->received;
  EXPECT_EQ(tunnel->Send(Short(0x55), 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil([&] { return proxy->received > before; }));
  EXPECT_GE(Now() - began, 100'000'000u);
  EXPECT_LT(Now() - began, 5'000'000'000u);
  // With an answer it keeps quiet, and without a packet that wants one.
  RunUntilQuiet();
  before = proxy->received;
  EXPECT_EQ(tunnel->Send(Short(0x55), 0), SendStatus::kSent);
  proxy->SendRaw(proxy->server->path.remote, Short(0x11));
  RunFor(std::chrono::milliseconds(500));
  EXPECT_EQ(proxy->received, before);
}

TEST_F(ProxyClientTest, ForwardedPacketThatThePathCannotTakeIsDropped) {
  BeginForwarding();
  const auto sent = tunnel->statistics().forwarded_tx.packets;
  EXPECT_EQ(tunnel->Send(Short(0x55, 65527), 0), SendStatus::kDropped);
  EXPECT_EQ(tunnel->statistics().of(DropReason::kTooLarge), 1u);
  EXPECT_EQ(tunnel->Send(Short(0x55), 0), SendStatus::kSent);
  EXPECT_EQ(tunnel->statistics().forwarded_tx.packets, sent + 1);
}

TEST_F(ProxyClientTest, FurtherClientIds) {
  BeginWithTunnel();
  tunnel->AddClientId(Id(0x22));
  EXPECT_TRUE(released.empty());
  ASSERT_TRUE(RunUntil([this] { return !released.empty(); }));
  EXPECT_EQ(released, (std::vector{Id(0x22)}));
  proxy->status = "409";
  tunnel->AddClientId(Id(0x33));
  ASSERT_TRUE(RunUntil([this] { return !discarded.empty(); }));
  EXPECT_EQ(discarded, (std::vector{Id(0x33)}));
  EXPECT_EQ(tunnel->statistics().of(Fallback::kClientIdRefused), 1u);
  tunnel->RemoveClientId(Id(0x22));
  ASSERT_TRUE(RunUntil([this] { return proxy->server->stopped.contains(4); })) << "C15";
  EXPECT_TRUE(ended.empty());
}

TEST_F(ProxyClientTest, ConflictTakesTheNextFlow) {
  Begin();
  proxy->status = "409";
  ASSERT_TRUE(RunUntil([this] { return ready; }));
  OpenTunnel();
  ASSERT_TRUE(RunUntil([this] { return !ended.empty(); }));
  EXPECT_EQ(ended.front().text, "the proxy has answered 409");
  EXPECT_TRUE(ended.front().retry);
  EXPECT_EQ(ended.front().status, 409u);
  EXPECT_EQ(tunnel->Send(Long(), 0), SendStatus::kDropped);

  proxy->status = "200";
  OpenTunnel(Id(0x12));
  ASSERT_TRUE(RunUntil([this] { return opened == 1; }));
  const HeaderField flow{.name = "datagram-flow-id", .value = "2"};
  EXPECT_TRUE(std::ranges::contains(proxy->server->requests.at(4), flow));
  EXPECT_EQ(tunnel->Send(Long(), 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil([this] { return !proxy->server->datagrams.empty(); }));
  EXPECT_EQ(proxy->server->datagrams.front().front(), 2);
}

TEST_F(ProxyClientTest, NotEchoedIsPlainConnectUdp) {
  Begin();
  proxy->echo = false;
  ASSERT_TRUE(RunUntil([this] { return ready; }));
  OpenTunnel();
  ASSERT_TRUE(RunUntil([this] { return opened == 1; }));
  EXPECT_EQ(tunnel->statistics().of(Fallback::kNotEchoed), 1u);
  tunnel->AddServerId(Id(0x55));
  EXPECT_EQ(tunnel->Send(Short(0x55), 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil([this] { return !proxy->server->datagrams.empty(); }));
  EXPECT_EQ(proxy->server->requests.size(), 1u);
  EXPECT_TRUE(proxy->forwarded.empty());
}

TEST_F(ProxyClientTest, SuccessWithContentLengthIsReset) {
  Begin();
  proxy->extra = {{.name = "content-length", .value = "0"}};
  ASSERT_TRUE(RunUntil([this] { return ready; }));
  OpenTunnel();
  ASSERT_TRUE(RunUntil([this] { return !ended.empty(); }));
  EXPECT_EQ(opened, 0);
  ASSERT_TRUE(RunUntil([this] { return proxy->server->stopped.contains(0); }));
  EXPECT_EQ(proxy->server->stopped.at(0), ngmasque::kH3MessageError);
  EXPECT_TRUE(closed.empty());
}

TEST_F(ProxyClientTest, WithoutDatagramsPayloadsAreOnTheStream) {
  BeginWithTunnel({.max_datagram_frame = 0, .settings = kNoDatagrams});
  EXPECT_EQ(max_payload, 65527u);
  EXPECT_EQ(tunnel->statistics().of(Fallback::kNoDatagrams), 1u);
  EXPECT_EQ(tunnel->Send(Long(), 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil([this] { return proxy->server->bodies[0].size() == 1202; }));
  proxy->server->SendBody(0, {0, 2, 0x40, 1});
  ASSERT_TRUE(RunUntil([this] { return !packets.empty(); }));
  EXPECT_EQ(packets, (std::vector<Bytes>{{0x40, 1}}));
  EXPECT_EQ(tunnel->statistics().tunnelled_tx.packets, 1u);
}

// The first attempt is lost; at the second one packets of 1200 bytes fit no datagram.
TEST_F(ProxyClientTest, WhatFitsNoDatagramIsOnTheStream) {
  path_limit = 1200;
  handshake_timeout = std::chrono::seconds(3);
  BeginWithTunnel({.max_udp_payload = 1200});
  EXPECT_LT(max_payload, 1200u);
  EXPECT_EQ(tunnel->Send(Short(0x66, max_payload), 0), SendStatus::kSent);
  EXPECT_EQ(tunnel->Send(Short(0x66, 1200), 0), SendStatus::kSent);
  EXPECT_EQ(tunnel->Send(Short(0x66, 1201), 0), SendStatus::kDropped);
  EXPECT_EQ(tunnel->Send(Long(1300), 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil([this] { return proxy->server->bodies[0].size() == 1202 + 1302; }));
  ASSERT_TRUE(RunUntil([this] { return proxy->server->datagrams.size() == 1; }));
  EXPECT_EQ(tunnel->statistics().on_stream_tx, 2u);
  EXPECT_EQ(tunnel->statistics().tunnelled_tx.packets, 3u);
  EXPECT_EQ(tunnel->statistics().of(DropReason::kTooLarge), 1u);

  // The first request may be over, and others not.
  tunnel->AddClientId(Id(0x22));
  ASSERT_TRUE(RunUntil([this] { return !released.empty(); }));
  tunnel->RemoveClientId(Id(0x11));
  EXPECT_EQ(tunnel->Send(Long(), 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil([this] { return proxy->server->bodies[4].size() == 1202; }));
  proxy->server->SendBody(4, {0, 2, 0x40, 1});
  ASSERT_TRUE(RunUntil([this] { return !packets.empty(); }));
  EXPECT_EQ(packets, (std::vector<Bytes>{{0x40, 1}}));
  EXPECT_EQ(tunnel->statistics().on_stream_rx, 1u);

  // Longer than UDP can carry: left out, and the next one is not.
  Bytes long_one{0xff, 0xff};
  long_one.resize(long_one.size() + 0xffff, 1);
  proxy->server->SendBody(4, long_one);
  proxy->server->SendBody(4, {0, 2, 0x40, 2});
  ASSERT_TRUE(RunUntil([this] { return packets.size() == 2; }));
  EXPECT_EQ(packets.back(), (Bytes{0x40, 2}));
  EXPECT_EQ(client->statistics().of(DropReason::kTooLong), 1u);
}

TEST_F(ProxyClientTest, PathThatIsTooNarrowForQuic) {
  path_limit = 1199;
  handshake_timeout = std::chrono::seconds(3);
  Begin();
  ASSERT_TRUE(RunUntil([this] { return !closed.empty(); }));
  EXPECT_EQ(closed, "handshake timeout; 0 packets have come from the proxy, and QUIC needs a path for "
                    "1200 bytes of UDP payload both ways");
}

// Which nobody has to wait for.
TEST_F(ProxyClientTest, PacketsThatTheSystemRefusesAsTooLarge) {
  max_udp_payload = 65527; // More than IPv4 has room for.
  handshake_timeout = std::chrono::hours(1);
  BeginWithTunnel();
}

TEST_F(ProxyClientTest, DatagramWithoutFlowIdEndsTheConnection) {
  BeginWithTunnel();
  proxy->server->SendDatagram({0x40}); // The first of two bytes.
  ASSERT_TRUE(RunUntil([this] { return !closed.empty(); }));
  EXPECT_EQ(closed, "the proxy has sent a datagram without flow id");
  ASSERT_TRUE(RunUntil([this] { return proxy->server->close_code.has_value(); }));
  EXPECT_EQ(proxy->server->close_code, ngmasque::kH3GeneralProtocolError);
}

TEST_F(ProxyClientTest, ChangesItsLocalAddress) {
  BeginForwarding();
  const auto before = proxy->server->path.remote;
  // Until the handshake is confirmed it is too early.
  ASSERT_TRUE(RunUntil([this] { return client->ChangeLocalAddress().has_value(); }));
  ASSERT_TRUE(RunUntil([&] {
    (void)tunnel->Send(Short(0x55), 0);
    return std::ranges::any_of(proxy->forwarded,
                               [&](const auto &entry) { return entry.first != before; });
  }));
  EXPECT_EQ(proxy->forwarded.back().first, proxy->server->path.remote);
}

TEST_F(ProxyClientTest, NothingListens) {
  {
    const Proxy gone(loop, {}); // Its port is free again.
    Make(gone.port());
  }
  ASSERT_TRUE(client->Start());
  ASSERT_TRUE(RunUntil([this] { return !closed.empty(); }));
  EXPECT_EQ(closed, std::strerror(ECONNREFUSED));
}

TEST_F(ProxyClientTest, NameThatDoesNotResolve) {
  client = std::make_unique<ProxyClient>(loop, ProxyClient::Options{.host = "256.0.0.1"}, *this);
  EXPECT_EQ(client->Start().error(), ngmasque::IoError::kResolve);
}

// The name is nobody's, and is not looked up.
TEST_F(ProxyClientTest, AddressesThatAreKnown) {
  Prepare();
  const auto port = static_cast<std::uint16_t>(std::stoul(proxy->port()));
  const auto at = [port](std::uint8_t last) {
    return ngmasque::Endpoint{
      .address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, last}, .port = port};
  };
  client = std::make_unique<ProxyClient>(
    loop,
    ProxyClient::Options{
      .host = "proxy.invalid", .port = proxy->port(), .addresses = {at(77), at(1)}},
    *this);
  ASSERT_TRUE(client->Start());
  ASSERT_TRUE(RunUntil([this] { return client->path().has_value(); })) << "nobody is at the first";
  EXPECT_EQ(client->path()->remote, at(1));
}

TEST_F(ProxyClientTest, ErrorOfTheOuterConnectionIsPassedOn) {
  client = std::make_unique<ProxyClient>(
    loop, ProxyClient::Options{.host = "127.0.0.1", .ca_file = "/dev/null"}, *this);
  const auto error = client->Start().error();
  EXPECT_EQ(error, ngmasque::IoError::kTls);
  EXPECT_EQ(ErrorText(error), "TLS configuration: CA file /dev/null: no certificate in it");
}

TEST_F(ProxyClientTest, CloseFromWithinAPacket) {
  BeginWithTunnel();
  on_packet = [this] { client->Close(); };
  for (int i = 0; i < 3; ++i) {
    proxy->server->SendDatagram({0, 0x40, 1});
  }
  ASSERT_TRUE(RunUntil([this] { return proxy->server->close_code.has_value(); }));
  EXPECT_EQ(packets.size(), 1u) << "told after Close";
  EXPECT_EQ(proxy->server->close_code, ngmasque::kH3NoError);
  EXPECT_EQ(tunnel->Send(Long(), 0), SendStatus::kDropped);
  EXPECT_EQ(tunnel->max_payload(), 0u);
  EXPECT_TRUE(tunnel->over());
  EXPECT_TRUE(ended.empty());
}

TEST_F(ProxyClientTest, ServerCloses) {
  BeginWithTunnel();
  proxy->server->Close(0x107, "too much");
  ASSERT_TRUE(RunUntil([this] { return !closed.empty(); }));
  EXPECT_EQ(closed, "closed by the peer with HTTP/3 error 0x107: too much");
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended.front().kind, ngmasque::TunnelEnd::Kind::kConnection);
  EXPECT_EQ(ended.front().text, closed);
  EXPECT_EQ(client->Open({.host = "target.example", .port = 443}, Id(0x12), *this).error(),
            ngmasque::IoError::kClosed);
}

} // namespace
} // namespace quic_test
