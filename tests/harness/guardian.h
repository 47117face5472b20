// How a program goes on after a crash.
//
// Before main() the process that was started becomes the guardian, which only waits, and main()
// runs in a child of it.  There everything happens as without a harness, in one process: a test
// sees what those before it left, and main() what the tests left.  Where a suite begins that
// process leaves a copy of itself that sleeps.  If it then dies, or a test takes too long, the
// guardian tells the copy what the suite had done so far; the copy takes the results over, reports
// the crash, leaves out the rest of the suite, and is the program from there on.
//
// A test that is to have a process of its own is the same with a copy from before the test, and a
// process that always ends after it.
#pragma once

#include "channel.h"

#include <atomic>
#include <deque>
#include <functional>
#include <string>

namespace harness::guardian {

/// One call of a function of the suite's or of its tests.
struct Step {
  std::deque<Part> parts;   ///< kMaxParts of them, and what the guardian adds.
  std::size_t left_out = 0; ///< Number of those beyond.
  int result = 0;           ///< What the function returned.
  unsigned int passed = 0;  ///< Number of assertions.
  std::string text;         ///< What End() was told.
};

/// Is there a guardian, and is it this process that it watches?  Not in one that a test has forked,
/// nor with --harness_no_fork.
[[nodiscard]] bool Active();
/// There is, and each test is to have a process of its own.
[[nodiscard]] bool EachTest();

/// A suite begins.  Returns true in a copy that took over; `steps` are then what had been done, of
/// which the last one did not return: the last of its parts says how it ended.
[[nodiscard]] bool BeginSuite(std::deque<Step> &steps);
void EndSuite();

/// Around each step of a suite.  Results of GoogleTest's in between belong to it.
void Begin();
void End(int result, const std::string &text);

/// Runs `body` in a process of its own, and returns what came of it.  With AddressSanitizer memory
/// that `body` allocated and no longer reaches is a failure, unless it has failed already.  Returns
/// false, and has done nothing, where there can be no such process: without a guardian, or within
/// another `body`.
[[nodiscard]] bool RunApart(const std::function<void()> &body, Step &step);

/// Passed assertions of the step that is going on, or was the last one; other processes know it,
/// too.
[[nodiscard]] std::atomic<unsigned int> &Passed();

} // namespace harness::guardian
