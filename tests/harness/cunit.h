// What the parts of CUnit's API share: cunit_registry.cc (suites and tests as declared),
// cunit_case.cc (their GoogleTest cases, and assertions), cunit_run.cc (runs), cunit_results.cc
// (what the last run brought), cunit_output.cc (what is printed and written).
#pragma once

#include <CUnit/CUnit.h>

#include <string>

namespace harness::cunit {

/// Makes a test a GoogleTest case.  Suite and test have to live as long as the case may run.
void RegisterCase(const std::string &suite_name, const std::string &name, CU_Suite *suite,
                  CU_Test *test);

/// Before each run.
void BeginRun();

/// The last error of the framework, a failed assertion being none, since BeginRun().
[[nodiscard]] CU_ErrorCode RunError();

/// The suite or test is about to be freed: its cases must not run again.
void Forget(const CU_Suite &suite);
void Forget(const CU_Test &test);

/// Results of the run that is going on or was the last one.  PackageName and ElapsedTime are set
/// when it ends.
[[nodiscard]] CU_RunSummary &Summary();

/// Appends to the list of failures.  `file` and the pointers may be null.
CU_FailureRecord *AddFailure(CU_FailureType type, const char *file, unsigned int line,
                             const std::string &condition, CU_Suite *suite, CU_Test *test);

/// The last record, to find those that came after it; null if there is none.
[[nodiscard]] CU_FailureRecord *LastFailure();

/// Begin and end of a run, for its elapsed time.
void StartClock();
void StopClock();

/// Where CU_automated_run_tests() writes.
[[nodiscard]] std::string ResultsFile();

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
