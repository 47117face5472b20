// What AddressSanitizer builds do differently.  In other builds all of this is there and does
// nothing.
#pragma once

#include <string_view>

namespace harness {

/// For the runner, before it forks a test body: tries out whether leaks can be found, once, and
/// says so on stdout if not (in a debugger, under strace, with detect_leaks=0).
void PrepareLeakCheck();

/// For the child after a test body: true when there is memory that nothing reaches any more; a
/// report has then been written to stderr.  False also when PrepareLeakCheck() found that it does
/// not work.
[[nodiscard]] bool LeakFound();

/// What PrepareLeakCheck() prints begins so.
inline constexpr std::string_view kNoLeakCheck = "[ HARNESS  ] Leaks are not checked: ";

} // namespace harness
