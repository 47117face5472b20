// What most files of session-tunnels-test include, compiled once.
#include "tests.h"

#include "../session_tunnels_support.h"
