// What is written for people and shells about a program, from its options.
#pragma once

#include "option.h"

#include <string>

namespace ngmasque::programs {

[[nodiscard]] std::string HelpText(const Program &program);
/// In roff, for `man -l`.
[[nodiscard]] std::string ManPage(const Program &program);
/// A configuration file with every default commented out.
[[nodiscard]] std::string SampleConfiguration(const Program &program);
/// For bash.
[[nodiscard]] std::string BashCompletion(const Program &program);
/// Of the program, the library, those below it, and the drafts.
[[nodiscard]] std::string VersionText(const Program &program);

} // namespace ngmasque::programs
