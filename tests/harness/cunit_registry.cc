// CUnit's registry: suites and tests as the program declares them.

#include "cunit.h"

#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace {

using harness::cunit::Changed;
using harness::cunit::Forget;

CU_TestRegistry *registry = nullptr;

/// Sets the error and returns what the function that met it returns.
template <typename T> T With(CU_ErrorCode code, T result) {
  CU_set_error(code);
  return result;
}

CU_ErrorCode Set(CU_ErrorCode code) { return With(code, code); }

/// Tests and suites are doubly linked lists of structures with the same two members.
template <typename T> void Append(T *&head, T *item) {
  Changed();
  auto **end = &head;
  while (*end != nullptr) {
    item->pPrev = *end;
    end = &(*end)->pNext;
  }
  *end = item;
}

/// Position of the first item for which `matches`, from 1, or 0.
template <typename T, typename F> unsigned int Position(const T *head, F matches) {
  unsigned int pos = 1;
  for (; head != nullptr; head = head->pNext, ++pos) {
    if (matches(*head)) {
      return pos;
    }
  }
  return 0;
}

template <typename T> unsigned int PositionOf(const T *head, const char *name) {
  return name == nullptr
           ? 0
           : Position(head, [&](const T &item) { return std::strcmp(item.pName, name) == 0; });
}

template <typename T> T *At(T *head, unsigned int pos) {
  if (pos == 0) {
    return nullptr;
  }
  for (; head != nullptr && pos > 1; --pos) {
    head = head->pNext;
  }
  return head;
}

/// For a search in the registry that is in place, or in a suite: sets the error, which is `missing`
/// if what to look for is not said.
CU_Suite *Suites(bool said, CU_ErrorCode missing) {
  return registry == nullptr ? With(CUE_NOREGISTRY, nullptr)
         : said              ? With(CUE_SUCCESS, registry->pSuite)
                             : With(missing, nullptr);
}

CU_Test *Tests(CU_pSuite suite, bool said, CU_ErrorCode missing) {
  Suites(suite != nullptr && said, suite == nullptr ? CUE_NOSUITE : missing);
  return suite != nullptr && said ? suite->pTest : nullptr;
}

template <typename T, typename M>
CU_ErrorCode Assign(T *item, M T::*member, M value, CU_ErrorCode no_item) {
  if (item == nullptr) {
    return Set(no_item);
  }
  item->*member = value;
  return Set(CUE_SUCCESS);
}

template <typename T>
CU_ErrorCode Rename(T *item, const char *name, CU_ErrorCode no_item, CU_ErrorCode no_name) {
  if (item == nullptr || name == nullptr) {
    return Set(item == nullptr ? no_item : no_name);
  }
  std::free(item->pName);
  item->pName = strdup(name);
  return Set(CUE_SUCCESS);
}

CU_ErrorCode Register(const CU_SuiteInfo *info) {
  for (; info->pName != nullptr; ++info) {
    auto *const suite = CU_add_suite_with_setup_and_teardown(
      info->pName, info->pInitFunc, info->pCleanupFunc, info->pSetUpFunc, info->pTearDownFunc);
    if (suite == nullptr) {
      return CU_get_error();
    }
    for (const auto *test = info->pTests; test != nullptr && test->pName != nullptr; ++test) {
      if (CU_add_test(suite, test->pName, test->pTestFunc) == nullptr) {
        return CU_get_error();
      }
    }
  }
  return Set(CUE_SUCCESS);
}

} // namespace

extern "C" {

CU_ErrorCode CU_initialize_registry(void) {
  CU_cleanup_registry();
  registry = CU_create_new_registry();
  return Set(CUE_SUCCESS);
}

void CU_cleanup_registry(void) {
  CU_set_error(CUE_SUCCESS);
  // Its records point to tests and suites.
  CU_clear_previous_results();
  CU_destroy_existing_registry(&registry);
}

CU_BOOL CU_registry_initialized(void) { return registry != nullptr ? CU_TRUE : CU_FALSE; }
CU_pTestRegistry CU_get_registry(void) { return registry; }

CU_pTestRegistry CU_set_registry(CU_pTestRegistry pTestRegistry) {
  auto *const old = registry;
  registry = pTestRegistry;
  Changed();
  return With(CUE_SUCCESS, old);
}

CU_pTestRegistry CU_create_new_registry(void) { return new CU_TestRegistry{}; }

void CU_destroy_existing_registry(CU_pTestRegistry *ppRegistry) {
  if (ppRegistry == nullptr || *ppRegistry == nullptr) {
    return;
  }
  for (auto *suite = (*ppRegistry)->pSuite; suite != nullptr;) {
    for (auto *test = suite->pTest; test != nullptr;) {
      Forget(*test);
      std::free(test->pName);
      delete std::exchange(test, test->pNext);
    }
    Forget(*suite);
    std::free(suite->pName);
    delete std::exchange(suite, suite->pNext);
  }
  delete *ppRegistry;
  *ppRegistry = nullptr;
}

CU_pSuite CU_add_suite(const char *strName, CU_InitializeFunc pInit, CU_CleanupFunc pClean) {
  return CU_add_suite_with_setup_and_teardown(strName, pInit, pClean, nullptr, nullptr);
}

CU_pSuite CU_add_suite_with_setup_and_teardown(const char *strName, CU_InitializeFunc pInit,
                                               CU_CleanupFunc pClean, CU_SetUpFunc pSetup,
                                               CU_TearDownFunc pTear) {
  if (registry == nullptr) {
    return With(CUE_NOREGISTRY, nullptr);
  }
  if (strName == nullptr) {
    return With(CUE_NO_SUITENAME, nullptr);
  }
  const bool known = PositionOf(registry->pSuite, strName) != 0;
  auto *const suite = new CU_Suite{};
  suite->pName = strdup(strName);
  suite->fActive = CU_TRUE;
  suite->pInitializeFunc = pInit;
  suite->pCleanupFunc = pClean;
  suite->pSetUpFunc = pSetup;
  suite->pTearDownFunc = pTear;
  Append(registry->pSuite, suite);
  ++registry->uiNumberOfSuites;
  return With(known ? CUE_DUP_SUITE : CUE_SUCCESS, suite);
}

CU_ErrorCode CU_set_suite_active(CU_pSuite pSuite, CU_BOOL fNewActive) {
  return Assign(pSuite, &CU_Suite::fActive, fNewActive, CUE_NOSUITE);
}

CU_ErrorCode CU_set_suite_name(CU_pSuite pSuite, const char *strNewName) {
  return Rename(pSuite, strNewName, CUE_NOSUITE, CUE_NO_SUITENAME);
}

CU_ErrorCode CU_set_suite_initfunc(CU_pSuite pSuite, CU_InitializeFunc pNewInit) {
  return Assign(pSuite, &CU_Suite::pInitializeFunc, pNewInit, CUE_NOSUITE);
}

CU_ErrorCode CU_set_suite_cleanupfunc(CU_pSuite pSuite, CU_CleanupFunc pNewClean) {
  return Assign(pSuite, &CU_Suite::pCleanupFunc, pNewClean, CUE_NOSUITE);
}

CU_pSuite CU_get_suite(const char *strName) {
  auto *const suites = Suites(strName != nullptr, CUE_NO_SUITENAME);
  return At(suites, PositionOf(suites, strName));
}
CU_pSuite CU_get_suite_at_pos(unsigned int pos) { return At(Suites(true, CUE_SUCCESS), pos); }
unsigned int CU_get_suite_pos_by_name(const char *strName) {
  return PositionOf(Suites(strName != nullptr, CUE_NO_SUITENAME), strName);
}
unsigned int CU_get_suite_pos(CU_pSuite pSuite) {
  return Position(Suites(pSuite != nullptr, CUE_NOSUITE),
                  [&](const CU_Suite &suite) { return &suite == pSuite; });
}
CU_pSuite CU_get_suite_by_name(const char *szSuiteName, CU_pTestRegistry pRegistry) {
  return pRegistry == nullptr ? nullptr
                              : At(pRegistry->pSuite, PositionOf(pRegistry->pSuite, szSuiteName));
}
CU_pSuite CU_get_suite_by_index(unsigned int index, CU_pTestRegistry pRegistry) {
  return pRegistry == nullptr ? nullptr : At(pRegistry->pSuite, index);
}

CU_pTest CU_add_test(CU_pSuite pSuite, const char *strName, CU_TestFunc pTestFunc) {
  if (registry == nullptr) {
    return With(CUE_NOREGISTRY, nullptr);
  }
  if (pSuite == nullptr) {
    return With(CUE_NOSUITE, nullptr);
  }
  if (strName == nullptr) {
    return With(CUE_NO_TESTNAME, nullptr);
  }
  if (pTestFunc == nullptr) {
    return With(CUE_NOTEST, nullptr);
  }
  const bool known = PositionOf(pSuite->pTest, strName) != 0;
  auto *const test = new CU_Test{};
  test->pName = strdup(strName);
  test->fActive = CU_TRUE;
  test->pTestFunc = pTestFunc;
  Append(pSuite->pTest, test);
  ++pSuite->uiNumberOfTests;
  ++registry->uiNumberOfTests;
  return With(known ? CUE_DUP_TEST : CUE_SUCCESS, test);
}

CU_ErrorCode CU_set_test_active(CU_pTest pTest, CU_BOOL fNewActive) {
  return Assign(pTest, &CU_Test::fActive, fNewActive, CUE_NOTEST);
}

CU_ErrorCode CU_set_test_name(CU_pTest pTest, const char *strNewName) {
  return Rename(pTest, strNewName, CUE_NOTEST, CUE_NO_TESTNAME);
}

CU_ErrorCode CU_set_test_func(CU_pTest pTest, CU_TestFunc pNewFunc) {
  return Assign(pNewFunc != nullptr ? pTest : nullptr, &CU_Test::pTestFunc, pNewFunc, CUE_NOTEST);
}

CU_pTest CU_get_test(CU_pSuite pSuite, const char *strName) {
  // The error for a missing name is CUnit's.
  auto *const tests = Tests(pSuite, strName != nullptr, CUE_NO_SUITENAME);
  return At(tests, PositionOf(tests, strName));
}
CU_pTest CU_get_test_at_pos(CU_pSuite pSuite, unsigned int pos) {
  return At(Tests(pSuite, true, CUE_SUCCESS), pos);
}
unsigned int CU_get_test_pos_by_name(CU_pSuite pSuite, const char *strName) {
  return PositionOf(Tests(pSuite, strName != nullptr, CUE_NO_TESTNAME), strName);
}
unsigned int CU_get_test_pos(CU_pSuite pSuite, CU_pTest pTest) {
  return Position(Tests(pSuite, pTest != nullptr, CUE_NOTEST),
                  [&](const CU_Test &test) { return &test == pTest; });
}
CU_pTest CU_get_test_by_name(const char *szTestName, CU_pSuite pSuite) {
  return pSuite == nullptr ? nullptr : At(pSuite->pTest, PositionOf(pSuite->pTest, szTestName));
}
CU_pTest CU_get_test_by_index(unsigned int index, CU_pSuite pSuite) {
  return pSuite == nullptr ? nullptr : At(pSuite->pTest, index);
}

CU_ErrorCode CU_register_suites(CU_SuiteInfo suite_info[]) { return Register(suite_info); }

CU_ErrorCode CU_register_nsuites(int suite_count, ...) {
  std::va_list ap;
  va_start(ap, suite_count);
  auto result = CUE_SUCCESS;
  for (int i = 0; i < suite_count && result == CUE_SUCCESS; ++i) {
    const auto *const info = va_arg(ap, CU_SuiteInfo *);
    result = info != nullptr ? Register(info) : CUE_SUCCESS;
  }
  va_end(ap);
  return result;
}

} // extern "C"
