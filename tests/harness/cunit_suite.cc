// How a suite and its tests fare, in CUnit's order of calls and counts.

#include "cunit_suite.h"

#include "guard.h"
#include "harness.h"

#include <fcntl.h>
#include <unistd.h>

#include <format>
#include <functional>
#include <utility>

namespace harness::cunit {

Current current;
int depth = 0;
bool fail_on_inactive = true;
bool in_child = false;

bool Stopped() { return current.error != CUE_SUCCESS && CU_get_error_action() != CUEA_IGNORE; }

void CountFailed(const char *file, unsigned int line, const std::string &condition) {
  ++Summary().nAsserts;
  ++Summary().nAssertsFailed;
  AddFailure(CUF_AssertFailed, file, line, condition, current.suite, current.test);
}

namespace {

using testing::TestPartResult;

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

} // namespace

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

} // namespace harness::cunit
