// Options, and running all tests.

#include "harness.h"

#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <print>
#include <string_view>

namespace harness {

namespace {

constexpr std::string_view kHelp = R"(
Options of the harness:
  --harness_no_fork
      Run test bodies in this process, for a debugger. NGM_HARNESS_FORK=0 does the same.
  --harness_timeout=SECONDS
      Kill a test after this time (default 120, 0 for never). Or NGM_HARNESS_TIMEOUT.
)";
constexpr int kMaxTimeout = 86400;

Options current;
bool initialized = false;
bool help = false;

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
    if (fork != "0" && fork != "1") {
      BadUsage(std::format("NGM_HARNESS_FORK={}: neither 0 nor 1", fork));
    }
    current.fork = fork == "1";
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

int RunTests(const std::vector<std::string> &left_out) {
  static const std::string selected = GTEST_FLAG_GET(filter);
  auto filter = selected;
  for (const auto &name : left_out) {
    // After the first '-' all patterns are negative ones.
    filter += filter.contains('-') ? ':' : '-';
    filter += name;
  }
  GTEST_FLAG_SET(filter, filter);

  const int result = RUN_ALL_TESTS();
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
  static pid_t process;
  if (process == 0) {
    process = getpid();
    on_exit(
      [](int status, void *) {
        if (status == 0 && getpid() == process) {
          std::fflush(nullptr);
          _exit(1);
        }
      },
      nullptr);
  }
}

int Main(int argc, char **argv) {
  Initialize(&argc, argv);
  if (argc > 1) {
    BadUsage(std::format("{}: unknown argument", argv[1]));
  }
  return RunTests();
}

} // namespace harness
