// Http3Connection: SETTINGS, of a client and of a server.

#include "quic_server_network.h"
#include "quic_support.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace quic_test {
namespace {

using ngmasque::Http3Features;
using ngmasque::PeerSettings;

// draft-schinazi-quic-h3-datagram-05: a connection error.
TEST(QuicSettings, SettingWithoutTransportParameter) {
  for (const bool draft : {false, true}) {
    Pair pair({.max_datagram_frame = 0,
               .settings = {.datagrams = !draft, .draft_datagrams = draft}});
    ASSERT_TRUE(pair.RunUntil([&] { return pair.recorder.closed.has_value(); }));
    EXPECT_TRUE(pair.recorder.closed->application);
    EXPECT_EQ(pair.recorder.closed->code, ngmasque::kH3SettingsError);
    // RFC 9000, section 10.2.3: as long as the handshake is not confirmed, packets that everybody
    // can read say APPLICATION_ERROR instead.
    constexpr std::uint64_t kApplicationError = 0x0c;
    EXPECT_TRUE(pair.server->close_code == ngmasque::kH3SettingsError ||
                pair.server->close_code == kApplicationError)
      << pair.server->close_code.value_or(0);
  }
}

TEST(QuicSettings, AnnouncesWhatItIsToldTo) {
  for (const unsigned bits : {0u, 1u, 2u}) {
    const PeerSettings told{.datagrams = (bits & 1) != 0, .draft_datagrams = (bits & 2) != 0};
    // A client's 0x08 would have no effect, and is not sent.
    Pair pair({}, {.features = {.datagrams = told.datagrams,
                                .draft_datagrams = told.draft_datagrams,
                                .connect_protocol = true}});
    ASSERT_TRUE(pair.Connect());
    pair.Settle();
    EXPECT_EQ(pair.server->client_settings, told);
    pair.server->SendDatagram({2, 1});
    pair.Settle();
    EXPECT_EQ(pair.recorder.datagrams.size(), bits == 0 ? 0u : 1u);
  }
}

TEST(QuicSettings, SettingsOfTheServer) {
  for (const unsigned bits : {0u, 1u, 2u, 4u, 7u}) {
    const PeerSettings sent{.datagrams = (bits & 1) != 0,
                            .draft_datagrams = (bits & 2) != 0,
                            .connect_protocol = (bits & 4) != 0};
    Pair pair({.settings = {.datagrams = sent.datagrams,
                            .draft_datagrams = sent.draft_datagrams,
                            .connect_protocol = sent.connect_protocol}});
    EXPECT_FALSE(pair.client->peer_settings());
    ASSERT_TRUE(pair.RunUntil([&] { return pair.recorder.settings.has_value(); }));
    EXPECT_EQ(pair.recorder.settings, sent);
    EXPECT_EQ(pair.client->peer_settings(), sent);
    EXPECT_TRUE(pair.client->datagrams());
  }
}

TEST(QuicSettings, TransportParameterWithoutSetting) {
  Pair pair({.settings = kNoDatagrams});
  ASSERT_TRUE(pair.Connect());
  pair.Settle();
  EXPECT_EQ(pair.client->peer_settings(), PeerSettings{});
  EXPECT_TRUE(pair.client->datagrams());
  EXPECT_FALSE(pair.recorder.closed);
}

// Whom a proxy announces all three, and a client both kinds of datagrams.
TEST(QuicSettings, OfAProxyAndItsClient) {
  Network network;
  auto &client = network.Connect();
  auto &record = network.At(client);
  ASSERT_TRUE(network.RunUntil([&] { return client.recorder.settings && record.settings; }));
  EXPECT_EQ(client.recorder.settings,
            (PeerSettings{.datagrams = true, .draft_datagrams = true, .connect_protocol = true}));
  EXPECT_EQ(record.settings, (PeerSettings{.datagrams = true, .draft_datagrams = true}));
  EXPECT_EQ(record.connection->peer_settings(), record.settings);
}

// Control streams may come late.
TEST(QuicSettings, MayBeLate) {
  Pair pair({.hold_settings = true});
  ASSERT_TRUE(pair.Connect());
  pair.Settle();
  EXPECT_FALSE(pair.recorder.settings);
  EXPECT_FALSE(pair.client->peer_settings());
  EXPECT_TRUE(pair.client->datagrams()) << "the transport parameter is there";
  pair.server->SendSettings();
  pair.Settle();
  EXPECT_EQ(pair.recorder.settings, (PeerSettings{.datagrams = true, .draft_datagrams = true}));
  EXPECT_EQ(pair.client->peer_settings(), pair.recorder.settings);
}

} // namespace
} // namespace quic_test
