// The configuration file: TOML, whose keys are the options' names.
#include "settings.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>
#include <numeric>
#include <optional>
#include <utility>

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

namespace ngmasque::programs {

namespace {

// How many letters have to be changed, added or left out.
std::size_t Distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 0; i < a.size(); ++i) {
    auto diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const auto above = row[j + 1];
      row[j + 1] = std::min({diagonal + (a[i] != b[j]), above + 1, row[j] + 1});
      diagonal = above;
    }
  }
  return row.back();
}

class Reader {
public:
  Reader(const Program &program, std::string_view name) : program_(program), name_(name) {}

  std::expected<Settings, Complaint> Read(const toml::table &root) const {
    Settings settings;
    for (const auto &[key, node] : root) {
      const bool group = !program_.group.empty() && key.str() == program_.group;
      auto read = group ? ReadGroups(node, settings) : ReadKey(key, node, false, settings.values);
      if (!read) {
        return std::unexpected(std::move(read.error()));
      }
    }
    return settings;
  }

private:
  std::unexpected<Complaint> Complain(const toml::source_region &where,
                                      std::string_view what) const {
    return std::unexpected(std::format("{}:{}: {}", name_, where.begin.line, what));
  }

  std::expected<void, Complaint> ReadGroups(const toml::node &node, Settings &settings) const {
    const auto *groups = node.as_table();
    if (!groups) {
      return Complain(node.source(),
                      std::format("{0} is a table: write [{0}.NAME]", program_.group));
    }
    for (const auto &[name, group] : *groups) {
      const auto *table = group.as_table();
      if (!table) {
        return Complain(name.source(), std::format("{0}.{1} is a table: write [{0}.{1}]",
                                                   program_.group, name.str()));
      }
      auto &values = settings.groups[std::string(name.str())];
      for (const auto &[key, value] : *table) {
        if (auto read = ReadKey(key, value, true, values); !read) {
          return read;
        }
      }
    }
    return {};
  }

  std::expected<void, Complaint> ReadKey(const toml::key &key, const toml::node &node, bool grouped,
                                         Values &values) const {
    const auto *option = FindOption(program_, key.str());
    if (!option) {
      return Complain(key.source(), std::format("there is no option {}{}; see {} --help", key.str(),
                                                Similar(key.str()), program_.name));
    }
    if (option->command_line_only) {
      return Complain(key.source(),
                      std::format("{0} is for the command line only: --{0}", option->name));
    }
    if (grouped && !option->grouped) {
      return Complain(
        key.source(),
        std::format("{} cannot be set for one {} alone: move it above the first [table]",
                    option->name, program_.group));
    }
    auto &into = values[option->name];
    if (const auto *list = node.as_array(); list && option->repeatable) {
      for (const auto &element : *list) {
        if (auto added = AddValue(*option, element, into); !added) {
          return added;
        }
      }
      return {};
    }
    return AddValue(*option, node, into);
  }

  std::expected<void, Complaint> AddValue(const Option &option, const toml::node &node,
                                          std::vector<Value> &into) const {
    const auto text = TextOf(option, node);
    if (!text) {
      return Complain(node.source(), std::format("{} must be {}", option.name, Wanted(option)));
    }
    into.push_back(
      {.text = *text,
       .where = std::format("{}:{}: {}", name_, node.source().begin.line, option.name)});
    return {};
  }

  static std::optional<std::string> TextOf(const Option &option, const toml::node &node) {
    if (const auto *flag = node.as_boolean()) {
      return option.kind == Kind::kSwitch ? std::optional(flag->get() ? "true" : "false")
                                          : std::nullopt;
    }
    if (const auto *number = node.as_integer()) {
      return option.kind == Kind::kNumber ? std::optional(std::to_string(number->get()))
                                          : std::nullopt;
    }
    const auto *text = node.as_string();
    return text && option.kind != Kind::kSwitch ? std::optional(text->get()) : std::nullopt;
  }

  static std::string Wanted(const Option &option) {
    switch (option.kind) {
    case Kind::kSwitch:
      return "true or false, without quotes";
    case Kind::kNumber:
      return "a number, or one with a unit in quotes, such as \"16M\" or \"10ms\"";
    case Kind::kText:
      break;
    }
    return option.repeatable ? "a text in quotes, or several of them in [brackets]"
                             : "a text in quotes";
  }

  std::string Similar(std::string_view wrong) const {
    const auto similar = std::ranges::find_if(program_.options, [&](const Option &option) {
      return !option.command_line_only && Distance(option.name, wrong) <= 2;
    });
    return similar == program_.options.end() ? "" : ": did you mean " + similar->name + "?";
  }

  const Program &program_;
  std::string_view name_;
};

// The system's last error.
std::unexpected<Complaint> Unreadable(const std::filesystem::path &file) {
  return std::unexpected(std::format("{}: {}", file.string(), std::strerror(errno)));
}

} // namespace

std::expected<Settings, Complaint> ParseConfiguration(const Program &program, std::string_view text,
                                                      std::string_view name) {
  const auto parsed = toml::parse(text, name);
  if (!parsed) {
    const auto &error = parsed.error();
    return std::unexpected(std::format("{}:{}: this is no TOML: {}", name,
                                       error.source().begin.line, error.description()));
  }
  return Reader(program, name).Read(parsed.table());
}

std::expected<Settings, Complaint> ReadConfiguration(const Program &program,
                                                     const std::filesystem::path &file) {
  const auto text = ReadFile(file);
  if (!text) {
    return std::unexpected(text.error());
  }
  return ParseConfiguration(program, *text, file.string());
}

std::expected<std::string, Complaint> ReadFile(const std::filesystem::path &file) {
  auto *in = std::fopen(file.c_str(), "rbe");
  if (!in) {
    return Unreadable(file);
  }
  std::string text;
  std::size_t got = 0;
  do {
    const auto size = text.size();
    text.resize(size + 4096);
    got = std::fread(text.data() + size, 1, 4096, in);
    text.resize(size + got);
  } while (got > 0 && text.size() <= kMaxFileBytes);
  const bool failed = std::ferror(in) != 0;
  auto unreadable = Unreadable(file); // fclose has an error of its own.
  std::fclose(in);
  if (failed) {
    return unreadable;
  }
  if (text.size() > kMaxFileBytes) {
    return std::unexpected(
      std::format("{}: larger than {}", file.string(), SizeText(kMaxFileBytes)));
  }
  return text;
}

} // namespace ngmasque::programs
