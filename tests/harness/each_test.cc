// Linked into a program: each of its CUnit tests runs in a process of its own.
#include "harness.h"

const bool harness::each_test_forked = true;
