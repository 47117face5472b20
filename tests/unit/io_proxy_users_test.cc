// ConnectUdpProxy: who may use it, asked over QUIC.

#include "io_running_proxy.h"
#include "quic_issued_certificate.h"

#include "ngmasque/session/proxy_authorization.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace ngmasque {
namespace {

using quic_test::Issuer;

class ProxyUsers : public RunningProxyTest {
protected:
  ~ProxyUsers() override {
    clients.clear();
    proxy.reset(); // It still has something to record.
  }

  // Alice may, by her secret or by her certificate.
  ConnectUdpProxy::Options ForAlice() {
    auto options = Options();
    options.proxy.proxy.access = [](const AccessRequest &request) -> AccessDecision {
      if (request.proxy_authorization == BasicAuthorization("alice", "secret") ||
          request.certificate == "alice") {
        return Admission{.user = "alice"};
      }
      return std::unexpected(AccessRefusal{.challenges = {"Basic realm=\"proxy\""}});
    };
    options.proxy.record = [this](const TunnelRecord &record) { records.push_back(record); };
    return options;
  }

  bool Refused(Client &client) {
    Open(client);
    return RunUntil([&] { return client.recorder.ended.size() == 1; }) &&
           client.recorder.ended.front().status == 407;
  }

  std::vector<TunnelRecord> records;
};

TEST_F(ProxyUsers, BySecret) {
  Begin(ForAlice());
  ProxyClient::Options right, wrong;
  right.authorization = BasicAuthorization("alice", "secret").value();
  wrong.authorization = BasicAuthorization("alice", "guess").value();
  auto &alice = Connect(std::move(right));
  EXPECT_TRUE(Echoes(alice));
  EXPECT_TRUE(Refused(Add(std::move(wrong))));
  EXPECT_TRUE(Refused(Add()));
  EXPECT_TRUE(Echoes(alice)) << "others' failures are not hers";
  EXPECT_EQ(proxy->counters().errors,
            (std::map<SessionError, std::uint64_t>{{SessionError::kUnauthenticated, 2}}));
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].authority, (Authority{.host = "127.0.0.1", .port = target->at.port}));
  proxy->Close();
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[2].user, "alice");
  EXPECT_EQ(records[2].statistics[Way::kTunnelledToTarget].passed.packets, 2u);
  EXPECT_FALSE(Logged("YWxpY2U6")) << "credentials are in no log";
}

TEST_F(ProxyUsers, ByCertificate) {
  Issuer issuer;
  Issuer::Issued alices, bobs;
  issuer.Issue({.common_name = "alice"}, alices);
  issuer.Issue({.common_name = "bob"}, bobs);
  auto options = ForAlice();
  options.server.client_certificates = ClientCertificates::kRequested;
  options.server.client_ca_file = issuer.file;
  Begin(std::move(options));
  const auto with = [](const Issuer::Issued &own) {
    ProxyClient::Options client;
    client.certificate_file = own.file;
    client.key_file = own.key;
    return client;
  };
  EXPECT_TRUE(Echoes(Connect(with(alices))));
  EXPECT_TRUE(Refused(Add(with(bobs))));
  EXPECT_TRUE(Refused(Add()));
}

// Who may not use it any more is told so, and what he had is written down.
TEST_F(ProxyUsers, Review) {
  Begin(ForAlice());
  ProxyClient::Options alices;
  alices.authorization = BasicAuthorization("alice", "secret").value();
  auto &first = Connect(alices);
  auto &second = Add(std::move(alices));
  EXPECT_TRUE(Refused(Add()));
  EXPECT_TRUE(Echoes(first));
  const auto admitted = [](const Admitted &before) {
    return Admission{.user = std::string(before.user)};
  };
  EXPECT_EQ(proxy->Review(admitted), 0u);
  EXPECT_TRUE(Echoes(first));
  EXPECT_EQ(proxy->Review([](const Admitted &) { return std::nullopt; }), 1u)
    << "of the others nobody knows who they are";
  ASSERT_TRUE(RunUntil([&] { return first.closed.has_value(); }));
  EXPECT_TRUE(first.closed->contains("closed by the peer with HTTP/3 error 0x100")) << *first.closed;
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[1].reason, EndReason::kRevoked);
  EXPECT_EQ(records[1].user, "alice");
  Open(second);
  ASSERT_TRUE(RunUntil([&] { return second.recorder.opened == 1; }));
  EXPECT_TRUE(Echoes(second));
}

// The bound is hers, from however many connections and addresses.
TEST_F(ProxyUsers, AUsersConnections) {
  auto options = ForAlice();
  options.proxy.proxy.routing.max_connections_per_client = 2;
  Begin(std::move(options));
  const auto alices = [] {
    ProxyClient::Options client;
    client.authorization = BasicAuthorization("alice", "secret").value();
    return client;
  };
  EXPECT_TRUE(Echoes(Connect(alices())));
  EXPECT_TRUE(Echoes(Connect(alices())));
  auto &third = Add(alices());
  Open(third);
  ASSERT_TRUE(RunUntil([&] { return third.recorder.ended.size() == 1; }));
  EXPECT_EQ(third.recorder.ended.front().status, 429u);
  EXPECT_FALSE(third.closed) << "its connection is the address's";
}

} // namespace
} // namespace ngmasque
