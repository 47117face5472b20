// The options of a program.  Command line, configuration file, help, man page and completion are
// all made of these rows, so that nothing is written twice.
#pragma once

#include "values.h"

#include <ngmasque/io/common.h>

#include <concepts>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <format>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque::programs {

/// What a value is in a configuration file.
enum class Kind : std::uint8_t {
  kText,   ///< A string.
  kNumber, ///< An integer, or a string if it has a unit.
  kSwitch, ///< A boolean.  On the command line its name alone means true; `=off` means false.
};

/// One option, which is a key of the configuration file as well.
struct Option {
  std::string section; ///< Those of a section stand together.
  std::string name;
  std::string
    argument{};     ///< Such as `<FILE>`; of a switch nothing.  <FILE> and <DIR> are completed.
  std::string help; ///< A paragraph without the default.
  Kind kind = Kind::kText;
  std::string initial{};   ///< The default as it would be written; empty: there is none.
  bool repeatable = false; ///< May be given several times; an array in the file.
  bool grouped = false;    ///< May stand in Program::group of the file, too.
  bool reloaded = false;   ///< A program that reads its file again takes it then.
  bool command_line_only = false;
  bool operand = false;      ///< Given without its name on the command line.
  std::string environment{}; ///< A variable that gives the value if nothing else does.
  /// Takes one value; null: Program's own, see CommandLine.
  std::function<std::expected<void, Wrong>(std::string_view)> set{};
};

/// A section of the man page besides those that are made of the options.
struct Note {
  std::string title; ///< In capitals.
  std::string text;  ///< Paragraphs with an empty line between them.
};

/// What most rows begin with.
[[nodiscard]] Option Row(std::string section, std::string name, std::string argument,
                         std::string help);

/// What is said of a program.
struct Program {
  std::string name;
  std::string purpose;           ///< One line, small letter first and without a full stop.
  std::string description;       ///< Paragraphs.
  std::vector<Option> options{}; ///< With the standard ones: see Complete.
  /// Name of the tables `[group.NAME]` of the file; empty: there are none.
  std::string group{};
  std::string group_help{};
  std::vector<Note> notes{};
};

/// Adds the options that every program has: --config, --help and so on.
void AddStandardOptions(Program &program);

/// Null if there is none.
[[nodiscard]] const Option *FindOption(const Program &program, std::string_view name);

// Rows for usual members: the default is what the member has now.

/// A switch.
[[nodiscard]] Option Switch(Option row, bool &member);

/// A number of `least` or more, maybe with K, M or G.
template <std::unsigned_integral T> Option Number(Option row, T &member, std::uint64_t least = 1) {
  row.kind = Kind::kNumber;
  row.initial = SizeText(member);
  row.set = [&member, least](std::string_view text) -> std::expected<void, Wrong> {
    const auto number = ParseSize(text);
    if (!number || *number < least || *number > T(-1)) {
      return std::unexpected(std::format("a number of {} or more, maybe with K, M or G", least));
    }
    member = T(*number);
    return {};
  };
  return row;
}

/// A time that is longer than zero.
[[nodiscard]] Option Duration(Option row, std::chrono::nanoseconds &member);

/// Any text, which must not be empty.
[[nodiscard]] Option Text(Option row, std::string &member);
[[nodiscard]] Option Path(Option row, std::filesystem::path &member);

/// How important the lines of a log have to be.
[[nodiscard]] Option Level(Option row, LogLevel &member);

/// Values are added, in their order.
[[nodiscard]] Option Paths(Option row, std::vector<std::filesystem::path> &member);
[[nodiscard]] Option Endpoints(Option row, std::vector<Endpoint> &member);

} // namespace ngmasque::programs
