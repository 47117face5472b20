// CUnit's helpers for strings.

#include <CUnit/Util.h>

#include <strings.h>

#include <cctype>
#include <cstring>
#include <string>

namespace {

const char *Entity(char c) {
  return c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : nullptr;
}

} // namespace

extern "C" {

size_t CU_translated_strlen(const char *szSrc) {
  size_t size = 0;
  for (; *szSrc != '\0'; ++szSrc) {
    size += Entity(*szSrc) != nullptr ? std::strlen(Entity(*szSrc)) : 1;
  }
  return size;
}

size_t CU_translate_special_characters(const char *szSrc, char *szDest, size_t maxlen) {
  size_t count = 0;
  if (maxlen == 0) {
    return 0;
  }
  if (CU_translated_strlen(szSrc) >= maxlen) {
    *szDest = '\0';
    return 0;
  }
  for (; *szSrc != '\0'; ++szSrc) {
    const char *const entity = Entity(*szSrc);
    count += entity != nullptr ? 1 : 0;
    szDest = entity != nullptr ? stpcpy(szDest, entity) : (*szDest = *szSrc, szDest + 1);
  }
  *szDest = '\0';
  return count;
}

int CU_compare_strings(const char *szSrc, const char *szDest) { return strcasecmp(szSrc, szDest); }

void CU_trim_left(char *szString) {
  const char *begin = szString;
  while (std::isspace(static_cast<unsigned char>(*begin)) != 0) {
    ++begin;
  }
  std::memmove(szString, begin, std::strlen(begin) + 1);
}

void CU_trim_right(char *szString) {
  auto size = std::strlen(szString);
  while (size > 0 && std::isspace(static_cast<unsigned char>(szString[size - 1])) != 0) {
    szString[--size] = '\0';
  }
}

void CU_trim(char *szString) {
  CU_trim_left(szString);
  CU_trim_right(szString);
}

size_t CU_number_width(int number) { return std::to_string(number).size(); }

} // extern "C"
