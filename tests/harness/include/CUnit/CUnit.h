/*
 * CUnit's API on GoogleTest.
 *
 * C test files written for CUnit 2.1-3 compile unchanged with these headers, and each of their
 * tests is a GoogleTest case: see tests/harness/README.md.
 */
#ifndef HARNESS_CUNIT_CUNIT_H
#define HARNESS_CUNIT_CUNIT_H

/* Test files rely on CUnit.h for these two. */
#include <math.h>
#include <string.h>

#define CU_VERSION "2.1-3"

/* Longer names are fine here. */
#define CU_MAX_TEST_NAME_LENGTH 256
#define CU_MAX_SUITE_NAME_LENGTH 256

#ifndef CU_BOOL
#  define CU_BOOL int
#endif
#ifndef CU_TRUE
#  define CU_TRUE 1
#endif
#ifndef CU_FALSE
#  define CU_FALSE 0
#endif

#ifndef CU_UNREFERENCED_PARAMETER
#  define CU_UNREFERENCED_PARAMETER(x) (void)(x)
#endif
#ifndef CU_MAX
#  define CU_MAX(a, b) (((a) >= (b)) ? (a) : (b))
#endif
#ifndef CU_MIN
#  define CU_MIN(a, b) (((a) >= (b)) ? (b) : (a))
#endif

#define CU_EXPORT

#include "CUError.h"
#include "TestDB.h"
#include "TestRun.h"

/*
 * A block, as in CUnit, and not a do-while: there are test files that leave the semicolon out.  The
 * value may have any type that C can test, pointers too.
 */
#define HARNESS_CU_ASSERT(value, text, fatal)                                                      \
  {                                                                                                \
    CU_assertImplementation((value) ? CU_TRUE : CU_FALSE, __LINE__, (text), __FILE__, "",          \
                            (fatal));                                                              \
  }

#define HARNESS_CU_STRCMP(actual, expected) strcmp((const char *)(actual), (const char *)(expected))
#define HARNESS_CU_STRNCMP(actual, expected, count)                                                \
  strncmp((const char *)(actual), (const char *)(expected), (size_t)(count))
/* Not a number is neither equal nor unequal to anything. */
#define HARNESS_CU_DISTANCE(actual, expected) fabs((double)(actual) - (double)(expected))

/* A _FATAL macro ends the test when it fails, any other lets it go on. */

#define CU_PASS(msg) HARNESS_CU_ASSERT(CU_TRUE, "CU_PASS(" #msg ")", CU_FALSE)
#define CU_FAIL(msg) HARNESS_CU_ASSERT(CU_FALSE, "CU_FAIL(" #msg ")", CU_FALSE)
#define CU_FAIL_FATAL(msg) HARNESS_CU_ASSERT(CU_FALSE, "CU_FAIL_FATAL(" #msg ")", CU_TRUE)

#define CU_ASSERT(value) HARNESS_CU_ASSERT((value), #value, CU_FALSE)
#define CU_ASSERT_FATAL(value) HARNESS_CU_ASSERT((value), #value, CU_TRUE)

#define CU_TEST(value) HARNESS_CU_ASSERT((value), #value, CU_FALSE)
#define CU_TEST_FATAL(value) HARNESS_CU_ASSERT((value), #value, CU_TRUE)

#define CU_ASSERT_TRUE(value) HARNESS_CU_ASSERT((value), "CU_ASSERT_TRUE(" #value ")", CU_FALSE)
#define CU_ASSERT_TRUE_FATAL(value)                                                                \
  HARNESS_CU_ASSERT((value), "CU_ASSERT_TRUE_FATAL(" #value ")", CU_TRUE)

#define CU_ASSERT_FALSE(value) HARNESS_CU_ASSERT(!(value), "CU_ASSERT_FALSE(" #value ")", CU_FALSE)
#define CU_ASSERT_FALSE_FATAL(value)                                                               \
  HARNESS_CU_ASSERT(!(value), "CU_ASSERT_FALSE_FATAL(" #value ")", CU_TRUE)

#define CU_ASSERT_EQUAL(actual, expected)                                                          \
  HARNESS_CU_ASSERT((actual) == (expected), "CU_ASSERT_EQUAL(" #actual "," #expected ")", CU_FALSE)
#define CU_ASSERT_EQUAL_FATAL(actual, expected)                                                    \
  HARNESS_CU_ASSERT((actual) == (expected), "CU_ASSERT_EQUAL_FATAL(" #actual "," #expected ")",    \
                    CU_TRUE)

#define CU_ASSERT_NOT_EQUAL(actual, expected)                                                      \
  HARNESS_CU_ASSERT((actual) != (expected), "CU_ASSERT_NOT_EQUAL(" #actual "," #expected ")",      \
                    CU_FALSE)
#define CU_ASSERT_NOT_EQUAL_FATAL(actual, expected)                                                \
  HARNESS_CU_ASSERT((actual) != (expected),                                                        \
                    "CU_ASSERT_NOT_EQUAL_FATAL(" #actual "," #expected ")", CU_TRUE)

#define CU_ASSERT_PTR_EQUAL(actual, expected)                                                      \
  HARNESS_CU_ASSERT((const void *)(actual) == (const void *)(expected),                            \
                    "CU_ASSERT_PTR_EQUAL(" #actual "," #expected ")", CU_FALSE)
#define CU_ASSERT_PTR_EQUAL_FATAL(actual, expected)                                                \
  HARNESS_CU_ASSERT((const void *)(actual) == (const void *)(expected),                            \
                    "CU_ASSERT_PTR_EQUAL_FATAL(" #actual "," #expected ")", CU_TRUE)

#define CU_ASSERT_PTR_NOT_EQUAL(actual, expected)                                                  \
  HARNESS_CU_ASSERT((const void *)(actual) != (const void *)(expected),                            \
                    "CU_ASSERT_PTR_NOT_EQUAL(" #actual "," #expected ")", CU_FALSE)
#define CU_ASSERT_PTR_NOT_EQUAL_FATAL(actual, expected)                                            \
  HARNESS_CU_ASSERT((const void *)(actual) != (const void *)(expected),                            \
                    "CU_ASSERT_PTR_NOT_EQUAL_FATAL(" #actual "," #expected ")", CU_TRUE)

#define CU_ASSERT_PTR_NULL(value)                                                                  \
  HARNESS_CU_ASSERT((const void *)(value) == NULL, "CU_ASSERT_PTR_NULL(" #value ")", CU_FALSE)
#define CU_ASSERT_PTR_NULL_FATAL(value)                                                            \
  HARNESS_CU_ASSERT((const void *)(value) == NULL, "CU_ASSERT_PTR_NULL_FATAL(" #value ")", CU_TRUE)

#define CU_ASSERT_PTR_NOT_NULL(value)                                                              \
  HARNESS_CU_ASSERT((const void *)(value) != NULL, "CU_ASSERT_PTR_NOT_NULL(" #value ")", CU_FALSE)
#define CU_ASSERT_PTR_NOT_NULL_FATAL(value)                                                        \
  HARNESS_CU_ASSERT((const void *)(value) != NULL, "CU_ASSERT_PTR_NOT_NULL_FATAL(" #value ")",     \
                    CU_TRUE)

#define CU_ASSERT_STRING_EQUAL(actual, expected)                                                   \
  HARNESS_CU_ASSERT(HARNESS_CU_STRCMP(actual, expected) == 0,                                      \
                    "CU_ASSERT_STRING_EQUAL(" #actual "," #expected ")", CU_FALSE)
#define CU_ASSERT_STRING_EQUAL_FATAL(actual, expected)                                             \
  HARNESS_CU_ASSERT(HARNESS_CU_STRCMP(actual, expected) == 0,                                      \
                    "CU_ASSERT_STRING_EQUAL_FATAL(" #actual "," #expected ")", CU_TRUE)

#define CU_ASSERT_STRING_NOT_EQUAL(actual, expected)                                               \
  HARNESS_CU_ASSERT(HARNESS_CU_STRCMP(actual, expected) != 0,                                      \
                    "CU_ASSERT_STRING_NOT_EQUAL(" #actual "," #expected ")", CU_FALSE)
#define CU_ASSERT_STRING_NOT_EQUAL_FATAL(actual, expected)                                         \
  HARNESS_CU_ASSERT(HARNESS_CU_STRCMP(actual, expected) != 0,                                      \
                    "CU_ASSERT_STRING_NOT_EQUAL_FATAL(" #actual "," #expected ")", CU_TRUE)

#define CU_ASSERT_NSTRING_EQUAL(actual, expected, count)                                           \
  HARNESS_CU_ASSERT(HARNESS_CU_STRNCMP(actual, expected, count) == 0,                              \
                    "CU_ASSERT_NSTRING_EQUAL(" #actual "," #expected "," #count ")", CU_FALSE)
#define CU_ASSERT_NSTRING_EQUAL_FATAL(actual, expected, count)                                     \
  HARNESS_CU_ASSERT(HARNESS_CU_STRNCMP(actual, expected, count) == 0,                              \
                    "CU_ASSERT_NSTRING_EQUAL_FATAL(" #actual "," #expected "," #count ")",         \
                    CU_TRUE)

#define CU_ASSERT_NSTRING_NOT_EQUAL(actual, expected, count)                                       \
  HARNESS_CU_ASSERT(HARNESS_CU_STRNCMP(actual, expected, count) != 0,                              \
                    "CU_ASSERT_NSTRING_NOT_EQUAL(" #actual "," #expected "," #count ")", CU_FALSE)
#define CU_ASSERT_NSTRING_NOT_EQUAL_FATAL(actual, expected, count)                                 \
  HARNESS_CU_ASSERT(HARNESS_CU_STRNCMP(actual, expected, count) != 0,                              \
                    "CU_ASSERT_NSTRING_NOT_EQUAL_FATAL(" #actual "," #expected "," #count ")",     \
                    CU_TRUE)

#define CU_ASSERT_DOUBLE_EQUAL(actual, expected, granularity)                                      \
  HARNESS_CU_ASSERT(HARNESS_CU_DISTANCE(actual, expected) <= fabs((double)(granularity)),          \
                    "CU_ASSERT_DOUBLE_EQUAL(" #actual "," #expected "," #granularity ")",          \
                    CU_FALSE)
#define CU_ASSERT_DOUBLE_EQUAL_FATAL(actual, expected, granularity)                                \
  HARNESS_CU_ASSERT(HARNESS_CU_DISTANCE(actual, expected) <= fabs((double)(granularity)),          \
                    "CU_ASSERT_DOUBLE_EQUAL_FATAL(" #actual "," #expected "," #granularity ")",    \
                    CU_TRUE)

#define CU_ASSERT_DOUBLE_NOT_EQUAL(actual, expected, granularity)                                  \
  HARNESS_CU_ASSERT(HARNESS_CU_DISTANCE(actual, expected) > fabs((double)(granularity)),           \
                    "CU_ASSERT_DOUBLE_NOT_EQUAL(" #actual "," #expected "," #granularity ")",      \
                    CU_FALSE)
#define CU_ASSERT_DOUBLE_NOT_EQUAL_FATAL(actual, expected, granularity)                            \
  HARNESS_CU_ASSERT(                                                                               \
    HARNESS_CU_DISTANCE(actual, expected) > fabs((double)(granularity)),                           \
    "CU_ASSERT_DOUBLE_NOT_EQUAL_FATAL(" #actual "," #expected "," #granularity ")", CU_TRUE)

#ifdef USE_DEPRECATED_CUNIT_NAMES
#  ifndef BOOL
#    define BOOL int
#  endif
#  ifndef TRUE
#    define TRUE 1
#  endif
#  ifndef FALSE
#    define FALSE 0
#  endif
#  define MAX_TEST_NAME_LENGTH 256
#  define MAX_SUITE_NAME_LENGTH 256
/* These count only when they fail, and then return from the test. */
#  define HARNESS_CU_OLD(value, text)                                                              \
    {                                                                                              \
      if (!(value)) {                                                                              \
        CU_assertImplementation(CU_FALSE, __LINE__, (text), __FILE__, "", CU_FALSE);               \
        return;                                                                                    \
      }                                                                                            \
    }
#  define ASSERT(value) HARNESS_CU_OLD(value, #value)
#  define ASSERT_TRUE(value) HARNESS_CU_OLD(value, "ASSERT_TRUE(" #value ")")
#  define ASSERT_FALSE(value) HARNESS_CU_OLD(!(value), "ASSERT_FALSE(" #value ")")
#  define ASSERT_EQUAL(a, b) HARNESS_CU_OLD((a) == (b), "ASSERT_EQUAL(" #a "," #b ")")
#  define ASSERT_NOT_EQUAL(a, b) HARNESS_CU_OLD((a) != (b), "ASSERT_NOT_EQUAL(" #a "," #b ")")
#  define ASSERT_PTR_EQUAL(a, b)                                                                   \
    HARNESS_CU_OLD((void *)(a) == (void *)(b), "ASSERT_PTR_EQUAL(" #a "," #b ")")
#  define ASSERT_PTR_NOT_EQUAL(a, b)                                                               \
    HARNESS_CU_OLD((void *)(a) != (void *)(b), "ASSERT_PTR_NOT_EQUAL(" #a "," #b ")")
#  define ASSERT_PTR_NULL(value)                                                                   \
    HARNESS_CU_OLD((void *)(value) == NULL, "ASSERT_PTR_NULL(" #value ")")
#  define ASSERT_PTR_NOT_NULL(value)                                                               \
    HARNESS_CU_OLD((void *)(value) != NULL, "ASSERT_PTR_NOT_NULL(" #value ")")
#  define ASSERT_STRING_EQUAL(a, b)                                                                \
    HARNESS_CU_OLD(HARNESS_CU_STRCMP(a, b) == 0, "ASSERT_STRING_EQUAL(" #a "," #b ")")
#  define ASSERT_STRING_NOT_EQUAL(a, b)                                                            \
    HARNESS_CU_OLD(HARNESS_CU_STRCMP(a, b) != 0, "ASSERT_STRING_NOT_EQUAL(" #a "," #b ")")
#  define ASSERT_NSTRING_EQUAL(a, b, n)                                                            \
    HARNESS_CU_OLD(HARNESS_CU_STRNCMP(a, b, n) == 0, "ASSERT_NSTRING_EQUAL(" #a "," #b "," #n ")")
#  define ASSERT_NSTRING_NOT_EQUAL(a, b, n)                                                        \
    HARNESS_CU_OLD(HARNESS_CU_STRNCMP(a, b, n) != 0,                                               \
                   "ASSERT_NSTRING_NOT_EQUAL(" #a "," #b "," #n ")")
#  define ASSERT_DOUBLE_EQUAL(a, b, d)                                                             \
    HARNESS_CU_OLD(HARNESS_CU_DISTANCE(a, b) <= fabs((double)(d)),                                 \
                   "ASSERT_DOUBLE_EQUAL(" #a "," #b "," #d ")")
#  define ASSERT_DOUBLE_NOT_EQUAL(a, b, d)                                                         \
    HARNESS_CU_OLD(HARNESS_CU_DISTANCE(a, b) > fabs((double)(d)),                                  \
                   "ASSERT_DOUBLE_NOT_EQUAL(" #a "," #b "," #d ")")
#endif

#endif
