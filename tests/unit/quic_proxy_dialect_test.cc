// ProxyClient: which dialect it speaks, and when it knows.

#include "quic_proxy_support.h"

#include "ngmasque/session/draft00.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace quic_test {
namespace {

using ngmasque::ClientDialect;
using ngmasque::ClientDialectOptions;
using ngmasque::DropReason;
using ngmasque::PeerSettings;
using ngmasque::SendStatus;
using ngmasque::TunnelEnd;

constexpr PeerSettings kBoth{.datagrams = true, .draft_datagrams = true};

// Draft-00, but with all payloads on streams, although there are QUIC datagrams.
class OnStreams final : public ClientDialect {
public:
  explicit OnStreams(const ClientDialectOptions &options)
    : inner_(ngmasque::MakeDraft00Client(options)) {}
  std::string_view name() const override { return "streams"; }
  bool plain() const override { return inner_->plain(); }
  bool datagrams() const override { return false; }
  std::unique_ptr<ngmasque::TunnelDialect> Add(ngmasque::ClientTunnel &tunnel) override {
    return inner_->Add(tunnel);
  }
  std::expected<ngmasque::ClientPayload, ngmasque::Undelivered>
  OnDatagram(std::span<const std::uint8_t> datagram) const override {
    return inner_->OnDatagram(datagram);
  }

private:
  std::unique_ptr<ClientDialect> inner_;
};

class ProxyDialectTest : public ProxyClientTest {
protected:
  // One that depends on the proxy's SETTINGS.
  void Wait(bool speak = true) {
    dialect = [this, speak](const ClientDialectOptions &options) {
      asked.push_back(options.settings);
      return options.settings && speak ? ngmasque::MakeDraft00Client(options) : nullptr;
    };
  }

  std::vector<std::optional<PeerSettings>> asked;
};

TEST_F(ProxyDialectTest, TunnelsWaitForTheSettings) {
  Wait();
  Begin({.hold_settings = true});
  OpenTunnel();
  ASSERT_TRUE(RunUntil([this] { return !asked.empty(); }));
  // It is of no tunnel yet.
  proxy->server->SendDatagram({0, 0x40});
  ASSERT_TRUE(RunUntil([this] { return client->statistics().of(DropReason::kUnknownFlow) == 1; }));
  EXPECT_EQ(asked, std::vector<std::optional<PeerSettings>>{std::nullopt});
  EXPECT_FALSE(ready);
  EXPECT_EQ(opened, 0);
  EXPECT_TRUE(proxy->server->requests.empty());
  EXPECT_EQ(tunnel->max_payload(), 0u);
  EXPECT_EQ(tunnel->Send(Long(), 0), SendStatus::kBlocked);
  // Another one, of the time in between.
  TunnelRecorder recorder;
  auto second = client->Open({.host = "other.example", .port = 443}, Id(0x12), recorder);
  ASSERT_TRUE(second);

  proxy->server->SendSettings();
  ASSERT_TRUE(RunUntil([&] { return opened == 1 && recorder.opened == 1; }));
  EXPECT_EQ(asked, (std::vector<std::optional<PeerSettings>>{std::nullopt, kBoth}));
  EXPECT_TRUE(ready);
  EXPECT_EQ(writable, 1);
  EXPECT_EQ(tunnel->Send(Long(), 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil([this] { return !proxy->server->datagrams.empty(); }));
}

TEST_F(ProxyDialectTest, TunnelThatIsClosedWhileItWaits) {
  Wait();
  Begin({.hold_settings = true});
  OpenTunnel();
  ASSERT_TRUE(RunUntil([this] { return !asked.empty(); }));
  tunnel.reset();
  proxy->server->SendSettings();
  ASSERT_TRUE(RunUntil([this] { return ready; }));
  // Its connection ID is free again.
  OpenTunnel();
  ASSERT_TRUE(RunUntil([this] { return opened == 1; }));
  EXPECT_EQ(proxy->server->requests.size(), 1u);
}

TEST_F(ProxyDialectTest, ProxyThatSpeaksNoneEndsTheConnection) {
  Wait(false);
  Begin({.settings = {.datagrams = true, .draft_datagrams = false}});
  OpenTunnel();
  ASSERT_TRUE(RunUntil([this] { return !closed.empty(); }));
  EXPECT_EQ(closed, "the proxy speaks neither dialect of CONNECT-UDP that it could: its SETTINGS have "
                    "ENABLE_CONNECT_PROTOCOL 0, H3_DATAGRAM 1, and 0 of the draft");
  EXPECT_EQ(closed_count, 1);
  EXPECT_FALSE(ready);
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].kind, TunnelEnd::Kind::kConnection);
  ASSERT_TRUE(RunUntil([this] { return proxy->server->close_code.has_value(); }));
  EXPECT_EQ(proxy->server->close_code, ngmasque::kH3NoError);
  EXPECT_TRUE(proxy->server->requests.empty());
}

// RFC 9114, section 8.1: H3_MISSING_SETTINGS.
TEST_F(ProxyDialectTest, ProxyWithoutSettingsEndsTheConnection) {
  handshake_timeout = std::chrono::seconds(1);
  Wait();
  Begin({.hold_settings = true});
  OpenTunnel();
  ASSERT_TRUE(RunUntil([this] { return !closed.empty(); }));
  EXPECT_EQ(closed, "the proxy has sent no SETTINGS, which the dialect depends on");
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].kind, TunnelEnd::Kind::kConnection);
  EXPECT_FALSE(ready);
  ASSERT_TRUE(RunUntil([this] { return proxy->server->close_code.has_value(); }));
  EXPECT_EQ(proxy->server->close_code, ngmasque::kH3MissingSettings);
  EXPECT_TRUE(proxy->server->requests.empty());
}

// Draft-00 does not wait: the request leaves with the end of the handshake.
TEST_F(ProxyDialectTest, DraftNeedsNoSettings) {
  BeginWithTunnel({.hold_settings = true});
  EXPECT_EQ(tunnel->Send(Long(), 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil([this] { return !proxy->server->datagrams.empty(); }));
}

TEST_F(ProxyDialectTest, DialectWithoutDatagrams) {
  dialect = [](const ClientDialectOptions &options) { return std::make_unique<OnStreams>(options); };
  BeginWithTunnel();
  EXPECT_EQ(max_payload, 65527u);
  EXPECT_EQ(tunnel->Send(Long(), 0), SendStatus::kSent);
  EXPECT_EQ(tunnel->Send(Short(0x66, 1400), 0), SendStatus::kSent);
  ASSERT_TRUE(RunUntil([this] { return proxy->server->bodies[0].size() == 1202 + 1402; }));
  EXPECT_TRUE(proxy->server->datagrams.empty());
  EXPECT_EQ(tunnel->statistics().on_stream_tx, 2u);
  EXPECT_EQ(tunnel->statistics().of(ngmasque::Fallback::kNoDatagrams), 0u);
}

} // namespace
} // namespace quic_test
