// The way out of a C test function from an assertion in its depth.
//
// A C++ exception must not pass through C frames, so a fatal assertion of CUnit or munit jumps.
// Both libraries do the same themselves.  What the skipped frames own is lost, which is why no leak
// is looked for after a failure; C++ objects with destructors in them are undefined behaviour: such
// tests use GoogleTest's ASSERT_ macros instead.
#pragma once

#include <functional>

namespace harness {

/// Runs `body`; returns true when it came to its end and false when it called Jump().
bool Guarded(const std::function<void()> &body);

/// Ends the innermost Guarded() of this thread.  Where there is none (an assertion in another
/// thread) it says so on stderr and aborts: that thread cannot go on and the test's own cannot be
/// stopped.
[[noreturn]] void Jump();

} // namespace harness
