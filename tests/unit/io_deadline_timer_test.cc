// DeadlineTimer: calls in time, never before it, and once.

#include "../../plugin/io/deadline_timer.h"

#include "io_loop_support.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace ngmasque {
namespace {

using quic_test::Now;

constexpr Nanoseconds kMillisecond = 1'000'000;

class DeadlineTimerTest : public testing::Test {
protected:
  bool RunUntil(const std::function<bool()> &done) { return loop.RunUntil(done); }

  Loop loop;
  std::vector<Nanoseconds> calls; // When they came.
  DeadlineTimer timer{loop, [this] { calls.push_back(Now()); }};
};

// In the past, near and far: by either way of waiting.
TEST_F(DeadlineTimerTest, CallsOnce) {
  for (const Nanoseconds after : {Nanoseconds{0}, kMillisecond / 20, 5 * kMillisecond,
                                  60 * kMillisecond}) {
    calls.clear();
    const auto at = Now() + after;
    timer.Set(at);
    ASSERT_TRUE(RunUntil([&] { return !calls.empty(); }));
    EXPECT_GE(calls.front(), at);
    ev_run(loop, 0); // Until there is nothing to wait for.
    EXPECT_EQ(calls.size(), 1u) << after;
    timer.Stop();
  }
  timer.Set(1);
  EXPECT_TRUE(RunUntil([&] { return calls.size() == 2; })) << "long ago";
}

// Put off and brought forward, over the border between the two.
TEST_F(DeadlineTimerTest, TheLastOneCounts) {
  for (const Nanoseconds first : {kMillisecond, 50 * kMillisecond}) {
    for (const Nanoseconds last : {2 * kMillisecond, 10 * kMillisecond, 70 * kMillisecond}) {
      calls.clear();
      const auto at = Now() + last;
      timer.Set(Now() + first);
      timer.Set(at);
      ASSERT_TRUE(RunUntil([&] { return !calls.empty(); }));
      EXPECT_GE(calls.front(), at) << first << ' ' << last;
      ev_run(loop, EVRUN_NOWAIT);
      EXPECT_EQ(calls.size(), 1u);
    }
  }
}

TEST_F(DeadlineTimerTest, PutOffAgainAndAgain) {
  const auto end = Now() + 100 * kMillisecond;
  Nanoseconds at = 0;
  while (Now() < end) {
    at = Now() + kMillisecond;
    timer.Set(at);
    ev_run(loop, EVRUN_NOWAIT);
  }
  calls.clear(); // The loop may have been held up for longer than that.
  timer.Set(at = Now() + kMillisecond);
  ASSERT_TRUE(RunUntil([&] { return !calls.empty(); }));
  EXPECT_GE(calls.front(), at);
}

TEST_F(DeadlineTimerTest, Stopped) {
  for (const Nanoseconds after : {kMillisecond, 60 * kMillisecond}) {
    timer.Set(Now() + after);
    timer.Stop();
    ev_run(loop, 0);
    EXPECT_TRUE(calls.empty());
  }
  // From within, and set again.
  int left = 3;
  DeadlineTimer *self = nullptr;
  DeadlineTimer chain(loop, [&] { self->Set(--left == 0 ? kNever : Now() + kMillisecond); });
  self = &chain;
  chain.Set(Now());
  ASSERT_TRUE(RunUntil([&] { return left == 0; }));
  ev_run(loop, 0);
  EXPECT_EQ(left, 0);
}

} // namespace
} // namespace ngmasque
