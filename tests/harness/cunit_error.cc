// CUnit's error code of the framework itself.

#include <CUnit/CUnit.h>

#include <cstdio>
#include <cstdlib>
#include <print>

namespace {

CU_ErrorCode error = CUE_SUCCESS;
CU_ErrorAction error_action = CUEA_IGNORE;

} // namespace

extern "C" {

CU_ErrorCode CU_get_error(void) { return error; }

const char *CU_get_error_msg(void) {
  switch (error) {
  case CUE_SUCCESS:
    return "no error";
  case CUE_NOMEMORY:
    return "out of memory";
  case CUE_NOREGISTRY:
    return "there is no test registry";
  case CUE_REGISTRY_EXISTS:
    return "there is a test registry already";
  case CUE_NOSUITE:
    return "there is no such suite";
  case CUE_NO_SUITENAME:
    return "a suite needs a name";
  case CUE_SINIT_FAILED:
    return "the initialization of a suite failed";
  case CUE_SCLEAN_FAILED:
    return "the cleanup of a suite failed";
  case CUE_DUP_SUITE:
    return "there is a suite of this name already";
  case CUE_SUITE_INACTIVE:
    return "a suite is inactive";
  case CUE_NOTEST:
    return "there is no such test, or it has no function";
  case CUE_NO_TESTNAME:
    return "a test needs a name";
  case CUE_DUP_TEST:
    return "there is a test of this name in the suite already";
  case CUE_TEST_NOT_IN_SUITE:
    return "the test is not in this suite";
  case CUE_TEST_INACTIVE:
    return "a test is inactive";
  case CUE_FOPEN_FAILED:
    return "a file could not be opened";
  case CUE_FCLOSE_FAILED:
    return "a file could not be closed";
  case CUE_BAD_FILENAME:
    return "a file name is missing or bad";
  case CUE_WRITE_ERROR:
    return "a file could not be written";
  }
  return "unknown error";
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
