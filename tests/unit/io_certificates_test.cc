// ConnectUdpProxy: certificates, and what its log says of them.

#include "io_running_proxy.h"
#include "quic_issued_certificate.h"

#include <array>

namespace ngmasque {
namespace {

using quic_test::Issuer;

class CertificatesProxyTest : public RunningProxyTest {
protected:
  CertificatesProxyTest() {
    issuer.Issue({.common_name = "alice"}, alice);
    issuer.Issue({.common_name = "bob", .expired = true}, bob);
  }

  static ProxyClient::Options With(const Issuer::Issued &own) {
    ProxyClient::Options options;
    options.certificate_file = own.file;
    options.key_file = own.key;
    return options;
  }

  Issuer issuer;
  Issuer::Issued alice, bob;
};

TEST_F(CertificatesProxyTest, ClientsHaveToShowOne) {
  auto options = Options();
  options.server.client_certificates = ClientCertificates::kRequired;
  options.server.client_ca_file = issuer.file;
  std::vector<std::string> names;
  options.proxy.proxy.access = [&names](const AccessRequest &request) -> AccessDecision {
    names.emplace_back(request.certificate);
    return Admission{.user = names.back()};
  };
  Begin(std::move(options));
  EXPECT_TRUE(Echoes(Connect(With(alice))));
  EXPECT_EQ(names, std::vector<std::string>{"alice"});
  auto &expired = Add(With(bob));
  ASSERT_TRUE(RunUntil([&] { return expired.closed.has_value(); }));
  EXPECT_TRUE(expired.closed->contains("QUIC error 0x12d (TLS: ")) << *expired.closed;
  EXPECT_TRUE(Logged("no handshake: certificate of the peer: "));
  auto &nobody = Add();
  ASSERT_TRUE(RunUntil([&] { return nobody.closed.has_value(); }));
  EXPECT_TRUE(nobody.closed->contains("QUIC error 0x174 (TLS: ")) << *nobody.closed;
  EXPECT_EQ(proxy->server_statistics().handshakes, 1u);
}

// SIGHUP, say.
TEST_F(CertificatesProxyTest, SeveralAreReplacedWhileTunnelsStay) {
  Issuer::Issued first, second;
  issuer.Issue({.dns = {"first.example"}}, first);
  issuer.Issue({.dns = {"second.example"}}, second);
  Begin(Options());
  auto &before = Connect();
  const std::array files{CertificateAndKey{first.file, first.key},
                         CertificateAndKey{second.file, second.key}};
  ASSERT_TRUE(proxy->ReplaceCertificates(files));
  for (const auto *name : {"first.example", "second.example"}) {
    ProxyClient::Options options;
    options.sni = name;
    options.ca_file = issuer.file;
    EXPECT_TRUE(Echoes(Connect(std::move(options))));
  }
  EXPECT_TRUE(Echoes(before));
}

} // namespace
} // namespace ngmasque
