// The child's half of a forked test body; isolate.cc has the runner's.
#pragma once

#include <functional>

namespace harness {

/// Runs `body`; a C++ exception that leaves it becomes a fatal failure.
void RunCatching(const std::function<void()> &body);

/// Writes out what stdio and iostream hold: before fork(), or it is printed twice, and before
/// _exit().
void Flush();

/// Runs `body` in a process just forked for it, sends each result to `channel`, looks for leaks,
/// and ends the process.
[[noreturn]] void BeChild(int channel, const std::function<void()> &body);

} // namespace harness
