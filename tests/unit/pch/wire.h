// What most files of wire-test include, compiled once.
#include "tests.h"

#include "../wire_support.h"
