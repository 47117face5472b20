// Forked bodies of tests in C++, and the small parts of the harness.

#include "../guardian.h"
#include "../names.h"
#include "../utf8.h"
#include "program.h"

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>

using harness::guardian::Step;
using testing::TestPartResult;

namespace {

/// All of these need a process of their own.
class Isolation : public testing::Test {
  void SetUp() override {
    if (!harness::options().fork) {
      GTEST_SKIP() << "--harness_no_fork";
    }
  }
};

Step Capture(const std::function<void()> &body) {
  Step step;
  EXPECT_TRUE(harness::guardian::RunApart(body, step));
  return step;
}

std::string Message(const Step &outcome) {
  return outcome.parts.size() == 1
           ? outcome.parts[0].message
           : "there are " + std::to_string(outcome.parts.size()) + " results";
}

void FailFatally() { ASSERT_EQ(1, 2) << "fatal"; }

} // namespace

TEST_F(Isolation, PassingBodyReportsNothing) {
  const auto outcome = Capture([] { EXPECT_EQ(1, 1); });
  EXPECT_TRUE(outcome.parts.empty());
}

TEST_F(Isolation, FailuresAndSkipsComeBack) {
  const auto outcome = Capture([] {
    EXPECT_EQ(1, 3) << "first";
    FailFatally();
    EXPECT_TRUE(testing::Test::HasFatalFailure());
    GTEST_SKIP() << "reason";
  });
  ASSERT_EQ(outcome.parts.size(), 3u);
  EXPECT_EQ(outcome.parts[0].type, TestPartResult::kNonFatalFailure);
  EXPECT_NE(outcome.parts[0].message.find("first"), std::string::npos);
  EXPECT_TRUE(outcome.parts[0].file.ends_with("isolation_test.cc"));
  EXPECT_GT(outcome.parts[0].line, 0);
  EXPECT_EQ(outcome.parts[1].type, TestPartResult::kFatalFailure);
  EXPECT_EQ(outcome.parts[2].type, TestPartResult::kSkip);
  EXPECT_NE(outcome.parts[2].message.find("reason"), std::string::npos);
}

TEST_F(Isolation, MemoryIsTheChildsOwn) {
  int value = 1;
  harness::RunInChild([&] { value = 2; });
  EXPECT_EQ(value, 1);
}

TEST_F(Isolation, ExceptionIsAFailure) {
  EXPECT_NE(Message(Capture([] { throw std::runtime_error{"thrown on purpose"}; }))
              .find("thrown on purpose"),
            std::string::npos);
  EXPECT_NE(Message(Capture([] { throw 7; })).find("not a std::exception"), std::string::npos);
}

TEST_F(Isolation, SignalIsAFailure) {
  const auto outcome = Capture([] { raise(SIGTERM); });
  EXPECT_NE(Message(outcome).find("signal 15 (SIGTERM"), std::string::npos);
}

TEST_F(Isolation, LongMessagesAreCut) {
  const auto message = Message(Capture([] { ADD_FAILURE() << std::string(1000000, 'x'); }));
  EXPECT_GT(message.size(), 60000u);
  EXPECT_LE(message.size(), 65536u);
}

TEST_F(Isolation, ThreadsOfTheBodyCanFail) {
  EXPECT_EQ(Capture([] {
              std::thread thread{[] { ADD_FAILURE() << "in a thread"; }};
              ADD_FAILURE() << "beside it";
              thread.join();
            }).parts.size(),
            2u);
}

TEST_F(Isolation, ProcessOfTheBodyCanFailAndDoesNotEndTheTest) {
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

TEST_F(Isolation, ProcessLeftBehindDoesNotHoldTheTestUp) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  // It holds the test's descriptors until this test is over: if that were waited for, it would
  // hang.
  EXPECT_TRUE(Capture([&] {
                if (fork() == 0) {
                  close(fds[1]);
                  char byte;
                  _exit(read(fds[0], &byte, 1) == 0 ? 0 : 1);
                }
              }).parts.empty());
  close(fds[0]);
  close(fds[1]);
}

TEST_F(Isolation, ProgramDiesWithItsGuardian) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  const pid_t guardian = fork();
  if (guardian == 0) {
    dup2(fds[1], STDOUT_FILENO);
    close(fds[0]);
    close(fds[1]);
    execl(selftest::Path("cunit-sample").c_str(), "cunit-sample", "--gtest_filter=hanging.hang",
          nullptr);
    _exit(1);
  }
  close(fds[1]);
  std::string out;
  for (char c; !out.contains("hanging in") && read(fds[0], &c, 1) == 1;) {
    out += c;
  }
  kill(guardian, SIGKILL);
  waitpid(guardian, nullptr, 0);
  // At its end as soon as no process of the program is there any more.
  for (char c; read(fds[0], &c, 1) == 1;) {
  }
  close(fds[0]);
}

TEST_F(Isolation, DeathTestsWorkInside) {
  harness::RunInChild([] { EXPECT_EXIT(std::exit(3), testing::ExitedWithCode(3), ""); });
}

TEST_F(Isolation, BodyWithinABodyRunsInItsProcess) {
  EXPECT_EQ(Message(Capture([] { harness::RunInChild([] { GTEST_SKIP() << "deep inside"; }); })),
            "deep inside");
}

TEST(Install, HasNothingOfTheTests) {
  std::ifstream file{selftest::Path("../../meson-info/intro-installed.json")};
  const std::string plan{std::istreambuf_iterator<char>{file}, {}};
  EXPECT_NE(plan.find("libngtcp2"), std::string::npos) << plan;
  for (const auto *const word : {"/tests/harness", "libharness", "CUnit", "munit", "libgtest"}) {
    EXPECT_EQ(plan.find(word), std::string::npos) << word << " in " << plan;
  }
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
