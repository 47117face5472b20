// What most files of session-proxy-test include, compiled once.
#include "tests.h"

#include "../session_proxy_support.h"
