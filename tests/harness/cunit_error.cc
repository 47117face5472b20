// CUnit's error code of the framework itself.

#include <CUnit/CUnit.h>

#include <cstdlib>
#include <map>
#include <print>

namespace {

CU_ErrorCode error = CUE_SUCCESS;
CU_ErrorAction error_action = CUEA_IGNORE;

} // namespace

extern "C" {

CU_ErrorCode CU_get_error(void) { return error; }

const char *CU_get_error_msg(void) {
  static const std::map<CU_ErrorCode, const char *> messages{
    {CUE_SUCCESS, "no error"},
    {CUE_NOMEMORY, "out of memory"},
    {CUE_NOREGISTRY, "there is no test registry"},
    {CUE_REGISTRY_EXISTS, "there is a test registry already"},
    {CUE_NOSUITE, "there is no such suite"},
    {CUE_NO_SUITENAME, "a suite needs a name"},
    {CUE_SINIT_FAILED, "the initialization of a suite failed"},
    {CUE_SCLEAN_FAILED, "the cleanup of a suite failed"},
    {CUE_DUP_SUITE, "there is a suite of this name already"},
    {CUE_SUITE_INACTIVE, "a suite is inactive"},
    {CUE_NOTEST, "there is no such test, or it has no function"},
    {CUE_NO_TESTNAME, "a test needs a name"},
    {CUE_DUP_TEST, "there is a test of this name in the suite already"},
    {CUE_TEST_NOT_IN_SUITE, "the test is not in this suite"},
    {CUE_TEST_INACTIVE, "a test is inactive"},
    {CUE_FOPEN_FAILED, "a file could not be opened"},
    {CUE_FCLOSE_FAILED, "a file could not be closed"},
    {CUE_BAD_FILENAME, "a file name is missing or bad"},
    {CUE_WRITE_ERROR, "a file could not be written"},
  };
  const auto it = messages.find(error);
  return it != messages.end() ? it->second : "unknown error";
}

void CU_set_error(CU_ErrorCode code) {
  error = code;
  if (code != CUE_SUCCESS && error_action == CUEA_ABORT) {
    std::println(stderr, "CUnit: error {}: {}", static_cast<int>(code), CU_get_error_msg());
    std::exit(code);
  }
}

void CU_set_error_action(CU_ErrorAction action) { error_action = action; }
CU_ErrorAction CU_get_error_action(void) { return error_action; }

} // extern "C"
