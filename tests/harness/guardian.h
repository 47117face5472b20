// A process for a suite: how a program goes on after a crash.
//
// Before main() the process that was started becomes the guardian, which only waits, and main() runs
// in a child of it.  There everything happens as without a harness, in one process: a test sees what
// those before it left, and main() what the tests left.  Where a suite begins that process leaves a
// copy of itself that sleeps.  If it then dies, or a test takes too long, the guardian tells the copy
// what the suite had done so far; the copy takes the results over, reports the crash, leaves out the
// rest of the suite, and is the program from there on.
#pragma once

#include "channel.h"

#include <atomic>
#include <deque>
#include <string>

namespace harness::guardian {

/// One call of a function of the suite's or of its tests.
struct Step {
  std::deque<Part> parts;
  int result = 0;          ///< What the function returned.
  unsigned int passed = 0; ///< Number of assertions.
  std::string text;        ///< What End() was told.
};

/// Is there a guardian?  There is none for a process that a test has forked, nor with a process for
/// each test, nor with --harness_no_fork.
[[nodiscard]] bool Active();

/// A suite begins.  Returns true in a copy that took over; `steps` are then what had been done, of
/// which the last one did not return: the last of its parts says how it ended.
[[nodiscard]] bool BeginSuite(std::deque<Step> &steps);
void EndSuite();

void Begin();
void SendPart(const Part &part);
void End(int result, const std::string &text);

/// Passed assertions of the step that is going on; also known to the process that forked this one.
[[nodiscard]] std::atomic<unsigned int> &Passed();

} // namespace harness::guardian
