// Names of GoogleTest cases for tests whose own names may hold anything.
//
// The mapping: every byte but A-Z, a-z, 0-9 and '_' becomes '_' (GoogleTest's filter gives '.',
// '-',
// ':', '*' and '?' a meaning, and shells do so with spaces); an empty name becomes "_".  A name
// that is taken already, by a mapped or by an equal one, gets the first free one of the suffixes
// _2, _3, ... So the mapping depends on the order of registration alone and is the same in each
// run.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace harness {

/// One name, mapped but perhaps not unique.
[[nodiscard]] std::string MapName(std::string_view name);

/// Maps names and keeps them apart.
class Names {
public:
  /// A new suite's name.  Those of suites that GoogleTest has already (TEST() in C++) are taken:
  /// it allows only tests of one class in each suite.
  [[nodiscard]] std::string AddSuite(std::string_view name);

  /// A new test's name; `suite` is what AddSuite() returned.
  [[nodiscard]] std::string AddTest(const std::string &suite, std::string_view name);

private:
  std::unordered_set<std::string> suites_;
  std::unordered_map<std::string, std::unordered_set<std::string>> tests_;
};

} // namespace harness
