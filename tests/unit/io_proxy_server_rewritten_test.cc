// ProxyServer: forwarded packets that are written anew leave together all the same.

#include "ngmasque/io/proxy_server.h"
#include "ngmasque/session/cid_capsule.h"
#include "ngmasque/session/udp_request.h"

#include "io_support.h"
#include "routing_support.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ev.h>

namespace ngmasque {
namespace {

constexpr auto kConnection = OuterConnection{1};
constexpr StreamKey kStream{.connection = kConnection, .stream = 4};

class Client final : public ProxyServer::Client {
public:
  std::expected<void, DropReason> SendDatagram(std::uint64_t, std::span<const std::uint8_t>,
                                              std::span<const std::uint8_t>) override {
    return {};
  }
  std::expected<void, DropReason> SendOnStream(StreamId, std::span<const std::uint8_t>,
                                              std::span<const std::uint8_t>) override {
    return {};
  }
  std::expected<void, DropReason> SendMessage(StreamId,
                                              std::span<const std::uint8_t> message) override {
    CapsuleParser parser([](std::uint64_t) { return std::optional(kMaxCidCapsule); });
    while (!message.empty()) {
      if (const auto capsule = parser.Next(message)) {
        capsules.push_back(ParseCidCapsule(*FindCidCapsule(capsule->type), capsule->value).value());
      }
    }
    return {};
  }
  SendOutcome Forward(const FourTuple &, const Burst &) override { return {}; }
  void OnActivity() override {}
  void Respond(StreamId, unsigned code, std::span<const HeaderField>) override {
    EXPECT_EQ(code, 200u);
  }
  void ResetStream(StreamId, std::uint64_t) override { ADD_FAILURE(); }

  std::vector<CidCapsule> capsules;
};

class ProxyServerRewritten : public testing::Test {
protected:
  ProxyServerRewritten() {
    ProxyServer::Options options;
    options.policy.allow.push_back(*ParseAddressBlock("127.0.0.0/8"));
    server = ProxyServer::Create(loop, std::move(options));
    EXPECT_TRUE(server->AddConnection(kConnection, Tuple(1), client));
    const UdpRequest request{.target = {.host = "127.0.0.1", .port = target->endpoint->port},
                             .forwarding = ForwardingOffer{.forwarding = true,
                                                           .transforms = {Transform::kIdentity},
                                                           .key = {}}};
    server->OnRequest(kStream, UdpRequestFields(request, *UriTemplate::Parse(kDefaultUdpPath),
                                                "proxy.example"));
  }
  ~ProxyServerRewritten() override {
    server.reset();
    ev_loop_destroy(loop);
  }

  // The virtual connection ID for one of the target's.
  Bytes Register(std::string_view id) {
    const auto capsule =
      WriteCidCapsule(kNewestRevision, {.kind = CidCapsuleKind::kRegisterTargetCid, .id = Id(id)});
    client.capsules.clear();
    server->OnStreamData(kStream, capsule);
    EXPECT_EQ(client.capsules.at(0).kind, CidCapsuleKind::kAckTargetCid);
    const auto bytes = client.capsules.at(0).virtual_id.bytes();
    return {bytes.begin(), bytes.end()};
  }

  static void Append(Bytes &memory, const Bytes &id, std::string_view rest) {
    memory.push_back(0x40);
    memory.insert(memory.end(), id.begin(), id.end());
    memory.insert(memory.end(), rest.begin(), rest.end());
  }
  std::vector<std::string> Arrived() const {
    std::vector<std::string> all;
    Bytes packet(65'536);
    for (;;) {
      const auto size = ::recv(target->fd, packet.data(), packet.size(), MSG_DONTWAIT);
      if (size < 0) {
        return all;
      }
      all.emplace_back(packet.begin() + 1, packet.begin() + size);
    }
  }

  struct ev_loop *loop = ev_loop_new(0);
  std::unique_ptr<ProxyServer> server;
  Client client;
  std::optional<Bound> target{At("::ffff:127.0.0.1")};
};

// They become shorter, and so have gaps between them.
TEST_F(ProxyServerRewritten, NeighboursLeaveTogether) {
  const auto id = Register("serverid");
  ASSERT_EQ(id.size(), KeyedSource::kRoutedLength);
  Bytes memory;
  Append(memory, id, "one, of the size of two");
  const auto size = memory.size();
  Append(memory, id, "two, of the size of one");
  Append(memory, id, "three, shorter");
  const std::span all(memory);
  SendCalls() = 0;
  for (std::size_t at = 0; at < all.size(); at += size) {
    EXPECT_TRUE(server->OnClientPacket(Tuple(1), all.subspan(at, std::min(size, all.size() - at)), 0));
  }
  server->OnClientPacketsDone();
  EXPECT_EQ(SendCalls(), 1);
  EXPECT_EQ(Arrived(), (std::vector<std::string>{"serveridone, of the size of two",
                                                 "serveridtwo, of the size of one",
                                                 "serveridthree, shorter"}));
}

// What is not a neighbour begins anew: another size, another place, another ECN.
TEST_F(ProxyServerRewritten, OthersDoNot) {
  const auto id = Register("serverid");
  Bytes first, second;
  Append(first, id, "short");
  Append(first, id, "longer than it");
  Append(second, id, "elsewhere");
  const auto size = 1 + id.size() + 5;
  SendCalls() = 0;
  EXPECT_TRUE(server->OnClientPacket(Tuple(1), std::span(first).first(size), 0));
  EXPECT_TRUE(server->OnClientPacket(Tuple(1), std::span(first).subspan(size), 0));
  EXPECT_TRUE(server->OnClientPacket(Tuple(1), second, 0));
  server->OnClientPacketsDone();
  EXPECT_EQ(SendCalls(), 3);
  EXPECT_EQ(Arrived(), (std::vector<std::string>{"serveridshort", "serveridlonger than it",
                                                 "serveridelsewhere"}));
}

} // namespace
} // namespace ngmasque
