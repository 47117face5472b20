/*
 * CUnit programs in one; the first argument says which.  It is built with the harness and with
 * CUnit itself, and compare_test.cc says that both print the same lines that begin with "= ".
 */
#define USE_DEPRECATED_CUNIT_NAMES

#include <CUnit/Automated.h>
#include <CUnit/Basic.h>
#include <CUnit/CUnit_intl.h>
#include <CUnit/Console.h>
#include <CUnit/MyMem.h>
#include <CUnit/Util.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

CU_EXPORT int main(int argc, char **argv);

static const char *name_of(CU_pSuite suite) { return suite != NULL ? suite->pName : "-"; }

static void counters(const char *where) {
  const CU_pTest test = CU_get_current_test();

  printf("\n= %s: suites %u/%u/%u tests %u/%u/%u asserts %u/%u/%u records %u error %d, %s %s.%s\n",
         where, CU_get_number_of_suites_run(), CU_get_number_of_suites_failed(),
         CU_get_number_of_suites_inactive(), CU_get_number_of_tests_run(),
         CU_get_number_of_tests_failed(), CU_get_number_of_tests_inactive(),
         CU_get_number_of_asserts(), CU_get_number_of_successes(), CU_get_number_of_failures(),
         CU_get_number_of_failure_records(), CU_get_error(), CU_is_test_running() ? "in" : "after",
         name_of(CU_get_current_suite()), test != NULL ? test->pName : "-");
}

static void result(const char *what, int code) { printf("\n= %s: %d\n", what, code); }

static void records(const char *where, CU_pFailureRecord record) {
  counters(where);
  for (; record != NULL; record = record->pNext) {
    printf("\n=   record %d of %s.%s: %s, %s%s\n", record->type, name_of(record->pSuite),
           record->pTest != NULL ? record->pTest->pName : "-", record->strCondition,
           record->uiLineNumber != 0 ? "with a line" : record->strFileName,
           record->pPrev != NULL ? "" : ", the first");
  }
}

/*** handlers ***/

static void suite_start(const CU_pSuite suite) { counters(suite->pName); }
static void test_start(const CU_pTest test, const CU_pSuite suite) {
  (void)suite;
  counters(test->pName);
}
static void test_complete(const CU_pTest test, const CU_pSuite suite,
                          const CU_pFailureRecord failure) {
  (void)test;
  (void)suite;
  records("test complete", failure);
}
static void suite_complete(const CU_pSuite suite, const CU_pFailureRecord failure) {
  (void)suite;
  records("suite complete", failure);
}
static void all_complete(const CU_pFailureRecord failure) { records("all complete", failure); }
static void init_failure(const CU_pSuite suite) { counters(suite->pName); }
static void cleanup_failure(const CU_pSuite suite) { counters(suite->pName); }

static void set_handlers(void) {
  CU_set_suite_start_handler(suite_start);
  CU_set_test_start_handler(test_start);
  CU_set_test_complete_handler(test_complete);
  CU_set_suite_complete_handler(suite_complete);
  CU_set_all_test_complete_handler(all_complete);
  CU_set_suite_init_failure_handler(init_failure);
  CU_set_suite_cleanup_failure_handler(cleanup_failure);
}

/*** suites ***/

static int state = 0;

static int init(void) {
  counters("init");
  return 0;
}
static int clean(void) {
  counters("clean up");
  return 0;
}
static int return_1(void) { return 1; }

static void pass(void) {
  CU_PASS("pass");
  counters("in pass");
}
static void fail(void) {
  CU_FAIL("fail");
  CU_ASSERT(1);
  counters("in fail");
}
static void fatal(void) {
  CU_ASSERT_FATAL(state < 0);
  counters("never");
}
static void set_up(void) { CU_ASSERT_FATAL(state < 0); }
static void tear_down(void) {
  CU_ASSERT(1);
  counters("tear down");
}
static void write_state(void) {
  ++state;
  CU_ASSERT_EQUAL(state, 1);
}
static void read_state(void) { CU_ASSERT_EQUAL(state, 1); }
static void crash(void) {
  CU_ASSERT(1);
  signal(SIGSEGV, SIG_DFL);
  raise(SIGSEGV);
}

static CU_TestInfo three[] = {{"pass", pass}, {"fail", fail}, {"fatal", fatal}, CU_TEST_INFO_NULL};
static CU_TestInfo one[] = {{"pass", pass}, CU_TEST_INFO_NULL};
static CU_TestInfo dependent[] = {{"write", write_state}, {"read", read_state}, CU_TEST_INFO_NULL};
static CU_TestInfo crashing[] = {
  {"write", write_state}, {"fail", fail}, {"crash", crash}, {"pass", pass}, CU_TEST_INFO_NULL};
static CU_TestInfo none[] = {CU_TEST_INFO_NULL};
static CU_SuiteInfo kinds[] = {
  {"first", init, clean, NULL, NULL, three},
  {"empty", init, clean, NULL, NULL, none},
  {"empty, init fails", return_1, clean, NULL, NULL, none},
  {"init fails", return_1, clean, NULL, NULL, three},
  {"cleanup fails", init, return_1, NULL, NULL, one},
  {"inactive", init, clean, NULL, NULL, one},
  {"inactive test", init, clean, NULL, NULL, three},
  {"set up", init, clean, set_up, tear_down, three},
  CU_SUITE_INFO_NULL,
};

static void add_kinds(void) {
  result("registry", CU_initialize_registry());
  result("suites", CU_register_nsuites(2, kinds, none));
  CU_set_suite_active(CU_get_suite("inactive"), CU_FALSE);
  CU_set_test_active(CU_get_test(CU_get_suite("inactive test"), "fail"), CU_FALSE);
}

static CU_pSuite add(const char *name, CU_TestInfo *tests) {
  CU_pSuite suite = CU_add_suite(name, NULL, NULL);

  for (; tests->pName != NULL; ++tests) {
    CU_add_test(suite, tests->pName, tests->pTestFunc);
  }
  return suite;
}

/*** programs ***/

static int run_parts(void) {
  CU_pSuite suite;

  result("no registry", CU_run_all_tests());
  add_kinds();
  set_handlers();
  for (suite = CU_get_registry()->pSuite; suite != NULL; suite = suite->pNext) {
    result(suite->pName, CU_run_suite(suite));
    if (suite->pTest != NULL) {
      result("its first test", CU_run_test(suite, suite->pTest));
    }
  }
  suite = CU_get_suite("inactive test");
  result("inactive test", CU_run_test(suite, CU_get_test(suite, "fail")));
  result("not there", CU_run_test(CU_get_suite("empty"), suite->pTest));
  result("no suite", CU_run_suite(NULL));
  result("no test", CU_run_test(suite, NULL));
  CU_set_fail_on_inactive(CU_FALSE);
  result("all", CU_run_all_tests());
  CU_cleanup_registry();
  counters("cleaned up");
  return 0;
}

static int run_basic(CU_BasicRunMode mode) {
  char *text;

  add_kinds();
  set_handlers();
  CU_basic_set_mode(mode);
  result("run", CU_basic_run_tests());
  printf("\n= handlers kept: %d%d%d%d%d%d%d\n", CU_get_suite_start_handler() == suite_start,
         CU_get_test_start_handler() == test_start, CU_get_test_complete_handler() == test_complete,
         CU_get_suite_complete_handler() == suite_complete,
         CU_get_all_test_complete_handler() == all_complete,
         CU_get_suite_init_failure_handler() == init_failure,
         CU_get_suite_cleanup_failure_handler() == cleanup_failure);
  result("suite", CU_basic_run_suite(CU_get_suite("first")));
  result("test",
         CU_basic_run_test(CU_get_suite("first"), CU_get_test_at_pos(CU_get_suite_at_pos(1), 2)));
  result("no suite", CU_basic_run_suite(NULL));
  text = CU_get_run_results_string();
  printf("\n%s\n", text);
  CU_FREE(text);
  return CU_get_error();
}

static int run_all(CU_ErrorAction action) {
  add_kinds();
  set_handlers();
  CU_set_error_action(action);
  result("run", CU_run_all_tests());
  records("end", CU_get_failure_list());
  CU_print_run_results(stdout);
  printf("\n");
  return CU_get_error();
}

static int run_automated(const char *root) {
  add_kinds();
  add("<&>", one);
  result("suite", CU_run_suite(CU_get_suite("first")));
  CU_set_output_filename(root);
  result("list", CU_list_tests_to_file());
  set_handlers();
  CU_automated_run_tests();
  counters("end");
  printf("\n= handler kept: %d\n", CU_get_test_complete_handler() == test_complete);
  CU_cleanup_registry();
  return CU_get_error();
}

static int run_registries(void) {
  CU_pTestRegistry first, second = CU_create_new_registry();

  set_handlers();
  CU_initialize_registry();
  add("one", three);
  first = CU_set_registry(second);
  add("one", one);
  add("two", one);
  result("second", CU_run_all_tests());
  printf("\n= the same: %d\n", CU_set_registry(first) == second);
  result("first", CU_run_all_tests());
  CU_destroy_existing_registry(&second);
  printf("\n= destroyed: %d, positions %u %u %u\n", second == NULL, CU_get_suite_pos_by_name("one"),
         CU_get_suite_pos_by_name("two"), CU_get_test_pos_by_name(CU_get_suite("one"), "fatal"));
  result("first", CU_run_all_tests());
  result("again", CU_initialize_registry());
  printf("\n= suites: %u\n", CU_get_registry()->uiNumberOfSuites);
  return 0;
}

static int run_dependent(CU_TestInfo *tests) {
  CU_initialize_registry();
  add("dependent", tests);
  add("later", one);
  CU_basic_run_tests();
  printf("\n= state %d\n", state);
  return CU_get_error();
}

static void old_style(void) {
  ASSERT_EQUAL(1, 1);
  ASSERT_STRING_EQUAL("a", "a");
  ASSERT(state > 100);
  counters("never");
}

static int run_names(void) {
  char text[32] = " <a> & b ";
  char translated[32];
  PTestGroup group;

  CU_automated_enable_junit_xml(CU_TRUE);
  CU_automated_package_name_set("package");
  printf("\n= %s\n", CU_automated_package_name_get());
  CU_trim(text);
  result("special", (int)CU_translate_special_characters(text, translated, sizeof(translated)));
  printf("\n= %s, %d: %d\n", _(translated), (int)CU_translated_strlen(text),
         CU_compare_strings("Aa", "aA"));
  initialize_registry();
  group = add_test_group("group", NULL, NULL);
  add_test_case(group, "old style", old_style);
  counters("before");
  CU_automated_enable_junit_xml(CU_FALSE);
  automated_run_tests();
  printf("\n= %u groups\n", get_registry()->uiNumberOfGroups);
  counters("end");
  cleanup_registry();
  return 0;
}

static int errors(void) {
  CU_pSuite suite;

#define ERROR(call) ((void)(call), result(#call, CU_get_error()))
  ERROR(CU_add_suite("a", NULL, NULL));
  ERROR(CU_get_suite("a"));
  CU_initialize_registry();
  ERROR(CU_add_suite(NULL, NULL, NULL));
  ERROR(suite = CU_add_suite("a", NULL, NULL));
  ERROR(CU_add_suite("a", NULL, NULL));
  ERROR(CU_add_test(NULL, "t", pass));
  ERROR(CU_add_test(suite, NULL, pass));
  ERROR(CU_add_test(suite, "t", NULL));
  ERROR(CU_ADD_TEST(suite, pass));
  ERROR(CU_ADD_TEST(suite, pass));
  ERROR(CU_get_suite(NULL));
  ERROR(CU_get_suite("b"));
  ERROR(CU_get_suite_pos(NULL));
  ERROR(CU_get_suite_pos_by_name(NULL));
  ERROR(CU_get_suite_at_pos(9));
  ERROR(CU_get_test(NULL, "t"));
  ERROR(CU_get_test(suite, NULL));
  ERROR(CU_get_test_pos(suite, NULL));
  ERROR(CU_get_test_pos_by_name(suite, NULL));
  ERROR(CU_get_test_at_pos(suite, 9));
  ERROR(CU_set_suite_name(suite, NULL));
  ERROR(CU_set_test_func(NULL, pass));
  ERROR(CU_cleanup_registry());
  return 0;
}

/* A large suite, test by test. */
static int run_many(void) {
  char name[16];
  CU_pSuite suite;
  CU_pTest test;
  int i;

  CU_initialize_registry();
  suite = CU_add_suite("many", NULL, NULL);
  for (i = 0; i < 500; ++i) {
    snprintf(name, sizeof(name), "%d", i);
    CU_add_test(suite, name, read_state);
  }
  state = 1;
  for (i = 0, test = suite->pTest; i < 20; ++i, test = test->pNext) {
    CU_run_test(suite, test);
  }
  counters("end");
  return 0;
}

/* A run in a test of another; CUnit itself does not survive it. */
static void run_inside(void) {
  result("inside", CU_run_suite(CU_get_suite("inner")));
  counters("after it");
  CU_ASSERT(1);
}

static int run_nested(void) {
  CU_initialize_registry();
  add("inner", three);
  CU_add_test(CU_add_suite("outer", NULL, NULL), "outer", run_inside);
  result("run", CU_run_suite(CU_get_suite("outer")));
  counters("end");
  return 0;
}

static int run_outside(int argc) {
  CU_ASSERT(argc == 0);
  printf("after the assertion\n");
  return 0;
}

int main(int argc, char **argv) {
  const char *const name = argc > 1 ? argv[1] : "";

  return !strcmp(name, "parts")        ? run_parts()
         : !strcmp(name, "normal")     ? run_basic(CU_BRM_NORMAL)
         : !strcmp(name, "silent")     ? run_basic(CU_BRM_SILENT)
         : !strcmp(name, "verbose")    ? run_basic(CU_BRM_VERBOSE)
         : !strcmp(name, "all")        ? run_all(CUEA_IGNORE)
         : !strcmp(name, "stop")       ? run_all(CUEA_FAIL)
         : !strcmp(name, "abort")      ? run_all(CUEA_ABORT)
         : !strcmp(name, "automated")  ? run_automated("root")
         : !strcmp(name, "registries") ? run_registries()
         : !strcmp(name, "dependent")  ? run_dependent(dependent)
         : !strcmp(name, "crash")      ? run_dependent(crashing)
         : !strcmp(name, "names")      ? run_names()
         : !strcmp(name, "errors")     ? errors()
         : !strcmp(name, "many")       ? run_many()
         : !strcmp(name, "nested")     ? run_nested()
         : !strcmp(name, "outside")    ? run_outside(argc)
                                       : 99;
}
