// What most files of routing-test include, compiled once.
#include "tests.h"

#include "../routing_support.h"
