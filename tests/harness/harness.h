// The test harness: GoogleTest underneath; CUnit's and munit's APIs and forked test bodies on top.
//
// C tests need none of this: they include <CUnit/Basic.h> or munit.h and link the harness.  This is
// the interface for test programs in C++, and for the parts of the harness itself.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace harness {

/// What the command line and the environment say about forked test bodies.
struct Options {
  /// Off: `--harness_no_fork`, or NGM_HARNESS_FORK=0 in the environment; for debuggers.  A crash,
  /// exit() or hang then takes the whole program with it.
  bool fork = true;
  /// How long a child may run before it is killed, in whole seconds from 1 to 86400; 0 is for ever.
  /// `--harness_timeout=SECONDS`, or NGM_HARNESS_TIMEOUT.  Without fork there is no limit.
  std::chrono::seconds timeout{120};
};

/// Whether each CUnit test of the program has a process of its own, unless an option says
/// otherwise; each_test.cc says so.
extern const bool each_test_forked;

/// The options in force.  Valid after Initialize(), the defaults before.
[[nodiscard]] const Options &options();

/// Reads the environment, then takes GoogleTest's and the harness's options out of `argv`.
/// Ends the process with one line on stderr and exit status 2 when one of them is bad.  Arguments
/// that belong to neither stay.  Only the first call does anything.
void Initialize(int *argc, char **argv);

/// Initialize() for a program whose main() never passes its arguments on (CUnit's API has no place
/// for them): they are read from /proc/self/cmdline.  Only `--gtest_...`, `--harness_...` and
/// `--help` are taken; the others are main()'s own.
void InitializeFromProcess();

/// Runs all tests, or those of `selected` ("Suite.Test"), that match the user's filter.
/// Returns 0 if all passed, 1 otherwise, as RUN_ALL_TESTS() does; a failure is also kept for the
/// exit status, see FailProcess().  When the tests were only to be listed, or `--help` was given,
/// the process ends here with status 0, for nothing that main() does afterwards makes sense then.
int RunTests(const std::vector<std::string> *selected = nullptr);

/// From now on a process that ends with exit status 0 ends with 1.  Conventional CUnit programs
/// return CU_get_error() from main(), which says nothing about failed assertions.
void FailProcess();
/// This process is the program from now on: guardian.h.
void MoveProcess();

/// The main() of a test program in C++: initialise, reject arguments that nobody knows (exit status
/// 2), run.
int Main(int argc, char **argv);

/// One assertion's result.
struct Part {
  testing::TestPartResult::Type type;
  std::string file; ///< Empty when no line of a test said it, e.g. for a crash.
  int line = -1;
  std::string message;
};

/// More results than this of one test body are counted but not kept: a failing assertion in a long
/// loop shall not fill the memory nor the XML file.
inline constexpr std::size_t kMaxParts = 1000;

/// Runs `body` in a process of its own, so that a crash, exit(), a hang or a leak in it is a
/// failure of the current test; or right here with --harness_no_fork.  Changes to memory are lost,
/// and so is RecordProperty().  Threads of the program do not exist in it, and after it not in the
/// program.
void RunInChild(const std::function<void()> &body);

/// Runs `body`; a C++ exception that leaves it becomes a fatal failure.
void RunCatching(const std::function<void()> &body);

/// Writes out what stdio and iostream hold: before fork(), or it is printed twice, and before
/// _exit().
void Flush();

/// Adds one result to the current test.  `file` may be null or empty.  In `message` bytes that are
/// not UTF-8 become '?': GoogleTest would write them to its XML file, which then no one can parse.
void AddPart(testing::TestPartResult::Type type, const char *file, int line,
             const std::string &message);

} // namespace harness
