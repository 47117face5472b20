// What most files of session-client-test include, compiled once.
#include "tests.h"

#include "../session_client_support.h"
