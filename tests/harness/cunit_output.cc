// What CUnit's API prints and writes besides GoogleTest's own output.

#include <CUnit/Automated.h>
#include <CUnit/CUnit.h>

#include "cunit.h"

#include <cstdlib>
#include <cstring>
#include <format>
#include <fstream>
#include <print>
#include <string_view>

namespace {

std::string output_root = "CUnitAutomated";

std::string XmlAttribute(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
    case '&':
      escaped += "&amp;";
      break;
    case '<':
      escaped += "&lt;";
      break;
    case '"':
      escaped += "&quot;";
      break;
    default:
      // No control character but these is allowed in XML.
      escaped +=
        static_cast<unsigned char>(c) < ' ' && !std::string_view{"\t\n\r"}.contains(c) ? '?' : c;
    }
  }
  return escaped;
}

std::string RunResults() {
  const auto &s = *CU_get_run_summary();
  const auto &registry = CU_get_registry();
  std::string text = std::format("{:<8}{:>9}{:>9}{:>9}{:>9}{:>9}\n", "", "total", "run", "passed",
                                 "failed", "inactive");
  text += std::format("{:<8}{:>9}{:>9}{:>9}{:>9}{:>9}\n", "suites",
                      registry != nullptr ? registry->uiNumberOfSuites : 0, s.nSuitesRun, "",
                      s.nSuitesFailed, s.nSuitesInactive);
  text += std::format("{:<8}{:>9}{:>9}{:>9}{:>9}{:>9}\n", "tests",
                      registry != nullptr ? registry->uiNumberOfTests : 0, s.nTestsRun,
                      s.nTestsRun - s.nTestsFailed, s.nTestsFailed, s.nTestsInactive);
  text += std::format("{:<8}{:>9}{:>9}{:>9}{:>9}{:>9}\n", "asserts", s.nAsserts, s.nAsserts,
                      s.nAsserts - s.nAssertsFailed, s.nAssertsFailed, "");
  return text + std::format("{:.3f} s\n", s.ElapsedTime);
}

} // namespace

namespace harness::cunit {

std::string ResultsFile() { return output_root + "-Results.xml"; }

} // namespace harness::cunit

extern "C" {

char *CU_get_run_results_string(void) { return strdup(RunResults().c_str()); }
void CU_print_run_results(FILE *file) { std::print(file, "{}", RunResults()); }

void CU_basic_show_failures(CU_pFailureRecord pFailure) {
  for (int i = 1; pFailure != nullptr; pFailure = pFailure->pNext, ++i) {
    std::println("{}. {}:{}: {}", i, pFailure->strFileName, pFailure->uiLineNumber,
                 pFailure->strCondition);
  }
}

void CU_set_output_filename(const char *szFilenameRoot) {
  if (szFilenameRoot != nullptr) {
    output_root = szFilenameRoot;
  }
}

CU_ErrorCode CU_list_tests_to_file(void) {
  const auto *const registry = CU_get_registry();
  if (registry == nullptr) {
    CU_set_error(CUE_NOREGISTRY);
    return CU_get_error();
  }
  std::ofstream file{output_root + "-Listing.xml"};
  const bool opened = file.is_open();
  file << "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<suites>\n";
  for (const auto *suite = registry->pSuite; suite != nullptr; suite = suite->pNext) {
    file << std::format("  <suite name=\"{}\">\n", XmlAttribute(suite->pName));
    for (const auto *test = suite->pTest; test != nullptr; test = test->pNext) {
      file << std::format("    <test name=\"{}\"/>\n", XmlAttribute(test->pName));
    }
    file << "  </suite>\n";
  }
  file << "</suites>\n";
  file.close();
  CU_set_error(!opened ? CUE_FOPEN_FAILED : file ? CUE_SUCCESS : CUE_WRITE_ERROR);
  return CU_get_error();
}

} // extern "C"
