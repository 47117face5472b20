/* Part of CUnit's API on GoogleTest; see CUnit.h. */
#ifndef HARNESS_CUNIT_CONSOLE_H
#define HARNESS_CUNIT_CONSOLE_H

#include "CUnit.h"

#ifdef __cplusplus
extern "C" {
#endif

/* CUnit asks here what to run; the harness runs everything, for --gtest_filter selects. */
void CU_console_run_tests(void);

#ifdef USE_DEPRECATED_CUNIT_NAMES
#  define console_run_tests() CU_console_run_tests()
#endif

#ifdef __cplusplus
}
#endif

#endif
