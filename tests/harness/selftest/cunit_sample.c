/*
 * A CUnit program with a conventional main(), whose tests fail in every way there is.  It is run by
 * cunit_test.cc, which says what has to come of each.
 */
#include <CUnit/Basic.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A crash that the compiler cannot see and a sanitizer's handler does not turn into an exit(). */
static void crash(void) {
  signal(SIGSEGV, SIG_DFL);
  raise(SIGSEGV);
}

/*** passing ***/

static void each_macro(void) {
  const char *null = NULL;
  const char *text = "text";

  CU_PASS("passed");
  CU_ASSERT(text);
  CU_TEST(1);
  CU_ASSERT_TRUE(0x100000000); /* its low 32 bits, which an int would keep, are 0 */
  CU_ASSERT_FALSE(0);
  CU_ASSERT_EQUAL(1 + 1, 2);
  CU_ASSERT_NOT_EQUAL(1, 2);
  CU_ASSERT_PTR_EQUAL(text, text);
  CU_ASSERT_PTR_NOT_EQUAL(text, null);
  CU_ASSERT_PTR_NULL(null);
  CU_ASSERT_PTR_NOT_NULL(text);
  CU_ASSERT_STRING_EQUAL(text, "text");
  CU_ASSERT_STRING_NOT_EQUAL(text, "other");
  CU_ASSERT_NSTRING_EQUAL(text, "tent", 2);
  CU_ASSERT_NSTRING_NOT_EQUAL(text, "tent", 3);
  CU_ASSERT_DOUBLE_EQUAL(1.0, 1.05, 0.1);
  CU_ASSERT_DOUBLE_NOT_EQUAL(1.0, 1.2, -0.1);
  CU_TEST_FATAL(1);
  CU_ASSERT_FATAL(text);
  CU_ASSERT_STRING_EQUAL_FATAL(text, "text")
  CU_ASSERT_DOUBLE_NOT_EQUAL_FATAL(1.0, 2.0, 0.5)
}

static void print_something(void) {
  printf("to stdout\n");
  fprintf(stderr, "to stderr\n");
  CU_PASS("printed");
}

/*** failing ***/

static void each_macro_fails(void) {
  const char *null = NULL;
  const char *text = "text";

  CU_FAIL("failed");
  CU_ASSERT(null);
  CU_TEST(0);
  CU_ASSERT_TRUE(0);
  CU_ASSERT_FALSE(1);
  CU_ASSERT_EQUAL(1 + 1, 3);
  CU_ASSERT_NOT_EQUAL(1, 1);
  CU_ASSERT_PTR_EQUAL(text, null);
  CU_ASSERT_PTR_NOT_EQUAL(text, text);
  CU_ASSERT_PTR_NULL(text);
  CU_ASSERT_PTR_NOT_NULL(null);
  CU_ASSERT_STRING_EQUAL(text, "other");
  CU_ASSERT_STRING_NOT_EQUAL(text, "text");
  CU_ASSERT_NSTRING_EQUAL(text, "tent", 3);
  CU_ASSERT_NSTRING_NOT_EQUAL(text, "tent", 2);
  CU_ASSERT_DOUBLE_EQUAL(1.0, 1.2, 0.1);
  CU_ASSERT_DOUBLE_NOT_EQUAL(1.0, 1.05, 0.1);
  printf("after the failed assertions\n");
}

static void fail_fatally(void) { CU_ASSERT_EQUAL_FATAL(1, 2); }

static void fatal(void) {
  CU_ASSERT(1);
  fail_fatally();
  printf("after the fatal assertion\n");
  CU_FAIL("this is never reached");
}

static void very_often(void) {
  int i;

  for (i = 0; i < 1500; ++i) {
    CU_ASSERT(i < 0);
  }
}

/*** ending ***/

static void segmentation_fault(void) {
  CU_FAIL("before the crash");
  crash();
}

static void abort_itself(void) { abort(); }
static void exit_0(void) { exit(0); }
static void exit_3(void) { exit(3); }

static void binary_output(void) {
  fputs("\xff\xfe\x01 <]]> \xc3\xa4\n", stderr);
  abort();
}

static void survivor(void) { CU_PASS("the tests before did not matter"); }

/*** what only sanitizers see ***/

static void read_after_free(void) {
  char *volatile block = malloc(24);

  free(block);
  CU_ASSERT(block[3] == 0 || block[3] != 0);
}

static void signed_overflow(void) {
  volatile int i = 0x7fffffff;

  i = i + 1;
  CU_ASSERT(i != 0);
}

/*** leaking ***/

static void leak(void) {
  void *volatile block = malloc(24);

  CU_ASSERT_PTR_NOT_NULL(block);
  block = NULL;
}

static void *reachable;

static void no_leak(void) {
  void *volatile block = malloc(24);

  free(block);
  reachable = malloc(24);
  CU_ASSERT_PTR_NOT_NULL(reachable);
}

static void leak_after_failure(void) {
  leak();
  CU_FAIL("reported");
}

/*** hanging ***/

static void hang(void) {
  printf("hanging in %d\n", (int)getpid());
  fflush(stdout);
  for (;;) {
    pause();
  }
}

static void fail_for_ever(void) {
  for (;;) {
    CU_FAIL("and on");
  }
}

/*** names ***/

static void nothing(void) {}

/*** suite functions ***/

static int state = 0;

static int init_state(void) {
  ++state;
  printf("initialized\n");
  return 0;
}

static int clean_state(void) {
  printf("cleaned up\n");
  return 0;
}

static void change_state(void) {
  CU_ASSERT_EQUAL(state, 1);
  state = 2;
}

static int return_7(void) { return 7; }

static int fail_an_assertion(void) {
  CU_ASSERT_FATAL(state == 100);
  printf("after the fatal assertion\n");
  return 0;
}

static void unreached(void) { printf("this test must not run\n"); }

/*** setup and teardown ***/

static void set_up(void) {
  printf("set up\n");
  state = 10;
}

static void tear_down(void) { printf("tear down after state %d\n", state); }

static void with_set_up(void) {
  CU_ASSERT_EQUAL(state, 10);
  state = 11;
}

static void fatal_with_set_up(void) {
  state = 12;
  CU_FAIL_FATAL("fatal");
}

static CU_TestInfo passing[] = {
  {"each macro", each_macro}, {"print something", print_something}, CU_TEST_INFO_NULL};
static CU_TestInfo failing[] = {{"each macro fails", each_macro_fails},
                                {"fatal", fatal},
                                {"very often", very_often},
                                CU_TEST_INFO_NULL};
static CU_TestInfo ending[] = {{"segmentation fault", segmentation_fault},
                               {"abort", abort_itself},
                               {"exit 0", exit_0},
                               {"exit 3", exit_3},
                               {"binary output", binary_output},
                               {"survivor", survivor},
                               CU_TEST_INFO_NULL};
static CU_TestInfo unsound[] = {
  {"read after free", read_after_free}, {"signed overflow", signed_overflow}, CU_TEST_INFO_NULL};
static CU_TestInfo leaking[] = {{"leak", leak},
                                {"no leak", no_leak},
                                {"leak after failure", leak_after_failure},
                                CU_TEST_INFO_NULL};
static CU_TestInfo hanging[] = {
  {"hang", hang}, {"fail for ever", fail_for_ever}, {"survivor", survivor}, CU_TEST_INFO_NULL};
static CU_TestInfo names[] = {{"a test", nothing},   {"a-test", nothing}, {"a test", nothing},
                              {"a_test_2", nothing}, {"", nothing},       {"\xc3\xa4", nothing},
                              CU_TEST_INFO_NULL};
static CU_TestInfo with_state[] = {
  {"first", change_state}, {"second", change_state}, CU_TEST_INFO_NULL};
static CU_TestInfo unreachable[] = {{"one", unreached}, {"two", unreached}, CU_TEST_INFO_NULL};
static CU_TestInfo set_up_tests[] = {
  {"passes", with_set_up}, {"fatal", fatal_with_set_up}, CU_TEST_INFO_NULL};

static CU_SuiteInfo suites[] = {
  {"passing", NULL, NULL, NULL, NULL, passing},
  {"failing", NULL, NULL, NULL, NULL, failing},
  {"ending", NULL, NULL, NULL, NULL, ending},
  {"unsound", NULL, NULL, NULL, NULL, unsound},
  {"leaking", NULL, NULL, NULL, NULL, leaking},
  {"hanging", NULL, NULL, NULL, NULL, hanging},
  {"some names", NULL, NULL, NULL, NULL, names},
  {"some names", NULL, NULL, NULL, NULL, names},
  {"state", init_state, clean_state, NULL, NULL, with_state},
  {"init fails", return_7, clean_state, NULL, NULL, unreachable},
  {"init asserts", fail_an_assertion, clean_state, NULL, NULL, unreachable},
  {"cleanup fails", init_state, return_7, NULL, NULL, with_state},
  {"set up", NULL, NULL, set_up, tear_down, set_up_tests},
  CU_SUITE_INFO_NULL,
};

int main(void) {
  CU_pSuite suite;
  CU_pTest test;

  if (CU_initialize_registry() != CUE_SUCCESS) {
    return CU_get_error();
  }
  if (CU_register_suites(suites) != CUE_SUCCESS) {
    CU_cleanup_registry();
    return CU_get_error();
  }
  suite = CU_add_suite("added", NULL, NULL);
  test = CU_ADD_TEST(suite, unreached);
  if (suite == NULL || test == NULL || CU_set_test_active(test, CU_FALSE) != CUE_SUCCESS) {
    CU_cleanup_registry();
    return CU_get_error();
  }

  CU_basic_set_mode(CU_BRM_VERBOSE);
  CU_basic_run_tests();
  printf("tests: %u run, %u failed; asserts: %u, %u failed; records: %u\n",
         CU_get_number_of_tests_run(), CU_get_number_of_tests_failed(), CU_get_number_of_asserts(),
         CU_get_number_of_failures(), CU_get_number_of_failure_records());
  CU_basic_show_failures(CU_get_failure_list());
  CU_cleanup_registry();
  return CU_get_error();
}
