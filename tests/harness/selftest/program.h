// Runs the sample programs and reads what GoogleTest wrote about them.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace selftest {

/// One <testcase> of an XML file.
struct TestCase {
  std::string result; ///< "completed", "skipped" or "suppressed" (not run), as GoogleTest says it.
  std::vector<std::string> failures;
  std::string skip_message;

  [[nodiscard]] bool passed() const { return result == "completed" && failures.empty(); }
  /// All failures in one.
  [[nodiscard]] std::string failure() const;
};

/// What came of a program.
struct Run {
  int exit_status = -1; ///< -1 if a signal ended it.
  std::string out, err;
  std::string xml;
  std::map<std::string, TestCase> cases;    ///< Of the XML file, by "Suite.Test".
  std::vector<std::string> duplicates;      ///< Names that came more than once in the XML file.
  std::map<std::string, std::string> files; ///< What the program wrote into its working directory.

  /// Names of the tests in `cases` that were run and failed.
  [[nodiscard]] std::vector<std::string> failed() const;
  /// Whether the program could look for leaks; only its ASan build does.
  [[nodiscard]] bool checks_leaks() const;
};

/// Full path of a sample program: they are in harness/ beside this program.
[[nodiscard]] std::string Path(const std::string &program);

/// Runs a sample program to its end in an empty directory, with an XML file of GoogleTest's.
/// `environment` holds NAME=VALUE.  Variables that would change the outcome are not passed on.
[[nodiscard]] Run RunProgram(const std::string &program, std::vector<std::string> arguments = {},
                             const std::vector<std::string> &environment = {});

/// The same without the XML file.
[[nodiscard]] Run RunProgramPlainly(const std::string &program,
                                    const std::vector<std::string> &arguments = {},
                                    const std::vector<std::string> &environment = {});

/// The lines of `text` that begin with `prefix`, without it.
[[nodiscard]] std::vector<std::string> LinesAfter(const std::string &text,
                                                  const std::string &prefix);

} // namespace selftest
