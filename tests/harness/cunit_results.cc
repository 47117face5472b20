// CUnit's results of the last run: counts, failure records, and the functions that a program wants
// to be called.

#include "cunit.h"

#include <chrono>
#include <deque>

namespace harness::cunit {

namespace {

using Clock = std::chrono::steady_clock;

CU_RunSummary summary;
Handlers handlers;
Clock::time_point started;
bool running = false;

/// A record with what it points to; in a deque, so that neither moves.
struct Failure {
  std::string file, condition;
  CU_FailureRecord record;
};
std::deque<Failure> failures;
/// A test that fails for ever shall meet its timeout before it has filled the memory.
constexpr std::size_t kMaxRecords = 1000000;
/// Grows when the list is cleared.
unsigned int run = 0;

double Elapsed() { return std::chrono::duration<double>(Clock::now() - started).count(); }

} // namespace

CU_RunSummary &Summary() { return summary; }

void AddFailure(CU_FailureType type, const char *file, unsigned int line,
                const std::string &condition, CU_Suite *suite, CU_Test *test) {
  ++summary.nFailureRecords;
  if (failures.size() == kMaxRecords) {
    return;
  }
  auto *const last = Now().last;
  auto &failure = failures.emplace_back(Failure{file != nullptr ? file : "", condition, {}});
  failure.record = {
    .type = type,
    .uiLineNumber = line,
    .strFileName = failure.file.data(),
    .strCondition = failure.condition.data(),
    .pTest = test,
    .pSuite = suite,
    .pNext = nullptr,
    .pPrev = last,
  };
  if (last != nullptr) {
    last->pNext = &failure.record;
  }
}

Mark Now() { return {run, failures.empty() ? nullptr : &failures.back().record}; }

CU_FailureRecord *Since(const Mark &mark) {
  return mark.run == run && mark.last != nullptr ? mark.last->pNext : CU_get_failure_list();
}

void StartClock() {
  started = Clock::now();
  running = true;
}

void StopClock() {
  summary.ElapsedTime = Elapsed();
  running = false;
}

const Handlers &CurrentHandlers() { return handlers; }

} // namespace harness::cunit

using namespace harness::cunit;

extern "C" {

#define HANDLER(name, type, member)                                                                \
  void CU_set_##name##_handler(type f) { handlers.member = f; }                                    \
  type CU_get_##name##_handler(void) { return handlers.member; }
HANDLER(suite_start, CU_SuiteStartMessageHandler, suite_start)
HANDLER(test_start, CU_TestStartMessageHandler, test_start)
HANDLER(test_complete, CU_TestCompleteMessageHandler, test_complete)
HANDLER(suite_complete, CU_SuiteCompleteMessageHandler, suite_complete)
HANDLER(all_test_complete, CU_AllTestsCompleteMessageHandler, all_tests_complete)
HANDLER(suite_init_failure, CU_SuiteInitFailureMessageHandler, suite_init_failure)
HANDLER(suite_cleanup_failure, CU_SuiteCleanupFailureMessageHandler, suite_cleanup_failure)

unsigned int CU_get_number_of_suites_run(void) { return summary.nSuitesRun; }
unsigned int CU_get_number_of_suites_failed(void) { return summary.nSuitesFailed; }
unsigned int CU_get_number_of_suites_inactive(void) { return summary.nSuitesInactive; }
unsigned int CU_get_number_of_tests_run(void) { return summary.nTestsRun; }
unsigned int CU_get_number_of_tests_failed(void) { return summary.nTestsFailed; }
unsigned int CU_get_number_of_tests_inactive(void) { return summary.nTestsInactive; }
unsigned int CU_get_number_of_asserts(void) { return summary.nAsserts; }
unsigned int CU_get_number_of_successes(void) { return summary.nAsserts - summary.nAssertsFailed; }
unsigned int CU_get_number_of_failures(void) { return summary.nAssertsFailed; }
unsigned int CU_get_number_of_failure_records(void) { return summary.nFailureRecords; }
double CU_get_elapsed_time(void) { return running ? Elapsed() : summary.ElapsedTime; }
CU_pFailureRecord CU_get_failure_list(void) {
  return failures.empty() ? nullptr : &failures.front().record;
}
CU_pRunSummary CU_get_run_summary(void) { return &summary; }

void CU_clear_previous_results(void) {
  summary = {};
  failures.clear();
  ++run;
}

} // extern "C"
