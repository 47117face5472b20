/*
 * CUnit programs that do what cunit_sample.c does not; the first argument says which.  They are run
 * by cunit_test.cc.
 */
#include <CUnit/Automated.h>
#include <CUnit/Console.h>

#include <stdio.h>
#include <stdlib.h>

static void pass(void) { CU_PASS("pass"); }
static void fail(void) { CU_FAIL("fail"); }

static CU_pSuite add_suite(const char *name) {
  CU_pSuite suite = CU_add_suite(name, NULL, NULL);

  if (suite == NULL || CU_ADD_TEST(suite, pass) == NULL || CU_ADD_TEST(suite, fail) == NULL) {
    exit(99);
  }
  return suite;
}

/* What is printed here is still in a buffer when the test's process begins. */
static void test_start(const CU_pTest test, const CU_pSuite suite) {
  printf("started %s/%s\n", suite->pName, test->pName);
}

static void test_complete(const CU_pTest test, const CU_pSuite suite,
                          const CU_pFailureRecord failure) {
  printf("completed %s/%s%s%s\n", suite->pName, test->pName, failure != NULL ? ": " : "",
         failure != NULL ? failure->strCondition : "");
}

/* Runs suites and tests one by one, and then another registry. */
static int run_twice(void) {
  CU_pSuite one, two;
  unsigned int failed;

  if (CU_add_suite("early", NULL, NULL) != NULL || CU_get_error() != CUE_NOREGISTRY) {
    return 99;
  }
  CU_set_test_start_handler(test_start);
  CU_set_test_complete_handler(test_complete);
  CU_initialize_registry();
  one = add_suite("one");
  two = add_suite("two");
  if (CU_run_suite(two) != CUE_SUCCESS) {
    return 99;
  }
  failed = CU_get_number_of_tests_failed();
  if (CU_run_test(one, CU_get_test(one, "pass")) != CUE_SUCCESS ||
      CU_get_number_of_tests_run() != 1) {
    return 99;
  }
  if (CU_run_test(two, CU_get_test(one, "pass")) != CUE_TEST_NOT_IN_SUITE) {
    return 99;
  }
  CU_cleanup_registry();

  CU_initialize_registry();
  add_suite("three");
  CU_console_run_tests();
  failed += CU_get_number_of_tests_failed();
  printf("%u tests failed\n", failed);
  CU_cleanup_registry();
  return 0;
}

static int run_automated(void) {
  CU_initialize_registry();
  add_suite("a <suite>");
  CU_set_output_filename("sample");
  if (CU_list_tests_to_file() != CUE_SUCCESS) {
    return 99;
  }
  CU_automated_run_tests();
  CU_cleanup_registry();
  return 0;
}

int main(int argc, char **argv) {
  switch (argc > 1 ? argv[1][0] : 't') {
  case 'a':
    return run_automated();
  case 'o':
    CU_ASSERT(argc == 0);
    printf("after the assertion\n");
    return 0;
  case 'n':
    CU_console_run_tests();
    return 0;
  default:
    return run_twice();
  }
}
