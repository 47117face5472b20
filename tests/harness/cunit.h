// What the parts of CUnit's API share: cunit_registry.cc (suites and tests as declared),
// cunit_run.cc (runs and assertions), cunit_suite.cc (a suite of a run), cunit_results.cc (what the
// last run brought), cunit_output.cc (what is printed and written).
#pragma once

#include <CUnit/Basic.h>

#include <string>

namespace harness::cunit {

/// Runs everything; or only `suite`; or only `test` of it.
CU_ErrorCode Run(CU_Suite *suite = nullptr, CU_Test *test = nullptr);

/// A registry has got suites or tests that are no cases yet, or another one is in place.
void Changed();

/// Says so, and fails the program.  What the last run brought stays.
CU_ErrorCode CannotRun(CU_ErrorCode code);

/// The suite or test is about to be freed: its cases must not run again.
void Forget(const CU_Suite &suite);
void Forget(const CU_Test &test);

/// Results of the run that is going on or was the last one.
[[nodiscard]] CU_RunSummary &Summary();

/// Appends to the list of failures.  `file` and the pointers may be null.
void AddFailure(CU_FailureType type, const char *file, unsigned int line,
                const std::string &condition, CU_Suite *suite, CU_Test *test);

/// A place in the list of failures, and the first one that came after it, or null.
struct Mark {
  unsigned int run;
  CU_FailureRecord *last;
};
[[nodiscard]] Mark Now();
[[nodiscard]] CU_FailureRecord *Since(const Mark &mark);

/// Begin and end of a run, for its elapsed time.
void StartClock();
void StopClock();

/// The functions that the program wants to be called.
struct Handlers {
  CU_SuiteStartMessageHandler suite_start;
  CU_TestStartMessageHandler test_start;
  CU_TestCompleteMessageHandler test_complete;
  CU_SuiteCompleteMessageHandler suite_complete;
  CU_AllTestsCompleteMessageHandler all_tests_complete;
  CU_SuiteInitFailureMessageHandler suite_init_failure;
  CU_SuiteCleanupFailureMessageHandler suite_cleanup_failure;
};
[[nodiscard]] const Handlers &CurrentHandlers();

} // namespace harness::cunit
