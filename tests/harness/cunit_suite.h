// A run of suites and tests as such, however it came about: cunit_run.cc says which, cunit_suite.cc
// does it.
#pragma once

#include "cunit.h"
#include "guardian.h"

#include <cstddef>
#include <deque>
#include <string>
#include <vector>

namespace harness::cunit {

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
extern Current current;

/// Number of runs within which this is one.
extern int depth;
extern bool fail_on_inactive;
extern bool in_child; ///< A process of its own has this test.

/// Whether an error of the framework has stopped the run.
[[nodiscard]] bool Stopped();

/// An assertion has failed.
void CountFailed(const char *file, unsigned int line, const std::string &condition);

/// A suite begins and ends; its tests come in between.
void StartSuite(CU_Suite *suite);
void FinishSuite();
void RunTest(CU_Test *test);

} // namespace harness::cunit
