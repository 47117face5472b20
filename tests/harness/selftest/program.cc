#include "program.h"

#include "../sanitizer.h"

#include <fcntl.h>
#include <spawn.h>
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

std::vector<std::string> Environment(const std::vector<std::string> &additions) {
  std::vector<std::string> environment;
  for (char **variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    // Of an outer run: sharding and filter are not meant for the samples.
    if (!text.starts_with("GTEST_") && !text.starts_with("NGM_HARNESS_") &&
        !text.starts_with("TEST_")) {
      environment.emplace_back(text);
    }
  }
  environment.insert(environment.end(), additions.begin(), additions.end());
  return environment;
}

std::vector<char *> Pointers(std::vector<std::string> &strings) {
  std::vector<char *> pointers;
  for (auto &string : strings) {
    pointers.push_back(string.data());
  }
  pointers.push_back(nullptr);
  return pointers;
}

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

  std::vector<std::string> words{Path(program)};
  words.insert(words.end(), arguments.begin(), arguments.end());
  auto variables = Environment(environment);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_addchdir_np(&actions, work.c_str());
  pid_t pid = -1;
  const int error = posix_spawn(&pid, words[0].c_str(), &actions, nullptr, Pointers(words).data(),
                                Pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);

  Run run;
  int status = 0;
  if (error != 0 || waitpid(pid, &status, 0) != pid) {
    ADD_FAILURE() << words[0] << ": " << std::strerror(error);
    return run;
  }
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
