#include "settings.h"

#include "manual.h"

#include <algorithm>
#include <cstdlib>
#include <format>
#include <span>
#include <utility>

#include <getopt.h>

namespace ngmasque::programs {

namespace {

std::vector<struct option> LongOptions(const Program &program) {
  std::vector<struct option> rows;
  for (const auto &option : program.options) {
    const int argument = option.kind == Kind::kSwitch ? optional_argument
                         : option.argument.empty()    ? no_argument
                                                      : required_argument;
    rows.push_back({option.name.c_str(), argument, nullptr, 0});
  }
  rows.push_back({});
  return rows;
}

void Add(Values &values, const Option &option, Value value) {
  auto &all = values[option.name];
  if (!option.repeatable) {
    all.clear(); // The last one counts.
  }
  all.push_back(std::move(value));
}

std::expected<void, Complaint> AddOperands(const Program &program, std::span<char *const> operands,
                                           Values &values) {
  auto row = program.options.begin();
  for (const auto *text : operands) {
    row = std::ranges::find(row, program.options.end(), true, &Option::operand);
    if (row == program.options.end()) {
      return std::unexpected(
        std::format("{} is one argument too many; see {} --help", text, program.name));
    }
    Add(values, *row, {.text = text, .where = row->argument});
    row += row->repeatable ? 0 : 1;
  }
  return {};
}

} // namespace

std::expected<Settings, Complaint> ReadCommandLine(const Program &program, int argc, char **argv) {
  const std::span arguments(argv, std::size_t(argc));
  const auto rows = LongOptions(program);
  Settings settings;
  optind = 0; // From the beginning.
  opterr = 0; // What is wrong is said below.
  for (;;) {
    int index = -1;
    const auto before = std::size_t(std::max(optind, 1));
    const int got = getopt_long(argc, argv, ":h", rows.data(), &index);
    if (got == -1) {
      break;
    }
    const std::string_view word =
      arguments[got == '?' || got == ':' ? std::size_t(optind) - 1 : before];
    if (got == ':') {
      return std::unexpected(std::format("{} needs a value; see {} --help", word, program.name));
    }
    if (got == '?') {
      return std::unexpected(std::format("{} is no option, or takes no value; see {} --help",
                                         word.substr(0, word.find('=')), program.name));
    }
    const auto &option =
      got == 'h' ? *FindOption(program, "help") : program.options[std::size_t(index)];
    Add(settings.values, option, {.text = optarg ? optarg : "true", .where = "--" + option.name});
  }
  if (auto added = AddOperands(program, arguments.subspan(std::size_t(optind)), settings.values);
      !added) {
    return std::unexpected(std::move(added.error()));
  }
  return settings;
}

std::expected<Settings, Complaint> Complete(const Program &program, const Settings &command_line) {
  Settings settings;
  if (const auto file = command_line.values.find("config"); file != command_line.values.end()) {
    auto read = ReadConfiguration(program, file->second.back().text);
    if (!read) {
      return read;
    }
    settings = *std::move(read);
  }
  for (const auto &[name, values] : command_line.values) {
    settings.values[name] = values;
  }
  for (const auto &option : program.options) {
    const char *value =
      option.environment.empty() ? nullptr : std::getenv(option.environment.c_str());
    if (value && *value && !settings.values.contains(option.name)) {
      settings.values[option.name] = {{.text = value, .where = "$" + option.environment}};
    }
  }
  return settings;
}

std::expected<void, Complaint> Apply(const Program &program, const Values &values) {
  // In the order of the table, so that what is said first does not depend on the names.
  for (const auto &option : program.options) {
    const auto found = values.find(option.name);
    if (found == values.end() || !option.set) {
      continue;
    }
    for (const auto &value : found->second) {
      if (const auto set = option.set(value.text); !set) {
        return std::unexpected(std::format("{} must be {}", value.where, set.error()));
      }
    }
  }
  return {};
}

std::variant<Settings, ExitCode> Begin(const Program &program, int argc, char **argv) {
  auto settings = ReadCommandLine(program, argc, argv);
  if (!settings) {
    const auto line = std::format("{}: {}\n", program.name, settings.error());
    std::fwrite(line.data(), 1, line.size(), stderr);
    return kUsage;
  }
  static constexpr std::pair<const char *, std::string (*)(const Program &)> kPrinted[] = {
    {"help", HelpText},
    {"version", VersionText},
    {"man-page", ManPage},
    {"sample-config", SampleConfiguration},
    {"completion", BashCompletion}};
  for (const auto &[name, text] : kPrinted) {
    if (settings->values.contains(name)) {
      const auto out = text(program);
      const bool written = std::fwrite(out.data(), 1, out.size(), stdout) == out.size();
      return written && std::fflush(stdout) == 0 ? kEnded : kFailed;
    }
  }
  return *std::move(settings);
}

} // namespace ngmasque::programs
