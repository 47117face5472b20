/* Tests of the public API of the patched ngtcp2, with the library's public
   header and nothing else of it.  Written for CUnit: tests/harness/README.md.
 */

#include <CUnit/Basic.h>

#include "watch.h"

int main(void) {
  CU_initialize_registry();
  add_migration_tests();
  add_error_tests();
  add_memory_tests();
  add_connection_id_tests();
  CU_basic_run_tests();
  CU_cleanup_registry();
  return CU_get_error();
}
