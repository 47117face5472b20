// What the command line, the configuration file and the environment say.
#pragma once

#include "exit_code.h"
#include "option.h"

#include <cstdio>
#include <expected>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace ngmasque::programs {

/// A value, and where it stands: `--listen`, `proxy.toml:12: listen`, `$QLOGDIR`.
struct Value {
  std::string text;
  std::string where;
};

/// By name of the option, in the order given.
using Values = std::map<std::string, std::vector<Value>, std::less<>>;

struct Settings {
  Values values;
  std::map<std::string, Values, std::less<>> groups; ///< Of Program::group, by name.
};

/// One line: what is wrong where, and what to do about it.
using Complaint = std::string;

/// A file for people is no larger.
inline constexpr std::size_t kMaxFileBytes = std::size_t{16} << 20;

/// All of a file of at most kMaxFileBytes.
[[nodiscard]] std::expected<std::string, Complaint> ReadFile(const std::filesystem::path &file);

/// Reads the arguments after the program's name.  What is to be printed instead of running, such as
/// --help, is in the values as well.
[[nodiscard]] std::expected<Settings, Complaint> ReadCommandLine(const Program &program, int argc,
                                                                 char **argv);

/// Reads a configuration file (TOML).
[[nodiscard]] std::expected<Settings, Complaint>
ReadConfiguration(const Program &program, const std::filesystem::path &file);
/// The same of `text`, which is said to come from `name`.
[[nodiscard]] std::expected<Settings, Complaint>
ParseConfiguration(const Program &program, std::string_view text, std::string_view name);

/// The command line, then the file of its --config for what is not there, then the environment: to
/// be called again when the file is to be read again.
[[nodiscard]] std::expected<Settings, Complaint> Complete(const Program &program,
                                                          const Settings &command_line);

/// Sets all of them; of those that are no option's `set` nothing is done.
[[nodiscard]] std::expected<void, Complaint> Apply(const Program &program, const Values &values);

/// For main: reads the command line, prints what is asked for (--help, --version and so on) to
/// stdout and complaints to stderr, and then returns how to end; otherwise what the command line
/// says.
[[nodiscard]] std::variant<Settings, ExitCode> Begin(const Program &program, int argc, char **argv);

} // namespace ngmasque::programs
