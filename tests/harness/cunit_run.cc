// CUnit's runs: which of its tests are GoogleTest cases, and which of these run.

#include <CUnit/Automated.h>
#include <CUnit/Basic.h>
#include <CUnit/Console.h>

#include "cunit.h"
#include "harness.h"
#include "names.h"

#include <format>
#include <print>
#include <unordered_map>
#include <unordered_set>

namespace harness::cunit {

namespace {

CU_BasicRunMode mode = CU_BRM_NORMAL;

Names names;
/// Names of the cases.
std::unordered_map<const CU_Suite *, std::string> suite_names;
std::unordered_map<const CU_Test *, std::string> test_names;
/// GoogleTest has no way to take a case back.
std::unordered_set<std::string> forgotten;

void RegisterCases() {
  for (auto *suite = CU_get_registry()->pSuite; suite != nullptr; suite = suite->pNext) {
    auto &suite_name = suite_names[suite];
    if (suite_name.empty()) {
      suite_name = names.AddSuite(suite->pName);
    }
    for (auto *test = suite->pTest; test != nullptr; test = test->pNext) {
      auto &full_name = test_names[test];
      if (full_name.empty()) {
        const auto name = names.AddTest(suite_name, test->pName);
        full_name = suite_name + '.' + name;
        RegisterCase(suite_name, name, suite, test);
      }
    }
  }
}

/// The cases that are not to run: those that are forgotten, and, if not all tests were asked for,
/// those that are not among `selected`.
std::vector<std::string> LeftOut(const std::unordered_set<std::string> *selected) {
  std::vector<std::string> left_out;
  const auto &unit_test = *testing::UnitTest::GetInstance();
  for (int i = 0; i < unit_test.total_test_suite_count(); ++i) {
    const auto &suite = *unit_test.GetTestSuite(i);
    for (int j = 0; j < suite.total_test_count(); ++j) {
      const auto name = std::format("{}.{}", suite.name(), suite.GetTestInfo(j)->name());
      if (forgotten.contains(name) || (selected != nullptr && !selected->contains(name))) {
        left_out.push_back(name);
      }
    }
  }
  return left_out;
}

CU_ErrorCode CannotRun(CU_ErrorCode code) {
  CU_set_error(code);
  std::println(stderr, "harness: no test is run: {}", CU_get_error_msg());
  FailProcess();
  return code;
}

/// Runs everything; or only `suite`; or only `test` of it.
CU_ErrorCode Run(CU_Suite *suite = nullptr, CU_Test *test = nullptr) {
  if (CU_get_registry() == nullptr) {
    return CannotRun(CUE_NOREGISTRY);
  }
  if (mode == CU_BRM_SILENT) {
    // Before the command line is read, which may say otherwise.
    GTEST_FLAG_SET(brief, true);
  }
  InitializeFromProcess();
  RegisterCases();
  std::unordered_set<std::string> selected;
  if (suite != nullptr) {
    for (const auto *t = suite->pTest; t != nullptr; t = t->pNext) {
      if (test == nullptr || test == t) {
        selected.insert(test_names.at(t));
      }
    }
  }
  // A program that runs its suites one by one still lists all tests.
  const bool all = suite == nullptr || GTEST_FLAG_GET(list_tests);

  CU_clear_previous_results();
  BeginRun();
  StartClock();
  RunTests(LeftOut(all ? nullptr : &selected));
  StopClock();
  if (CurrentHandlers().all_tests_complete != nullptr) {
    CurrentHandlers().all_tests_complete(CU_get_failure_list());
  }
  CU_set_error(RunError());
  return RunError();
}

} // namespace

void Forget(const CU_Suite &suite) { suite_names.erase(&suite); }

void Forget(const CU_Test &test) {
  if (const auto it = test_names.find(&test); it != test_names.end()) {
    forgotten.insert(it->second);
    test_names.erase(it);
  }
}

} // namespace harness::cunit

using namespace harness::cunit;

extern "C" {

CU_ErrorCode CU_run_all_tests(void) { return Run(); }
CU_ErrorCode CU_run_suite(CU_pSuite pSuite) {
  return pSuite != nullptr ? Run(pSuite) : CannotRun(CUE_NOSUITE);
}
CU_ErrorCode CU_run_test(CU_pSuite pSuite, CU_pTest pTest) {
  if (pSuite == nullptr || pTest == nullptr) {
    return CannotRun(pSuite == nullptr ? CUE_NOSUITE : CUE_NOTEST);
  }
  return CU_get_test_pos(pSuite, pTest) != 0 ? Run(pSuite, pTest)
                                             : CannotRun(CUE_TEST_NOT_IN_SUITE);
}

void CU_basic_set_mode(CU_BasicRunMode new_mode) { mode = new_mode; }
CU_BasicRunMode CU_basic_get_mode(void) { return mode; }
CU_ErrorCode CU_basic_run_tests(void) { return CU_run_all_tests(); }
CU_ErrorCode CU_basic_run_suite(CU_pSuite pSuite) { return CU_run_suite(pSuite); }
CU_ErrorCode CU_basic_run_test(CU_pSuite pSuite, CU_pTest pTest) {
  return CU_run_test(pSuite, pTest);
}
void CU_console_run_tests(void) { CU_run_all_tests(); }

void CU_automated_run_tests(void) {
  if (GTEST_FLAG_GET(output).empty()) {
    GTEST_FLAG_SET(output, "xml:" + ResultsFile());
  }
  CU_run_all_tests();
}

} // extern "C"
