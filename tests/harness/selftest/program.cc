#include "program.h"

#include "../sanitizer.h"

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <format>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>

extern char **environ;

namespace selftest {

namespace {

std::string ReadFile(const std::string &path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

/// A directory of its own that goes when the run is over.
class TemporaryDirectory {
public:
  TemporaryDirectory() : path_{testing::TempDir() + "harness-test-XXXXXX"} {
    if (mkdtemp(path_.data()) == nullptr) {
      ADD_FAILURE() << "mkdtemp " << path_ << ": " << std::strerror(errno);
    }
  }
  TemporaryDirectory(const TemporaryDirectory &) = delete;
  TemporaryDirectory &operator=(const TemporaryDirectory &) = delete;
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  [[nodiscard]] const std::string &path() const { return path_; }

private:
  std::string path_;
};

/// What is between the first `before` and the `after` that follows it, or nothing.
std::string_view Between(std::string_view text, std::string_view before, std::string_view after) {
  const auto begin = text.find(before);
  if (begin == std::string_view::npos) {
    return {};
  }
  text.remove_prefix(begin + before.size());
  return text.substr(0, text.find(after));
}

/// The value of an attribute; those read here hold nothing that XML escapes.
std::string Attribute(std::string_view element, std::string_view name) {
  return std::string{Between(element, std::format(" {}=\"", name), "\"")};
}

/// GoogleTest's XML needs no general parser: one element begins on each line, and messages are
/// CDATA sections as well as attributes.
void ReadCases(Run &run) {
  std::string_view rest = run.xml;
  for (auto begin = rest.find("<testcase "); begin != std::string_view::npos;
       begin = rest.find("<testcase ")) {
    rest.remove_prefix(begin);
    const auto line = rest.substr(0, rest.find('\n'));
    const auto element = line.ends_with("/>") ? line : rest.substr(0, rest.find("</testcase>"));
    rest.remove_prefix(element.size());

    TestCase test{.result = Attribute(line, "result"), .failures = {}, .skip_message = {}};
    auto parts = element;
    for (auto at = parts.find("<failure "); at != std::string_view::npos;
         at = parts.find("<failure ")) {
      parts.remove_prefix(at + 1);
      test.failures.emplace_back(Between(parts, "<![CDATA[", "</failure>"));
    }
    test.skip_message = Between(Between(element, "<skipped ", "</skipped>"), "<![CDATA[", "]]>");
    const auto name = Attribute(line, "classname") + "." + Attribute(line, "name");
    if (!run.cases.emplace(name, test).second) {
      run.duplicates.push_back(name);
    }
  }
}

/// One word of a command for the shell.
std::string Quoted(const std::string &word) { return "'" + word + "' "; }

} // namespace

std::string TestCase::failure() const {
  std::string all;
  for (const auto &failure : failures) {
    all += failure + "\n";
  }
  return all;
}

std::vector<std::string> Run::failed() const {
  std::vector<std::string> names;
  for (const auto &[name, test] : cases) {
    if (!test.failures.empty()) {
      names.push_back(name);
    }
  }
  return names;
}

bool Run::checks_leaks() const {
#if __has_feature(address_sanitizer)
  return !out.contains(harness::kNoLeakCheck);
#else
  return false;
#endif
}

std::string Path(const std::string &program) {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "harness" / program;
}

Run RunProgramPlainly(const std::string &program, const std::vector<std::string> &arguments,
                      const std::vector<std::string> &environment) {
  const TemporaryDirectory directory;
  const auto out = directory.path() + "/out", err = directory.path() + "/err";
  const auto work = directory.path() + "/cwd";
  std::filesystem::create_directory(work);

  auto command = "cd " + Quoted(work) + "&& exec env ";
  for (char **variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    // Of an outer run: sharding and filter are not meant for the samples.
    if (text.starts_with("GTEST_") || text.starts_with("NGM_HARNESS_") ||
        text.starts_with("TEST_")) {
      command += "-u " + Quoted(text.substr(0, text.find('=')));
    }
  }
  for (const auto &addition : environment) {
    command += Quoted(addition);
  }
  command += Quoted(Path(program));
  for (const auto &argument : arguments) {
    command += Quoted(argument);
  }
  command += "</dev/null >>" + Quoted(out) + "2>>" + Quoted(err);
  Run run;
  const int status = std::system(command.c_str());
  run.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  run.out = ReadFile(out);
  run.err = ReadFile(err);
  for (const auto &file : std::filesystem::directory_iterator{work}) {
    run.files[file.path().filename()] = ReadFile(file.path());
  }
  return run;
}

Run RunProgram(const std::string &program, std::vector<std::string> arguments,
               const std::vector<std::string> &environment) {
  arguments.push_back("--gtest_output=xml:out.xml");
  auto run = RunProgramPlainly(program, arguments, environment);
  run.xml = run.files["out.xml"];
  ReadCases(run);
  return run;
}

std::vector<std::string> LinesAfter(const std::string &text, const std::string &prefix) {
  std::vector<std::string> lines;
  std::istringstream stream{text};
  for (std::string line; std::getline(stream, line);) {
    if (line.starts_with(prefix)) {
      lines.push_back(line.substr(prefix.size()));
    }
  }
  return lines;
}

} // namespace selftest
