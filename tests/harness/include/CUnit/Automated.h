/* Runs that write files.  Part of CUnit's API on GoogleTest; see CUnit.h. */
#ifndef HARNESS_CUNIT_AUTOMATED_H
#define HARNESS_CUNIT_AUTOMATED_H

#include "CUnit.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes ROOT-Results.xml, besides the file that --gtest_output asks for. */
void CU_automated_run_tests(void);
/* Writes ROOT-Listing.xml: suites and tests under their names in CUnit. */
CU_ErrorCode CU_list_tests_to_file(void);
/* Sets ROOT, which is "CUnitAutomated" by default. */
void CU_set_output_filename(const char *szFilenameRoot);
/* Results.xml in JUnit's format, and the first part of its classes' names. */
void CU_automated_enable_junit_xml(CU_BOOL bFlag);
void CU_automated_package_name_set(const char *pName);
const char *CU_automated_package_name_get(void);

#ifdef USE_DEPRECATED_CUNIT_NAMES
#  define automated_run_tests() CU_automated_run_tests()
#  define set_output_filename(x) CU_set_output_filename((x))
#endif

#ifdef __cplusplus
}
#endif

#endif
