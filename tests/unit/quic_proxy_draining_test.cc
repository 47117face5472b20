// A proxy that goes away: what becomes of the tunnels of a ProxyClient, and of their requests.

#include "quic_proxy_tunnels_support.h"

#include <vector>

namespace quic_test {
namespace {

using ngmasque::Fallback;
using ngmasque::IoError;
using ngmasque::QuicError;
using ngmasque::SendStatus;
using ngmasque::StreamEnd;
using ngmasque::TunnelEnd;

class ProxyDrainingTest : public ProxyTunnelsTest {
protected:
  void OnDraining() override {
    ++draining;
    if (on_draining) {
      on_draining();
    }
  }

  // A payload of tunnel `index` comes, and one of its packets gets there.
  void ExpectAlive(std::size_t index) {
    auto &[recorder, tunnel] = flows[index];
    const auto sent = proxy->server->datagrams.size();
    const auto got = recorder.packets.size();
    EXPECT_EQ(tunnel->Send(Long(), 0), SendStatus::kSent);
    proxy->server->SendDatagram({static_cast<std::uint8_t>(2 * index), 0x40, 1});
    EXPECT_TRUE(RunUntil([&] {
      return proxy->server->datagrams.size() > sent && recorder.packets.size() > got;
    }));
    EXPECT_TRUE(recorder.ended.empty());
  }

  int draining = 0;
  std::function<void()> on_draining;
};

TEST_F(ProxyDrainingTest, TunnelsGoOnAndNoOthersAreOpened) {
  BeginWithTunnels(2);
  EXPECT_FALSE(client->draining());
  TunnelRecorder late;
  on_draining = [&] { EXPECT_EQ(Try(Id(0x30), late).error(), IoError::kGoingAway); };
  proxy->server->GoAway();
  ASSERT_TRUE(RunUntil([this] { return draining == 1; }));
  EXPECT_TRUE(client->draining());
  EXPECT_EQ(ErrorName(Try(Id(0x30), late).error().code), "peer is going away");
  EXPECT_EQ(client->OpenSibling(*flows[0].tunnel, {.host = "other.example", .port = 443}, Id(0x11),
                                late)
              .error(),
            IoError::kGoingAway);
  ExpectAlive(0);
  flows[0].tunnel->Close();
  ASSERT_TRUE(RunUntil([this] { return proxy->server->closed.contains(0); }));
  ExpectAlive(1);
  EXPECT_EQ(proxy->server->requests.size(), 2u);
  EXPECT_EQ(draining, 1);
  EXPECT_EQ(closed_count, 0) << "the connection is the proxy's to close";
}

// draft-00 has a request for each connection ID.
TEST_F(ProxyDrainingTest, FurtherConnectionIdsAreNotAskedFor) {
  BeginWithTunnels(1);
  auto &[recorder, tunnel] = flows[0];
  tunnel->AddServerId(Id(0x55));
  ASSERT_TRUE(RunUntil([this] { return proxy->server->requests.size() == 2; }));
  proxy->server->GoAway();
  ASSERT_TRUE(RunUntil([this] { return draining == 1; }));
  tunnel->AddServerId(Id(0x66));
  tunnel->AddClientId(Id(0x77));
  // The one that was there before is forwarded, the new one not.
  ASSERT_TRUE(RunUntil([&] {
    return tunnel->Send(Short(0x55), 0) == SendStatus::kSent && !proxy->forwarded.empty();
  }));
  ASSERT_EQ(tunnel->Send(Short(0x66), 0), SendStatus::kSent);
  Bytes tunnelled = Short(0x66);
  tunnelled.insert(tunnelled.begin(), 0);
  ASSERT_TRUE(RunUntil([&] { return std::ranges::contains(proxy->server->datagrams, tunnelled); }));
  EXPECT_EQ(proxy->server->requests.size(), 2u);
  EXPECT_TRUE(recorder.released.empty());
  EXPECT_TRUE(recorder.discarded.empty()) << "it would be replaced, and that one as well";
  ExpectAlive(0);

  tunnel->RemoveClientId(Id(0x77));
  tunnel->RemoveServerId(Id(0x66));
  tunnel->Close();
  EXPECT_TRUE(RunUntil([this] { return proxy->server->closed.size() == 2; }));
}

TEST_F(ProxyDrainingTest, TunnelsThatItHasNotTakenAreRejected) {
  Begin({.max_streams = 1});
  Add(3);
  ASSERT_TRUE(RunUntil([this] { return flows[0].recorder.opened == 1; }));
  proxy->server->GoAway();
  ASSERT_TRUE(RunUntil([this] {
    return !flows[1].recorder.ended.empty() && !flows[2].recorder.ended.empty();
  }));
  for (const auto index : {1, 2}) {
    const auto &end = flows[index].recorder.ended.front();
    EXPECT_EQ(end.kind, TunnelEnd::Kind::kRejected);
    EXPECT_EQ(end.text, "the proxy takes no more tunnels: it is going away");
  }
  EXPECT_EQ(client->tunnels(), 1u);
  ExpectAlive(0);
}

TEST(QuicClientDraining, RequestsThatTheServerWillNotTakeAreOver) {
  Pair pair;
  ASSERT_TRUE(pair.Connect());
  pair.Settle();
  const auto taken = pair.client->SubmitRequest(Request()).value();
  ASSERT_TRUE(pair.RunUntil([&] { return pair.server->requests.contains(taken); }));
  pair.server->GoAway();
  const auto crossing = pair.client->SubmitRequest(Request()).value();
  ASSERT_TRUE(pair.RunUntil([&] { return pair.recorder.ends.contains(crossing); }));
  const std::pair rejected{StreamEnd::kReset, ngmasque::kH3RequestRejected};
  EXPECT_EQ(pair.recorder.ends.at(crossing), rejected);
  EXPECT_EQ(pair.client->SubmitRequest(Request()).error(), QuicError::kGoingAway);
  pair.server->Respond(static_cast<std::int64_t>(taken), {{.name = ":status", .value = "200"}});
  EXPECT_TRUE(pair.RunUntil([&] { return pair.recorder.responses.contains(taken); }));
  EXPECT_EQ(pair.recorder.go_away, 1);
  EXPECT_FALSE(pair.recorder.ends.contains(taken));
}

} // namespace
} // namespace quic_test
