#include "option.h"

#include "log.h"

#include <algorithm>
#include <utility>

namespace ngmasque::programs {

Option Row(std::string section, std::string name, std::string argument, std::string help) {
  return {.section = std::move(section),
          .name = std::move(name),
          .argument = std::move(argument),
          .help = std::move(help)};
}

void AddStandardOptions(Program &program) {
  const auto add = [&](std::string name, std::string argument, std::string help) {
    auto &row = program.options.emplace_back(
      Row("Program", std::move(name), std::move(argument), std::move(help)));
    row.command_line_only = true;
  };
  add("config", "<FILE>",
      "Read options from <FILE>: each is a key there, without the dashes. Those of the command "
      "line win.");
  add("check", "", "Read everything that would be read at the start, say what is wrong, and end.");
  add("sample-config", "", "Print a configuration file with every default commented out, and end.");
  add("man-page", "", "Print the man page, and end: " + program.name + " --man-page | man -l -");
  add("completion", "",
      "Print the completion for bash, and end: source <(" + program.name + " --completion)");
  add("version", "",
      "Print the versions of this program, of the libraries below it, and of the drafts, and end.");
  add("help", "", "Print this, and end.");
}

const Option *FindOption(const Program &program, std::string_view name) {
  const auto found = std::ranges::find(program.options, name, &Option::name);
  return found == program.options.end() ? nullptr : &*found;
}

Option Switch(Option row, bool &member) {
  row.kind = Kind::kSwitch;
  row.initial = member ? "true" : "false";
  if (member) {
    row.argument = "(on|off)"; // Its name alone would change nothing.
  }
  row.set = [&member](std::string_view text) -> std::expected<void, Wrong> {
    const auto value = ParseSwitch(text);
    if (!value) {
      return std::unexpected(value.error());
    }
    member = *value;
    return {};
  };
  return row;
}

Option Duration(Option row, std::chrono::nanoseconds &member) {
  if (member.count() > 0) {
    row.initial = DurationText(member);
  }
  row.kind = Kind::kNumber;
  row.set = [&member](std::string_view text) -> std::expected<void, Wrong> {
    const auto duration = ParseDuration(text);
    if (!duration) {
      return std::unexpected(duration.error());
    }
    if (duration->count() == 0) {
      return std::unexpected("longer than zero");
    }
    member = *duration;
    return {};
  };
  return row;
}

namespace {

Option Any(Option row, auto &member) {
  row.initial = member;
  row.set = [&member](std::string_view text) -> std::expected<void, Wrong> {
    if (text.empty() || text.contains('\0')) {
      return std::unexpected("a text that is not empty");
    }
    member = text;
    return {};
  };
  return row;
}

} // namespace

Option Text(Option row, std::string &member) { return Any(std::move(row), member); }
Option Path(Option row, std::filesystem::path &member) { return Any(std::move(row), member); }

Option Paths(Option row, std::vector<std::filesystem::path> &member) {
  row.repeatable = true;
  row.set = [&member](std::string_view text) -> std::expected<void, Wrong> {
    std::filesystem::path path;
    return Any({}, path).set(text).transform([&] { member.push_back(std::move(path)); });
  };
  return row;
}

Option Level(Option row, LogLevel &member) {
  row.initial = LogLevelText(member);
  row.set = [&member](std::string_view text) -> std::expected<void, Wrong> {
    const auto level = ParseLogLevel(text);
    if (!level) {
      return std::unexpected("debug, info, warning or error");
    }
    member = *level;
    return {};
  };
  return row;
}

Option Endpoints(Option row, std::vector<Endpoint> &member) {
  row.repeatable = true;
  row.set = [&member](std::string_view text) -> std::expected<void, Wrong> {
    const auto endpoint = ParseEndpoint(text);
    if (!endpoint) {
      return std::unexpected(endpoint.error());
    }
    member.push_back(*endpoint);
    return {};
  };
  return row;
}

} // namespace ngmasque::programs
