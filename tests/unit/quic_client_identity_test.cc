// Who the client says it is, and whom it believes: certificates, roots, credentials.

#include "quic_certificate_files.h"
#include "quic_proxy_support.h"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace quic_test {
namespace {

using ngmasque::CloseKind;
using ngmasque::QuicError;

Bytes Der(const Certificate &certificate) {
  gnutls_x509_crt_t *chain = nullptr;
  unsigned size = 0;
  EXPECT_EQ(gnutls_certificate_get_x509_crt(certificate.credentials(), 0, &chain, &size), 0);
  gnutls_datum_t der;
  EXPECT_EQ(gnutls_x509_crt_export2(chain[0], GNUTLS_X509_FMT_DER, &der), 0);
  Bytes bytes(der.data, der.data + der.size);
  gnutls_free(der.data);
  for (unsigned i = 0; i < size; ++i) {
    gnutls_x509_crt_deinit(chain[i]);
  }
  gnutls_free(chain);
  return bytes;
}

TEST(QuicClientIdentity, CertificateIsShownToWhomAsksForOne) {
  const CertificateFiles own;
  Pair pair({.ask_certificate = true},
            {.ca_file = "own", .certificate_file = own.file(), .key_file = own.key});
  ASSERT_TRUE(pair.Connect());
  pair.Settle();
  EXPECT_EQ(pair.server->client_certificate(), Der(own));
  EXPECT_FALSE(pair.recorder.closed);
}

TEST(QuicClientIdentity, KeyInTheSameFile) {
  const CertificateFiles own;
  std::ofstream both(own.key, std::ios::app);
  both << std::ifstream(own.file()).rdbuf();
  both.close();
  Pair pair({.ask_certificate = true}, {.ca_file = "own", .certificate_file = own.key});
  ASSERT_TRUE(pair.Connect());
  pair.Settle();
  EXPECT_EQ(pair.server->client_certificate(), Der(own));
}

TEST(QuicClientIdentity, NobodyElseSeesIt) {
  const CertificateFiles own;
  Pair pair({}, {.ca_file = "own", .certificate_file = own.file(), .key_file = own.key});
  ASSERT_TRUE(pair.Connect());
  pair.Settle();
  EXPECT_TRUE(pair.server->client_certificate().empty());
  Pair without({.ask_certificate = true}, {.ca_file = "own"});
  ASSERT_TRUE(without.Connect());
  without.Settle();
  EXPECT_TRUE(without.server->client_certificate().empty());
}

TEST(QuicClientIdentity, KeyOfAnotherCertificate) {
  const CertificateFiles own, other;
  Pair pair({}, {.ca_file = "own", .certificate_file = own.file(), .key_file = other.key});
  ASSERT_TRUE(pair.failure);
  EXPECT_EQ(pair.failure->code, QuicError::kTls);
  EXPECT_NE(pair.failure->text.find(other.key.string()), std::string::npos) << pair.failure->text;
}

// Which has not issued the certificate of this test, or is not there at all.
TEST(QuicClientIdentity, SystemsTrustStore) {
  Pair pair({}, {.system_roots = true});
  if (pair.failure) {
    EXPECT_EQ(pair.failure->code, QuicError::kTls);
    EXPECT_NE(pair.failure->text.find("trust store"), std::string::npos) << pair.failure->text;
    return;
  }
  ASSERT_TRUE(pair.RunUntil([&] { return pair.recorder.closed.has_value(); }));
  EXPECT_EQ(pair.recorder.closed->kind, CloseKind::kCertificate);
  EXPECT_FALSE(pair.recorder.max_datagram);
}

using Credentials = ProxyClientTest;

TEST_F(Credentials, AreInEveryRequest) {
  authorization = "Basic YTpi";
  BeginWithTunnel();
  tunnel->AddServerId(Id(0x55));
  ASSERT_TRUE(RunUntil([this] { return proxy->server->requests.size() == 2; }));
  for (const auto &[stream, fields] : proxy->server->requests) {
    EXPECT_EQ(std::ranges::count(fields, "proxy-authorization", &ngmasque::HeaderField::name), 1);
    EXPECT_EQ(Field(fields, "proxy-authorization"), authorization);
  }
}

TEST_F(Credentials, AreNotThereIfNotGiven) {
  BeginWithTunnel();
  EXPECT_EQ(
    std::ranges::count(proxy->server->requests.at(0), "proxy-authorization",
                       &ngmasque::HeaderField::name),
    0);
}

TEST_F(Credentials, ThatAreNoFieldValue) {
  authorization = "Basic YTpi\r\nx: y";
  Prepare();
  EXPECT_EQ(client->Start().error(), ngmasque::IoError::kArgument);
}

TEST_F(Credentials, RefusedOnesAreSaidInWords) {
  authorization = "Basic YTpi";
  Begin();
  proxy->status = "407";
  OpenTunnel();
  ASSERT_TRUE(RunUntil([this] { return !ended.empty(); }));
  EXPECT_EQ(ended.front().kind, ngmasque::TunnelEnd::Kind::kRefused);
  EXPECT_EQ(ended.front().status, 407u);
  EXPECT_FALSE(ended.front().retry);
  EXPECT_EQ(ended.front().text,
            "the proxy has answered 407: it wants credentials, or others than these");
  EXPECT_TRUE(closed.empty()) << "the connection stays, for other targets";
}

TEST_F(Credentials, WhyTheConnectionHasEnded) {
  BeginWithTunnel();
  EXPECT_FALSE(client->close_reason());
  proxy->server->Close(0x107, "too much");
  ASSERT_TRUE(RunUntil([this] { return !closed.empty(); }));
  ASSERT_TRUE(client->close_reason());
  EXPECT_EQ(client->close_reason()->kind, CloseKind::kPeer);
  EXPECT_EQ(client->close_reason()->code, 0x107u);
}

} // namespace
} // namespace quic_test
