// cunit_compare.c has to do the same with the harness as with CUnit itself.  What differs on
// purpose is in README.md and in Comparable().

#include "program.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <format>
#include <regex>

namespace {

using selftest::Run;

/// The program with CUnit; compiled here, for the package may have come after the build was set up.
class Compare : public testing::TestWithParam<const char *> {
protected:
  static void SetUpTestSuite() {
    if (std::filesystem::exists("/usr/include/CUnit/CUnit.h")) {
      program = std::format("{}cunit-compare-{}", testing::TempDir(), getpid());
      ASSERT_EQ(
        std::system(std::format("{} -w -o '{}' '{}' -lcunit", COMPILER, program, SOURCE).c_str()),
        0);
    }
  }
  static void TearDownTestSuite() { std::filesystem::remove(program); }
  void SetUp() override {
    if (program.empty()) {
      GTEST_SKIP() << "CUnit is missing: ci/test installs the Debian package libcunit1-dev";
    }
  }

  static std::string program;
};
std::string Compare::program;

/// What is to be the same: the program's own lines, the summaries, the files.
std::string Comparable(const Run &run) {
  std::string text;
  for (const auto *const begin : {"= ", "Run Summary", "              suites ",
                                  "               tests ", "             asserts "}) {
    for (const auto &line : selftest::LinesAfter(run.out, begin)) {
      text += begin + line + "\n";
    }
  }
  for (const auto &[name, content] : run.files) {
    text += name + "\n" + content;
  }
  text = std::regex_replace(text, std::regex{"CUnit v2.1-3 - .*"}, "");
  // CUnit does not escape it in the listing, which then no one can parse.
  text = std::regex_replace(text, std::regex{"<&>"}, "&lt;&amp;&gt;");
  return std::regex_replace(text, std::regex{"[^ ]*/cunit_compare.c"}, "cunit_compare.c");
}

} // namespace

TEST_P(Compare, IsTheSame) {
  const auto with_cunit = selftest::RunProgramPlainly(program, {GetParam()});
  const auto with_harness = selftest::RunProgramPlainly("cunit-compare", {GetParam()});
  EXPECT_EQ(Comparable(with_harness), Comparable(with_cunit));
  EXPECT_GT(Comparable(with_cunit).size(), 50u);
  const bool failed = with_harness.out.contains("[  FAILED  ]") || !with_harness.err.empty();
  EXPECT_EQ(with_harness.exit_status,
            with_cunit.exit_status == 0 && failed ? 1 : with_cunit.exit_status);
}

INSTANTIATE_TEST_SUITE_P(, Compare,
                         testing::Values("parts", "normal", "silent", "verbose", "all", "stop",
                                         "abort", "automated", "registries", "dependent", "names",
                                         "errors", "many"),
                         [](const auto &parameter) { return std::string{parameter.param}; });
