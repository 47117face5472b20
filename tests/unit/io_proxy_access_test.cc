// ProxyServer tells an access log what has become of tunnels and requests.

#include "ngmasque/io/proxy_server.h"

#include "ngmasque/session/draft00.h"
#include "ngmasque/session/message.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ev.h>

namespace ngmasque {
namespace {

constexpr auto kOne = OuterConnection{1};

class Answers final : public ProxyServer::Client {
public:
  std::expected<void, DropReason> SendDatagram(std::uint64_t, std::span<const std::uint8_t>,
                                              std::span<const std::uint8_t>) override {
    return {};
  }
  std::expected<void, DropReason> SendOnStream(StreamId, std::span<const std::uint8_t>,
                                              std::span<const std::uint8_t>) override {
    return {};
  }
  std::expected<void, DropReason> SendMessage(StreamId, std::span<const std::uint8_t>) override {
    return {};
  }
  SendOutcome Forward(const FourTuple &, const Burst &) override { return {}; }
  void OnActivity() override {}
  void Respond(StreamId stream, unsigned status, std::span<const HeaderField>) override {
    statuses[stream] = status;
  }
  void ResetStream(StreamId, std::uint64_t) override {}
  void ShareWith(std::shared_ptr<ByteBudget> waiting) override {
    budgets.push_back(std::move(waiting));
  }

  std::map<StreamId, unsigned> statuses;
  std::vector<std::shared_ptr<ByteBudget>> budgets;
};

class ProxyAccess : public testing::Test {
protected:
  ProxyAccess() {
    ProxyServer::Options options;
    options.policy.allow.push_back(*ParseAddressBlock("127.0.0.0/8"));
    options.proxy.access = [this](const AccessRequest &request) -> AccessDecision {
      certificate = request.certificate;
      if (request.proxy_authorization == "Bearer alices-secret") {
        return Admission{.user = "alice"};
      }
      return std::unexpected(AccessRefusal{.challenges = {"Bearer"}});
    };
    options.log = [this](LogLevel, std::string_view line) { lines.emplace_back(line); };
    options.record = [this](const TunnelRecord &record) {
      flows.push_back(server->counters().flows.now);
      records.push_back(record);
    };
    server = ProxyServer::Create(loop, std::move(options));
    const auto added =
      server->AddConnection(kOne, {.local = {.port = 443}, .remote = client}, answers);
    EXPECT_TRUE(added);
    of_address = *added;
  }
  ~ProxyAccess() override {
    server.reset();
    ev_loop_destroy(loop);
  }

  unsigned Ask(StreamId stream, std::string_view authority, std::string_view credentials) {
    auto fields = RequestFields({.authority = *ParseAuthority(authority), .flow = {}, .id = {}});
    if (!credentials.empty()) {
      fields.push_back({.name = "proxy-authorization", .value = std::string(credentials)});
    }
    server->OnRequest({.connection = kOne, .stream = stream}, fields);
    return answers.statuses[stream];
  }

  Endpoint client{.address = *ParseAddress("198.51.100.1"), .port = 1};
  struct ev_loop *loop = ev_loop_new(0);
  std::unique_ptr<ProxyServer> server;
  Answers answers;
  std::shared_ptr<ByteBudget> of_address;
  std::string certificate;
  std::vector<TunnelRecord> records;
  std::vector<std::size_t> flows; // There were, when they came.
  std::vector<std::string> lines;
};

TEST_F(ProxyAccess, WhoAskedForWhatAndWasRefused) {
  server->SetCertificate(kOne, "alice.example");
  EXPECT_EQ(Ask(0, "target.example:443", "Bearer guess"), 407u);
  EXPECT_EQ(certificate, "alice.example");
  EXPECT_EQ(Ask(4, "10.0.0.1:443", "Bearer alices-secret"), 403u);
  ASSERT_EQ(records.size(), 2u) << "one of each request";
  EXPECT_EQ(records[0].client, client);
  EXPECT_EQ(records[0].user, "");
  EXPECT_EQ(records[0].authority, *ParseAuthority("target.example:443"));
  EXPECT_EQ(records[0].status, 407u);
  EXPECT_EQ(records[0].error, SessionError::kUnauthenticated);
  EXPECT_EQ(records[1].user, "alice");
  EXPECT_EQ(records[1].error, SessionError::kPrivateAddress);
  EXPECT_EQ(records[1].dialect, kDraft00Name);
}

TEST_F(ProxyAccess, TunnelsWhenTheyEnd) {
  ASSERT_EQ(Ask(0, "127.0.0.1:4433", "Bearer alices-secret"), 200u);
  EXPECT_TRUE(records.empty());
  server->RemoveConnection(kOne);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].user, "alice");
  EXPECT_EQ(records[0].status, 200u);
  EXPECT_EQ(records[0].reason, EndReason::kConnectionClosed);
  EXPECT_EQ(records[0].target, (Endpoint{.address = *ParseAddress("127.0.0.1"), .port = 4433}));
  EXPECT_EQ(flows[0], 0u) << "it is over when it is told";
}

// What waits for the connection counts for its user, once it has one.
TEST_F(ProxyAccess, WhatWaitsIsTheUsers) {
  EXPECT_EQ(Ask(0, "127.0.0.1:4433", ""), 407u);
  EXPECT_TRUE(answers.budgets.empty());
  ASSERT_EQ(Ask(4, "127.0.0.1:4433", "Bearer alices-secret"), 200u);
  ASSERT_EQ(answers.budgets.size(), 1u);
  EXPECT_NE(answers.budgets[0], of_address);
  ASSERT_EQ(Ask(8, "127.0.0.1:4434", "Bearer alices-secret"), 200u);
  EXPECT_EQ(answers.budgets.size(), 1u) << "it is known already";
}

TEST_F(ProxyAccess, AnotherPolicy) {
  ASSERT_EQ(Ask(0, "127.0.0.1:4433", "Bearer alices-secret"), 200u);
  TargetPolicy::Options policy;
  policy.deny.push_back(*ParseAddressBlock("127.0.0.0/8"));
  server->SetPolicy(policy);
  EXPECT_EQ(Ask(4, "127.0.0.1:4433", "Bearer alices-secret"), 403u);
  EXPECT_EQ(server->counters().flows.now, 1u) << "what is there stays";
}

// The secret is for the program alone.
TEST_F(ProxyAccess, CredentialsAreNotLogged) {
  Ask(0, "127.0.0.1:4433", "Bearer alices-secret");
  Ask(4, "127.0.0.1:4433", "Bearer guess-of-a-secret");
  server->RemoveConnection(kOne);
  EXPECT_FALSE(lines.empty());
  for (const auto &line : lines) {
    EXPECT_FALSE(line.contains("secret")) << line;
  }
}

} // namespace
} // namespace ngmasque
