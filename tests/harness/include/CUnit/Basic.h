/* The usual way to run tests.  Part of CUnit's API on GoogleTest; see CUnit.h. */
#ifndef HARNESS_CUNIT_BASIC_H
#define HARNESS_CUNIT_BASIC_H

#include "CUnit.h"

#ifdef __cplusplus
extern "C" {
#endif

/* GoogleTest prints; silent means its brief output, and the two others are the same. */
typedef enum { CU_BRM_NORMAL = 0, CU_BRM_SILENT, CU_BRM_VERBOSE } CU_BasicRunMode;

void CU_basic_set_mode(CU_BasicRunMode mode);
CU_BasicRunMode CU_basic_get_mode(void);

CU_ErrorCode CU_basic_run_tests(void);
CU_ErrorCode CU_basic_run_suite(CU_pSuite pSuite);
CU_ErrorCode CU_basic_run_test(CU_pSuite pSuite, CU_pTest pTest);

void CU_basic_show_failures(CU_pFailureRecord pFailure);

#ifdef __cplusplus
}
#endif

#endif
