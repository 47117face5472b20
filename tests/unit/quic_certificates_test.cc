// Http3Server: several certificates of its own, and those of clients.

#include "quic_issued_certificate.h"
#include "quic_server_network.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace {

using ngmasque::CertificateAndKey;
using ngmasque::ClientCertificates;
using ngmasque::CloseKind;
using ngmasque::QuicError;
using quic_test::Issuer;
using quic_test::Network;

// RFC 8446, section 6.
constexpr std::uint64_t kBadCertificate = 42, kCertificateExpired = 45, kUnknownCa = 48,
                        kCertificateRequired = 116;
constexpr std::uint64_t kCryptoError = 0x100; // RFC 9000, section 20.1.

CertificateAndKey Files(const Issuer::Issued &issued) {
  return {.certificate_file = issued.file, .key_file = issued.key};
}

class ServerCertificates : public testing::Test {
protected:
  ServerCertificates() {
    issuer.Issue({.dns = {"one.example", "eins.example"}}, one);
    issuer.Issue({.dns = {"two.example"}}, two);
  }

  // Whether a client that trusts the issuer gets what it asks for.
  bool Connects(Network &network, const std::string &name) {
    auto &client = network.Add({.server_name = name, .ca_file = issuer.file});
    EXPECT_TRUE(network.RunUntil([&] { return client.ready() || client.recorder.closed; }));
    EXPECT_TRUE(!client.recorder.closed || client.recorder.closed->kind == CloseKind::kCertificate);
    return client.ready();
  }

  Issuer issuer;
  Issuer::Issued one, two;
};

TEST_F(ServerCertificates, ChosenByTheNameThatAClientAsksFor) {
  Network network({.more_certificates = {Files(one), Files(two)}});
  EXPECT_TRUE(Connects(network, "two.example"));
  EXPECT_TRUE(Connects(network, "one.example"));
  EXPECT_TRUE(Connects(network, "eins.example"));
  EXPECT_FALSE(Connects(network, "three.example"));
  EXPECT_FALSE(Connects(network, "proxy.example")) << "the first one, of another issuer";
  auto &client =
    network.Connect({.server_name = "proxy.example", .ca_file = network.files.file()});
  EXPECT_FALSE(client.recorder.closed);
}

TEST_F(ServerCertificates, AllAreReplacedAtOnce) {
  Network network({.more_certificates = {Files(one)}});
  auto &before = network.Connect({.server_name = "one.example", .ca_file = issuer.file});
  ASSERT_TRUE(network.server->ReplaceCertificates(std::array{Files(two)}));
  EXPECT_TRUE(Connects(network, "two.example"));
  EXPECT_FALSE(Connects(network, "one.example"));
  EXPECT_FALSE(before.recorder.closed);
}

TEST_F(ServerCertificates, OneThatCannotBeReadReplacesNothing) {
  Network network({.more_certificates = {Files(one)}});
  const auto refused = [&](std::vector<CertificateAndKey> files) {
    const auto replaced = network.server->ReplaceCertificates(files);
    return !replaced && replaced.error() == QuicError::kTls && !replaced.error().text.empty();
  };
  EXPECT_TRUE(refused({}));
  EXPECT_TRUE(refused({Files(two), {.certificate_file = one.file, .key_file = two.key}}));
  EXPECT_TRUE(refused({Files(two), {.certificate_file = "/none", .key_file = two.key}}));
  EXPECT_TRUE(Connects(network, "one.example"));
  EXPECT_FALSE(Connects(network, "two.example"));
}

TEST_F(ServerCertificates, OneThatHasExpiredIsSaidToBe) {
  Issuer::Issued expired;
  issuer.Issue({.dns = {"old.example"}, .expired = true}, expired);
  Network network({.more_certificates = {Files(expired)}});
  auto &client = network.Add({.server_name = "old.example", .ca_file = issuer.file});
  ASSERT_TRUE(network.RunUntil([&] { return client.recorder.closed.has_value(); }));
  EXPECT_EQ(client.recorder.closed->kind, CloseKind::kCertificate);
  EXPECT_EQ(client.recorder.closed->code, kCryptoError | kCertificateExpired);
  EXPECT_TRUE(client.recorder.closed->text.contains("expired")) << client.recorder.closed->text;
}

class ClientCertificatesTest : public testing::Test {
protected:
  // What a client with this certificate, or none, comes to: its alert, or the name that the server
  // has of it.
  struct Outcome {
    std::uint64_t alert = 0;
    std::string name{};
    bool operator==(const Outcome &) const = default;
  };
  Outcome Try(const Issuer::Issued *own) {
    Network network({.client_certificates = asks, .client_ca_file = issuer.file});
    Outcome outcome;
    bool connected = false;
    network.app.on_connection = [&](ngmasque::Http3Server::Connection &connection) {
      outcome.name = connection.client_name();
      connected = true;
    };
    ngmasque::Http3Client::Options options;
    if (own) {
      options.certificate_file = own->file;
      options.key_file = own->key;
    }
    auto &client = network.Add(std::move(options));
    EXPECT_TRUE(network.RunUntil([&] { return connected || client.recorder.closed; }));
    if (const auto &closed = client.recorder.closed) {
      EXPECT_EQ(closed->kind, CloseKind::kPeer);
      EXPECT_FALSE(closed->application);
      EXPECT_TRUE(closed->text.contains("(TLS: ")) << closed->text;
      outcome.alert = closed->code & 0xff;
      EXPECT_EQ(closed->code, kCryptoError | outcome.alert);
      EXPECT_EQ(network.server->statistics().handshakes, 0u);
    }
    return outcome;
  }
  Outcome Try(const Issuer::Subject &subject) {
    Issuer::Issued own;
    issuer.Issue(subject, own);
    return Try(&own);
  }

  ClientCertificates asks = ClientCertificates::kRequired;
  Issuer issuer;
};

TEST_F(ClientCertificatesTest, HaveTheClientsName) {
  EXPECT_EQ(Try({.dns = {"a.example", "b.example"}, .email = "c@d.example", .common_name = "e"}),
            (Outcome{.name = "a.example"}));
  EXPECT_EQ(Try({.email = "c@d.example", .common_name = "e"}), (Outcome{.name = "c@d.example"}));
  EXPECT_EQ(Try({.common_name = "e"}), (Outcome{.name = "e"}));
  EXPECT_EQ(Try(Issuer::Subject{}), Outcome());
  EXPECT_EQ(Try({.common_name = "a b"}), Outcome());
  EXPECT_EQ(Try({.common_name = "e", .purpose = GNUTLS_KP_TLS_WWW_CLIENT}), (Outcome{.name = "e"}));
}

TEST_F(ClientCertificatesTest, ThatAreNotAcceptableAreAnsweredWithTheirAlert) {
  const Issuer other;
  Issuer::Issued stranger;
  other.Issue({.common_name = "e"}, stranger);
  for (const auto one : {ClientCertificates::kRequired, ClientCertificates::kRequested}) {
    asks = one;
    EXPECT_EQ(Try(&stranger), (Outcome{.alert = kUnknownCa}));
    EXPECT_EQ(Try({.common_name = "e", .expired = true}), (Outcome{.alert = kCertificateExpired}));
    EXPECT_EQ(Try({.common_name = "e", .purpose = GNUTLS_KP_TLS_WWW_SERVER}),
              (Outcome{.alert = kBadCertificate}));
  }
}

TEST_F(ClientCertificatesTest, NoneIsEnoughIfNoneIsRequired) {
  EXPECT_EQ(Try(nullptr), (Outcome{.alert = kCertificateRequired}));
  asks = ClientCertificates::kRequested;
  EXPECT_EQ(Try(nullptr), Outcome());
}

TEST_F(ClientCertificatesTest, AreShownToNobodyThatDoesNotAsk) {
  asks = ClientCertificates::kNone;
  EXPECT_EQ(Try({.common_name = "e"}), Outcome());
}

// A connection that is resumed would show none.
TEST_F(ClientCertificatesTest, ThereAreNoTickets) {
  for (const auto one : {ClientCertificates::kNone, ClientCertificates::kRequested}) {
    Network network({.client_certificates = one, .client_ca_file = issuer.file});
    quic_test::RawClient client("h3");
    network.Talk(client, 9000);
    ASSERT_TRUE(client.completed());
    EXPECT_EQ(client.ticket.empty(), one == ClientCertificates::kRequested);
  }
}

TEST_F(ClientCertificatesTest, WithoutAnIssuerThereIsNoServer) {
  quic_test::ServerApp app;
  const quic_test::CertificateFiles files;
  const auto made = ngmasque::Http3Server::Create(
    {.certificate_file = files.file(),
     .key_file = files.key,
     .client_certificates = ClientCertificates::kRequired,
     .client_ca_file = "/none"},
    app);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error(), QuicError::kTls);
  EXPECT_TRUE(made.error().text.contains("/none")) << made.error().text;
}

} // namespace
