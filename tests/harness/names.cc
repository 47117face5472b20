#include "names.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace harness {

namespace {

std::string Unique(std::unordered_set<std::string> &taken, std::string_view name) {
  const auto base = MapName(name);
  auto unique = base;
  for (int n = 2; !taken.insert(unique).second; ++n) {
    unique = base + '_' + std::to_string(n);
  }
  return unique;
}

} // namespace

std::string MapName(std::string_view name) {
  // Not isalnum(): its answer depends on the locale.
  constexpr std::string_view kept =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
  std::string mapped{name.empty() ? "_" : name};
  std::ranges::replace_if(mapped, [&](char c) { return !kept.contains(c); }, '_');
  return mapped;
}

std::string Names::AddSuite(std::string_view name) {
  const auto &unit_test = *testing::UnitTest::GetInstance();
  for (int i = 0; i < unit_test.total_test_suite_count(); ++i) {
    suites_.insert(unit_test.GetTestSuite(i)->name());
  }
  return Unique(suites_, name);
}

std::string Names::AddTest(const std::string &suite, std::string_view name) {
  return Unique(tests_[suite], name);
}

} // namespace harness
