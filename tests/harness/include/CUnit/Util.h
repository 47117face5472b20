/* Strings.  Part of CUnit's API on GoogleTest; see CUnit.h. */
#ifndef HARNESS_CUNIT_UTIL_H
#define HARNESS_CUNIT_UTIL_H

#include "CUnit.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CUNIT_MAX_ENTITY_LEN 5

/* `&`, `<` and `>` become entities; returns how many, or 0 and "" if `maxlen` bytes are too few. */
CU_EXPORT size_t CU_translate_special_characters(const char *szSrc, char *szDest, size_t maxlen);
CU_EXPORT size_t CU_translated_strlen(const char *szSrc);
/* 0 if they are equal but for their case. */
CU_EXPORT int CU_compare_strings(const char *szSrc, const char *szDest);
CU_EXPORT void CU_trim_left(char *szString);
CU_EXPORT void CU_trim_right(char *szString);
CU_EXPORT void CU_trim(char *szString);
CU_EXPORT size_t CU_number_width(int number);

#ifdef __cplusplus
}
#endif

#ifdef USE_DEPRECATED_CUNIT_NAMES
#  define CUNIT_MAX_STRING_LENGTH 1024
#  define translate_special_characters(src, dest, len)                                             \
    CU_translate_special_characters(src, dest, len)
#  define compare_strings(src, dest) CU_compare_strings(src, dest)
#  define trim_left(str) CU_trim_left(str)
#  define trim_right(str) CU_trim_right(str)
#  define trim(str) CU_trim(str)
#endif

#endif
