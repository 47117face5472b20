/* Runs that write files.  Part of CUnit's API on GoogleTest; see CUnit.h. */
#ifndef HARNESS_CUNIT_AUTOMATED_H
#define HARNESS_CUNIT_AUTOMATED_H

#include "CUnit.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes ROOT-Results.xml, in GoogleTest's format, unless --gtest_output says something else. */
void CU_automated_run_tests(void);
/* Writes ROOT-Listing.xml: suites and tests under their names in CUnit. */
CU_ErrorCode CU_list_tests_to_file(void);
/* Sets ROOT, which is "CUnitAutomated" by default. */
void CU_set_output_filename(const char *szFilenameRoot);

#ifdef __cplusplus
}
#endif

#endif
