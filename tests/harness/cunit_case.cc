// CUnit's tests as GoogleTest cases, and its assertions.

#include "cunit.h"
#include "guard.h"
#include "harness.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <format>
#include <print>
#include <unordered_map>

namespace harness::cunit {

namespace {

using testing::TestPartResult;

/// Where an assertion is.
enum class Place { outside, init, cleanup, test };

/// How the suite that is being run fares.
enum class SuiteState { good, stopped, inactive, init_failed };

CU_Suite *current_suite = nullptr;
CU_Test *current_test = nullptr;
Place place = Place::outside;
SuiteState suite_state = SuiteState::good;
/// The assertion that failed in the suite's initialization or cleanup.
std::string suite_failure;
CU_ErrorCode run_error = CUE_SUCCESS;
bool stopped = false;
bool fail_on_inactive = true;
/// GoogleTest's names of suites.
std::unordered_map<std::string, CU_Suite *> suites_by_name;

/// Assertions of the running test.  In memory that the test's process shares, so that they are
/// known even when it crashes.
struct Counts {
  std::atomic<unsigned int> passed, failed;
};

Counts &TestCounts() {
  static auto *const counts = [] {
    void *const memory =
      mmap(nullptr, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("harness: mmap");
      std::exit(1);
    }
    return new (memory) Counts{};
  }();
  return *counts;
}

/// An error of the framework, for the run's result.
void SetRunError(CU_ErrorCode code) {
  run_error = code;
  stopped = stopped || CU_get_error_action() == CUEA_FAIL;
  CU_set_error(code);
}

/// Runs a suite's initialization or cleanup; says what failed, or nothing.
std::string RunSuiteFunction(int (*function)(), Place where, const char *what) {
  if (function == nullptr) {
    return {};
  }
  suite_failure.clear();
  place = where;
  int result = 0;
  const bool returned = Guarded([&] { result = function(); });
  place = Place::outside;
  if (!suite_failure.empty() || !returned) {
    return std::format("the suite's {} function failed: {}", what, suite_failure);
  }
  if (result != 0) {
    return std::format("the suite's {} function returned {}", what, result);
  }
  return {};
}

void StartSuite() {
  auto &summary = Summary();
  suite_state = SuiteState::good;
  if (CurrentHandlers().suite_start != nullptr) {
    CurrentHandlers().suite_start(current_suite);
  }
  if (stopped) {
    suite_state = SuiteState::stopped;
    return;
  }
  if (current_suite->fActive == CU_FALSE) {
    suite_state = SuiteState::inactive;
    ++summary.nSuitesInactive;
    if (fail_on_inactive) {
      SetRunError(CUE_SUITE_INACTIVE);
      AddFailure(CUF_SuiteInactive, nullptr, 0, "the suite is inactive", current_suite, nullptr);
    }
    return;
  }
  const auto failure =
    RunSuiteFunction(current_suite->pInitializeFunc, Place::init, "initialization");
  if (failure.empty()) {
    return;
  }
  suite_state = SuiteState::init_failed;
  suite_failure = failure;
  ++summary.nSuitesFailed;
  AddFailure(CUF_SuiteInitFailed, nullptr, 0, failure, current_suite, nullptr);
  if (CurrentHandlers().suite_init_failure != nullptr) {
    CurrentHandlers().suite_init_failure(current_suite);
  }
  SetRunError(CUE_SINIT_FAILED);
}

void FinishSuite() {
  auto &summary = Summary();
  if (suite_state == SuiteState::good) {
    ++summary.nSuitesRun;
    const auto failure = RunSuiteFunction(current_suite->pCleanupFunc, Place::cleanup, "cleanup");
    if (!failure.empty()) {
      AddPart(TestPartResult::kNonFatalFailure, nullptr, -1, failure);
      ++summary.nSuitesFailed;
      AddFailure(CUF_SuiteCleanupFailed, nullptr, 0, failure, current_suite, nullptr);
      if (CurrentHandlers().suite_cleanup_failure != nullptr) {
        CurrentHandlers().suite_cleanup_failure(current_suite);
      }
      SetRunError(CUE_SCLEAN_FAILED);
    }
  }
  if (CurrentHandlers().suite_complete != nullptr) {
    CurrentHandlers().suite_complete(current_suite, CU_get_failure_list());
  }
}

/// The test proper, in its own process.
void RunBody() {
  const auto guarded = [](void (*function)()) { return function == nullptr || Guarded(function); };
  place = Place::test;
  if (guarded(current_suite->pSetUpFunc)) {
    guarded(current_test->pTestFunc);
  }
  guarded(current_suite->pTearDownFunc);
  place = Place::outside;
}

/// Makes records of failed assertions, and of crashes and the like, which have no file name.
class Recorder : public testing::EmptyTestEventListener {
  void OnTestPartResult(const TestPartResult &result) override {
    if (current_test == nullptr || !result.failed()) {
      return;
    }
    const auto *const file = result.file_name();
    AddFailure(CUF_AssertFailed, file,
               file != nullptr ? static_cast<unsigned int>(result.line_number()) : 0,
               result.message(), current_suite, current_test);
  }
};

/// One case.  GoogleTest wants one class for all tests of a suite; here one serves all suites, and
/// the suite that is about to run is known by its name.
class CUnitCase : public testing::Test {
public:
  CUnitCase(CU_Suite *suite, CU_Test *test) : suite_{suite}, test_{test} {}

  static void SetUpTestSuite() {
    current_suite =
      suites_by_name.at(testing::UnitTest::GetInstance()->current_test_suite()->name());
    StartSuite();
  }

  static void TearDownTestSuite() {
    FinishSuite();
    current_suite = nullptr;
  }

  void TestBody() override {
    if (suite_state == SuiteState::stopped || (stopped && suite_state == SuiteState::good)) {
      GTEST_SKIP() << "CUEA_FAIL: an earlier error stopped the run: " << CU_get_error_msg();
    }
    if (suite_state == SuiteState::init_failed) {
      AddPart(TestPartResult::kFatalFailure, nullptr, -1, suite_failure);
      return;
    }
    if (suite_state == SuiteState::inactive || test_->fActive == CU_FALSE) {
      Inactive();
      return;
    }
    Run();
  }

private:
  void Inactive() const {
    const bool test = suite_state != SuiteState::inactive;
    const auto *const what = test ? "the test is inactive" : "its suite is inactive";
    if (test) {
      ++Summary().nTestsInactive;
    }
    if (test && fail_on_inactive) {
      AddFailure(CUF_TestInactive, nullptr, 0, what, suite_, test_);
      SetRunError(CUE_TEST_INACTIVE);
    }
    AddPart(fail_on_inactive ? TestPartResult::kFatalFailure : TestPartResult::kSkip, nullptr, -1,
            what);
  }

  /// Failures of this test that no assertion said: a crash, a leak and so on.
  static unsigned int OtherFailures() {
    const auto &result = *testing::UnitTest::GetInstance()->current_test_info()->result();
    unsigned int n = 0;
    for (int i = 0; i < result.total_part_count(); ++i) {
      const auto &part = result.GetTestPartResult(i);
      n += part.failed() && part.file_name() == nullptr ? 1 : 0;
    }
    return n;
  }

  void Run() const {
    auto &counts = TestCounts();
    counts.passed = 0;
    counts.failed = 0;
    const auto *const last = LastFailure();
    if (CurrentHandlers().test_start != nullptr) {
      CurrentHandlers().test_start(test_, suite_);
    }
    current_test = test_;
    RunInChild(RunBody);
    current_test = nullptr;

    auto &summary = Summary();
    ++summary.nTestsRun;
    summary.nTestsFailed += HasFailure() ? 1 : 0;
    ++(HasFailure() ? suite_->uiNumberOfTestsFailed : suite_->uiNumberOfTestsSuccess);
    const unsigned int failed = counts.failed + OtherFailures();
    summary.nAsserts += counts.passed + failed;
    summary.nAssertsFailed += failed;
    if (CurrentHandlers().test_complete != nullptr) {
      CurrentHandlers().test_complete(test_, suite_,
                                      last != nullptr ? last->pNext : CU_get_failure_list());
    }
  }

  CU_Suite *suite_;
  CU_Test *test_;
};

/// A failed assertion; returns whether it can be fatal to a test or to a suite's function.
bool Fail(const char *file, unsigned int line, const char *condition, bool fatal) {
  switch (place) {
  case Place::test:
    ++TestCounts().failed;
    AddPart(fatal ? TestPartResult::kFatalFailure : TestPartResult::kNonFatalFailure, file,
            static_cast<int>(line), condition);
    return true;
  case Place::init:
  case Place::cleanup:
    suite_failure +=
      std::format("{}{}:{}: {}", suite_failure.empty() ? "" : "; ", file, line, condition);
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

void RegisterCase(const std::string &suite_name, const std::string &name, CU_Suite *suite,
                  CU_Test *test) {
  suites_by_name[suite_name] = suite;
  testing::RegisterTest(suite_name.c_str(), name.c_str(), nullptr, nullptr, "", 0,
                        [=]() -> CUnitCase * { return new CUnitCase{suite, test}; });
}

void BeginRun() {
  static testing::TestEventListener *recorder = nullptr;
  if (recorder == nullptr) {
    recorder = new Recorder;
    testing::UnitTest::GetInstance()->listeners().Append(recorder);
  }
  run_error = CUE_SUCCESS;
  stopped = false;
}

CU_ErrorCode RunError() { return run_error; }

} // namespace harness::cunit

using namespace harness::cunit;

extern "C" {

CU_BOOL CU_assertImplementation(CU_BOOL bValue, unsigned int uiLine, const char *strCondition,
                                const char *strFile, const char *, CU_BOOL bFatal) {
  if (bValue != CU_FALSE) {
    ++TestCounts().passed;
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
CU_pSuite CU_get_current_suite(void) { return current_suite; }
CU_pTest CU_get_current_test(void) { return current_test; }
CU_BOOL CU_is_test_running(void) { return current_test != nullptr ? CU_TRUE : CU_FALSE; }

} // extern "C"
