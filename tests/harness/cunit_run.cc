// CUnit's runs: suites and tests in the registry's order, each test a GoogleTest case; assertions.

#include "cunit.h"
#include "guard.h"
#include "guardian.h"
#include "harness.h"
#include "names.h"

#include <fcntl.h>

#include <cstdlib>
#include <format>
#include <print>
#include <unordered_map>
#include <utility>

namespace harness::cunit {

namespace {

using testing::TestPartResult;

/// Where an assertion is.
enum class Place { outside, init, cleanup, test };

/// How the suite that is being run fares.
enum class SuiteState { good, stopped, inactive, init_failed };

/// The run that is going on.  One may begin in a test of another.
struct Current {
  bool running = false;
  bool single = false; ///< CU_run_test()
  CU_ErrorCode error = CUE_SUCCESS;
  std::vector<CU_Suite *> suites;
  std::size_t next = 0; ///< The first of `suites` that has not had its turn.

  CU_Suite *suite = nullptr;
  CU_Test *test = nullptr;
  Place place = Place::outside;
  SuiteState state = SuiteState::good;
  Mark before_suite{};
  /// What failed in the suite's initialization or cleanup.
  std::string failure;
  std::size_t parts = 0; ///< Failed assertions of the test, if it is not in a process of its own.

  /// After a crash: what is still to be told, and what crashed, once that is known.
  std::deque<guardian::Step> done;
  std::string crashed;
};
Current current;
/// Number of runs within which this is one.
int depth = 0;
bool fail_on_inactive = true;
bool in_child = false; ///< A process of its own has this test.

Names names;
std::unordered_map<const CU_Suite *, std::string> suite_names;
std::unordered_map<const CU_Test *, std::string> test_names;
std::unordered_map<std::string, CU_Suite *> suites_by_name;
bool changed = true;

/// Switches the output off where a process tells again what another has told already.
class Silence {
public:
  void Begin() {
    Flush();
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    for (const int fd : {1, 2}) {
      kept_[fd - 1] = fcntl(fd, F_DUPFD_CLOEXEC, 100);
      dup2(null, fd);
    }
    close(null);
  }
  void End() {
    if (kept_[0] >= 0) {
      Flush();
      for (const int fd : {1, 2}) {
        dup2(kept_[fd - 1], fd);
        close(std::exchange(kept_[fd - 1], -1));
      }
    }
  }

private:
  int kept_[2] = {-1, -1};
} silence;

/// The first error of the framework is the run's.
void SetRunError(CU_ErrorCode code) {
  current.error = current.error == CUE_SUCCESS ? code : current.error;
}

bool Stopped() { return current.error != CUE_SUCCESS && CU_get_error_action() != CUEA_IGNORE; }

void CountFailed(const char *file, unsigned int line, const std::string &condition) {
  ++Summary().nAsserts;
  ++Summary().nAssertsFailed;
  AddFailure(CUF_AssertFailed, file, line, condition, current.suite, current.test);
}

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

/// Calls one of the suite's functions, or, after a crash, tells what had come of it.
int Step(Place place, const std::function<int()> &function) {
  const auto outer = std::exchange(current.place, place);
  current.failure.clear();
  current.parts = 0;
  int result = -1;
  if (!current.done.empty()) {
    const auto step = std::move(current.done.front());
    current.done.pop_front();
    const bool crashed = current.done.empty();
    if (crashed) {
      current.crashed = place == Place::test ? current.test->pName : "a function of the suite";
    }
    Summary().nAsserts += step.passed;
    result = step.result;
    current.failure = step.text;
    for (const auto &part : step.parts) {
      if (crashed && &part == &step.parts.back()) {
        silence.End();
      }
      if (place == Place::test) {
        AddPart(part.type, part.file.c_str(), part.line, part.message);
      } else {
        current.failure = part.message;
      }
    }
  } else {
    guardian::Passed() = 0;
    const bool step = depth == 1 && !guardian::EachTest();
    if (step) {
      guardian::Begin();
    }
    result = function();
    if (step) {
      guardian::End(result, current.failure);
    }
  }
  current.place = outer;
  return result;
}

/// Runs a suite's initialization or cleanup; says what failed, or nothing.
std::string RunSuiteFunction(int (*function)(), Place place, const char *what) {
  if (function == nullptr) {
    return {};
  }
  const int result = Step(place, [&] {
    int returned = -1;
    return Guarded([&] { returned = function(); }) ? returned : -1;
  });
  if (!current.failure.empty()) {
    return std::format("the suite's {} function failed: {}", what, current.failure);
  }
  return result != 0 ? std::format("the suite's {} function returned {}", what, result) : "";
}

void StartSuite(CU_Suite *suite) {
  auto &summary = Summary();
  current.suite = suite;
  current.before_suite = Now();
  current.crashed.clear();
  current.state = Stopped() ? SuiteState::stopped : SuiteState::good;
  if (current.state == SuiteState::stopped) {
    return;
  }
  if (depth == 1 && !guardian::EachTest() && guardian::BeginSuite(current.done)) {
    silence.Begin();
  }
  if (CurrentHandlers().suite_start != nullptr) {
    CurrentHandlers().suite_start(suite);
  }
  if (suite->fActive == CU_FALSE) {
    current.state = SuiteState::inactive;
    ++summary.nSuitesInactive;
    if (fail_on_inactive) {
      AddFailure(CUF_SuiteInactive, "CUnit System", 0, "Suite inactive", suite, nullptr);
      SetRunError(CUE_SUITE_INACTIVE);
    }
    return;
  }
  auto failure = RunSuiteFunction(suite->pInitializeFunc, Place::init, "initialization");
  if (failure.empty()) {
    return;
  }
  current.state = SuiteState::init_failed;
  current.failure = std::move(failure);
  if (CurrentHandlers().suite_init_failure != nullptr) {
    CurrentHandlers().suite_init_failure(suite);
  }
  ++summary.nSuitesFailed;
  AddFailure(CUF_SuiteInitFailed, "CUnit System", 0, "Suite Initialization failed - Suite Skipped",
             suite, nullptr);
  SetRunError(CUE_SINIT_FAILED);
  FailProcess(); // No test does if there is none in the suite.
}

void FinishSuite() {
  auto &summary = Summary();
  auto *const suite = current.suite;
  if (current.state == SuiteState::stopped) {
    current.suite = nullptr;
    return;
  }
  if (current.state == SuiteState::good) {
    summary.nSuitesRun += current.single ? 0 : 1;
    const auto failure = current.crashed.empty()
                           ? RunSuiteFunction(suite->pCleanupFunc, Place::cleanup, "cleanup")
                           : "";
    if (!failure.empty()) {
      AddPart(TestPartResult::kNonFatalFailure, nullptr, -1, failure);
      if (CurrentHandlers().suite_cleanup_failure != nullptr) {
        CurrentHandlers().suite_cleanup_failure(suite);
      }
      ++summary.nSuitesFailed;
      AddFailure(CUF_SuiteCleanupFailed, "CUnit System", 0, "Suite cleanup failed.", suite,
                 nullptr);
      SetRunError(CUE_SCLEAN_FAILED);
      FailProcess();
    }
  }
  if (!current.done.empty()) {
    silence.End();
    AddPart(TestPartResult::kNonFatalFailure, nullptr, -1,
            "after the suite's last test: " + current.done.back().parts.back().message);
    current.done.clear();
    FailProcess();
  }
  if (CurrentHandlers().suite_complete != nullptr) {
    CurrentHandlers().suite_complete(suite, current.single ? nullptr : Since(current.before_suite));
  }
  current.suite = nullptr;
  if (depth == 1 && !guardian::EachTest()) {
    guardian::EndSuite();
  }
}

/// The test proper.
void RunBody() {
  const auto *const suite = current.suite;
  for (auto *const function : {suite->pSetUpFunc, current.test->pTestFunc, suite->pTearDownFunc}) {
    if (function != nullptr) {
      // As in CUnit, one that a fatal assertion ends does not keep the next from being called.
      Guarded(function);
    }
  }
}

void CallTest() {
  const bool forks = depth == 1 && guardian::EachTest();
  Step(Place::test, [&] {
    if (forks) {
      RunInChild([] {
        in_child = true;
        RunBody();
      });
      Summary().nAsserts += guardian::Passed();
    } else {
      RunCatching(RunBody);
    }
    return 0;
  });
  if (current.parts > kMaxParts) {
    AddPart(TestPartResult::kNonFatalFailure, nullptr, -1,
            std::format("{} further results are left out here", current.parts - kMaxParts));
  }
}

void RunTest(CU_Test *test) {
  auto &summary = Summary();
  const bool active = test->fActive != CU_FALSE;
  auto *const suite = current.suite;
  if (!active) {
    AddPart(fail_on_inactive ? TestPartResult::kFatalFailure : TestPartResult::kSkip, nullptr, -1,
            "the test is inactive");
  }
  const auto before = Now();
  current.test = test;
  if ((active || current.single) && CurrentHandlers().test_start != nullptr) {
    CurrentHandlers().test_start(test, suite);
  }
  if (active) {
    CallTest();
    ++summary.nTestsRun;
  } else {
    ++summary.nTestsInactive;
    if (fail_on_inactive) {
      AddFailure(CUF_TestInactive, "CUnit System", 0, "Test inactive", suite, test);
      SetRunError(CUE_TEST_INACTIVE);
    }
  }
  const bool failed = Since(before) != nullptr;
  if (active || current.single) {
    summary.nTestsFailed += failed ? 1 : 0;
    if (CurrentHandlers().test_complete != nullptr) {
      CurrentHandlers().test_complete(test, suite, Since(before));
    }
  }
  if (!current.single) {
    ++(failed ? suite->uiNumberOfTestsFailed : suite->uiNumberOfTestsSuccess);
  }
  current.test = nullptr;
}

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
