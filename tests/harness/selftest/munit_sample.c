/*
 * A munit program whose tests end in every way there is.  It is run by munit_test.cc, which says
 * what has to come of each.
 */
#define MUNIT_ENABLE_ASSERT_ALIASES

#include "munit.h"

#include <signal.h>

static MunitResult ok(const MunitParameter params[], void *data) {
  assert_null(params);
  assert_string_equal((char *)data, "user data");
  return MUNIT_OK;
}

static MunitResult failed_assertion(const MunitParameter params[], void *data) {
  (void)params;
  (void)data;
  assert_int(1 + 1, ==, 3);
  printf("after the failed assertion\n");
  return MUNIT_OK;
}

static MunitResult failed_memory(const MunitParameter params[], void *data) {
  (void)params;
  (void)data;
  assert_memory_equal(5, "first", "fIrst");
  return MUNIT_OK;
}

static MunitResult logged_error(const MunitParameter params[], void *data) {
  (void)params;
  (void)data;
  munit_log(MUNIT_LOG_WARNING, "only a warning");
  munit_log(MUNIT_LOG_ERROR, "logged as an error");
  printf("after the error\n");
  return MUNIT_OK;
}

static MunitResult result_fail(const MunitParameter params[], void *data) {
  (void)params;
  (void)data;
  return MUNIT_FAIL;
}

static MunitResult result_error(const MunitParameter params[], void *data) {
  (void)params;
  (void)data;
  return MUNIT_ERROR;
}

static MunitResult skip(const MunitParameter params[], void *data) {
  (void)params;
  (void)data;
  munit_log(MUNIT_LOG_INFO, "nothing to test here");
  return MUNIT_SKIP;
}

static MunitResult skip_silently(const MunitParameter params[], void *data) {
  (void)params;
  (void)data;
  return MUNIT_SKIP;
}

static MunitResult crash(const MunitParameter params[], void *data) {
  (void)params;
  (void)data;
  signal(SIGBUS, SIG_DFL);
  raise(SIGBUS);
  return MUNIT_OK;
}

static MunitResult leak(const MunitParameter params[], void *data) {
  void *volatile block = munit_malloc(24);

  (void)params;
  (void)data;
  block = NULL;
  (void)block;
  return MUNIT_OK;
}

static MunitResult print_parameters(const MunitParameter params[], void *data) {
  (void)data;
  printf("size %s of %s\n", munit_parameters_get(params, "size"),
         munit_parameters_get(params, "kind"));
  assert_null(munit_parameters_get(params, "any"));
  return MUNIT_OK;
}

static void *set_up(const MunitParameter params[], void *user_data) {
  (void)params;
  printf("set up with %s\n", (char *)user_data);
  return munit_malloc(8);
}

static void tear_down(void *fixture) {
  printf("tear down\n");
  free(fixture);
}

static MunitResult with_fixture(const MunitParameter params[], void *fixture) {
  (void)params;
  assert_not_null(fixture);
  return MUNIT_OK;
}

static MunitResult print_random(const MunitParameter params[], void *data) {
  (void)params;
  (void)data;
  printf("random number %u\n", (unsigned int)munit_rand_uint32());
  return MUNIT_OK;
}

static char *sizes[] = {"1", "2", "3", NULL};
static char *kinds[] = {"red apples", "pears", NULL};
static MunitParameterEnum parameters[] = {
  {"size", sizes}, {"any", NULL}, {"kind", kinds}, {NULL, NULL}};

#define TEST(function) {"/" #function, function, NULL, NULL, MUNIT_TEST_OPTION_NONE, NULL}

static const MunitTest tests[] = {
  TEST(ok),
  TEST(failed_assertion),
  TEST(failed_memory),
  TEST(logged_error),
  TEST(result_fail),
  TEST(result_error),
  TEST(skip),
  TEST(skip_silently),
  TEST(crash),
  TEST(leak),
  {"/todo", failed_assertion, NULL, NULL, MUNIT_TEST_OPTION_TODO, NULL},
  {"/todo done", ok, NULL, NULL, MUNIT_TEST_OPTION_TODO, NULL},
  {"/parameters", print_parameters, NULL, NULL, MUNIT_TEST_OPTION_NONE, parameters},
  munit_test_end(),
};

static const MunitTest inner_tests[] = {
  {"/fixture", with_fixture, set_up, tear_down, MUNIT_TEST_OPTION_NONE, NULL},
  {"/fixture once", with_fixture, set_up, tear_down, MUNIT_TEST_OPTION_SINGLE_ITERATION, NULL},
  {"/random", print_random, NULL, NULL, MUNIT_TEST_OPTION_SINGLE_ITERATION, NULL},
  munit_test_end(),
};

int main(int argc, char *argv[]) {
  /* On the stack, as in upstream's main.c. */
  const MunitSuite inner[] = {{.prefix = "/inner", .tests = inner_tests}, {0}};
  const MunitSuite suites[] = {{.prefix = "/sample", .tests = tests, .suites = inner}, {0}};
  const MunitSuite suite = {.prefix = "", .suites = suites, .iterations = 2};

  return munit_suite_main(&suite, (void *)"user data", argc, argv);
}
