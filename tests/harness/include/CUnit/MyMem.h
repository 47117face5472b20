/* Memory; CUnit can also trace it, here that is left to sanitizers.  See CUnit.h. */
#ifndef HARNESS_CUNIT_MYMEM_H
#define HARNESS_CUNIT_MYMEM_H

#include <stdlib.h>

#define CU_CALLOC(x, y) calloc((x), (y))
#define CU_MALLOC(x) malloc((x))
#define CU_FREE(x) free((x))
#define CU_REALLOC(x, y) realloc((x), (y))
#define CU_CREATE_MEMORY_REPORT(x)
#define CU_DUMP_MEMORY_USAGE(x)

#endif
