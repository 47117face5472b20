// What has to come of the tests in cunit_sample.c and cunit_compare.c.

#include "../utf8.h"
#include "program.h"
#include <CUnit/CUError.h>

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

/// The sample program with the tests that match `filter`, each in its process.
Run Sample(const std::string &filter, Strings arguments = {"--harness_fork=test"}) {
  arguments.push_back("--gtest_filter=" + filter);
  return RunProgram("cunit-sample", arguments);
}

bool Contains(const std::string &text, const std::string &part) { return text.contains(part); }

/// How often a line is in a text.
long Count(const std::string &text, const std::string &line) {
  return std::ranges::count(LinesAfter(text, line), "");
}

} // namespace

TEST(CUnit, PassingTestsPass) {
  const auto run = Sample("passing.*");
  EXPECT_EQ(run.exit_status, 0);
  EXPECT_EQ(run.cases.size(), 2u);
  EXPECT_TRUE(run.cases.at("passing.each_macro").passed());
  EXPECT_TRUE(run.cases.at("passing.print_something").passed());
  EXPECT_PRED2(Contains, run.out, "tests: 2 run, 0 failed; asserts: 22, 0 failed; records: 0\n");
}

TEST(CUnit, OutputOfATestIsPassedOnOnce) {
  const auto run = Sample("passing.*");
  EXPECT_EQ(Count(run.out, "to stdout"), 1);
  EXPECT_EQ(Count(run.err, "to stderr"), 1);
}

TEST(CUnit, EachFailedAssertIsReportedAndTheTestGoesOn) {
  const auto run = Sample("failing.each_macro_fails:passing.each_macro");
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.failed(), Strings{"failing.each_macro_fails"});
  EXPECT_EQ(Count(run.out, "after the failed assertions"), 1);

  const auto &failures = run.cases.at("failing.each_macro_fails").failures;
  ASSERT_EQ(failures.size(), 17u);
  EXPECT_PRED2(Contains, failures[0], "cunit_sample.c:");
  EXPECT_PRED2(Contains, failures[0], "CU_FAIL(\"failed\")");
  EXPECT_PRED2(Contains, failures[5], "CU_ASSERT_EQUAL(1 + 1,3)");
  // CU_basic_show_failures() at the end of main().
  EXPECT_EQ(LinesAfter(run.out, "  17. ").size(), 1u);
  EXPECT_PRED2(Contains, run.out, "tests: 2 run, 1 failed; asserts: 38, 17 failed; records: 17\n");
}

TEST(CUnit, FatalAssertEndsTheTest) {
  const auto run = Sample("failing.fatal");
  EXPECT_EQ(run.exit_status, 1);
  const auto &failures = run.cases.at("failing.fatal").failures;
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_PRED2(Contains, failures[0], "CU_ASSERT_EQUAL_FATAL(1,2)");
  EXPECT_EQ(Count(run.out, "after the fatal assertion"), 0);
  EXPECT_PRED2(Contains, run.out, "asserts: 2, 1 failed;");
}

TEST(CUnit, FailuresBeyondTheBoundAreCounted) {
  const auto run = Sample("failing.very_often");
  EXPECT_EQ(run.exit_status, 1);
  const auto &failures = run.cases.at("failing.very_often").failures;
  ASSERT_EQ(failures.size(), 1001u);
  EXPECT_PRED2(Contains, failures.back(), "500 further results");
}

TEST(CUnit, CrashIsAFailureOfItsTestAndTheOthersRun) {
  const auto run = Sample("ending.*");
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.cases.size(), 6u);
  EXPECT_TRUE(run.cases.at("ending.survivor").passed());

  const auto &crash = run.cases.at("ending.segmentation_fault").failures;
  ASSERT_EQ(crash.size(), 2u);
  EXPECT_PRED2(Contains, crash[0], "before the crash");
  EXPECT_PRED2(Contains, crash[1], "killed by signal 11 (SIGSEGV: Segmentation fault)");
  EXPECT_PRED2(Contains, run.cases.at("ending.abort").failure(), "SIGABRT");
}

TEST(CUnit, ExitInATestIsAFailureOfIt) {
  const auto run = Sample("ending.exit*:ending.survivor");
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.failed(), (Strings{"ending.exit_0", "ending.exit_3"}));
  EXPECT_PRED2(Contains, run.cases.at("ending.exit_0").failure(),
               "with exit status 0, instead of returning");
  EXPECT_PRED2(Contains, run.cases.at("ending.exit_3").failure(),
               "with exit status 3, instead of returning");
}

TEST(CUnit, StderrOfACrashIsInItsMessageAndLeavesTheXmlReadable) {
  const auto run = Sample("ending.binary_output");
  EXPECT_PRED2(Contains, run.cases.at("ending.binary_output").failure(), "\xc3\xa4");
  EXPECT_EQ(harness::ValidUtf8(run.xml), run.xml);
  EXPECT_FALSE(run.xml.contains('\x01'));
}

TEST(CUnit, HangIsAFailureOfItsTestAndTheOthersRun) {
  const auto run =
    Sample("hanging.hang:hanging.survivor", {"--harness_fork=test", "--harness_timeout=5"});
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.failed(), Strings{"hanging.hang"});
  EXPECT_PRED2(Contains, run.cases.at("hanging.hang").failure(), "killed after 5 s");
  EXPECT_TRUE(run.cases.at("hanging.survivor").passed());
  EXPECT_EQ(LinesAfter(run.out, "hanging in ").size(), 1u);
}

TEST(CUnit, FailingForEverMeetsTheTimeoutToo) {
  const auto run = Sample("hanging.fail_for_ever", {"--harness_fork=test", "--harness_timeout=1"});
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_PRED2(Contains, run.cases.at("hanging.fail_for_ever").failure(), "killed after 1 s");
}

TEST(CUnit, LeakIsAFailureOfItsTest) {
  const auto run = Sample("leaking.*");
  if (!run.checks_leaks()) {
    GTEST_SKIP() << "only the ASan build finds leaks, and not in a debugger or under strace";
  }
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_TRUE(run.cases.at("leaking.no_leak").passed());
  const auto leak = run.cases.at("leaking.leak").failure();
  EXPECT_PRED2(Contains, leak, "the test leaked memory");
  EXPECT_PRED2(Contains, leak, "Direct leak of 24 byte(s)");
  EXPECT_PRED2(Contains, leak, "cunit_sample.c");
  // What a failed test could not free is no second failure.
  EXPECT_EQ(run.cases.at("leaking.leak_after_failure").failures.size(), 1u);
}

TEST(CUnit, SanitizersFindingsAreFailuresOfTheirTest) {
#if __has_feature(address_sanitizer) && __has_feature(undefined_behavior_sanitizer)
  const auto run = Sample("unsound.*:passing.*");
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.failed(), (Strings{"unsound.read_after_free", "unsound.signed_overflow"}));
  EXPECT_PRED2(Contains, run.cases.at("unsound.read_after_free").failure(), "heap-use-after-free");
  EXPECT_PRED2(Contains, run.cases.at("unsound.signed_overflow").failure(),
               "signed integer overflow");
#else
  GTEST_SKIP() << "only the ASan and UBSan build";
#endif
}

TEST(CUnit, NamesAreMappedAndUnique) {
  const auto run = Sample("some_names*");
  EXPECT_EQ(run.exit_status, 0);
  EXPECT_EQ(run.duplicates, Strings{});
  std::set<std::string> names, expected;
  for (const auto &[name, test] : run.cases) {
    EXPECT_TRUE(test.passed()) << name;
    names.insert(name);
  }
  for (const auto *const suite : {"some_names", "some_names_2"}) {
    for (const auto *const test : {"a_test", "a_test_2", "a_test_3", "a_test_2_2", "_", "__"}) {
      expected.insert(std::format("{}.{}", suite, test));
    }
  }
  EXPECT_EQ(names, expected);
}

TEST(CUnit, SuiteFunctionsRunOnceAndTestsDoNotSeeEachOther) {
  const auto run = Sample("state.*");
  EXPECT_EQ(run.exit_status, 0);
  EXPECT_EQ(run.cases.size(), 2u);
  EXPECT_EQ(Count(run.out, "initialized"), 1);
  EXPECT_EQ(Count(run.out, "cleaned up"), 1);
  // Both have found the state as the initialization left it.
  EXPECT_PRED2(Contains, run.out, "asserts: 2, 0 failed;");
}

TEST(CUnit, FailedInitializationFailsEachTestOfTheSuite) {
  const auto run = Sample("init_fails.*:init_asserts.*:passing.*");
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.failed(),
            (Strings{"init_asserts.one", "init_asserts.two", "init_fails.one", "init_fails.two"}));
  EXPECT_PRED2(Contains, run.cases.at("init_fails.two").failure(),
               "the suite's initialization function returned 7");
  EXPECT_PRED2(Contains, run.cases.at("init_asserts.one").failure(), "state == 100");
  EXPECT_EQ(Count(run.out, "this test must not run"), 0);
  EXPECT_EQ(Count(run.out, "after the fatal assertion"), 0);
  EXPECT_EQ(Count(run.out, "cleaned up"), 0);
}

TEST(CUnit, FailedCleanupFailsTheProgram) {
  const auto run = Sample("cleanup_fails.first");
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_PRED2(Contains, run.out, "the suite's cleanup function returned 7");
  EXPECT_PRED2(Contains, run.out, "tests: 1 run, 0 failed;");
}

TEST(CUnit, SetUpAndTearDownRunForEachTest) {
  const auto run = Sample("set_up.*");
  EXPECT_EQ(run.failed(), Strings{"set_up.fatal"});
  EXPECT_EQ(Count(run.out, "set up"), 2);
  EXPECT_EQ(LinesAfter(run.out, "tear down after state "), (Strings{"11", "12"}));
}

TEST(CUnit, InactiveTestFails) {
  const auto run = Sample("added.*");
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_PRED2(Contains, run.cases.at("added.unreached").failure(), "the test is inactive");
  EXPECT_EQ(Count(run.out, "this test must not run"), 0);
}

TEST(CUnit, ListsTestsAndNothingElse) {
  const auto run =
    RunProgramPlainly("cunit-sample", {"--gtest_list_tests", "--gtest_filter=state.*"});
  EXPECT_EQ(run.exit_status, 0);
  EXPECT_EQ(run.out, "state.\n  first\n  second\n");
}

TEST(CUnit, EnvironmentSelectsToo) {
  const auto run =
    RunProgramPlainly("cunit-sample", {}, {"GTEST_FILTER=ending.exit_3", "GTEST_OUTPUT=xml:e.xml"});
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(LinesAfter(run.out, "[ RUN      ] "), Strings{"ending.exit_3"});
  EXPECT_TRUE(run.files.contains("e.xml"));
}

TEST(CUnit, ShardsMakeUpTheWhole) {
  const std::string filter = "--gtest_filter=-hanging.*";
  const auto whole = RunProgram("cunit-sample", {filter});
  std::multiset<std::string> sum, expected;
  for (const auto &[name, test] : whole.cases) {
    expected.insert(name);
  }
  for (const auto *const index : {"0", "1", "2"}) {
    const auto run =
      RunProgram("cunit-sample", {filter},
                 {"GTEST_TOTAL_SHARDS=3", std::format("GTEST_SHARD_INDEX={}", index)});
    EXPECT_GT(run.cases.size(), expected.size() / 6);
    for (const auto &[name, test] : run.cases) {
      sum.insert(name);
    }
  }
  EXPECT_GT(expected.size(), 30u);
  EXPECT_EQ(sum, expected);
}

TEST(CUnit, WithoutForkACrashEndsTheProgram) {
  EXPECT_EQ(Sample("state.first:failing.fatal", {"--harness_no_fork"}).failed(),
            Strings{"failing.fatal"});
  // Now the second test finds what the first one left.
  EXPECT_EQ(Sample("state.*", {"--harness_no_fork"}).failed(), Strings{"state.second"});
  EXPECT_EQ(Sample("ending.abort", {"--harness_no_fork"}).exit_status, -1);
}

TEST(CUnit, BadOptionsAreErrors) {
  for (const auto *const argument :
       {"--harness_timeout=soon", "--harness_timeout=-1", "--harness_timeout",
        "--harness_timeout=99999999999", "--harness_fork", "--gtest_filer=a"}) {
    const auto run = RunProgramPlainly("cunit-sample", {argument});
    EXPECT_EQ(run.exit_status, 2) << argument;
    EXPECT_TRUE(run.err.starts_with("harness: ")) << run.err;
    EXPECT_EQ(std::ranges::count(run.err, '\n'), 1) << run.err;
  }
  EXPECT_EQ(RunProgramPlainly("cunit-sample", {}, {"NGM_HARNESS_TIMEOUT=1h"}).exit_status, 2);
  EXPECT_EQ(RunProgramPlainly("cunit-sample", {}, {"NGM_HARNESS_FORK=no"}).exit_status, 2);
}

namespace {

Run Program(const std::string &name) { return RunProgram("cunit-compare", {name}); }

/// That the line is among the program's own.
void ExpectLine(const Run &run, const std::string &line) {
  EXPECT_GE(Count(run.out, "= " + line), 1) << line << "\n" << run.out;
}

} // namespace

TEST(CUnit, TestsOfASuiteSeeEachOther) {
  const auto run = Program("dependent");
  EXPECT_EQ(run.exit_status, 0);
  ExpectLine(run, "state 1"); // And main() sees them.
  const auto apart = RunProgram("cunit-compare", {"dependent"}, {"NGM_HARNESS_FORK=test"});
  EXPECT_EQ(apart.failed(), Strings{"dependent.read"});
}

TEST(CUnit, CrashEndsItsSuiteAndTheOthersRun) {
  const auto run = Program("crash");
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.failed(), (Strings{"dependent.crash", "dependent.fail"}));
  EXPECT_PRED2(Contains, run.cases.at("dependent.crash").failure(), "SIGSEGV");
  EXPECT_TRUE(run.cases.at("dependent.write").passed());
  EXPECT_EQ(run.cases.at("dependent.pass").result, "skipped");
  EXPECT_PRED2(Contains, run.cases.at("dependent.pass").skip_message,
               "not run: \"crash\" ended the process of its suite");
  EXPECT_TRUE(run.cases.at("later.pass").passed());
  EXPECT_EQ(LinesAfter(run.out, "[ RUN      ] dependent.write").size(), 1u);
  EXPECT_EQ(LinesAfter(run.out, "               tests "),
            Strings{"     5      4      2      2        0"});
  EXPECT_EQ(LinesAfter(run.out, "             asserts "),
            Strings{"     6      6      4      2      n/a"});
}

TEST(CUnit, EndOfAProcessEndsItsSuiteOnly) {
  const auto run = Sample("ending.exit_3:ending.survivor:hanging.hang:hanging.survivor:passing.*",
                          {"--harness_timeout=1"});
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.failed(), (Strings{"ending.exit_3", "hanging.hang"}));
  EXPECT_PRED2(Contains, run.cases.at("ending.exit_3").failure(), "with exit status 3");
  EXPECT_PRED2(Contains, run.cases.at("hanging.hang").failure(), "killed after 1 s");
  EXPECT_EQ(run.cases.at("hanging.survivor").result, "skipped");
  EXPECT_TRUE(run.cases.at("passing.each_macro").passed());
  const auto often = Sample("failing.very_often", {});
  EXPECT_EQ(often.cases.at("failing.very_often").failures.size(), 1001u);
  EXPECT_PRED2(Contains, often.out, "asserts: 1500, 1500 failed; records: 1500\n");
}

TEST(CUnit, ErrorOfARunIsItsFirst) {
  EXPECT_EQ(Program("all").exit_status, CUE_SINIT_FAILED);
  const auto run = Program("parts");
  EXPECT_EQ(run.exit_status, 1); // main() returns 0, but tests have failed.
  ExpectLine(run, "cleanup fails: 23");
  ExpectLine(run, "not there: 33");
  ExpectLine(run, "no suite: 20");
  EXPECT_PRED2(Contains, run.err, "no test is run: there is no such suite");
}

TEST(CUnit, CountersAreThoseOfNow) {
  ExpectLine(Program("all"),
             "in fail: suites 0/0/0 tests 1/0/0 asserts 3/2/1 records 1 error 0, in "
             "first.fail");
}

TEST(CUnit, HandlerOfASuiteGetsItsFailures) {
  const auto run = Program("all");
  const auto complete = run.out.find("= suite complete", run.out.find("= cleanup fails"));
  ASSERT_NE(complete, std::string::npos);
  const auto end = run.out.find("= inactive", complete);
  EXPECT_PRED2(Contains, run.out.substr(complete, end - complete), "record 3 of cleanup fails.-");
  EXPECT_FALSE(run.out.substr(complete, end - complete).contains("record 5"));
}

TEST(CUnit, SuitesWithoutTestsAreInitialized) {
  ExpectLine(Program("all"), "init: suites 1/0/0 tests 3/2/0 asserts 4/2/2 records 2 error 0, in "
                             "empty.-");
}

TEST(CUnit, OnlyTheRegistryInPlaceRuns) {
  const auto run = Program("registries");
  EXPECT_EQ(LinesAfter(run.out, "[ RUN      ] "),
            (Strings{"one.pass", "two.pass", "one_2.pass", "one_2.fail", "one_2.fatal",
                     "one_2.pass", "one_2.fail", "one_2.fatal"}));
  // The XML has each of the three runs.
  EXPECT_EQ(run.cases.size(), 5u);
  EXPECT_EQ(run.duplicates.size(), 3u);
  EXPECT_PRED2(Contains, run.xml, "<testsuites tests=\"8\" failures=\"4\" disabled=\"0\"");
}

TEST(CUnit, AutomatedRunWritesItsFiles) {
  const auto run = Program("automated");
  EXPECT_EQ(run.exit_status, 1);
  ExpectLine(run, "handler kept: 0");
  EXPECT_EQ(run.cases.size(), 15u); // The XML of GoogleTest is beside it.
  EXPECT_PRED2(Contains, run.files.at("root-Results.xml"), "<CUNIT_RUN_TEST_FAILURE> \n");
  EXPECT_PRED2(Contains, run.files.at("root-Listing.xml"),
               "<SUITE_NAME> &lt;&amp;&gt; </SUITE_NAME>");
}

TEST(CUnit, AllNamesOfCUnitAreThere) {
  const auto run = Program("names");
  ExpectLine(run, "package");
  ExpectLine(run, "&lt;a&gt; &amp; b, 17: 0");
  EXPECT_EQ(run.failed(), Strings{"group.old_style"});
}

TEST(CUnit, SummaryIsCUnits) {
  const auto run = Program("dependent");
  EXPECT_PRED2(Contains, run.out,
               "\nRun Summary:    Type  Total    Ran Passed Failed Inactive\n"
               "              suites      2      2    n/a      0        0\n"
               "               tests      3      3      3      0        0\n"
               "             asserts      3      3      3      0      n/a\n"
               "\nElapsed time =    0.");
}

TEST(CUnit, RunOfOneTestPrintsNothingOfTheOthers) {
  const auto run = RunProgramPlainly("cunit-compare", {"many"});
  EXPECT_EQ(LinesAfter(run.out, "[ RUN      ] ").size(), 20u);
  EXPECT_LT(run.out.size(), 20u * 600);
}

TEST(CUnit, RunInATestIsARun) {
  const auto run = RunProgramPlainly("cunit-compare", {"nested"});
  EXPECT_EQ(run.exit_status, 1);
  ExpectLine(run, "inside: 0");
  ExpectLine(run,
             "after it: suites 1/0/0 tests 3/2/0 asserts 4/2/2 records 2 error 0, in outer.outer");
}

TEST(CUnit, AssertionOutsideOfATestFailsTheProgram) {
  const auto run = RunProgramPlainly("cunit-compare", {"outside"});
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(Count(run.out, "after the assertion"), 1);
  EXPECT_PRED2(Contains, run.err, "CUnit assertion outside of a test failed: argc == 0");
}
