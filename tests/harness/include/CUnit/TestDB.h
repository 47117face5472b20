/* Registry, suites and tests.  Part of CUnit's API on GoogleTest; see CUnit.h. */
/* Before the guard: CUnit.h includes this file at the place where it fits. */
#include "CUnit.h"

#ifndef HARNESS_CUNIT_TESTDB_H
#  define HARNESS_CUNIT_TESTDB_H

#  include <setjmp.h>

#  ifdef __cplusplus
extern "C" {
#  endif

/* Once for a suite, before and after its tests; a result other than 0 is a failure. */
typedef int (*CU_InitializeFunc)(void);
typedef int (*CU_CleanupFunc)(void);
/* Before and after each test. */
typedef void (*CU_SetUpFunc)(void);
typedef void (*CU_TearDownFunc)(void);
typedef void (*CU_TestFunc)(void);

/* The members are there to be read; functions below change them. */

typedef struct CU_Test {
  char *pName;
  CU_BOOL fActive;
  CU_TestFunc pTestFunc;
  jmp_buf *pJumpBuf; /* not used */
  struct CU_Test *pNext;
  struct CU_Test *pPrev;
} CU_Test;
typedef CU_Test *CU_pTest;

typedef struct CU_Suite {
  char *pName;
  CU_BOOL fActive;
  CU_pTest pTest;
  CU_InitializeFunc pInitializeFunc;
  CU_CleanupFunc pCleanupFunc;
  CU_SetUpFunc pSetUpFunc;
  CU_TearDownFunc pTearDownFunc;
  unsigned int uiNumberOfTests;
  struct CU_Suite *pNext;
  struct CU_Suite *pPrev;
  unsigned int uiNumberOfTestsFailed;
  unsigned int uiNumberOfTestsSuccess;
} CU_Suite;
typedef CU_Suite *CU_pSuite;

typedef struct CU_TestRegistry {
#  ifdef USE_DEPRECATED_CUNIT_NAMES
  union {
    unsigned int uiNumberOfSuites;
    unsigned int uiNumberOfGroups;
  };
  unsigned int uiNumberOfTests;
  union {
    CU_pSuite pSuite;
    CU_pSuite pGroup;
  };
#  else
  unsigned int uiNumberOfSuites;
  unsigned int uiNumberOfTests;
  CU_pSuite pSuite;
#  endif
} CU_TestRegistry;
typedef CU_TestRegistry *CU_pTestRegistry;

CU_ErrorCode CU_initialize_registry(void);
void CU_cleanup_registry(void);
CU_BOOL CU_registry_initialized(void);
CU_pTestRegistry CU_get_registry(void);
/* Returns the registry that was in place, which is the caller's now. */
CU_pTestRegistry CU_set_registry(CU_pTestRegistry pTestRegistry);
CU_pTestRegistry CU_create_new_registry(void);
void CU_destroy_existing_registry(CU_pTestRegistry *ppRegistry);

/* NULL, with CU_get_error(), when there is no registry or no name. */
CU_pSuite CU_add_suite(const char *strName, CU_InitializeFunc pInit, CU_CleanupFunc pClean);
CU_pSuite CU_add_suite_with_setup_and_teardown(const char *strName, CU_InitializeFunc pInit,
                                               CU_CleanupFunc pClean, CU_SetUpFunc pSetup,
                                               CU_TearDownFunc pTear);
CU_ErrorCode CU_set_suite_active(CU_pSuite pSuite, CU_BOOL fNewActive);
CU_ErrorCode CU_set_suite_name(CU_pSuite pSuite, const char *strNewName);
CU_ErrorCode CU_set_suite_initfunc(CU_pSuite pSuite, CU_InitializeFunc pNewInit);
CU_ErrorCode CU_set_suite_cleanupfunc(CU_pSuite pSuite, CU_CleanupFunc pNewClean);
/* Positions count from 1; 0 and NULL say that there is none. */
CU_pSuite CU_get_suite(const char *strName);
CU_pSuite CU_get_suite_at_pos(unsigned int pos);
unsigned int CU_get_suite_pos(CU_pSuite pSuite);
unsigned int CU_get_suite_pos_by_name(const char *strName);
CU_pSuite CU_get_suite_by_name(const char *szSuiteName, CU_pTestRegistry pRegistry);
CU_pSuite CU_get_suite_by_index(unsigned int index, CU_pTestRegistry pRegistry);

CU_pTest CU_add_test(CU_pSuite pSuite, const char *strName, CU_TestFunc pTestFunc);
#  define CU_ADD_TEST(suite, test) (CU_add_test(suite, #test, (CU_TestFunc)test))
CU_ErrorCode CU_set_test_active(CU_pTest pTest, CU_BOOL fNewActive);
CU_ErrorCode CU_set_test_name(CU_pTest pTest, const char *strNewName);
CU_ErrorCode CU_set_test_func(CU_pTest pTest, CU_TestFunc pNewFunc);
CU_pTest CU_get_test(CU_pSuite pSuite, const char *strName);
CU_pTest CU_get_test_at_pos(CU_pSuite pSuite, unsigned int pos);
unsigned int CU_get_test_pos(CU_pSuite pSuite, CU_pTest pTest);
unsigned int CU_get_test_pos_by_name(CU_pSuite pSuite, const char *strName);
CU_pTest CU_get_test_by_name(const char *szTestName, CU_pSuite pSuite);
CU_pTest CU_get_test_by_index(unsigned int index, CU_pSuite pSuite);

/* Tables of tests and suites, each ended by its _NULL; the order of the members is CUnit 2.1-3's.
 */
typedef struct CU_TestInfo {
  const char *pName;
  CU_TestFunc pTestFunc;
} CU_TestInfo;
typedef CU_TestInfo *CU_pTestInfo;

typedef struct CU_SuiteInfo {
  const char *pName;
  CU_InitializeFunc pInitFunc;
  CU_CleanupFunc pCleanupFunc;
  CU_SetUpFunc pSetUpFunc;
  CU_TearDownFunc pTearDownFunc;
  CU_TestInfo *pTests;
} CU_SuiteInfo;
typedef CU_SuiteInfo *CU_pSuiteInfo;

#  define CU_TEST_INFO_NULL {NULL, NULL}
#  define CU_SUITE_INFO_NULL {NULL, NULL, NULL, NULL, NULL, NULL}

CU_ErrorCode CU_register_suites(CU_SuiteInfo suite_info[]);
CU_ErrorCode CU_register_nsuites(int suite_count, ...);

#  ifdef USE_DEPRECATED_CUNIT_NAMES
typedef CU_InitializeFunc InitializeFunc;
typedef CU_CleanupFunc CleanupFunc;
typedef CU_TestFunc TestFunc;
typedef CU_Test _TestCase;
typedef CU_pTest PTestCase;
typedef CU_Suite _TestGroup;
typedef CU_pSuite PTestGroup;
typedef CU_TestRegistry _TestRegistry;
typedef CU_pTestRegistry PTestRegistry;
typedef CU_TestInfo test_case_t;
typedef CU_SuiteInfo test_group_t;
typedef struct test_suite {
  char *name;
  test_group_t *groups;
} test_suite_t;

#    define TEST_CASE_NULL {NULL, NULL}
#    define TEST_GROUP_NULL {NULL, NULL, NULL, NULL, NULL, NULL}
#    define test_group_register(tg) CU_register_suites(tg)
#    define test_suite_register(ts) CU_register_suites((ts)->groups)
#    define initialize_registry() CU_initialize_registry()
#    define cleanup_registry() CU_cleanup_registry()
#    define add_test_group(name, init, clean) CU_add_suite(name, init, clean)
#    define add_test_case(group, name, test) CU_add_test(group, name, test)
#    define get_registry() CU_get_registry()
#    define set_registry(reg) CU_set_registry((reg))
#    define get_group_by_name(group, reg) CU_get_suite_by_name(group, reg)
#    define get_test_by_name(test, group) CU_get_test_by_name(test, group)
#    define ADD_TEST_TO_GROUP(group, test) (CU_add_test(group, #test, (CU_TestFunc)test))
#  endif

#  ifdef __cplusplus
}
#  endif

#endif
