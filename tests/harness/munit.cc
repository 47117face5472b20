// munit's API on GoogleTest: each MunitTest of a tree of suites, with each combination of its
// parameters, is a case.
//
// munit.h and most of munit.c (random numbers, allocation, hexdump) are upstream's own.  The four
// functions below take the place of munit.c's, which the build renames there; so munit_suite_main()
// of an unchanged main.c comes here, and a suite that a patch adds to that file is found without a
// change here.

#include "guard.h"
#include "guardian.h"
#include "harness.h"
#include "names.h"

#include <munit.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <format>
#include <map>
#include <print>
#include <string_view>
#include <utility>

namespace {

using testing::TestPartResult;

/// One case.
struct Case {
  const MunitTest *test;
  void *user_data;
  unsigned int iterations;
  /// With munit's terminator; empty for a test that declares no parameters, which gets NULL.
  std::vector<MunitParameter> parameters;
};

/// What the running test logged last: for a skipped test that is its reason.
std::string last_log;

std::string Format(const char *format, std::va_list ap) {
  std::va_list again;
  va_copy(again, ap);
  const int size = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  std::string text(static_cast<std::size_t>(std::max(size, 0)), '\0');
  std::vsnprintf(text.data(), text.size() + 1, format, ap);
  return text;
}

void Fail(const char *file, int line, std::string_view message) {
  if (testing::UnitTest::GetInstance()->current_test_info() == nullptr) {
    std::println(stderr, "{}:{}: munit assertion outside of a test: {}", file, line, message);
    std::abort();
  }
  harness::AddPart(TestPartResult::kFatalFailure, file, line, std::string{message});
}

/// munit's default levels: debug messages are not shown, an error ends the test.
void Log(MunitLogLevel level, const char *file, int line, const std::string &message) {
  last_log = std::format("{}:{}: {}", file, line, message);
  if (level >= MUNIT_LOG_ERROR) {
    Fail(file, line, message);
  } else if (level >= MUNIT_LOG_INFO) {
    std::println(stderr, "{}: {}", level == MUNIT_LOG_INFO ? "Info" : "Warning", last_log);
  }
}

/// One iteration; returns whether there may be another one.
bool RunOnce(const Case &c) {
  const MunitParameter *const parameters = c.parameters.empty() ? nullptr : c.parameters.data();
  MunitResult result = MUNIT_FAIL;
  const bool returned = harness::Guarded([&] {
    const auto &test = *c.test;
    void *const data = test.setup != nullptr ? test.setup(parameters, c.user_data) : c.user_data;
    result = test.test(parameters, data);
    if (test.tear_down != nullptr) {
      test.tear_down(data);
    }
  });
  if (!returned) {
    return false; // Reported where it failed.
  }
  switch (result) {
  case MUNIT_OK:
    return true;
  case MUNIT_SKIP:
    harness::AddPart(TestPartResult::kSkip, nullptr, -1,
                     last_log.empty() ? "the test returned MUNIT_SKIP and logged no reason"
                                      : last_log);
    return false;
  default:
    harness::AddPart(
      TestPartResult::kFatalFailure, nullptr, -1,
      std::format("the test returned {}", result == MUNIT_FAIL ? "MUNIT_FAIL" : "MUNIT_ERROR"));
    return false;
  }
}

void RunAll(const Case &c) {
  // munit does so too: each test gets the same numbers whichever other tests run.
  munit_rand_seed(static_cast<munit_uint32_t>(testing::UnitTest::GetInstance()->random_seed()));
  last_log.clear();
  for (unsigned int i = 0; i == 0 || i < c.iterations; ++i) {
    if (!RunOnce(c)) {
      break;
    }
  }
}

class MunitCase : public testing::Test {
public:
  explicit MunitCase(const Case &c) : case_{c} {}

  void TestBody() override {
    const auto body = [this] { RunAll(case_); };
    if ((case_.test->options & MUNIT_TEST_OPTION_TODO) != 0) {
      RunTodo(body);
    } else {
      harness::RunInChild(body);
    }
    if (HasFailure()) {
      std::println("[ HARNESS  ] munit's random numbers in this run: --gtest_random_seed={}",
                   testing::UnitTest::GetInstance()->random_seed());
    }
  }

private:
  /// A test of something yet to be done: it is expected not to pass.
  static void RunTodo(const std::function<void()> &body) {
    harness::guardian::Step step;
    if (!harness::guardian::RunApart(body, step)) {
      harness::AddPart(TestPartResult::kSkip, nullptr, -1,
                       "TODO: not tried with --harness_no_fork");
    } else if (step.parts.empty()) {
      harness::AddPart(TestPartResult::kFatalFailure, nullptr, -1, "marked TODO, but successful");
    } else {
      const auto &part = step.parts.front();
      harness::AddPart(TestPartResult::kSkip, part.file.c_str(), part.line,
                       "TODO: " + part.message);
    }
  }

  Case case_;
};

/// Registers a tree of suites with GoogleTest.
class Registrar {
public:
  Registrar(void *user_data, unsigned int iterations)
    : user_data_{user_data}, iterations_{iterations} {}

  /// `path` is what the names of the suites above add up to.
  void Add(const MunitSuite &suite, const std::string &path) {
    const auto here = path + (suite.prefix != nullptr ? suite.prefix : "");
    for (const auto *test = suite.tests; test != nullptr && test->test != nullptr; ++test) {
      Case c{
        .test = test,
        .user_data = user_data_,
        .iterations = (test->options & MUNIT_TEST_OPTION_SINGLE_ITERATION) != 0 ? 1 : iterations_,
        .parameters = {},
      };
      AddCases(c, test->parameters, here, "");
    }
    for (const auto *child = suite.suites; child != nullptr && child->prefix != nullptr; ++child) {
      Add(*child, here);
    }
  }

private:
  /// Each combination of the parameters from `next` on with those in `c`; the first parameter
  /// changes slowest, as in munit.
  void AddCases(Case &c, const MunitParameterEnum *next, const std::string &path,
                const std::string &text) {
    if (next != nullptr && next->name != nullptr) {
      if (next->values == nullptr || next->values[0] == nullptr) {
        // "Any" value, which munit takes from its command line only; the test sees no such
        // parameter.
        AddCases(c, next + 1, path, text);
        return;
      }
      for (char **value = next->values; *value != nullptr; ++value) {
        c.parameters.push_back({.name = next->name, .value = *value});
        AddCases(c, next + 1, path,
                 std::format("{}{}{}={}", text, text.empty() ? "" : ", ", next->name, *value));
        c.parameters.pop_back();
      }
      return;
    }
    Register(c, path, text);
  }

  void Register(Case c, const std::string &path, const std::string &text) {
    if (!c.parameters.empty()) {
      c.parameters.push_back({.name = nullptr, .value = nullptr});
    }
    // The slash that munit's names begin with is a separator.
    const auto bare = [](std::string_view name) {
      return name.substr(name.starts_with('/') ? 1 : 0);
    };
    auto [suite, added] = suites_.try_emplace(path);
    if (added) {
      suite->second = names_.AddSuite(path.empty() ? "munit" : bare(path));
    }
    std::string name{bare(c.test->name)};
    if (!text.empty()) {
      name += "/" + text;
    }
    testing::RegisterTest(suite->second.c_str(), names_.AddTest(suite->second, name).c_str(),
                          nullptr, text.empty() ? nullptr : text.c_str(), "", 0,
                          [c = std::move(c)]() -> MunitCase * { return new MunitCase{c}; });
  }

  void *user_data_;
  unsigned int iterations_;
  harness::Names names_;
  std::map<std::string, std::string> suites_;
};

} // namespace

extern "C" {

// Each leaves the scope of what it allocated before it jumps.

void munit_errorf_ex(const char *filename, int line, const char *format, ...) {
  {
    std::va_list ap;
    va_start(ap, format);
    Fail(filename, line, Format(format, ap));
    va_end(ap);
  }
  harness::Jump();
}

void munit_logf_ex(MunitLogLevel level, const char *filename, int line, const char *format, ...) {
  {
    std::va_list ap;
    va_start(ap, format);
    Log(level, filename, line, Format(format, ap));
    va_end(ap);
  }
  if (level >= MUNIT_LOG_ERROR) {
    harness::Jump();
  }
}

int munit_suite_main_custom(const MunitSuite *suite, void *user_data, int argc, char *const *argv,
                            const MunitArgument arguments[]) {
  std::vector<char *> args(argv, argv + argc);
  args.push_back(nullptr);
  harness::Initialize(&argc, args.data());

  for (int arg = 1; arg < argc; ++arg) {
    const std::string_view text = args[static_cast<std::size_t>(arg)];
    const auto *argument = arguments;
    while (argument != nullptr && argument->name != nullptr &&
           (!text.starts_with("--") || text.substr(2) != argument->name)) {
      ++argument;
    }
    if (argument == nullptr || argument->name == nullptr) {
      std::println(stderr, "harness: {}: unknown argument (tests are selected with --gtest_filter)",
                   text);
      return 2;
    }
    if (!argument->parse_argument(suite, user_data, &arg, argc, args.data())) {
      return 2;
    }
  }

  Registrar{user_data, suite->iterations}.Add(*suite, "");
  return harness::RunTests();
}

int munit_suite_main(const MunitSuite *suite, void *user_data, int argc, char *const *argv) {
  return munit_suite_main_custom(suite, user_data, argc, argv, nullptr);
}

} // extern "C"
