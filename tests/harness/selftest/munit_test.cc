// What has to come of the tests in munit_sample.c.

#include "program.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <format>
#include <set>

using selftest::LinesAfter;
using selftest::Run;
using selftest::RunProgram;
using selftest::RunProgramPlainly;

namespace {

using Strings = std::vector<std::string>;

Run Sample(const std::string &filter, Strings arguments = {}) {
  arguments.push_back("--gtest_filter=" + filter);
  return RunProgram("munit-sample", arguments);
}

bool Contains(const std::string &text, const std::string &part) { return text.contains(part); }

} // namespace

TEST(Munit, EachTestOfTheTreeIsACase) {
  const auto run = RunProgram("munit-sample");
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.duplicates, Strings{});
  std::set<std::string> names, expected;
  for (const auto &[name, test] : run.cases) {
    names.insert(name);
  }
  for (const auto *const name :
       {"ok", "failed_assertion", "failed_memory", "logged_error", "result_fail", "result_error",
        "skip", "skip_silently", "crash", "leak", "todo", "todo_done"}) {
    expected.insert(std::format("sample.{}", name));
  }
  for (const auto *const size : {"1", "2", "3"}) {
    for (const auto *const kind : {"red_apples", "pears"}) {
      expected.insert(std::format("sample.parameters_size_{}__kind_{}", size, kind));
    }
  }
  expected.insert({"sample_inner.fixture", "sample_inner.fixture_once", "sample_inner.random"});
  EXPECT_EQ(names, expected);
}

TEST(Munit, PassingTestGetsTheUserData) {
  const auto run = Sample("sample.ok");
  EXPECT_EQ(run.exit_status, 0);
  EXPECT_TRUE(run.cases.at("sample.ok").passed());
}

TEST(Munit, FailedAssertionEndsTheTest) {
  const auto run = Sample("sample.failed_*:sample.ok");
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.failed(), (Strings{"sample.failed_assertion", "sample.failed_memory"}));
  const auto &failures = run.cases.at("sample.failed_assertion").failures;
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_PRED2(Contains, failures[0], "munit_sample.c:");
  EXPECT_PRED2(Contains, failures[0], "assertion failed: 1 + 1 == 3 (2 == 3)");
  EXPECT_FALSE(run.out.contains("after the failed assertion"));
  // munit's dump of the difference.
  EXPECT_PRED2(Contains, run.err, "66 49 72 73 74");
}

TEST(Munit, LoggedErrorEndsTheTest) {
  const auto run = Sample("sample.logged_error");
  const auto &failures = run.cases.at("sample.logged_error").failures;
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_PRED2(Contains, failures[0], "logged as an error");
  EXPECT_FALSE(run.out.contains("after the error"));
  EXPECT_PRED2(Contains, run.err, "only a warning");
}

TEST(Munit, ResultsAreMapped) {
  const auto run = Sample("sample.result_*:sample.skip*");
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.failed(), (Strings{"sample.result_error", "sample.result_fail"}));
  EXPECT_PRED2(Contains, run.cases.at("sample.result_fail").failure(), "MUNIT_FAIL");
  EXPECT_PRED2(Contains, run.cases.at("sample.result_error").failure(), "MUNIT_ERROR");
  EXPECT_EQ(run.cases.at("sample.skip").result, "skipped");
  EXPECT_PRED2(Contains, run.cases.at("sample.skip").skip_message, "nothing to test here");
  EXPECT_EQ(run.cases.at("sample.skip_silently").result, "skipped");
}

TEST(Munit, SkippedTestsAreNoFailures) { EXPECT_EQ(Sample("sample.skip*").exit_status, 0); }

TEST(Munit, CrashIsAFailureOfItsTestAndTheOthersRun) {
  const auto run = Sample("sample.crash:sample.skip:sample_inner.random");
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.failed(), Strings{"sample.crash"});
  EXPECT_PRED2(Contains, run.cases.at("sample.crash").failure(), "SIGBUS");
  EXPECT_TRUE(run.cases.at("sample_inner.random").passed());
}

TEST(Munit, LeakIsAFailureOfItsTest) {
  const auto run = Sample("sample.leak:sample.ok");
  if (!run.checks_leaks()) {
    GTEST_SKIP() << "only the ASan build finds leaks, and not in a debugger or under strace";
  }
  EXPECT_EQ(run.failed(), Strings{"sample.leak"});
  EXPECT_PRED2(Contains, run.cases.at("sample.leak").failure(), "munit_sample.c");
}

TEST(Munit, TodoIsSkippedUntilItPasses) {
  const auto run = Sample("sample.todo*");
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.cases.at("sample.todo").result, "skipped");
  EXPECT_PRED2(Contains, run.cases.at("sample.todo").skip_message,
               "TODO: assertion failed: 1 + 1 == 3");
  EXPECT_PRED2(Contains, run.cases.at("sample.todo_done").failure(), "marked TODO, but successful");
  // The same without a child.
  const auto inside = Sample("sample.todo*", {"--harness_no_fork"});
  EXPECT_EQ(inside.cases.at("sample.todo").result, "skipped");
  EXPECT_EQ(inside.cases.at("sample.todo_done").result, "skipped");
}

TEST(Munit, EachCombinationOfParametersRuns) {
  const auto run = Sample("sample.parameters*");
  EXPECT_EQ(run.exit_status, 0);
  // Twice each, for that is the root suite's number of iterations; in munit's order.
  Strings expected;
  for (const auto *const size : {"1", "2", "3"}) {
    for (const auto *const kind : {"red apples", "pears"}) {
      expected.insert(expected.end(), 2, std::format("{} of {}", size, kind));
    }
  }
  EXPECT_EQ(LinesAfter(run.out, "size "), expected);
}

TEST(Munit, FixtureIsMadeForEachIteration) {
  for (const auto &[filter, iterations] :
       {std::pair{"sample_inner.fixture", 2u}, {"sample_inner.fixture_once", 1u}}) {
    const auto run = Sample(filter);
    EXPECT_EQ(run.exit_status, 0);
    EXPECT_EQ(LinesAfter(run.out, "set up with user data").size(), iterations);
    EXPECT_EQ(LinesAfter(run.out, "tear down").size(), iterations);
  }
}

TEST(Munit, RandomNumbersCanBeRepeated) {
  const auto first =
    LinesAfter(Sample("*.random", {"--gtest_random_seed=7"}).out, "random number ");
  const auto second =
    LinesAfter(Sample("*.random", {"--gtest_random_seed=7"}).out, "random number ");
  const auto other =
    LinesAfter(Sample("*.random", {"--gtest_random_seed=8"}).out, "random number ");
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first, second);
  EXPECT_NE(first, other);
}

TEST(Munit, UnknownArgumentsAreErrors) {
  // munit would take the first as a test's name.
  for (const auto *const argument : {"/sample/ok", "--iterations", "-x"}) {
    const auto run = RunProgramPlainly("munit-sample", {argument});
    EXPECT_EQ(run.exit_status, 2) << argument;
    EXPECT_EQ(std::ranges::count(run.err, '\n'), 1) << run.err;
  }
}
