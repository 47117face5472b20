#include "manual.h"

#include "exit_code.h"

#include <format>
#include <iterator>
#include <string_view>

#include <ngmasque/io/version.h>

namespace ngmasque::programs {

namespace {

constexpr std::size_t kWidth = 78;

// Words of `text` in lines that begin with `indent`.  Paragraphs stay apart.
std::string Wrap(std::string_view text, std::string_view indent) {
  std::string out;
  std::string line;
  const auto flush = [&] {
    if (!line.empty()) {
      out += std::format("{}{}\n", indent, line);
      line.clear();
    }
  };
  while (!text.empty()) {
    if (text.starts_with("\n\n")) {
      flush();
      out += std::string(indent.substr(0, indent.find_last_not_of(' ') + 1)) + "\n";
    }
    const auto begin = text.find_first_not_of(" \n");
    if (begin == std::string_view::npos) {
      break;
    }
    text.remove_prefix(begin);
    const auto word = text.substr(0, text.find_first_of(" \n"));
    if (!line.empty() && indent.size() + line.size() + 1 + word.size() > kWidth) {
      flush();
    }
    line += (line.empty() ? "" : " ") + std::string(word);
    text.remove_prefix(word.size());
  }
  flush();
  return out;
}

std::string Default(const Option &option) {
  std::string text;
  if (!option.initial.empty()) {
    text = std::format(" Default: {}.", option.initial);
  }
  if (!option.environment.empty()) {
    text += std::format(" Without it ${} is used.", option.environment);
  }
  text += option.repeatable ? " It can be repeated." : "";
  return text + (option.reloaded ? " SIGHUP reads it again." : "");
}

std::string Usage(const Program &program) {
  std::string text = program.name + " [OPTION]...";
  for (const auto &option : program.options) {
    if (option.operand) {
      text += " " + option.argument;
    }
  }
  return text;
}

// What roff would take for its own.
std::string Roff(std::string_view text) {
  std::string out;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) {
      out += "\\&";
    }
    out += c == '\\' ? "\\e" : c == '-' ? "\\-" : std::string(1, c);
    line_begins = c == '\n';
  }
  return out;
}

std::string RoffParagraphs(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto end = text.find("\n\n");
    out += ".PP\n" + Roff(text.substr(0, end)) + "\n";
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
  }
  return out;
}

// As in a configuration file.
std::string TomlLine(const Option &option) {
  const auto &text = option.initial.empty() ? option.argument : option.initial;
  const bool plain =
    option.kind == Kind::kSwitch ||
    (option.kind == Kind::kNumber && text.find_first_not_of("0123456789") == std::string::npos);
  const auto value = plain ? text : std::format("\"{}\"", text);
  return option.repeatable ? std::format("#{} = [{}]\n", option.name, value)
                           : std::format("#{} = {}\n", option.name, value);
}

// Calls `begin` with the name of each section, and `each` with its options.
void Sections(const Program &program, auto begin, auto each) {
  std::string_view section;
  for (const auto &option : program.options) {
    if (option.section != section) {
      section = option.section;
      begin(section);
    }
    each(option);
  }
}

} // namespace

std::string HelpText(const Program &program) {
  auto text = std::format("Usage: {}\n{}", Usage(program), Wrap(program.description, ""));
  Sections(
    program, [&](std::string_view section) { text += std::format("\n{}:\n", section); },
    [&](const Option &option) {
      const auto argument = option.argument.empty() ? "" : "=" + option.argument;
      text += option.operand ? std::format("  {}\n", option.argument)
                             : std::format("  --{}{}\n", option.name, argument);
      text += Wrap(option.help + Default(option), "              ");
    });
  text += "\nExit status:\n";
  for (const auto &[code, meaning] : kExitCodes) {
    text += std::format("  {}\n{}", int(code), Wrap(meaning, "              "));
  }
  return text;
}

std::string ManPage(const Program &program) {
  auto text = std::format(".TH \"{}\" 1 \"\" \"libngmasque {}\" \"\"\n.SH NAME\n{} \\- {}\n",
                          Roff(program.name), LibraryVersions().ngmasque, Roff(program.name),
                          Roff(program.purpose));
  text += std::format(".SH SYNOPSIS\n.B {}\n.SH DESCRIPTION\n{}", Roff(Usage(program)),
                      RoffParagraphs(program.description));
  text += ".SH OPTIONS\n";
  Sections(
    program, [&](std::string_view section) { text += std::format(".SS {}\n", Roff(section)); },
    [&](const Option &option) {
      const auto argument =
        option.argument.empty() ? "" : std::format("=\\fI{}\\fR", Roff(option.argument));
      text += option.operand
                ? std::format(".TP\n\\fI{}\\fR\n", Roff(option.argument))
                : std::format(".TP\n\\fB\\-\\-{}\\fR{}\n", Roff(option.name), argument);
      text += Roff(option.help + Default(option)) + "\n";
    });
  text += ".SH EXIT STATUS\n";
  for (const auto &[code, meaning] : kExitCodes) {
    text += std::format(".TP\n{}\n{}\n", int(code), Roff(meaning));
  }
  for (const auto &[title, paragraphs] : program.notes) {
    text += std::format(".SH {}\n{}", Roff(title), RoffParagraphs(paragraphs));
  }
  return text;
}

std::string SampleConfiguration(const Program &program) {
  auto text = Wrap(std::format("Configuration of {}: every option with its default. What has none "
                               "shows what is to be written there.",
                               program.name),
                   "# ");
  Sections(
    program,
    [&](std::string_view section) {
      if (section != "Program") {
        text += std::format("\n# ==== {} ====\n", section);
      }
    },
    [&](const Option &option) {
      if (!option.command_line_only) {
        text += "\n" + Wrap(option.help + (option.repeatable ? " It can be repeated." : ""), "# ") +
                TomlLine(option);
      }
    });
  if (!program.group.empty()) {
    text += std::format("\n{}#[{}.NAME]\n", Wrap(program.group_help, "# "), program.group);
    for (const auto &option : program.options) {
      text += option.grouped ? TomlLine(option) : "";
    }
  }
  return text;
}

std::string BashCompletion(const Program &program) {
  std::string names;
  std::string files;
  std::string directories;
  for (const auto &option : program.options) {
    names += std::format(" --{}{}", option.name, option.argument.empty() ? "" : "=");
    if (option.argument == "<FILE>" || option.argument == "<DIR>") {
      auto &list = option.argument == "<FILE>" ? files : directories;
      list += (list.empty() ? "--" : "|--") + option.name;
    }
  }
  std::string function = "_" + program.name;
  for (auto &c : function) {
    c = c == '-' ? '_' : c;
  }
  // readline takes = for a word of its own.
  auto text = std::format(
    "{}() {{\n  local word=${{COMP_WORDS[COMP_CWORD]}} name=${{COMP_WORDS[COMP_CWORD-1]}}\n"
    "  [[ $word == = ]] && word=\n"
    "  [[ $name == = ]] && name=${{COMP_WORDS[COMP_CWORD-2]}}\n  compopt +o nospace\n  case $name "
    "in\n",
    function);
  for (const auto &[list, how] : {std::pair(&files, "-f"), std::pair(&directories, "-d")}) {
    if (!list->empty()) {
      text += std::format("  {}) mapfile -t COMPREPLY < <(compgen {} -- \"$word\"); return;;\n",
                          *list, how);
    }
  }
  return text + std::format("  esac\n  mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\")\n"
                            "  [[ ${{COMPREPLY[0]-}} == *= ]] && compopt -o nospace\n}}\n"
                            "complete -o filenames -F {} {}\n",
                            names.substr(1), function, program.name);
}

std::string VersionText(const Program &program) {
  const auto versions = LibraryVersions();
  auto text = std::format("{} {}, on ngtcp2 {}, nghttp3 {} and GnuTLS {}\n", program.name,
                          versions.ngmasque, versions.ngtcp2, versions.nghttp3, versions.gnutls);
  for (const auto document : kDocuments) {
    text += std::format("  {}\n", document);
  }
  return text;
}

} // namespace ngmasque::programs
