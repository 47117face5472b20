// Options, and running all tests.

#include "harness.h"
#include "utf8.h"

#include <fnmatch.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <format>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <print>
#include <string_view>
#include <utility>

namespace harness {

[[gnu::weak]] extern const bool each_test_forked = false;

namespace {

constexpr std::string_view kHelp = R"(
Options of the harness:
  --harness_fork=suite|test
      A process for each suite of CUnit's, or for each test. Or NGM_HARNESS_FORK.
  --harness_no_fork
      Run test bodies in this process, for a debugger. NGM_HARNESS_FORK=0 does the same.
  --harness_timeout=SECONDS
      Kill a test after this time (default 120, 0 for never). Or NGM_HARNESS_TIMEOUT.
)";
constexpr int kMaxTimeout = 86400;

Options current;
bool initialized = false;
bool help = false;
/// Whose exit status is to be 1; 0 if it is that of nobody.
pid_t failed_process = 0;

[[noreturn]] void BadUsage(const std::string &what) {
  std::println(stderr, "harness: {}", what);
  std::exit(2);
}

void SetTimeout(std::string_view value, std::string_view name) {
  int seconds = -1;
  const auto end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, seconds);
  if (error != std::errc{} || stop != end || seconds < 0 || seconds > kMaxTimeout) {
    BadUsage(
      std::format("{}={}: not a whole number of seconds from 0 to {}", name, value, kMaxTimeout));
  }
  current.timeout = std::chrono::seconds{seconds};
}

void ReadEnvironment() {
  if (const char *value = std::getenv("NGM_HARNESS_FORK")) {
    const std::string_view fork = value;
    if (fork != "0" && fork != "1" && fork != "suite" && fork != "test") {
      BadUsage(std::format("NGM_HARNESS_FORK={}: none of 0, 1, suite and test", fork));
    }
    current.fork = fork != "0";
  }
  if (const char *value = std::getenv("NGM_HARNESS_TIMEOUT")) {
    SetTimeout(value, "NGM_HARNESS_TIMEOUT");
  }
}

/// Takes our options out of the arguments that GoogleTest left.
void ReadArguments(int *argc, char **argv) {
  constexpr std::string_view timeout = "--harness_timeout";
  int kept = 1;
  for (int i = 1; i < *argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == "--harness_no_fork") {
      current.fork = false;
    } else if (arg == "--harness_fork=suite" || arg == "--harness_fork=test") {
      current.fork = true; // guardian.cc has seen which.
    } else if (arg.starts_with(timeout) && arg.substr(timeout.size()).starts_with('=')) {
      SetTimeout(arg.substr(timeout.size() + 1), timeout);
    } else if (arg.starts_with("--harness_") || arg.starts_with("--gtest_")) {
      BadUsage(std::format("{}: unknown option or bad value", arg));
    } else if (arg == "--help" || arg == "-h" || arg == "-?" || arg == "/?") {
      // The spellings for which GoogleTest has printed its help and left the argument in place.
      help = true;
    } else {
      argv[kept++] = argv[i];
    }
  }
  if (*argc > 0) {
    *argc = kept;
    argv[kept] = nullptr;
  }
  if (help) {
    std::print("{}", kHelp);
  }
}

} // namespace

const Options &options() { return current; }

void Initialize(int *argc, char **argv) {
  if (initialized) {
    return;
  }
  initialized = true;
  ReadEnvironment();
  testing::InitGoogleTest(argc, argv);
  ReadArguments(argc, argv);
}

void InitializeFromProcess() {
  if (initialized) {
    return;
  }
  // GoogleTest may keep pointers into the arguments.
  static std::vector<std::string> words;
  std::ifstream file{"/proc/self/cmdline", std::ios::binary};
  for (std::string word; std::getline(file, word, '\0');) {
    // Others are main()'s, which has seen them already.
    if (words.empty() || word == "--help" || word.starts_with("--gtest_") ||
        word.starts_with("--harness_")) {
      words.push_back(word);
    }
  }
  std::vector<char *> argv;
  for (auto &word : words) {
    argv.push_back(word.data());
  }
  int argc = static_cast<int>(argv.size());
  argv.push_back(nullptr);
  Initialize(&argc, argv.data());
}

namespace {

/// GoogleTest's filter: patterns, of which those after the first '-' are negative ones.
bool Matches(std::string_view filter, const std::string &name) {
  const auto dash = filter.find('-');
  const auto any = [&](std::string_view patterns) {
    for (std::size_t begin = 0; begin <= patterns.size();) {
      const auto end = std::min(patterns.find(':', begin), patterns.size());
      if (fnmatch(std::string{patterns.substr(begin, end - begin)}.c_str(), name.c_str(), 0) == 0) {
        return true;
      }
      begin = end + 1;
    }
    return false;
  };
  return (dash == 0 || any(filter.substr(0, dash))) &&
         (dash == std::string_view::npos || !any(filter.substr(dash + 1)));
}

/// GoogleTest prints the filter; what the user has not said would be all names of a run.
class FilterKeeper : public testing::EmptyTestEventListener {
public:
  std::string users = GTEST_FLAG_GET(filter);

private:
  void OnTestProgramStart(const testing::UnitTest &) override { GTEST_FLAG_SET(filter, users); }
};

/// In each run GoogleTest writes its XML file anew.  Adds what the runs before have written.
void MergeXml() {
  static std::string earlier;
  static std::map<std::string, unsigned long> sums;
  const std::string output = GTEST_FLAG_GET(output);
  if (!output.starts_with("xml:")) {
    return;
  }
  std::ifstream in{output.substr(4), std::ios::binary};
  std::string text{std::istreambuf_iterator<char>{in}, {}};
  const auto end = text.rfind("</testsuites>");
  const auto begin = text.find('\n', text.find("<testsuites "));
  if (end == std::string::npos || begin >= end) {
    return;
  }
  const auto suites = text.substr(begin, end - begin);
  text.replace(begin, end - begin, earlier + suites);
  for (const auto *const name : {" tests=\"", " failures=\"", " disabled=\"", " errors=\""}) {
    if (const auto at = text.find(name); at < begin) {
      const auto number = at + std::strlen(name);
      auto &sum = sums[name];
      sum += std::strtoul(text.c_str() + number, nullptr, 10);
      text.replace(number, text.find('"', number) - number, std::to_string(sum));
    }
  }
  if (!std::exchange(earlier, earlier + suites).empty()) {
    std::ofstream{output.substr(4), std::ios::binary} << text;
  }
}

} // namespace

int RunTests(const std::vector<std::string> *selected) {
  static auto *const keeper = [] {
    auto *const listener = new FilterKeeper;
    testing::UnitTest::GetInstance()->listeners().Append(listener);
    return listener;
  }();
  if (selected != nullptr) {
    std::string filter;
    for (const auto &name : *selected) {
      if (Matches(keeper->users, name)) {
        filter += name + ':';
      }
    }
    GTEST_FLAG_SET(filter, filter.empty() ? "-*" : filter);
  }
  const int result = RUN_ALL_TESTS();
  MergeXml();
  if (help || GTEST_FLAG_GET(list_tests)) {
    std::exit(0);
  }
  if (result != 0) {
    FailProcess();
  }
  return result;
}

void FailProcess() {
  // A forked test body that calls exit() runs the handler too, but is not the process meant.
  if (std::exchange(failed_process, getpid()) == 0) {
    on_exit(
      [](int status, void *) {
        if (status == 0 && getpid() == failed_process) {
          std::fflush(nullptr);
          _exit(1);
        }
      },
      nullptr);
  }
}

void MoveProcess() { failed_process = failed_process != 0 ? getpid() : 0; }

int Main(int argc, char **argv) {
  Initialize(&argc, argv);
  if (argc > 1) {
    BadUsage(std::format("{}: unknown argument", argv[1]));
  }
  return RunTests();
}

void RunCatching(const std::function<void()> &body) {
  try {
    body();
  } catch (const std::exception &e) {
    AddPart(testing::TestPartResult::kFatalFailure, nullptr, -1,
            std::format("exception thrown: {}", e.what()));
  } catch (...) {
    AddPart(testing::TestPartResult::kFatalFailure, nullptr, -1,
            "exception thrown, not a std::exception");
  }
}

void Flush() {
  std::cout.flush();
  std::cerr.flush();
  std::fflush(nullptr);
}

void AddPart(testing::TestPartResult::Type type, const char *file, int line,
             const std::string &message) {
  if (file != nullptr && *file == '\0') {
    file = nullptr;
  }
  testing::internal::AssertHelper(type, file, line, "") = testing::Message() << ValidUtf8(message);
}

} // namespace harness
