// ProxyServer around a dialect with messages, which draft-00 has not, on real sockets.

#include "ngmasque/io/proxy_server.h"

#include "session_toy_dialect.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <format>
#include <string>
#include <string_view>
#include <vector>

#include <ev.h>
#include <sys/resource.h>

namespace ngmasque {
namespace {


constexpr auto kOne = OuterConnection{1};
constexpr auto kTwo = OuterConnection{2};
constexpr StreamId kStream = 4;
constexpr auto kUnanswered = 0u;

// What the proxy says to one client.
class Recorder final : public ProxyServer::Client {
public:
  std::expected<void, DropReason> SendDatagram(std::uint64_t, std::span<const std::uint8_t>,
                                              std::span<const std::uint8_t>) override {
    return {};
  }
  std::expected<void, DropReason> SendOnStream(StreamId, std::span<const std::uint8_t>,
                                              std::span<const std::uint8_t>) override {
    ADD_FAILURE() << "nothing comes from the target";
    return {};
  }
  std::expected<void, DropReason> SendMessage(StreamId stream,
                                              std::span<const std::uint8_t> message) override {
    if (full) {
      return std::unexpected(DropReason::kQueueFull);
    }
    EXPECT_EQ(stream, kStream);
    messages.emplace_back(message.begin(), message.end());
    return {};
  }
  SendOutcome Forward(const FourTuple &, const Burst &) override { return {}; }
  void OnActivity() override {}
  void Respond(StreamId, unsigned code, std::span<const HeaderField>) override { status = code; }
  void ResetStream(StreamId stream, std::uint64_t) override { reset.push_back(stream); }

  bool full = false;
  unsigned status = kUnanswered;
  std::vector<Bytes> messages;
  std::vector<StreamId> reset;
};

class ProxyServerTest : public testing::Test {
protected:
  ProxyServerTest() {
    ProxyServer::Options options;
    options.proxy.dialect = &ToyDialect::Make;
    options.proxy.routing.max_connections_per_client = 1;
    options.policy.allow.push_back(*ParseAddressBlock("127.0.0.0/8"));
    server = ProxyServer::Create(loop, std::move(options));
  }
  ~ProxyServerTest() override {
    server.reset();
    ev_loop_destroy(loop);
  }

  static FourTuple From(std::string_view host) {
    return {.local = {.address = *ParseAddress("192.0.2.1"), .port = 443},
            .remote = {.address = *ParseAddress(host), .port = 1}};
  }
  void Ask() {
    const HeaderField field{.name = ":authority", .value = "127.0.0.1:4433"};
    server->OnRequest({.connection = kOne, .stream = kStream}, {&field, 1});
  }
  void OpenMapping(std::uint8_t number) {
    server->OnStreamData({.connection = kOne, .stream = kStream},
                         Bytes{'O', 10, number, 'c', 'c', 'l', 'i', 'e', 'n', 't', '-', '1'});
  }

  struct ev_loop *loop = ev_loop_new(0);
  std::unique_ptr<ProxyServer> server;
  Recorder client;
};

TEST_F(ProxyServerTest, MessagesGoOnTheStream) {
  ASSERT_TRUE(server->AddConnection(kOne, From("198.51.100.1"), client));
  Ask();
  ASSERT_EQ(client.status, 200u);
  OpenMapping(1);
  EXPECT_EQ(client.messages, (std::vector<Bytes>{{'O', 1, 1}}));
  EXPECT_TRUE(client.reset.empty());
}

// Without it the two sides would not know the same of the tunnel.
TEST_F(ProxyServerTest, MessageThatCannotBeSentEndsItsStream) {
  ASSERT_TRUE(server->AddConnection(kOne, From("198.51.100.1"), client));
  Ask();
  ASSERT_EQ(client.status, 200u);
  EXPECT_EQ(server->counters().flows.now, 1u);
  client.full = true;
  OpenMapping(1);
  EXPECT_EQ(client.reset, std::vector<StreamId>{kStream});
  EXPECT_EQ(server->counters().flows.now, 0u);
  // The stream is unknown from then on, and the connection goes on.
  client.full = false;
  OpenMapping(2);
  EXPECT_TRUE(client.messages.empty());
  Ask();
  OpenMapping(3);
  EXPECT_EQ(client.messages, (std::vector<Bytes>{{'O', 1, 3}}));
}

TEST_F(ProxyServerTest, CredentialsSayWhoseAConnectionIs) {
  const auto somebody = ClientKey::FromCredentials(Bytes{'b', 'o', 'b'});
  ASSERT_TRUE(server->AddConnection(kOne, From("198.51.100.1"), client, somebody));
  const auto again = server->AddConnection(kTwo, From("198.51.100.2"), client, somebody);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error(), SessionError::kTooManyClientConnections);
  EXPECT_TRUE(server->AddConnection(kTwo, From("198.51.100.1"), client))
    << "the address is nobody's yet";
}

// In a process of its own: the limit stays.
TEST(ProxyServerDeathTest, LetsTheProcessHaveItsDescriptors) {
  EXPECT_EXIT(
    {
      rlimit limit{};
      getrlimit(RLIMIT_NOFILE, &limit);
      limit.rlim_cur = 64;
      setrlimit(RLIMIT_NOFILE, &limit);
      auto *loop = ev_loop_new(0);
      ProxyServer::Options options;
      options.proxy.routing.max_sockets = 500;
      const auto proxy = ProxyServer::Create(loop, options);
      getrlimit(RLIMIT_NOFILE, &limit);
      std::exit(proxy && limit.rlim_cur >= 500 && limit.rlim_cur < 1000 ? 0 : 1);
    },
    testing::ExitedWithCode(0), "");
}

} // namespace
} // namespace ngmasque
