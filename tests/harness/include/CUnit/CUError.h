/* Error codes of the framework itself.  Part of CUnit's API on GoogleTest; see CUnit.h. */
#ifndef HARNESS_CUNIT_CUERROR_H
#define HARNESS_CUNIT_CUERROR_H

#include <errno.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The numbers are CUnit's: programs return them as their exit status. */
typedef enum {
  CUE_SUCCESS = 0,
  CUE_NOMEMORY = 1,

  CUE_NOREGISTRY = 10,
  CUE_REGISTRY_EXISTS = 11,

  CUE_NOSUITE = 20,
  CUE_NO_SUITENAME = 21,
  CUE_SINIT_FAILED = 22,
  CUE_SCLEAN_FAILED = 23,
  CUE_DUP_SUITE = 24, /* only a warning: the suite is added */
  CUE_SUITE_INACTIVE = 25,

  CUE_NOTEST = 30,
  CUE_NO_TESTNAME = 31,
  CUE_DUP_TEST = 32, /* only a warning: the test is added */
  CUE_TEST_NOT_IN_SUITE = 33,
  CUE_TEST_INACTIVE = 34,

  CUE_FOPEN_FAILED = 40,
  CUE_FCLOSE_FAILED = 41,
  CUE_BAD_FILENAME = 42,
  CUE_WRITE_ERROR = 43
} CU_ErrorCode;

/* What follows an error of the framework; failed assertions are none. */
typedef enum CU_ErrorAction {
  CUEA_IGNORE, /* go on; the default */
  CUEA_FAIL,   /* skip the tests that are left */
  CUEA_ABORT   /* exit() with the error's number */
} CU_ErrorAction;

/* The error of the last call of an API function that can fail; of a run, the first one in it. */
CU_ErrorCode CU_get_error(void);
const char *CU_get_error_msg(void);
void CU_set_error(CU_ErrorCode error);

void CU_set_error_action(CU_ErrorAction action);
CU_ErrorAction CU_get_error_action(void);

#ifdef USE_DEPRECATED_CUNIT_NAMES
#  define get_error() CU_get_error_msg()
#endif

#ifdef __cplusplus
}
#endif

#endif
