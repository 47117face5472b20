// Forked bodies of tests in C++, and the small parts of the harness.

#include "../harness.h"
#include "../names.h"
#include "../utf8.h"

#include <gtest/gtest.h>

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

using harness::Capture;
using harness::Outcome;
using testing::TestPartResult;

namespace {

/// With --harness_no_fork a crash would be one of this program.
bool Forks() { return harness::options().fork; }

std::string Message(const Outcome &outcome) {
  return outcome.parts.size() == 1
           ? outcome.parts[0].message
           : "there are " + std::to_string(outcome.parts.size()) + " results";
}

void FailFatally() { ASSERT_EQ(1, 2) << "fatal"; }

} // namespace

TEST(Isolation, PassingBodyReportsNothing) {
  const auto outcome = Capture([] { EXPECT_EQ(1, 1); });
  EXPECT_TRUE(outcome.parts.empty());
  EXPECT_FALSE(outcome.failed());
}

TEST(Isolation, FailuresAndSkipsComeBack) {
  const auto outcome = Capture([] {
    EXPECT_EQ(1, 3) << "first";
    FailFatally();
    EXPECT_TRUE(testing::Test::HasFatalFailure());
    GTEST_SKIP() << "reason";
  });
  ASSERT_EQ(outcome.parts.size(), 3u);
  EXPECT_TRUE(outcome.failed());
  EXPECT_EQ(outcome.parts[0].type, TestPartResult::kNonFatalFailure);
  EXPECT_NE(outcome.parts[0].message.find("first"), std::string::npos);
  EXPECT_TRUE(outcome.parts[0].file.ends_with("isolation_test.cc"));
  EXPECT_GT(outcome.parts[0].line, 0);
  EXPECT_EQ(outcome.parts[1].type, TestPartResult::kFatalFailure);
  EXPECT_EQ(outcome.parts[2].type, TestPartResult::kSkip);
  EXPECT_NE(outcome.parts[2].message.find("reason"), std::string::npos);
}

TEST(Isolation, SkipAloneIsNoFailure) {
  EXPECT_FALSE(Capture([] { GTEST_SKIP(); }).failed());
}

TEST(Isolation, MemoryIsTheChildsOwn) {
  if (!Forks()) {
    GTEST_SKIP() << "--harness_no_fork";
  }
  int value = 1;
  harness::RunInChild([&] { value = 2; });
  EXPECT_EQ(value, 1);
}

TEST(Isolation, ExceptionIsAFailure) {
  EXPECT_NE(Message(Capture([] { throw std::runtime_error{"thrown on purpose"}; }))
              .find("thrown on purpose"),
            std::string::npos);
  EXPECT_NE(Message(Capture([] { throw 7; })).find("not a std::exception"), std::string::npos);
}

TEST(Isolation, SignalIsAFailure) {
  if (!Forks()) {
    GTEST_SKIP() << "--harness_no_fork";
  }
  const auto outcome = Capture([] { raise(SIGTERM); });
  EXPECT_TRUE(outcome.failed());
  EXPECT_NE(Message(outcome).find("signal 15 (SIGTERM"), std::string::npos);
}

TEST(Isolation, LongMessagesAreCut) {
  if (!Forks()) {
    GTEST_SKIP() << "--harness_no_fork";
  }
  const auto message = Message(Capture([] { ADD_FAILURE() << std::string(1000000, 'x'); }));
  EXPECT_GT(message.size(), 60000u);
  EXPECT_LE(message.size(), 65536u);
}

TEST(Isolation, ThreadsOfTheBodyCanFail) {
  EXPECT_EQ(Capture([] {
              std::thread thread{[] { ADD_FAILURE() << "in a thread"; }};
              ADD_FAILURE() << "beside it";
              thread.join();
            }).parts.size(),
            2u);
}

TEST(Isolation, ProcessOfTheBodyCanFailAndDoesNotEndTheTest) {
  if (!Forks()) {
    GTEST_SKIP() << "--harness_no_fork";
  }
  const auto outcome = Capture([] {
    if (fork() == 0) {
      ADD_FAILURE() << "in a process of the test's";
      return;
    }
    while (wait(nullptr) > 0) {
    }
    // That the other process has come to the end of the body shall not hide this.
    _exit(0);
  });
  ASSERT_EQ(outcome.parts.size(), 2u);
  EXPECT_NE(outcome.parts[0].message.find("in a process of the test's"), std::string::npos);
  EXPECT_NE(outcome.parts[1].message.find("instead of returning"), std::string::npos);
}

TEST(Isolation, ProcessLeftBehindDoesNotHoldTheTestUp) {
  if (!Forks()) {
    GTEST_SKIP() << "--harness_no_fork";
  }
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  // It holds the test's descriptors until this test is over: if that were waited for, it would
  // hang.
  EXPECT_FALSE(Capture([&] {
                 if (fork() == 0) {
                   close(fds[1]);
                   char byte;
                   _exit(read(fds[0], &byte, 1) == 0 ? 0 : 1);
                 }
               }).failed());
  close(fds[0]);
  close(fds[1]);
}

TEST(Isolation, BodyDiesWithItsRunner) {
  if (!Forks()) {
    GTEST_SKIP() << "--harness_no_fork";
  }
  int to_test[2];
  ASSERT_EQ(pipe(to_test), 0);
  const pid_t runner = fork();
  if (runner == 0) {
    static_cast<void>(Capture([&] {
      const pid_t self = getpid();
      static_cast<void>(!write(to_test[1], &self, sizeof(self)));
      for (;;) {
        pause();
      }
    }));
    _exit(1);
  }
  close(to_test[1]);
  pid_t body = 0;
  ASSERT_EQ(read(to_test[0], &body, sizeof(body)), static_cast<ssize_t>(sizeof(body)));
  kill(runner, SIGKILL);
  waitpid(runner, nullptr, 0);
  // Readable, at its end, as soon as no process has the other end any more.
  pollfd end{.fd = to_test[0], .events = POLLIN, .revents = 0};
  if (poll(&end, 1, 60000) != 1) {
    kill(body, SIGKILL);
    FAIL() << "the test body lived on";
  }
  close(to_test[0]);
}

TEST(Isolation, DeathTestsWorkInside) {
  harness::RunInChild([] { EXPECT_EXIT(std::exit(3), testing::ExitedWithCode(3), ""); });
}

TEST(Isolation, NestedBodiesReportThrough) {
  EXPECT_NE(Message(Capture([] { harness::RunInChild([] { ADD_FAILURE() << "deep inside"; }); }))
              .find("deep inside"),
            std::string::npos);
}

TEST(Names, KeepsOnlyWhatEveryToolTakes) {
  EXPECT_EQ(harness::MapName("Test_1"), "Test_1");
  EXPECT_EQ(harness::MapName("a b-c.d:e*f?g/h"), "a_b_c_d_e_f_g_h");
  EXPECT_EQ(harness::MapName(""), "_");
  EXPECT_EQ(harness::MapName("\xc3\xa4"), "__");
}

TEST(Names, AreUnique) {
  harness::Names names;
  EXPECT_EQ(names.AddSuite("Names"), "Names_2"); // This suite has the name.
  EXPECT_EQ(names.AddSuite("a b"), "a_b");
  EXPECT_EQ(names.AddSuite("a_b"), "a_b_2");
  EXPECT_EQ(names.AddTest("a_b", "x"), "x");
  EXPECT_EQ(names.AddTest("a_b_2", "x"), "x");
  EXPECT_EQ(names.AddTest("a_b", "x"), "x_2");
  EXPECT_EQ(names.AddTest("a_b", "x_2"), "x_2_2");
}

TEST(Utf8, ReplacesWhatIsNotWellFormed) {
  const std::string good = "a \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80";
  EXPECT_EQ(harness::ValidUtf8(good), good);
  EXPECT_EQ(harness::ValidUtf8("\xff\x80"), "??");
  EXPECT_EQ(harness::ValidUtf8("\xc0\xaf"), "??");           // overlong
  EXPECT_EQ(harness::ValidUtf8("\xe0\x80\xaf"), "???");      // overlong
  EXPECT_EQ(harness::ValidUtf8("\xed\xa0\x80"), "???");      // a surrogate
  EXPECT_EQ(harness::ValidUtf8("\xf4\x90\x80\x80"), "????"); // beyond U+10FFFF
  EXPECT_EQ(harness::ValidUtf8("end \xe2\x82"), "end ??");   // cut off
  EXPECT_EQ(harness::ValidUtf8("\xe2\x82"
                               "a"),
            "??a");
}
