// A ConnectUdpProxy that knows nothing any more of what its client forwards, and says so.

#include "io_running_proxy.h"

#include "ngmasque/session/rfc9298.h"

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>

namespace ngmasque {
namespace {

using quic_test::Bytes;
using quic_test::Id;
using quic_test::Short;

class ForgottenMappingsTest : public RunningProxyTest {
protected:
  void SetUp() override { BeginAgain(); }

  // Another one with the same secret, at the same port.  What the one before knew is lost, and its
  // clients are told nothing.
  void BeginAgain() {
    auto options = Options();
    options.server.secret.emplace().fill(0x5e);
    if (proxy) {
      options.listener.addresses = proxy->addresses();
      proxy.reset();
    }
    Begin(std::move(options));
  }

  Client &ConnectModern() {
    return Connect({.ca_file = certificate.file(), .dialects = {.dialect = ProxyDialect::kRfc9298}});
  }

  bool Forwards(Client &client) {
    client.tunnel->AddServerId(Id(0x55));
    const auto before = client.tunnel->statistics().forwarded_tx.packets;
    return RunUntil([&] {
      std::ignore = client.tunnel->Send(Short(0x55, 100), 0);
      return client.tunnel->statistics().forwarded_tx.packets > before;
    });
  }
};

TEST_F(ForgottenMappingsTest, ClientsAreToldWithTheNextPacket) {
  auto &client = ConnectModern();
  ASSERT_TRUE(Forwards(client));
  EXPECT_EQ(proxy->server_statistics().resets, 0u);
  BeginAgain();
  ASSERT_TRUE(Forwards(client));
  ASSERT_TRUE(RunUntil([&] {
    return client.tunnel->statistics().of(Fallback::kMappingReset) == 1;
  })) << "told in the name of the mapping";
  EXPECT_GE(proxy->server_statistics().resets, 1u);
  // That was about the mapping; the outer connection is found to be gone when it is used for that.
  ASSERT_TRUE(RunUntil([&] { return client.closed.has_value(); }));
  EXPECT_TRUE(client.closed->contains("reset")) << *client.closed;
}

} // namespace
} // namespace ngmasque
