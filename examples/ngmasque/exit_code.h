// How the programs end.
#pragma once

namespace ngmasque::programs {

/// The man pages list them, from kExitCodes.
enum ExitCode : int {
  kEnded = 0,  ///< As asked.
  kFailed = 1, ///< While running.
  kUsage = 2,  ///< The command line or a file that it names is wrong; nothing was begun.
};

struct ExitCodeText {
  ExitCode code;
  const char *text;
};

inline constexpr ExitCodeText kExitCodes[] = {
  {kEnded, "It ended as asked, by a signal or an option."},
  {kFailed, "It failed while running; the last line on stderr says why."},
  {kUsage,
   "The command line, the configuration or a file that it names is wrong: the line on stderr "
   "says which, and what to do. Nothing was begun."},
};

} // namespace ngmasque::programs
