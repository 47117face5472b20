// CUnit's runs: suites and tests in the registry's order, each test a GoogleTest case; assertions.

#include "cunit.h"
#include "cunit_suite.h"
#include "guard.h"
#include "guardian.h"
#include "harness.h"
#include "names.h"

#include <cstdlib>
#include <format>
#include <print>
#include <unordered_map>
#include <utility>

namespace harness::cunit {

namespace {

using testing::TestPartResult;

Names names;
std::unordered_map<const CU_Suite *, std::string> suite_names;
std::unordered_map<const CU_Test *, std::string> test_names;
std::unordered_map<std::string, CU_Suite *> suites_by_name;
bool changed = true;

/// Makes records of failed assertions, and of crashes and the like, which have no file name.
class Recorder : public testing::EmptyTestEventListener {
  void OnTestPartResult(const TestPartResult &result) override {
    if (current.place != Place::test || !result.failed()) {
      return;
    }
    const auto *const file = result.file_name();
    CountFailed(file, file != nullptr ? static_cast<unsigned int>(result.line_number()) : 0,
                result.message());
  }
};

/// Suites without tests are no suites to GoogleTest.  They run where their turn comes.
void RunEmptySuites(const CU_Suite *before) {
  for (; current.next < current.suites.size() && current.suites[current.next] != before;
       ++current.next) {
    auto *const suite = current.suites[current.next];
    if (suite->pTest == nullptr && GTEST_FLAG_GET(filter) == "*" &&
        std::getenv("GTEST_TOTAL_SHARDS") == nullptr) {
      StartSuite(suite);
      FinishSuite();
    }
  }
}

/// One case.  GoogleTest wants one class for all tests of a suite; here one serves all suites, and
/// the suite that is about to run is known by its name.
class CUnitCase : public testing::Test {
public:
  explicit CUnitCase(CU_Test *test) : test_{test} {}

  static void SetUpTestSuite() {
    auto *const suite =
      suites_by_name.at(testing::UnitTest::GetInstance()->current_test_suite()->name());
    RunEmptySuites(suite);
    StartSuite(suite);
  }

  static void TearDownTestSuite() { FinishSuite(); }

  void TestBody() override {
    if (current.state == SuiteState::init_failed) {
      AddPart(TestPartResult::kFatalFailure, nullptr, -1, current.failure);
    } else if (current.state == SuiteState::inactive) {
      AddPart(fail_on_inactive ? TestPartResult::kFatalFailure : TestPartResult::kSkip, nullptr, -1,
              "its suite is inactive");
    } else if (current.state == SuiteState::stopped || Stopped()) {
      AddPart(TestPartResult::kSkip, nullptr, -1, "not run: an earlier error stopped the run");
    } else if (!current.crashed.empty()) {
      AddPart(TestPartResult::kSkip, nullptr, -1,
              std::format("not run: \"{}\" ended the process of its suite", current.crashed));
    } else {
      RunTest(test_);
    }
  }

private:
  CU_Test *test_;
};

void RegisterCases() {
  static const bool once = [] {
    testing::UnitTest::GetInstance()->listeners().Append(new Recorder);
    return true;
  }();
  static_cast<void>(once);
  if (!std::exchange(changed, false)) {
    return; // A program may run its tests one by one.
  }
  for (auto *suite = CU_get_registry()->pSuite; suite != nullptr; suite = suite->pNext) {
    auto &suite_name = suite_names[suite];
    if (suite_name.empty()) {
      suite_name = names.AddSuite(suite->pName);
      suites_by_name[suite_name] = suite;
    }
    for (auto *test = suite->pTest; test != nullptr; test = test->pNext) {
      auto &full_name = test_names[test];
      if (full_name.empty()) {
        const auto name = names.AddTest(suite_name, test->pName);
        full_name = suite_name + '.' + name;
        testing::RegisterTest(suite_name.c_str(), name.c_str(), nullptr, nullptr, "", 0,
                              [=]() -> CUnitCase * { return new CUnitCase{test}; });
      }
    }
  }
}

void RunCases(CU_Test *only) {
  std::vector<std::string> selected;
  for (const auto *suite : current.suites) {
    for (const auto *test = suite->pTest; test != nullptr; test = test->pNext) {
      if (only == nullptr || only == test) {
        selected.push_back(test_names.at(test));
      }
    }
  }
  // A program that runs its suites one by one still lists all tests.
  RunTests(GTEST_FLAG_GET(list_tests) ? nullptr : &selected);
  RunEmptySuites(nullptr);
}

/// A run within a test: GoogleTest is busy with that.
void RunInside(CU_Test *only) {
  for (auto *const suite : current.suites) {
    StartSuite(suite);
    for (auto *test = suite->pTest; test != nullptr; test = test->pNext) {
      if (current.state == SuiteState::good && !Stopped() && (only == nullptr || only == test)) {
        RunTest(test);
      }
    }
    FinishSuite();
  }
}

/// A failed assertion; returns whether it can be fatal to a test or to a suite's function.
bool Fail(const char *file, unsigned int line, const char *condition, bool fatal) {
  switch (current.place) {
  case Place::test:
    if (!in_child && ++current.parts > kMaxParts) {
      CountFailed(file, line, condition);
    } else {
      AddPart(fatal ? TestPartResult::kFatalFailure : TestPartResult::kNonFatalFailure, file,
              static_cast<int>(line), condition);
    }
    return true;
  case Place::init:
  case Place::cleanup:
    current.failure +=
      std::format("{}{}:{}: {}", current.failure.empty() ? "" : "; ", file, line, condition);
    return true;
  case Place::outside:
    std::println(stderr, "{}:{}: CUnit assertion outside of a test failed: {}", file, line,
                 condition);
    FailProcess();
    break;
  }
  return false;
}

} // namespace

CU_ErrorCode CannotRun(CU_ErrorCode code) {
  CU_set_error(code);
  std::println(stderr, "harness: no test is run: {}", CU_get_error_msg());
  FailProcess();
  return code;
}

CU_ErrorCode Run(CU_Suite *suite, CU_Test *test) {
  CU_clear_previous_results();
  if (CU_get_registry() == nullptr) {
    return CannotRun(CUE_NOREGISTRY);
  }
  InitializeFromProcess();
  RegisterCases();
  auto outer = std::exchange(current, {});
  current.running = true;
  current.single = test != nullptr;
  for (auto *s = suite != nullptr ? suite : CU_get_registry()->pSuite; s != nullptr;
       s = suite != nullptr ? nullptr : s->pNext) {
    current.suites.push_back(s);
  }
  StartClock();
  if (++depth == 1 && testing::UnitTest::GetInstance()->current_test_info() == nullptr) {
    RunCases(test);
  } else {
    RunInside(test);
  }
  --depth;
  StopClock();
  const auto error = current.error;
  current = {};
  current.suite = test != nullptr ? suite : nullptr; // CUnit leaves it after CU_run_test().
  if (CurrentHandlers().all_tests_complete != nullptr) {
    CurrentHandlers().all_tests_complete(CU_get_failure_list());
  }
  current = std::move(outer);
  CU_set_error(error);
  return error;
}

void Changed() { changed = true; }
void Forget(const CU_Suite &suite) { suite_names.erase(&suite); }
void Forget(const CU_Test &test) { test_names.erase(&test); }

} // namespace harness::cunit

using namespace harness::cunit;

extern "C" {

CU_ErrorCode CU_run_all_tests(void) { return Run(); }
CU_ErrorCode CU_run_suite(CU_pSuite pSuite) {
  CU_clear_previous_results();
  return pSuite != nullptr ? Run(pSuite) : CannotRun(CUE_NOSUITE);
}
CU_ErrorCode CU_run_test(CU_pSuite pSuite, CU_pTest pTest) {
  CU_clear_previous_results();
  if (pSuite == nullptr || pTest == nullptr) {
    return CannotRun(pSuite == nullptr ? CUE_NOSUITE : CUE_NOTEST);
  }
  if (pSuite->fActive == CU_FALSE) {
    return CannotRun(CUE_SUITE_INACTIVE);
  }
  // CUnit, too, looks for the name.
  auto *test = pSuite->pTest;
  while (test != nullptr && test != pTest) {
    test = test->pNext;
  }
  test = test != nullptr ? test : CU_get_test_by_name(pTest->pName, pSuite);
  return test != nullptr ? Run(pSuite, test) : CannotRun(CUE_TEST_NOT_IN_SUITE);
}

CU_BOOL CU_assertImplementation(CU_BOOL bValue, unsigned int uiLine, const char *strCondition,
                                const char *strFile, const char *, CU_BOOL bFatal) {
  if (bValue != CU_FALSE) {
    if (current.place == Place::test) {
      ++Summary().nAsserts;
      ++harness::guardian::Passed();
    }
    return CU_TRUE;
  }
  const bool fatal = bFatal != CU_FALSE;
  const bool inside = Fail(strFile, uiLine, strCondition, fatal);
  if (fatal) {
    if (!inside) {
      std::exit(EXIT_FAILURE);
    }
    harness::Jump();
  }
  return CU_FALSE;
}

void CU_set_fail_on_inactive(CU_BOOL new_inactive) { fail_on_inactive = new_inactive != CU_FALSE; }
CU_BOOL CU_get_fail_on_inactive(void) { return fail_on_inactive ? CU_TRUE : CU_FALSE; }
CU_pSuite CU_get_current_suite(void) { return current.suite; }
CU_pTest CU_get_current_test(void) { return current.test; }
CU_BOOL CU_is_test_running(void) { return current.running ? CU_TRUE : CU_FALSE; }

} // extern "C"
