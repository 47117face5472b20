// ngmasque-client: its options, its waiting packets and pauses, and what it says about itself.

#include "ngmasque-client/backoff.h"
#include "ngmasque-client/options.h"
#include "ngmasque-client/packet_queue.h"
#include "ngmasque-client/status.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

namespace ngmasque::programs {
namespace {

using namespace std::chrono_literals;

// What is wrong with a command line; empty if nothing is.
std::string Wrong(ClientOptions &options, std::vector<std::string> words) {
  const auto program = ClientProgram(options);
  words.insert(words.begin(), "ngmasque-client");
  std::vector<char *> argv;
  for (auto &word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  const auto read = ReadCommandLine(program, static_cast<int>(words.size()), argv.data());
  if (!read) {
    return read.error();
  }
  if (const auto applied = Apply(program, read->values); !applied) {
    return applied.error();
  }
  const auto finished = Finish(options);
  return finished ? std::string() : finished.error();
}

std::string Wrong(std::vector<std::string> words) {
  ClientOptions options;
  return Wrong(options, std::move(words));
}

const std::string kProxy = "--proxy=https://proxy.example";
const std::string kListen = "--listen=127.0.0.1:5353";
const std::string kTarget = "192.0.2.53:53";

TEST(ClientOptions, Usual) {
  ClientOptions options;
  EXPECT_EQ(Wrong(options, {kProxy, kListen, kTarget, "--proxy-user=a:b:c", "--idle-timeout=5"}),
            "");
  const auto &proxy = options.carrier.proxy;
  EXPECT_EQ(proxy.host, "proxy.example");
  EXPECT_EQ(proxy.port, "443");
  EXPECT_EQ(proxy.authorization, "Basic YTpiOmM=");
  EXPECT_TRUE(proxy.system_roots) << "verified unless told otherwise";
  EXPECT_FALSE(proxy.dialects.port_sharing);
  EXPECT_EQ(options.local.target, (Authority{.host = "192.0.2.53", .port = 53}));
  EXPECT_EQ(options.local.idle_timeout, 5s);
  EXPECT_TRUE(options.carrier.single_target);
  EXPECT_GE(proxy.max_tunnels, options.local.max_peers);
}

TEST(ClientOptions, Insecure) {
  ClientOptions options;
  EXPECT_EQ(Wrong(options, {kProxy, kListen, kTarget, "--proxy-insecure"}), "");
  EXPECT_FALSE(options.carrier.proxy.system_roots);
  EXPECT_NE(Wrong({kProxy, kListen, kTarget, "--proxy-insecure", "--proxy-cacert=x"}), "");
}

TEST(ClientOptions, SaysWhatIsMissing) {
  EXPECT_TRUE(Wrong({kListen, kTarget}).contains("--proxy"));
  EXPECT_TRUE(Wrong({kProxy}).contains("--listen"));
  EXPECT_TRUE(Wrong({kProxy, kTarget}).contains("--listen"));
  EXPECT_TRUE(Wrong({kProxy, kListen}).contains("<HOST>:<PORT>"));
  EXPECT_TRUE(Wrong({"--proxy=http://proxy.example", kListen, kTarget}).contains("https://"));
  EXPECT_TRUE(Wrong({kProxy, kListen, "target"}).contains("<HOST>:<PORT>"));
  EXPECT_TRUE(
    Wrong({kProxy, kListen, kTarget, "--proxy-dialect=x"}).contains("rfc9298, draft-00, auto"));
  EXPECT_TRUE(Wrong({kProxy, kListen, kTarget, "--proxy-user=a"}).contains("<NAME>:<SECRET>"));
  EXPECT_TRUE(Wrong({kProxy, kListen, kTarget, "--proxy-bearer=a b"}).contains("--proxy-bearer"));
  EXPECT_TRUE(Wrong({kProxy, kListen, kTarget, "--proxy-user=a:b", "--proxy-bearer=c"})
                .contains("one of them"));
  EXPECT_TRUE(
    Wrong({kProxy, kListen, kTarget, "--proxy-user-file=/nonexistent"}).contains("/nonexistent"));
}

TEST(ClientOptions, SocksForOthersWantsCredentials) {
  EXPECT_EQ(Wrong({kProxy, "--socks=127.0.0.1:1080", "--socks=[::1]:1080"}), "");
  EXPECT_TRUE(Wrong({kProxy, "--socks=0.0.0.0:1080"}).contains("--socks-user"));
  EXPECT_TRUE(Wrong({kProxy, "--socks=[::]:1080"}).contains("--socks-user"));
  ClientOptions options;
  EXPECT_EQ(Wrong(options, {kProxy, "--socks=0.0.0.0:1080", "--socks-user=a:b:c"}), "");
  ASSERT_TRUE(options.socks.association.credentials);
  EXPECT_EQ(options.socks.association.credentials->name, "a");
  EXPECT_EQ(options.socks.association.credentials->secret, "b:c");
}

TEST(ClientBackoff, DoublesUpToTheMost) {
  Backoff pauses(500ms, 3s);
  EXPECT_EQ(pauses.Next(0), 500ms);
  EXPECT_EQ(pauses.Next(0), 1s);
  EXPECT_EQ(pauses.Next(1), 1s) << "half of it";
  EXPECT_EQ(pauses.Next(0), 3s);
  EXPECT_EQ(pauses.Next(0), 3s);
  pauses.Reset();
  EXPECT_EQ(pauses.Next(0), 500ms);
  EXPECT_EQ(Backoff(5s, 1s).Next(0), 1s);
}

TEST(ClientPacketQueue, Bounds) {
  PacketQueue queue;
  const std::vector<std::uint8_t> packet(100, 1), large(PacketQueue::kMaxBytes, 2);
  for (std::size_t i = 0; i < PacketQueue::kMaxPackets; ++i) {
    EXPECT_TRUE(queue.Push(packet, 1));
  }
  EXPECT_FALSE(queue.Push(packet, 0));
  EXPECT_FALSE(queue.PushLatest(packet, 2)) << "one was lost";
  EXPECT_EQ(queue.Take().back().ecn, 2u) << "and not this one";
  EXPECT_TRUE(queue.empty());
  EXPECT_TRUE(queue.Push(large, 0));
  EXPECT_FALSE(queue.Push(packet, 0));
  queue.Pop();
  EXPECT_TRUE(queue.Push(packet, 0));
}

TEST(ClientStatus, SumsUp) {
  Status status{.proxy = "not connected: \"x\"\t"};
  status.targets["a.example:1"].traffic.tunnelled_tx = {.packets = 2, .bytes = 2000};
  status.targets["b.example:2"].traffic.forwarded_rx = {.packets = 40, .bytes = 4'000'000};
  status.targets["b.example:2"].unseen_to_client = 3;
  status.targets["b.example:2"].traffic.dropped[static_cast<std::size_t>(DropReason::kTooLarge)] =
    5;
  EXPECT_EQ(status.total().traffic.tunnelled_tx.packets, 2u);
  EXPECT_EQ(status.total().unseen_to_client, 3u);
  const auto line = StatusLine(status);
  EXPECT_TRUE(line.contains("2 packets (2.0 kB)") && line.contains("40 (4.0 MB)")) << line;

  const auto table = StatusTable(status, 24, 120);
  EXPECT_LT(table.find("b.example:2"), table.find("a.example:1")) << "what has most comes first";
  EXPECT_FALSE(StatusTable(status, 4, 120).contains("a.example:1"));
  EXPECT_EQ(std::ranges::count(StatusTable(status, 2, 20), '\n'), 2);

  const auto json = StatusJson(status);
  EXPECT_TRUE(json.contains(R"("proxy":"not connected: \"x\"\u0009")")) << json;
  EXPECT_TRUE(json.contains(R"("forwarded_rx":{"packets":40,"bytes":4000000,"long_headers":0})"));
  EXPECT_TRUE(json.contains(R"("dropped":{")")) << json;
  EXPECT_EQ(std::ranges::count(json, '{'), std::ranges::count(json, '}'));
}

} // namespace
} // namespace ngmasque::programs
