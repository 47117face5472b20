// A ProxyClient behind another ProxyClient: refusals, and ends in every order.

#include "io_two_hops_support.h"

namespace ngmasque::two_hops_test {
namespace {

class TwoHopsEnd : public TwoHops {};

TEST_P(TwoHopsEnd, TheFirstOneRefuses) {
  first = MakeProxy("127.0.0.9/32");
  Start();
  ASSERT_TRUE(RunUntil([&] { return !watcher.closed.empty(); }));
  EXPECT_NE(watcher.closed.find("another proxy"), std::string::npos) << watcher.closed;
  EXPECT_NE(watcher.closed.find("403"), std::string::npos) << watcher.closed;
  EXPECT_EQ(recorder.ended.size(), 1u);
  EXPECT_EQ(via_watcher.closed, "");
}

TEST_P(TwoHopsEnd, TheSecondOneRefuses) {
  second = MakeProxy("127.0.0.9/32");
  Start();
  ASSERT_TRUE(RunUntil([&] { return !recorder.ended.empty(); }));
  EXPECT_EQ(recorder.ended.front().status, 403u);
  EXPECT_EQ(watcher.closed, "");
}

TEST_P(TwoHopsEnd, TheFirstOneEnds) {
  Start();
  ASSERT_TRUE(ForwardsTwice());
  first->Close();
  ASSERT_TRUE(RunUntil([&] { return !watcher.closed.empty(); }));
  EXPECT_NE(watcher.closed.find("by way of"), std::string::npos) << watcher.closed;
  EXPECT_NE(watcher.closed.find(via_watcher.closed), std::string::npos);
  ASSERT_EQ(recorder.ended.size(), 1u);
  EXPECT_EQ(recorder.ended.front().kind, TunnelEnd::Kind::kConnection);
}

TEST_P(TwoHopsEnd, TheSecondOneEnds) {
  Start();
  ASSERT_TRUE(ForwardsTwice());
  second->Close();
  ASSERT_TRUE(RunUntil([&] { return !watcher.closed.empty(); }));
  EXPECT_EQ(via_watcher.closed, "");
  EXPECT_EQ(via->tunnels(), 0u);
  EXPECT_EQ(recorder.ended.size(), 1u);
}

TEST_P(TwoHopsEnd, TheProgramClosesTheFirstOne) {
  Start();
  ASSERT_TRUE(Forwards());
  via->Close();
  EXPECT_EQ(recorder.ended.size(), 0u) << "from the loop only";
  std::ignore = tunnel->Send(Short(kServerId), 0);
  ASSERT_TRUE(RunUntil([&] { return !watcher.closed.empty(); }));
  EXPECT_EQ(recorder.ended.size(), 1u);
}

TEST_P(TwoHopsEnd, TheProgramDestroysTheFirstOne) {
  Start();
  ASSERT_TRUE(Forwards());
  via.reset();
  std::ignore = tunnel->Send(Short(kServerId), 0);
  ASSERT_TRUE(RunUntil([&] { return !watcher.closed.empty(); }));
  EXPECT_EQ(recorder.ended.size(), 1u);
}

TEST_P(TwoHopsEnd, TheProgramDestroysBothInAHurry) {
  Start();
  via.reset();
  client.reset();
  EXPECT_TRUE(tunnel->over());
  tunnel.reset();
  Start();
  ASSERT_TRUE(RunUntil([&] { return recorder.opened == 1; }));
  client.reset();
  via.reset();
  EXPECT_TRUE(tunnel->over());
}

TEST_P(TwoHopsEnd, TheProgramEndsTheSecondOne) {
  Start();
  ASSERT_TRUE(Forwards());
  const auto closed = [this] { return second->connections() == 0; };
  client->Close();
  EXPECT_TRUE(RunUntil(closed)) << "it has been told";
  EXPECT_EQ(via->tunnels(), 0u);
  EXPECT_TRUE(recorder.ended.empty());
  client.reset();
  tunnel.reset();
  Start(); // With another `via`, while the one before it still is there.
  ASSERT_TRUE(Forwards());
  client.reset();
  EXPECT_EQ(via->tunnels(), 0u);
}

// What is tunnelled waits for the loop, which may not come round any more.
TEST_P(TwoHopsEnd, TheProgramClosesBoth) {
  via_tunnel.forward = false;
  Start();
  ASSERT_TRUE(Forwards());
  ASSERT_EQ(second->connections(), 1u);
  client->Close();
  via->Close();
  EXPECT_TRUE(RunUntil([this] { return second->connections() == 0; })) << "nobody has told it";
}

TEST_P(TwoHopsEnd, TheFirstOneIsOverFromTheBeginning) {
  via = std::make_unique<ProxyClient>(loop, To(*first, GetParam().first), via_watcher);
  ASSERT_TRUE(via->Start());
  via->Close();
  auto options = To(*second, GetParam().second);
  options.via = via.get();
  ProxyClient late(loop, options, watcher);
  EXPECT_EQ(late.Start().error(), IoError::kClosed);
}

TEST_P(TwoHopsEnd, NobodyIsThere) {
  idle_timeout = std::chrono::milliseconds(500);
  second.reset();
  second = MakeProxy();
  const auto gone = second->addresses().front();
  second.reset();
  via = std::make_unique<ProxyClient>(loop, To(*first, GetParam().first), via_watcher);
  ASSERT_TRUE(via->Start());
  ProxyClient::Options options{.host = "127.0.0.1",
                               .port = std::to_string(gone.port),
                               .dialects = {.dialect = GetParam().second}};
  options.via = via.get();
  client = std::make_unique<ProxyClient>(loop, options, watcher);
  ASSERT_TRUE(client->Start());
  ASSERT_TRUE(RunUntil([&] { return !watcher.closed.empty(); }));
  EXPECT_NE(watcher.closed.find("the target refuses packets"), std::string::npos) << watcher.closed;
}

INSTANTIATE_TEST_SUITE_P(Dialects, TwoHopsEnd, kDialects, NameOf);

} // namespace
} // namespace ngmasque::two_hops_test
